package main

import (
	"testing"

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
	require.NoError(t, run(t.Context()), "and again, on the same hub")
}
