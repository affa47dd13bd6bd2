package webpubsub

import (
	"net/url"
	"slices"
	"strconv"
	"strings"
)

// endpoint is where the service is. None of its URLs has a trailing slash.
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
	e.base, _ = url.Parse(e.target) // made of two parsed URLs
	return e, nil
}

// parseEndpoint parses the URL of a service or a proxy, or returns what is wrong with it, in words that follow its name. It
// never repeats the URL, which may hold a password. It returns the scheme and the host in lower case, and no trailing
// slash.
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
		return nil, "has a port that is not from 1 to 65535"
	case u.User != nil:
		return nil, "must not hold a user name or password"
	case u.RawQuery != "" || u.ForceQuery:
		return nil, "must not have a query"
	case strings.Contains(endpoint, "#"):
		return nil, "must not have a fragment"
	case hasDotSegment(u.EscapedPath()):
		return nil, "must not have a path with . or .. in it"
	}
	path := strings.TrimRight(u.EscapedPath(), "/")
	u.Path, err = url.PathUnescape(path)
	if err != nil {
		return nil, "is not a URL"
	}
	u.RawPath = path
	return u, ""
}

// baseURL formats the URL as net/http sends it: without the scheme's own port, which servers leave out of the URL that
// they compare the audience with.
func baseURL(u *url.URL) string {
	defaultPort := map[string]string{"http": ":80", "https": ":443"}[u.Scheme]
	return u.Scheme + "://" + strings.TrimSuffix(u.Host, defaultPort) + u.EscapedPath()
}

// within reports whether a URL belongs to the service, and returns its path and query below the client's endpoint, escaped.
// Whatever comes from elsewhere (redirects, links to a next page, requests of the caller) is asked here, since credentials
// and bodies go nowhere else.
//
// A URL belongs to the service if it has the scheme, host and port of the service or its reverse proxy, and a path below
// the endpoint's own. A URL without scheme and host is a path below the endpoint. A path with dot segments does not belong,
// nor does a URL with user information.
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

// unescapePath decodes the characters that can make or hide a dot segment. A backslash counts as a slash, since some
// servers read it so.
var unescapePath = strings.NewReplacer("%2e", ".", "%2E", ".", "%2f", "/", "%2F", "/", `\`, "/", "%5c", "/", "%5C", "/",
	"%3b", ";", "%3B", ";", "%25", "%")

// hasDotSegment reports whether a path has a segment . or .., also percent-encoded any number of times, or with parameters
// behind a semicolon. A proxy may decode what we do not, and resolve it.
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
	return true // nobody encodes so often without a purpose
}
