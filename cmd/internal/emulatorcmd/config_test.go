package emulatorcmd

import (
	"flag"
	"io"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestAnAddressWithoutAHostIsLoopback(t *testing.T) {
	for addr, want := range map[string]string{
		":8080":          "127.0.0.1:8080",
		"127.0.0.1:8080": "127.0.0.1:8080",
		"0.0.0.0:8080":   "0.0.0.0:8080",
		"[::1]:0":        "[::1]:0",
	} {
		var config Config
		flags := flag.NewFlagSet("", flag.ContinueOnError)
		config.Register(flags)
		require.NoError(t, flags.Parse([]string{"--addr", addr}))
		nothing := func(string) string { return "" }
		require.NoError(t, config.Complete(flags, func(name string) bool { return name == "addr" }, nothing))
		require.Equal(t, want, config.addr)
	}
}

// A program in a pipe must end when the other side of the pipe has ended.
func TestRunEndsIfItCannotPrint(t *testing.T) {
	config := Config{addr: "127.0.0.1:0", hubsFile: "hubs.json"}
	reader, stdout := io.Pipe()
	require.NoError(t, reader.Close())
	require.ErrorIs(t, Run(t.Context(), &config, stdout, io.Discard), io.ErrClosedPipe)
}
