package eventhandler_test

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/awps-go/webpubsub/eventhandler"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m)
}

const testKey = "the primary key"

// sign returns the signatures of a connection id in the service's list form.
func sign(connectionID string, keys ...string) string {
	var signatures []string
	for _, key := range keys {
		mac := hmac.New(sha256.New, []byte(key))
		mac.Write([]byte(connectionID))
		signatures = append(signatures, "sha256="+hex.EncodeToString(mac.Sum(nil)))
	}
	return strings.Join(signatures, ",")
}

// newEvent returns a request for an event such as sys.connect or user.message, in the service's form.
func newEvent(url, event, contentType, body string, edits ...func(*http.Request)) *http.Request {
	r, err := http.NewRequest(http.MethodPost, url, strings.NewReader(body))
	if err != nil {
		panic(err)
	}
	_, name, _ := strings.Cut(event, ".")
	for header, value := range map[string]string{
		"Content-Type":           contentType,
		"WebHook-Request-Origin": "name.webpubsub.azure.com",
		"ce-specversion":         "1.0",
		"ce-awpsversion":         "1.0",
		"ce-type":                "azure.webpubsub." + event,
		"ce-source":              "/hubs/chat/client/c1",
		"ce-id":                  "3",
		"ce-time":                "2026-11-24T03:04:05.678Z",
		"ce-hub":                 "chat",
		"ce-connectionId":        "c1",
		"ce-eventName":           name,
		"ce-signature":           sign("c1", testKey, "the secondary key"),
	} {
		r.Header.Set(header, value)
	}
	for _, edit := range edits {
		edit(r)
	}
	return r
}

// with sets a header of an event, or deletes it if the value is empty.
func with(name, value string) func(*http.Request) {
	return func(r *http.Request) {
		if r.Header.Set(name, value); value == "" {
			r.Header.Del(name)
		}
	}
}

// serve starts a server with a handler of the hub chat. It fills in the hub and the key if options have none.
func serve(t testing.TB, options eventhandler.Options) (url string) {
	t.Helper()
	if options.Hub == "" {
		options.Hub = "chat"
	}
	if options.AccessKeys == nil && options.KeyCredentials == nil && options.ConnectionStrings == nil &&
		!options.DangerouslyDisableSignatureVerification {
		options.AccessKeys = []string{testKey}
	}
	if options.Logger == nil {
		options.Logger = slog.New(slog.DiscardHandler)
	}
	handler, err := eventhandler.New(&options)
	require.NoError(t, err)
	return newServer(t, handler)
}

// newServer starts a server and returns its URL.
func newServer(t testing.TB, handler http.Handler) string {
	server := httptest.NewServer(handler)
	t.Cleanup(server.Close)
	return server.URL
}

// answer is the response to a request.
type answer struct {
	status int
	header http.Header
	body   string
}

func do(t testing.TB, r *http.Request) answer {
	t.Helper()
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	response, err := client.Do(r)
	require.NoError(t, err)
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	require.NoError(t, err)
	return answer{response.StatusCode, response.Header, string(body)}
}
