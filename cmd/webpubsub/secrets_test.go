package main

import (
	"bytes"
	"encoding/base64"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"regexp"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/awps-go/webpubsub/cmd/internal/programtest"
)

// TestNoCommandPrintsSecrets runs commands against a service that repeats the credentials of each request in every place, and
// with arguments that have secrets.
func TestNoCommandPrintsSecrets(t *testing.T) {
	const key = "MarkedKey+/0123456789abcdef="
	var requests atomic.Int64
	service := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		credential := strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer ") + r.URL.Query().Get("access_token") + r.URL.Query().Get("code")
		w.Header().Set("x-ms-error-code", "Bad")
		switch requests.Add(1) % 4 {
		case 0:
			http.Error(w, "\x1b[31mno: access_token="+credential, http.StatusUnauthorized)
		case 1:
			http.Error(w, `{"code":"Bad","message":"\u001b[31m code=`+credential+`"}`, http.StatusBadRequest)
		case 2:
			http.Redirect(w, r, "http://%zz/?code="+credential, http.StatusTemporaryRedirect)
		case 3:
			conn, _, err := w.(http.Hijacker).Hijack()
			if err == nil {
				_, _ = io.WriteString(conn, "HTTP/1.1 code="+credential+"\x1b\r\n\r\n")
				conn.Close()
			}
		}
	}))
	service.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelInfo)
	defer service.Close()
	token := regexp.MustCompile(`eyJ[\w-]{8,}\.`)
	marked := base64.StdEncoding.EncodeToString([]byte("MarkedKey"))
	for _, args := range [][]string{
		{"health"}, {"send", "all", "x"}, {"group", "add-connection", "g", "c"}, {"user", "exist", "u"},
		{"connect", "--no-reconnect"}, {"connect", "--json", "--no-reconnect"},
		{"connect", "--negotiate", service.URL + "/negotiate?code=MarkedCode"},
		{"connect", "--negotiate", "http://user:MarkedPassword@127.0.0.1:1/?code=MarkedCode"},
		{"connect", "--negotiate", "http://user:MarkedPassword@%zz/?code=MarkedCode"},
		{"listen", "--to", "http://127.0.0.1:1/?code=MarkedCode"}, {"listen", "--to", "http://user:MarkedPassword@host/?code=MarkedCode"},
		{"bench", "--clients", "2", "--duration", "1s", "--quiet"},
		{"health", "--endpoint", "https://user:MarkedPassword@host/?code=MarkedCode"},
	} {
		for range 4 { // each command receives each response
			p := programtest.Start(t, append(args, "--retries", "0", "--log-level", "debug"),
				"WEBPUBSUB_CONNECTION_STRING=Endpoint="+service.URL+";AccessKey="+key, "WEBPUBSUB_HUB=chat", "AZURE_TOKEN_CREDENTIALS=AzureCLICredential")
			require.NoError(t, p.Stdin.Close())
			code, stdout := p.Result(t)
			output := stdout + p.Stderr.String()
			require.NotEqual(t, exitOK, code, "%q: %s", args, output)
			for _, secret := range []string{"Marked", marked, url.QueryEscape(key), "\x1b"} {
				require.NotContains(t, output, secret, "%q", args)
			}
			require.NotRegexp(t, token, output, "%q", args)
		}
	}
	for _, text := range []string{"Endpoint=http://127.0.0.1:1;AccessKey", "AccessKey=MarkedKey", "Endpoint=http://user:MarkedPassword@h;AccessKey=MarkedKey"} {
		var output bytes.Buffer
		code := run(t.Context(), []string{"health"}, func(name string) string {
			if name == "WEBPUBSUB_CONNECTION_STRING" {
				return text
			}
			return ""
		}, strings.NewReader(""), &output, &output)
		require.Equal(t, exitUsage, code)
		require.NotContains(t, output.String(), "Marked")
	}
}
