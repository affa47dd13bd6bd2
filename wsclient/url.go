package wsclient

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"

	"github.com/awps-go/webpubsub/internal/redact"
)

// URLProvider returns the URL to connect to, with a fresh access token in its query: what GetClientAccessToken returns as
// URL. A Conn asks for one before each new connection, and never otherwise: a token counts only at connecting. The
// context ends when the attempt does, after 10 seconds at the latest; a provider must then return.
type URLProvider func(ctx context.Context) (string, error)

// staticKey is the context key under which StaticURL reports that its URL does not change.
type staticKey struct{}

// StaticURL returns a provider of one URL, for tests and for URLs copied from the portal. Once its token has expired,
// no new connection can be made: the Conn then ends with a *HandshakeError.
func StaticURL(url string) URLProvider {
	return func(ctx context.Context) (string, error) {
		if static, ok := ctx.Value(staticKey{}).(*bool); ok {
			*static = true
		}
		return url, nil
	}
}

// Negotiate returns a provider that gets the URL from an application server: a GET of negotiateURL is answered with a
// JSON object whose url is the URL to connect to, as the service's samples do at /negotiate. A nil client is
// http.DefaultClient. To authenticate to the application server, give a client whose Transport adds the credentials.
func Negotiate(negotiateURL string, client *http.Client) URLProvider {
	if client == nil {
		client = http.DefaultClient
	}
	return func(ctx context.Context) (string, error) {
		target, err := negotiate(ctx, negotiateURL, client)
		if err != nil {
			return "", fmt.Errorf("negotiate at %s: %w", safeURL(negotiateURL), err)
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
	resp, err := client.Do(req)
	if err != nil {
		return "", withoutURL(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode/100 != 2 {
		return "", fmt.Errorf("the answer is %d %s", resp.StatusCode, http.StatusText(resp.StatusCode))
	}
	var answer struct {
		URL string `json:"url"`
	}
	const maxAnswer = 64 << 10
	// The decoder's error may quote the answer, which holds a token.
	if err := json.NewDecoder(io.LimitReader(resp.Body, maxAnswer)).Decode(&answer); err != nil {
		if ctx.Err() != nil {
			return "", ctx.Err()
		}
		return "", errors.New("the answer is not a JSON object with a url")
	}
	if answer.URL == "" {
		return "", errors.New("the answer is JSON without a url")
	}
	return answer.URL, nil
}

// The names of query parameters.
const (
	parameterToken             = "access_token"
	parameterConnectionID      = "awps_connection_id"
	parameterReconnectionToken = "awps_reconnection_token"
)

// parseClientURL checks a provider's URL. The error shows neither its query nor its user.
func parseClientURL(text string, needToken bool) (*url.URL, error) {
	const operation, argument = "Dial", "url"
	u, err := url.Parse(text)
	if err != nil {
		return nil, invalid(operation, argument, "cannot be parsed: %w", scrub(withoutURL(err), text))
	}
	switch {
	case u.Scheme != "ws" && u.Scheme != "wss":
		return nil, invalid(operation, argument, "%s must begin with ws:// or wss://", safeURL(text))
	case u.Hostname() == "":
		return nil, invalid(operation, argument, "%s has no host", safeURL(text))
	case needToken && queryValue(u.RawQuery, parameterToken) == "":
		return nil, invalid(operation, argument, "%s has no %s in its query", safeURL(text), parameterToken)
	}
	return u, nil
}

// recoveryURL returns the URL that recovers a connection: that of the connection without the access token, which may
// have expired by now, and with the two parameters that prove whose connection it is.
func recoveryURL(connected *url.URL, connectionID, reconnectionToken string) string {
	u := *connected
	query := u.Query()
	for name := range query {
		if strings.EqualFold(name, parameterToken) {
			query.Del(name)
		}
	}
	query.Set(parameterConnectionID, connectionID)
	query.Set(parameterReconnectionToken, reconnectionToken)
	u.RawQuery = query.Encode()
	return u.String()
}

// queryValue returns the value of a parameter whose name counts in any case, or "".
func queryValue(rawQuery, name string) string {
	query, _ := url.ParseQuery(rawQuery)
	for key, values := range query {
		if strings.EqualFold(key, name) && len(values) > 0 {
			return values[0]
		}
	}
	return ""
}

// safeURL returns scheme, host and path of a URL: what may be shown in errors and logs.
func safeURL(text string) string {
	u, err := url.Parse(text)
	if err != nil {
		return "a URL that cannot be parsed"
	}
	return (&url.URL{Scheme: u.Scheme, Host: u.Host, Path: u.Path}).String()
}

// withoutURL returns what is inside a *url.Error, whose text holds the whole URL.
func withoutURL(err error) error {
	if ue, ok := errors.AsType[*url.Error](err); ok {
		return ue.Err
	}
	return err
}

// scrubbed is an error whose text does not show a secret.
type scrubbed struct {
	text string
	err  error
}

func (e *scrubbed) Error() string { return e.text }
func (e *scrubbed) Unwrap() error { return e.err }

// scrub returns an error that does not show the secrets of a URL, however they came into the error's text.
func scrub(err error, rawURL string) error {
	if text := redact.Text(err.Error(), secrets(rawURL)...); text != err.Error() {
		return &scrubbed{text, err}
	}
	return err
}

// secrets returns the values of a URL's query that must not be shown.
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
