package rest

import (
	"errors"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/awps-go/webpubsub/emulator/internal/odata"
	"github.com/awps-go/webpubsub/emulator/internal/wire"
)

// This file reads the query of a request.

// apiVersions are the generally available versions of the REST API. The emulator treats all of them the same.
var apiVersions = []string{"2021-10-01", "2022-11-01", "2023-07-01", "2024-01-01", "2024-12-01"}

var (
	newestVersion     = apiVersions[len(apiVersions)-1]
	supportedVersions = strings.Join(apiVersions, ", ")
)

// singleParameters are the parameters that must not be repeated.
var singleParameters = []string{"api-version", "clientType", "continuationToken", "filter", "maxpagesize", "messageTtlSeconds",
	"minutesToExpire", "reason", "targetName", "top", "userId"}

// readQuery parses the query, and checks the version and that no parameter of singleParameters is repeated.
func (c *call) readQuery() error {
	query, err := url.ParseQuery(c.request.URL.RawQuery)
	if err != nil {
		return wire.BadRequest("Request", "the query cannot be parsed: %v", err)
	}
	c.query = make(url.Values, len(query))
	for name, values := range query {
		name = strings.ToLower(name)
		c.query[name] = append(c.query[name], values...)
	}
	for _, name := range singleParameters {
		if n := len(c.all(name)); n > 1 {
			return wire.Invalid(name, "%s must not be repeated, but occurs %d times", name, n)
		}
	}
	if v := c.parameter("api-version"); c.has("api-version") && !slices.Contains(apiVersions, v) {
		return wire.Invalid("api-version", "the api-version %.32q is not one of %s", v, supportedVersions)
	}
	return nil
}

// has reports whether a parameter is in the query. all returns its values. parameter returns its first value, or "".
func (c *call) has(name string) bool         { return c.query.Has(strings.ToLower(name)) }
func (c *call) all(name string) []string     { return c.query[strings.ToLower(name)] }
func (c *call) parameter(name string) string { return c.query.Get(strings.ToLower(name)) }

// integer returns a whole number from low to high in the query, or def if the parameter is absent.
func (c *call) integer(name string, def, low, high int) (int, error) {
	if !c.has(name) {
		return def, nil
	}
	n, err := strconv.Atoi(c.parameter(name))
	if err != nil || n < low || n > high {
		return 0, wire.Invalid(name, "%s must be a whole number from %d to %d", name, low, high)
	}
	return n, nil
}

// parseFilter parses the filter of a request. It returns nil if the filter is empty. target is the name of the filter in errors.
func parseFilter(filter, target string) (*odata.Expr, error) {
	if filter == "" {
		return nil, nil
	}
	expr, err := odata.Parse(filter)
	if err != nil {
		e := wire.Invalid(target, "%v", err)
		if fault, ok := errors.AsType[*odata.Error](err); ok {
			e.Hint = fault.Hint
		}
		return nil, e
	}
	return expr, nil
}
