package emulator_test

import (
	"bytes"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/awps-go/webpubsub"
	"github.com/awps-go/webpubsub/emulator"
)

// A secret at the end of the part of a body that Requests returns is not complete there.
func TestRequestsHaveNoSecretsInPathsAndBodies(t *testing.T) {
	const key = "MarkedKey+/0123456789abcdefghijklmnopqrstuvwxyz="
	srv := emulator.StartT(t, &emulator.Options{AccessKey: key})
	client, err := webpubsub.NewClientFromConnectionString(srv.ConnectionString(), "chat", nil)
	require.NoError(t, err)
	for _, before := range []int{0, 16<<10 - 20, 16<<10 - 8, 16 << 10} {
		for _, after := range []string{" end", "\xff end"} {
			body := append(bytes.Repeat([]byte(" "), before), key+after...)
			require.NoError(t, client.SendToAll(t.Context(), webpubsub.Binary(body), nil))
		}
	}
	require.NoError(t, client.SendToAll(t.Context(), webpubsub.Text("hello"), nil))
	resp, err := http.Get(srv.Endpoint() + "/api/hubs/chat/:send?Access_Token=MarkedToken&code=MarkedCode&filter=x")
	require.NoError(t, err)
	resp.Body.Close()

	requests := srv.Requests()
	require.Len(t, requests, 10)
	for _, r := range requests {
		require.NotContains(t, fmt.Sprintf("%+v %s", r, r.Body), "Marked")
		require.LessOrEqual(t, len(r.Body), 16<<10)
	}
	require.Equal(t, "hello", string(requests[8].Body))
	require.Nil(t, requests[9].Body)
	require.True(t, strings.HasSuffix(requests[9].Path, "&filter=x"), requests[9].Path)
}
