package webpubsub

import (
	"cmp"
	"net/url"
	"slices"
	"strconv"
	"strings"
)

// endpoint holds the URLs of the service. None of them has a trailing slash.
type endpoint struct {
	service string   // the service's own URL, the prefix of request tokens' audiences
	target  string   // the URL that requests are sent to: that of the service or the reverse proxy
	base    *url.URL // target, parsed
	client  string   // the service's URL as given by the caller, the prefix of client URLs and client tokens' audiences
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
	e.base, _ = url.Parse(e.target) // cannot fail: both URLs have been parsed
	return e, nil
}

// parseEndpoint parses the URL of a service or a proxy. The returned URL has its scheme and host in lower case and no
// trailing slash. If the URL is invalid, parseEndpoint returns the problem, phrased to follow the argument's name. The
// problem never contains the URL, which may have a password.
func parseEndpoint(endpoint string) (*url.URL, string) {
	if endpoint == "" {
		return nil, "is empty"
	}
	u, err := url.Parse(endpoint)
	if err != nil {
		return nil, "is not a URL"
	}
	port, _ := strconv.Atoi(cmp.Or(u.Port(), "443")) // url.Parse accepts digits only
	u.Host = strings.ToLower(u.Host)
	switch {
	case u.Scheme != "http" && u.Scheme != "https":
		return nil, "must begin with https:// (or http://)"
	case u.Hostname() == "":
		return nil, "has no host"
	case strings.ContainsFunc(u.Host, func(r rune) bool { return r > '~' }):
		return nil, "has a host that is not ASCII; use its xn-- form"
	case strings.Contains(u.Host, "%"):
		return nil, "must not have a percent escape or an IPv6 zone in its host"
	case strings.HasSuffix(u.Host, ":") || port < 1 || port > 65535:
		return nil, "must have a port from 1 to 65535"
	case u.User != nil:
		return nil, "must not contain a user name or password"
	case u.RawQuery != "" || u.ForceQuery:
		return nil, "must not have a query"
	case strings.Contains(endpoint, "#"):
		return nil, "must not have a fragment"
	case hasDotSegment(u.EscapedPath()):
		return nil, "must not have . or .. in its path"
	}
	path := strings.TrimRight(u.EscapedPath(), "/")
	u.Path, err = url.PathUnescape(path)
	if err != nil {
		return nil, "is not a URL"
	}
	u.RawPath = path
	return u, ""
}

// baseURL formats the URL without the scheme's default port, like net/http. Servers omit that port too from the URL
// that they compare with a token's audience.
func baseURL(u *url.URL) string {
	defaultPort := map[string]string{"http": ":80", "https": ":443"}[u.Scheme]
	return u.Scheme + "://" + strings.TrimSuffix(u.Host, defaultPort) + u.EscapedPath()
}

// within reports whether a URL belongs to the service. If so, it returns the escaped path and query, relative to the
// client's endpoint. Every URL from outside (redirects, next-page links, the caller's requests) is checked by within,
// because credentials and bodies must only be sent to the service.
//
// A URL belongs to the service if it has the scheme, host and port of the service or its reverse proxy, and a path
// below the endpoint's path. A URL without scheme and host is a path relative to the endpoint. URLs with dot segments
// or user information never belong to the service.
func (e endpoint) within(u *url.URL) (target string, ok bool) {
	if u.User != nil || u.Opaque != "" || hasDotSegment(u.EscapedPath()) {
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
	if len(e.target) > len(e.service) { // the proxy can be a path on the service's own host; try the longer URL first
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

// unescapePath decodes the characters that can form or hide a dot segment. A backslash counts as a slash, because some
// servers treat it as one.
var unescapePath = strings.NewReplacer("%2e", ".", "%2E", ".", "%2f", "/", "%2F", "/", `\`, "/", "%5c", "/", "%5C", "/",
	"%3b", ";", "%3B", ";", "%25", "%")

// hasDotSegment reports whether a path has a segment . or .., even if the segment is percent-encoded any number of
// times or has parameters after a semicolon. A proxy may decode and resolve such segments.
func hasDotSegment(path string) bool {
	for range 8 {
		plain := unescapePath.Replace(path)
		for segment := range strings.SplitSeq(plain, "/") {
			if segment, _, _ = strings.Cut(segment, ";"); segment == "." || segment == ".." {
				return true
			}
		}
		if plain == path {
			return false
		}
		path = plain
	}
	return true // eight levels of encoding can only be an attack
}
