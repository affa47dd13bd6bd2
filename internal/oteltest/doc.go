// Package oteltest tests the client's tracing with the OpenTelemetry SDK. It is a separate module, so that users of the client
// do not depend on that SDK.
package oteltest
