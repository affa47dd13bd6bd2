package main

import (
	"context"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// Each socket contender must do what is measured, and must fail if a message is missing.
func TestEverySocketContenderReceivesAndSends(t *testing.T) {
	for _, c := range socketContenders {
		t.Run(c.name, func(t *testing.T) {
			server := httptest.NewServer(http.HandlerFunc(fastHub))
			t.Cleanup(server.Close)
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute) // a contender waits for a missing message
			defer cancel()
			s, err := c.dial(ctx, strings.Replace(server.URL, "http", "ws", 1)+clientPath()+"?access_token=t", nil)
			require.NoError(t, err)
			require.NoError(t, s.receive(ctx, 1_000))
			require.NoError(t, s.send(ctx, 10))
			require.NoError(t, s.receive(ctx, 1), "no message was left over")
		})
	}
}
