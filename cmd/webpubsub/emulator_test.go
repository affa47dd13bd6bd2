package main

import (
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/awps-go/webpubsub/cmd/internal/programtest"
)

func TestEmulator(t *testing.T) {
	p := programtest.Start(t, []string{"emulator", "--log-level", "error"}, "WEBPUBSUB_EMULATOR_ADDR=127.0.0.1:0", "WEBPUBSUB_EMULATOR_LOG_LEVEL=debug")
	connectionString, ok := strings.CutPrefix(p.Line(t), "connection string: ")
	require.True(t, ok)
	require.Equal(t, "healthy\n", succeed(t, []string{"WEBPUBSUB_CONNECTION_STRING=" + connectionString}, "health"))
	p.Interrupt(t)
	code, rest := p.Result(t)
	require.Equal(t, exitOK, code)
	require.Empty(t, rest)
	require.Empty(t, p.Stderr.String(), "a flag takes precedence over its variable")
}

func TestAnEmulatorThatCannotStartIsAFailure(t *testing.T) {
	taken := httptest.NewServer(nil)
	defer taken.Close()
	line := fail(t, exitFailed, nil, "emulator", "--addr", taken.Listener.Addr().String())
	require.Contains(t, line, "in use")
}
