package tunnel

import (
	"errors"
	"net/url"
	"strings"
)

// destination is where a connection goes. The zero value is the service's own endpoint, where the service chooses the instance.
type destination struct {
	endpoint *url.URL // nil for the service's own
	target   string   // the instance of the service; empty for any
}

func (d destination) isOwn() bool { return d.endpoint == nil && d.target == "" }

// endpoints are the URLs that Serve was given.
type endpoints struct {
	service *url.URL
	proxy   *url.URL // nil for none
}

// parseEndpoint parses a URL that is known to be right, and brings it into the form in which it is part of an audience: lower
// case, without the scheme's own port and without a trailing slash.
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
		return nil, errors.New("is not an https URL")
	}
	if u.Hostname() == "" || u.User != nil {
		return nil, errors.New("has no host, or a user name")
	}
	u.Host = strings.ToLower(u.Host)
	path := strings.TrimRight(u.EscapedPath(), "/")
	u.Path, err = url.PathUnescape(path)
	u.RawPath, u.Fragment, u.RawFragment = path, "", ""
	return u, err
}

// urls returns the URL of a connection's request without its token, and the audience of the token. They differ only behind a
// reverse proxy.
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

// escape escapes a value of the query as the official package does: the service compares it with the audience.
func escape(value string) string {
	return strings.NewReplacer("+", "%20", "%21", "!", "%28", "(", "%29", ")", "%2A", "*").Replace(url.QueryEscape(value))
}

// follow returns the destination that the service names. It refuses an endpoint that is not the service's, as a token would be
// sent there.
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
		return destination{}, errors.New("has another host and another parent domain than the service")
	}
	return destination{endpoint: u, target: target}, nil
}

// parent returns the domain above the URL's host if services can share it. A parent of fewer than three labels may belong to
// many: it may be a public suffix such as co.uk.
func parent(u *url.URL) string {
	_, domain, _ := strings.Cut(u.Hostname(), ".")
	last := domain[strings.LastIndexByte(domain, '.')+1:]
	if strings.Count(domain, ".") < 2 || strings.Trim(last, "0123456789") == "" { // an IP address has no parent
		return ""
	}
	return domain
}
