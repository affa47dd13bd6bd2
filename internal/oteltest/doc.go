// Package oteltest tests the client's tracing with the OpenTelemetry SDK. It is a module of its own, so that nobody else
// needs that SDK.
package oteltest
