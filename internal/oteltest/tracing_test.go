package oteltest

import (
	"context"
	"testing"

	"github.com/Azure/azure-sdk-for-go/sdk/tracing/azotel"
	"github.com/awps-go/webpubsub"
	"github.com/awps-go/webpubsub/emulator"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
)

func TestCallsAreSpansOfTheApplicationsTrace(t *testing.T) {
	recorder := tracetest.NewSpanRecorder()
	provider := sdktrace.NewTracerProvider(sdktrace.WithSpanProcessor(recorder))
	options := &webpubsub.ClientOptions{}
	options.TracingProvider = azotel.NewTracingProvider(provider, nil)
	client, err := webpubsub.NewClientFromConnectionString(emulator.StartT(t, nil).ConnectionString(), "chat", options)
	require.NoError(t, err)

	ctx, application := provider.Tracer("application").Start(context.Background(), "application")
	require.NoError(t, client.SendToAll(ctx, webpubsub.Text("hello"), nil))
	require.ErrorIs(t, client.AddUserToGroup(ctx, "room", "nobody", nil), webpubsub.ErrNotFound)
	for _, err := range client.ConnectionsInGroup(ctx, "room", nil) {
		require.NoError(t, err)
	}
	application.End()

	spans := map[string]sdktrace.ReadOnlySpan{}
	parents := map[string]string{}
	byID := map[string]string{}
	for _, span := range recorder.Ended() {
		spans[span.Name()] = span
		byID[span.SpanContext().SpanID().String()] = span.Name()
	}
	for name, span := range spans {
		parents[name] = byID[span.Parent().SpanID().String()]
	}
	require.Equal(t, map[string]string{
		"application":                          "",
		"ServiceClient.SendToAll":              "application",
		"HTTP POST":                            "ServiceClient.SendToAll",
		"ServiceClient.AddUserToGroup":         "application",
		"HTTP PUT":                             "ServiceClient.AddUserToGroup",
		"ServiceClient.ListConnectionsInGroup": "application",
		"HTTP GET":                             "ServiceClient.ListConnectionsInGroup",
	}, parents)
	require.Equal(t, codes.Error, spans["ServiceClient.AddUserToGroup"].Status().Code)
	require.Equal(t, codes.Unset, spans["ServiceClient.SendToAll"].Status().Code)
	require.Contains(t, spans["ServiceClient.SendToAll"].Attributes(), attribute.String("az.namespace", "Microsoft.SignalRService"))
	require.Contains(t, spans["HTTP POST"].Attributes(), attribute.Int("http.status_code", 202))
	require.NotContains(t, spans["HTTP POST"].Attributes(), "Authorization")
}
