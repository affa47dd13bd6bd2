package rest

import (
	"encoding/base64"
	"encoding/json"
	"math"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"github.com/awps-go/webpubsub/emulator/internal/hub"
	"github.com/awps-go/webpubsub/emulator/internal/text"
	"github.com/awps-go/webpubsub/emulator/internal/wire"
)

// groupRoutes are the operations on one group.
func groupRoutes() []route {
	const group = "hubs/{hub}/groups/{group}"
	return []route{
		newRoute("GroupExists", http.MethodHead, group,
			func(c *call) (int, error) { return c.exists(&hub.Target{Group: c.value("group")}) }),
		newRoute("CloseGroupConnections", http.MethodPost, group+"/:closeConnections",
			func(c *call) (int, error) { return c.closeConnections(&hub.Target{Group: c.value("group")}) }),
		newRoute("ListConnectionsInGroup", http.MethodGet, group+"/connections", (*call).listConnections),
		newRoute("AddConnectionToGroup", http.MethodPut, group+"/connections/{connectionId}",
			func(c *call) (int, error) { return c.joinGroup(c.targetConnection(), "there is no such connection") }),
		newRoute("RemoveConnectionFromGroup", http.MethodDelete, group+"/connections/{connectionId}",
			func(c *call) (int, error) { return c.leaveGroup(c.targetConnection()) }),
	}
}

// joinGroup adds the connections that are meant to the path's group. If there are none, it fails with that text.
func (c *call) joinGroup(t *hub.Target, nobody string) (int, error) {
	if c.hub.AddToGroup(t, c.value("group")) == 0 {
		return 0, wire.NotFound("%s", nobody)
	}
	return http.StatusOK, nil
}

func (c *call) leaveGroup(t *hub.Target) (int, error) {
	c.hub.RemoveFromGroup(t, c.value("group"))
	return http.StatusNoContent, nil
}

// maxPageSize is how many connections a page of a list may have, and has if nothing else is asked for.
const maxPageSize = 200

func (c *call) listConnections() (int, error) {
	size, err := c.integer("maxpagesize", maxPageSize, 1, maxPageSize)
	if err != nil {
		return 0, err
	}
	top, err := c.integer("top", math.MaxInt32, 1, math.MaxInt32)
	if err != nil {
		return 0, err
	}
	group, after := c.value("group"), ""
	if c.query.Has("continuationToken") {
		var ok bool
		if after, ok = c.continuation(group); !ok {
			return 0, wire.BadRequest("continuationToken", "the continuationToken is not one of this hub and group")
		}
	}
	list, more := c.hub.Members(group, after, min(size, top))
	page := struct {
		Value    []hub.Member `json:"value"`
		NextLink string       `json:"nextLink,omitempty"`
	}{Value: list}
	if left := top - len(list); more && left > 0 {
		next := url.Values{"continuationToken": {newContinuation(c.value("hub"), group, list[len(list)-1].ConnectionID)}}
		if c.query.Has("api-version") {
			next.Set("api-version", c.query.Get("api-version"))
		}
		if c.query.Has("maxpagesize") {
			next.Set("maxpagesize", strconv.Itoa(size))
		}
		if c.query.Has("top") {
			next.Set("top", strconv.Itoa(left))
		}
		page.NextLink = c.api.endpoint.Scheme + "://" + c.request.Host + c.request.URL.EscapedPath() + "?" + next.Encode()
	}
	c.result = page
	return http.StatusOK, nil
}

// A continuation token is where a list goes on: JSON of [hub, group, last connection id], in base64.
func newContinuation(hub, group, after string) string {
	return base64.RawURLEncoding.EncodeToString(text.JSON([3]string{strings.ToLower(hub), group, after}))
}

func (c *call) continuation(group string) (after string, ok bool) {
	b, err := base64.RawURLEncoding.DecodeString(c.query.Get("continuationToken"))
	var token []string
	if err != nil || json.Unmarshal(b, &token) != nil || len(token) != 3 {
		return "", false
	}
	return token[2], token[0] == strings.ToLower(c.value("hub")) && token[1] == group
}
