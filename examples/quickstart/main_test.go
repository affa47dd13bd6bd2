package main

import (
	"context"
	"testing"
	"time"

	"github.com/awps-go/webpubsub/emulator"
	"github.com/stretchr/testify/require"
)

func TestQuickstartOnTheEmulatorInProcess(t *testing.T) {
	t.Setenv("WEBPUBSUB_CONNECTION_STRING", "")
	require.NoError(t, run(t.Context()))
}

func TestQuickstartOnAServiceThatAConnectionStringNames(t *testing.T) {
	t.Setenv("WEBPUBSUB_CONNECTION_STRING", emulator.StartT(t, nil).ConnectionString())
	require.NoError(t, run(t.Context()))
	require.NoError(t, run(t.Context()), "a second run on the same hub")
}

func TestQuickstartFailsWhenTheMessageDoesNotArrive(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	useProxy(t, ":send", func(r *rewrite) { r.status = 202 })
	require.ErrorIs(t, run(ctx), context.DeadlineExceeded)
}

func TestQuickstartFailsWhenTheMessageIsNotWhatWasSent(t *testing.T) {
	useProxy(t, ":send", func(r *rewrite) { r.body = "Hello, bob" })
	require.EqualError(t, run(t.Context()), `alice received "Hello, bob", not "Hello, alice"`)
}
