package rest

import (
	"fmt"
	"math"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"github.com/awps-go/webpubsub/emulator/internal/hub"
	"github.com/awps-go/webpubsub/emulator/internal/wire"
)

// groupRoutes returns the operations on one group.
func groupRoutes() []route {
	const group = "hubs/{hub}/groups/{group}"
	return []route{
		newRoute("GroupExists", http.MethodHead, group,
			func(c *call) (int, error) {
				return c.exists(&hub.Target{Group: c.value("group")}, noGroup(c.value("group")))
			}),
		newRoute("CloseGroupConnections", http.MethodPost, group+"/:closeConnections",
			func(c *call) (int, error) { return c.closeConnections(&hub.Target{Group: c.value("group")}) }),
		newRoute("ListConnectionsInGroup", http.MethodGet, group+"/connections", (*call).listConnections).checked((*call).readPage),
		newRoute("AddConnectionToGroup", http.MethodPut, group+"/connections/{connectionId}",
			func(c *call) (int, error) {
				return c.joinGroup(c.targetConnection(), noConnection("Error", c.value("connectionId")))
			}),
		newRoute("RemoveConnectionFromGroup", http.MethodDelete, group+"/connections/{connectionId}",
			func(c *call) (int, error) { return c.leaveGroup(c.targetConnection()) }),
	}
}

// noGroup returns the error for a group without members. Only the length of the service's text is known, because a response to
// HEAD has no body.
func noGroup(name string) *wire.Error {
	return &wire.Error{Status: http.StatusNotFound, Code: "Warning.Group.NotExisted", Target: "Group",
		Message: fmt.Sprintf("Group `%s` is empty.", name)}
}

// joinGroup adds the target's connections to the group in the path. It returns notFound if there are none.
func (c *call) joinGroup(t *hub.Target, notFound *wire.Error) (int, error) {
	if c.hub().AddToGroup(t, c.value("group")) == 0 {
		return 0, notFound
	}
	return http.StatusOK, nil
}

func (c *call) leaveGroup(t *hub.Target) (int, error) {
	c.hub().RemoveFromGroup(t, c.value("group"))
	return http.StatusNoContent, nil
}

const (
	// maxPageSize is the maximum and the default number of connections on a page of a list.
	maxPageSize = 200
	// maxContinuation is the maximum length of a continuationToken, in bytes.
	maxContinuation = 2048
)

// page is the part of a list that a request selects.
type page struct {
	size, top int
	after     string // "" = from the beginning
}

func (c *call) readPage() (err error) {
	if c.page.size, err = c.integer("maxpagesize", maxPageSize, 1, maxPageSize); err != nil {
		return err
	}
	if c.page.top, err = c.integer("top", math.MaxInt32, 1, math.MaxInt32); err != nil {
		return err
	}
	// The service accepts any token and continues after it. Its response to an empty or a very long token is not known.
	c.page.after = c.parameter("continuationToken")
	if c.has("continuationToken") && (strings.TrimSpace(c.page.after) == "" || len(c.page.after) > maxContinuation) {
		return wire.Invalid("continuationToken", "the continuationToken must not be empty or longer than %d bytes", maxContinuation)
	}
	return nil
}

// member is a connection in the response.
type member struct {
	ConnectionID string  `json:"connectionId"`
	UserID       *string `json:"userId"` // null for an anonymous connection
}

// listConnections responds with one page. The link to the next page continues after the greatest id, which is the first on
// this page.
func (c *call) listConnections() (int, error) {
	group := c.value("group")
	members, more := c.hub().Members(group, c.page.after, min(c.page.size, c.page.top))
	list := struct {
		Value    []member `json:"value"`
		NextLink string   `json:"nextLink,omitempty"`
	}{Value: make([]member, len(members))}
	for i := range members {
		list.Value[i].ConnectionID = members[i].ConnectionID
		if members[i].UserID != "" {
			list.Value[i].UserID = &members[i].UserID
		}
	}
	if left := c.page.top - len(members); more && left > 0 {
		next := c.api.Endpoint.Scheme + "://" + c.request.Host + c.request.URL.EscapedPath() + "?"
		if c.has("top") {
			next += "top=" + strconv.Itoa(left) + "&"
		}
		if c.has("maxpagesize") {
			next += "maxpagesize=" + strconv.Itoa(c.page.size) + "&"
		}
		version := newestVersion
		if c.has("api-version") {
			version = c.parameter("api-version")
		}
		list.NextLink = next + "continuationToken=" + url.QueryEscape(members[0].ConnectionID) + "&api-version=" + version
	}
	c.result = list
	return http.StatusOK, nil
}
