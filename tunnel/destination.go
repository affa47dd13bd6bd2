package tunnel

import (
	"errors"
	"net/url"
	"strings"
)

// destination is the endpoint and instance of a connection. The zero value means the service's own endpoint and any
// instance.
type destination struct {
	endpoint *url.URL // nil means the service's own endpoint
	target   string   // the instance of the service; empty means any
}

func (d destination) isOwn() bool { return d.endpoint == nil && d.target == "" }

// endpoints are the URLs of the service and of the reverse proxy.
type endpoints struct {
	service *url.URL
	proxy   *url.URL // nil if there is no reverse proxy
}

// parseEndpoint parses the URL of an endpoint and normalizes it for the audience of a token: the host in lower case,
// without the default port and without a trailing slash. The texts of its errors continue a sentence whose subject is
// the endpoint.
func parseEndpoint(text string) (*url.URL, error) {
	u, err := url.Parse(text)
	if err != nil {
		return nil, errors.New("is not a URL")
	}
	switch u.Scheme {
	case "http", "ws":
		u.Scheme = "ws"
		u.Host = strings.TrimSuffix(u.Host, ":80")
	case "https", "wss":
		u.Scheme = "wss"
		u.Host = strings.TrimSuffix(u.Host, ":443")
	default:
		return nil, errors.New("is not an http or https URL")
	}
	if u.Hostname() == "" || u.User != nil {
		return nil, errors.New("has no host, or has a user name")
	}
	u.Host = strings.ToLower(u.Host)
	path := strings.TrimRight(u.EscapedPath(), "/")
	u.Path, err = url.PathUnescape(path)
	u.RawPath, u.Fragment, u.RawFragment = path, "", ""
	return u, err
}

// urls returns the URL of the handshake, without the token, and the audience of the token. They differ only if there is
// a reverse proxy.
func (e endpoints) urls(hub string, to destination) (request, audience string) {
	endpoint := e.service
	if to.endpoint != nil {
		endpoint = to.endpoint
	}
	query := "hub=" + escape(hub)
	if endpoint.RawQuery != "" {
		query = endpoint.RawQuery + "&" + query
	}
	if to.target != "" {
		query += "&target=" + escape(to.target)
	}
	rest := endpoint.EscapedPath() + "/server/tunnel?" + query
	audience = endpoint.Scheme + "://" + endpoint.Host + rest
	if e.proxy != nil && endpoint.Host == e.service.Host {
		return e.proxy.Scheme + "://" + e.proxy.Host + e.proxy.EscapedPath() + rest, audience
	}
	return audience, audience
}

// escape escapes a query value like the official package does, because the service compares the query with the
// audience.
func escape(value string) string {
	return strings.NewReplacer("+", "%20", "%21", "!", "%28", "(", "%29", ")", "%2A", "*").Replace(url.QueryEscape(value))
}

// follow returns the destination that a message of the service names. It returns an error if the endpoint may not
// belong to the service, because a token would be sent there.
func (e endpoints) follow(endpoint, target string) (destination, error) {
	if endpoint == "" {
		return destination{target: target}, nil
	}
	u, err := parseEndpoint(endpoint)
	switch {
	case err != nil:
		return destination{}, err
	case u.Scheme == "ws" && e.service.Scheme == "wss":
		return destination{}, errors.New("is not https")
	case u.Hostname() != e.service.Hostname() && (parent(u) == "" || parent(u) != parent(e.service)):
		return destination{}, errors.New("has a different host and parent domain than the service")
	}
	return destination{endpoint: u, target: target}, nil
}

// parent returns the parent domain of the URL's host. It returns "" if the parent has fewer than three labels, because
// it may then be a public suffix such as co.uk, whose subdomains belong to different owners.
func parent(u *url.URL) string {
	_, domain, _ := strings.Cut(u.Hostname(), ".")
	last := domain[strings.LastIndexByte(domain, '.')+1:]
	if strings.Count(domain, ".") < 2 || strings.Trim(last, "0123456789") == "" { // an IP address has no parent
		return ""
	}
	return domain
}
