package emulator_test

import (
	"net/http"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/awps-go/webpubsub"
	"github.com/awps-go/webpubsub/emulator"
)

func TestKeysAreRegenerated(t *testing.T) {
	s := emulator.StartT(t, &emulator.Options{AccessKey: "the first key", SecondaryAccessKey: "the second key"})
	signatures := make(chan string, 10)
	require.NoError(t, s.SetHubSettings("chat", emulator.HubSettings{EventHandlers: []emulator.EventHandler{{UserEventPattern: "*",
		Handler: handlerFunc(func(_ http.ResponseWriter, r *http.Request) { signatures <- r.Header.Get("ce-signature") })}}}))
	client := func(connectionString string) *webpubsub.ServiceClient {
		c, err := webpubsub.NewClientFromConnectionString(connectionString, "chat", nil)
		require.NoError(t, err)
		return c
	}
	first, second := client(s.ConnectionString()), client(s.SecondaryConnectionString())
	c := dialJSON(t, s, dialOptions{user: "ann"})
	oldToken := dialOptions{user: "ben"}.url(t, s)

	key := s.RegenerateKey(emulator.KeyTypePrimary)
	require.NotEqual(t, "the first key", key)
	require.Equal(t, key, s.AccessKey())
	require.Contains(t, s.ConnectionString(), ";AccessKey="+key+";")
	require.Contains(t, s.SecondaryConnectionString(), ";AccessKey=the second key;")
	require.ErrorIs(t, first.SendToAll(t.Context(), webpubsub.Text("x"), nil), webpubsub.ErrUnauthorized)
	require.Equal(t, http.StatusUnauthorized, upgradeStatus(t, "http"+strings.TrimPrefix(oldToken, "ws")))
	require.NoError(t, second.SendToAll(t.Context(), webpubsub.Text("x"), nil))
	require.Equal(t, "x", c.object()["data"], "connected clients stay connected")
	require.NoError(t, client(s.ConnectionString()).SendToAll(t.Context(), webpubsub.Text("y"), nil))
	require.Equal(t, "y", c.object()["data"])
	c.write(`{"type":"event","event":"x","dataType":"text","data":"x"}`)
	require.Equal(t, "sha256="+hmacHex(key, c.id)+",sha256="+hmacHex("the second key", c.id), <-signatures)

	other := s.RegenerateKey(emulator.KeyTypeSecondary)
	require.Contains(t, s.SecondaryConnectionString(), ";AccessKey="+other+";")
	require.Error(t, second.SendToAll(t.Context(), webpubsub.Text("x"), nil))
	c.write(`{"type":"event","event":"x","dataType":"text","data":"x"}`)
	require.Equal(t, "sha256="+hmacHex(key, c.id)+",sha256="+hmacHex(other, c.id), <-signatures)
	require.Panics(t, func() { s.RegenerateKey(2) })
}
