package webpubsub

import (
	"net/url"
	"slices"
	"strconv"
	"strings"
)

// endpoint is where the service is. All its URLs have no trailing slash.
type endpoint struct {
	service string   // the service's own URL: the audience of tokens for requests begins with it
	target  string   // where requests go: the service, or its path below the reverse proxy's URL
	base    *url.URL // the target
	client  string   // the service's URL as the caller gave it: client URLs and the audience of client tokens begin with it
}

func newEndpoint(operation, service, proxy string) (endpoint, error) {
	u, problem := parseEndpoint(service)
	if problem != "" {
		return endpoint{}, invalid(operation, "endpoint", "%s", problem)
	}
	e := endpoint{client: u.String(), service: baseURL(u)}
	e.target = e.service
	if proxy != "" {
		p, problem := parseEndpoint(proxy)
		if problem != "" {
			return endpoint{}, invalid(operation, "options.ReverseProxyEndpoint", "%s", problem)
		}
		e.target = baseURL(p) + u.EscapedPath()
	}
	e.base, _ = url.Parse(e.target) // made of two that were parsed
	return e, nil
}

// parseEndpoint parses the URL of a service or a proxy, or says in words that follow its name what is wrong with it. It
// never repeats the URL, which may hold a password. Scheme and host come out in lower case, a trailing slash cut off.
func parseEndpoint(endpoint string) (*url.URL, string) {
	if endpoint == "" {
		return nil, "is empty"
	}
	u, err := url.Parse(endpoint)
	if err != nil {
		return nil, "is not a URL"
	}
	port, _ := strconv.Atoi(u.Port()) // url.Parse accepts digits only
	u.Host = strings.ToLower(u.Host)
	switch {
	case u.Scheme != "http" && u.Scheme != "https":
		return nil, "must begin with https:// (or http://)"
	case u.Hostname() == "":
		return nil, "has no host"
	case strings.ContainsFunc(u.Host, func(r rune) bool { return r > '~' }):
		return nil, "has a host that is not ASCII: write it in its xn-- form"
	case strings.Contains(u.Host, "%"):
		return nil, "has a host with an escape or a zone"
	case strings.HasSuffix(u.Host, ":") || port > 65535:
		return nil, "has a port that is no port number"
	case u.User != nil:
		return nil, "must not hold a user name or password"
	case u.RawQuery != "" || u.ForceQuery:
		return nil, "must not have a query"
	case strings.Contains(endpoint, "#"):
		return nil, "must not have a fragment"
	}
	path := strings.TrimRight(u.EscapedPath(), "/")
	u.Path, err = url.PathUnescape(path)
	if err != nil {
		return nil, "is not a URL"
	}
	u.RawPath = path
	return u, ""
}

// baseURL writes the URL as net/http sends it: without the scheme's own port, which servers leave out of the URL that
// they compare the audience with.
func baseURL(u *url.URL) string {
	defaultPort := map[string]string{"http": ":80", "https": ":443"}[u.Scheme]
	return u.Scheme + "://" + strings.TrimSuffix(u.Host, defaultPort) + u.EscapedPath()
}

// rest returns what follows the base URL in an absolute or relative URL (path and query, escaped), and whether the URL
// is the service's or the proxy's at all.
func (e endpoint) rest(u *url.URL) (string, bool) {
	if u.User != nil || u.Opaque != "" {
		return "", false
	}
	rest := u.EscapedPath()
	if u.RawQuery != "" {
		rest += "?" + u.RawQuery
	}
	if u.Scheme == "" && u.Host == "" {
		return rest, strings.HasPrefix(rest, "/")
	}
	absolute := baseURL(&url.URL{Scheme: strings.ToLower(u.Scheme), Host: strings.ToLower(u.Host)}) + rest
	bases := []string{e.service, e.target}
	if len(e.target) > len(e.service) { // a proxy may be a path of the service's own host
		slices.Reverse(bases)
	}
	for _, base := range bases {
		switch rest, ok := strings.CutPrefix(absolute, base); {
		case ok && strings.HasPrefix(rest, "/"):
			return rest, true
		case ok && (rest == "" || strings.HasPrefix(rest, "?")):
			return "/" + rest, true
		}
	}
	return "", false
}
