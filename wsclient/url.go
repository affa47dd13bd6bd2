package wsclient

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/awps-go/webpubsub/internal/redact"
)

// URLProvider returns the URL to connect to, with a fresh access token in its query. A server can return the URL from
// GetClientAccessToken of its service client.
//
// A Conn calls its URLProvider before each new connection, but not for a recovery. The context ends with the attempt to
// connect, after at most 10 seconds. The URLProvider should return when the context ends. One second later the Conn
// stops waiting for it, and may call it again. Otherwise calls do not overlap.
type URLProvider func(ctx context.Context) (string, error)

// staticKey is the context key under which StaticURL reports that its URL does not change.
type staticKey struct{}

// StaticURL returns a URLProvider that always returns url. It is meant for tests and for URLs copied from the Azure
// portal. After the token in the URL has expired, the Conn cannot make new connections and ends with a
// *[HandshakeError].
func StaticURL(url string) URLProvider {
	return func(ctx context.Context) (string, error) {
		if static, ok := ctx.Value(staticKey{}).(*bool); ok {
			*static = true
		}
		return url, nil
	}
}

// Negotiate returns a URLProvider that gets the URL from an application server. It sends a GET request to negotiateURL.
// The response must be a JSON object whose url member is the URL to connect to, like the response of /negotiate in the
// service's samples.
//
// A nil client means http.DefaultClient. To authenticate to the application server, pass a client whose Transport adds
// the credentials.
func Negotiate(negotiateURL string, client *http.Client) URLProvider {
	if client == nil {
		client = http.DefaultClient
	}
	return func(ctx context.Context) (string, error) {
		target, err := negotiate(ctx, negotiateURL, client)
		if err != nil {
			return "", fmt.Errorf("negotiate at %s: %w", safeURL(negotiateURL), redactError(err, negotiateURL))
		}
		return target, nil
	}
}

func negotiate(ctx context.Context, negotiateURL string, client *http.Client) (string, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, negotiateURL, nil)
	if err != nil {
		return "", withoutURL(err)
	}
	req.Header.Set("Accept", "application/json")
	resp, err := withoutReferer(client).Do(req)
	if err != nil {
		return "", withoutURL(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode/100 != 2 {
		return "", fmt.Errorf("the server responded with %d %s", resp.StatusCode, http.StatusText(resp.StatusCode))
	}
	var answer struct {
		URL string `json:"url"`
	}
	const maxAnswer = 64 << 10
	// The decoder's error is not returned, because it may quote the response, which contains a token.
	if err := json.NewDecoder(io.LimitReader(resp.Body, maxAnswer)).Decode(&answer); err != nil {
		if ctx.Err() != nil {
			return "", ctx.Err()
		}
		return "", errors.New("the response is not a JSON object with a url")
	}
	if answer.URL == "" {
		return "", errors.New("the response has no url")
	}
	return answer.URL, nil
}

// withoutReferer returns a copy of the client that does not tell the target of a redirect the URL of the request, whose
// query may contain a key.
func withoutReferer(client *http.Client) *http.Client {
	copied := *client
	copied.CheckRedirect = func(req *http.Request, via []*http.Request) error {
		req.Header.Del("Referer")
		switch {
		case client.CheckRedirect != nil:
			return client.CheckRedirect(req, via)
		case len(via) >= 10: // like net/http
			return errors.New("stopped after 10 redirects")
		}
		return nil
	}
	return &copied
}

// The names of query parameters.
const (
	parameterToken             = "access_token"
	parameterConnectionID      = "awps_connection_id"
	parameterReconnectionToken = "awps_reconnection_token"
)

// parseClientURL parses and validates the URL of a provider. Its errors contain neither the query nor the user info.
func parseClientURL(text string, needToken bool) (*url.URL, error) {
	const operation, argument = "Dial", "url"
	u, err := url.Parse(text)
	if err != nil {
		return nil, invalid(operation, argument, "cannot be parsed: %w", redactError(withoutURL(err), text))
	}
	switch {
	case text == "":
		return nil, invalid(operation, argument, "is empty")
	case u.Scheme != "ws" && u.Scheme != "wss":
		return nil, invalid(operation, argument, "%s must begin with ws:// or wss://", safeURL(text))
	case u.Hostname() == "":
		return nil, invalid(operation, argument, "%s has no host", safeURL(text))
	case needToken && queryValue(u.RawQuery, parameterToken) == "":
		return nil, invalid(operation, argument, "%s has no %s in its query", safeURL(text), parameterToken)
	}
	return u, nil
}

// recoveryURL returns the URL that recovers a connection. The reconnection token takes the place of the access token,
// which may have expired.
func recoveryURL(connected *url.URL, connectionID, reconnectionToken string) string {
	u := *connected
	replaced := []string{parameterToken, parameterConnectionID, parameterReconnectionToken}
	pairs := slices.DeleteFunc(strings.Split(u.RawQuery, "&"), func(pair string) bool { // net/url drops parameters with a semicolon
		name, _, _ := strings.Cut(pair, "=")
		name, _ = url.QueryUnescape(name)
		return pair == "" || slices.ContainsFunc(replaced, func(other string) bool { return strings.EqualFold(name, other) })
	})
	u.RawQuery = strings.Join(append(pairs, parameterConnectionID+"="+url.QueryEscape(connectionID),
		parameterReconnectionToken+"="+url.QueryEscape(reconnectionToken)), "&")
	return u.String()
}

// queryValue returns the value of a query parameter, or "". The name is case-insensitive.
func queryValue(rawQuery, name string) string {
	query, _ := url.ParseQuery(rawQuery)
	for key, values := range query {
		if strings.EqualFold(key, name) && len(values) > 0 {
			return values[0]
		}
	}
	return ""
}

// safeURL returns the scheme, host and path of a URL. They may appear in errors and logs.
func safeURL(text string) string {
	u, err := url.Parse(text)
	if err != nil {
		return "a URL that cannot be parsed"
	}
	return (&url.URL{Scheme: u.Scheme, Host: u.Host, Path: u.Path}).String()
}

// withoutURL returns the error inside a *url.Error, because the text of a *url.Error contains the whole URL.
func withoutURL(err error) error {
	if ue, ok := errors.AsType[*url.Error](err); ok {
		return ue.Err
	}
	return err
}

// redactError removes the secrets of a URL from the text of an error.
func redactError(err error, rawURL string) error {
	text := redact.Text(err.Error(), secrets(rawURL)...)
	if text = redact.Line(text, maxErrorText); text != err.Error() {
		return redact.Error(text, err)
	}
	return err
}

// secrets returns the secret values in the query of a URL, both encoded and decoded.
func secrets(rawURL string) []string {
	_, query, _ := strings.Cut(rawURL, "?")
	query, _, _ = strings.Cut(query, "#")
	var found []string
	for item := range strings.SplitSeq(query, "&") {
		if name, value, _ := strings.Cut(item, "="); redact.Sensitive(name) {
			plain, _ := url.QueryUnescape(value)
			found = append(found, value, plain)
		}
	}
	return found
}

// hide returns the text without the secrets. It changes nothing else: the application may depend on the text.
func hide(text string, secrets []string) string {
	for _, secret := range secrets {
		if secret != "" && strings.Contains(text, secret) {
			return redact.Text(text, secrets...)
		}
	}
	return text
}
