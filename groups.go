package webpubsub

import (
	"context"
	"errors"
	"iter"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore/runtime"
)

// SendToGroup sends a message to every connection in a group. A group without connections is no error.
//
// REST: POST /api/hubs/{hub}/groups/{group}/:send.
func (c *ServiceClient) SendToGroup(ctx context.Context, group string, message Message, options *SendToGroupOptions) error {
	o := valueOf(options)
	r := c.newHubRequest("SendToGroup", http.MethodPost).group(group).literal("/:send")
	r.excluded(o.Excluded)
	r.filter(o.Filter)
	r.ttl(o.MessageTTL)
	r.message(message, o.Metadata)
	return r.run(ctx)
}

// GroupExists says whether a group has a connection.
//
// REST: HEAD /api/hubs/{hub}/groups/{group}.
func (c *ServiceClient) GroupExists(ctx context.Context, group string, options *GroupExistsOptions) (bool, error) {
	return c.newHubRequest("GroupExists", http.MethodHead).group(group).exists(ctx)
}

// CloseGroupConnections closes every connection in a group. Clients of the JSON and protobuf subprotocols are told the
// reason before.
//
// REST: POST /api/hubs/{hub}/groups/{group}/:closeConnections.
func (c *ServiceClient) CloseGroupConnections(ctx context.Context, group string, options *CloseGroupConnectionsOptions) error {
	o := valueOf(options)
	r := c.newHubRequest("CloseGroupConnections", http.MethodPost).group(group).literal("/:closeConnections")
	r.excluded(o.Excluded)
	r.reason(o.Reason)
	return r.run(ctx)
}

// AddConnectionToGroup adds a connection to a group. A connection that does not exist is an [ErrNotFound].
//
// REST: PUT /api/hubs/{hub}/groups/{group}/connections/{connectionId}.
func (c *ServiceClient) AddConnectionToGroup(ctx context.Context, group, connectionID string, options *AddConnectionToGroupOptions) error {
	return c.newHubRequest("AddConnectionToGroup", http.MethodPut).group(group).connection(connectionID).run(ctx)
}

// RemoveConnectionFromGroup takes a connection out of a group. A connection that is not in it is no error.
//
// REST: DELETE /api/hubs/{hub}/groups/{group}/connections/{connectionId}.
func (c *ServiceClient) RemoveConnectionFromGroup(ctx context.Context, group, connectionID string, options *RemoveConnectionFromGroupOptions) error {
	return c.newHubRequest("RemoveConnectionFromGroup", http.MethodDelete).group(group).connection(connectionID).run(ctx)
}

// AddConnectionsToGroups adds every connection that the filter is true for to each of the groups; the empty filter is
// every connection. At least one group is needed.
//
// REST: POST /api/hubs/{hub}/:addToGroups.
func (c *ServiceClient) AddConnectionsToGroups(ctx context.Context, groups []string, filter Filter, options *AddConnectionsToGroupsOptions) error {
	return c.changeGroups(ctx, "AddConnectionsToGroups", "/:addToGroups", groups, filter)
}

// RemoveConnectionsFromGroups takes every connection that the filter is true for out of each of the groups; the empty
// filter is every connection. At least one group is needed.
//
// REST: POST /api/hubs/{hub}/:removeFromGroups.
func (c *ServiceClient) RemoveConnectionsFromGroups(ctx context.Context, groups []string, filter Filter, options *RemoveConnectionsFromGroupsOptions) error {
	return c.changeGroups(ctx, "RemoveConnectionsFromGroups", "/:removeFromGroups", groups, filter)
}

func (c *ServiceClient) changeGroups(ctx context.Context, operation, action string, groups []string, filter Filter) error {
	r := c.newHubRequest(operation, http.MethodPost).literal(action)
	if len(groups) == 0 {
		r.refuse("groups", "is empty")
	}
	for i, group := range groups {
		r.checkGroup("groups["+strconv.Itoa(i)+"]", group)
	}
	r.checkFilter("filter", filter)
	r.message(JSON(struct {
		Groups []string `json:"groups"`
		Filter Filter   `json:"filter,omitempty"`
	}{groups, filter}), nil)
	return r.run(ctx)
}

// NewListConnectionsInGroupPager returns a pager of the connections in a group, ordered by connection id. A wrong
// argument is the error of its first page.
//
// REST: GET /api/hubs/{hub}/groups/{group}/connections.
func (c *ServiceClient) NewListConnectionsInGroupPager(group string, options *ListConnectionsInGroupOptions) *runtime.Pager[ListConnectionsInGroupPage] {
	o := valueOf(options)
	return runtime.NewPager(runtime.PagingHandler[ListConnectionsInGroupPage]{
		More: func(page ListConnectionsInGroupPage) bool { return page.nextLink != "" },
		Fetcher: func(ctx context.Context, last *ListConnectionsInGroupPage) (ListConnectionsInGroupPage, error) {
			r := c.newHubRequest("ListConnectionsInGroup", http.MethodGet).group(group).literal("/connections")
			r.page(o)
			if last != nil {
				r.next(last.nextLink)
			}
			var answer struct {
				Value    []GroupMember `json:"value"`
				NextLink string        `json:"nextLink"`
			}
			if err := r.json(ctx, &answer); err != nil {
				return ListConnectionsInGroupPage{}, err
			}
			page := ListConnectionsInGroupPage{Members: answer.Value, nextLink: answer.NextLink}
			_, query, _ := strings.Cut(answer.NextLink, "?")
			token, _ := queryValue(query, "continuationToken")
			page.ContinuationToken, _ = url.QueryUnescape(token)
			return page, nil
		},
	})
}

// ConnectionsInGroup iterates over the connections in a group, ordered by connection id, and fetches page after page on
// the way. After an error, which comes with an empty member, it ends.
//
// REST: GET /api/hubs/{hub}/groups/{group}/connections.
func (c *ServiceClient) ConnectionsInGroup(ctx context.Context, group string, options *ListConnectionsInGroupOptions) iter.Seq2[GroupMember, error] {
	return func(yield func(GroupMember, error) bool) {
		pager := c.NewListConnectionsInGroupPager(group, options)
		for pager.More() {
			page, err := pager.NextPage(ctx)
			if err != nil {
				yield(GroupMember{}, err)
				return
			}
			for _, member := range page.Members {
				if !yield(member, nil) {
					return
				}
			}
		}
	}
}

// page adds the query of a listing.
func (r *request) page(o ListConnectionsInGroupOptions) {
	const maxPageSize = 200
	if o.MaxPageSize < 0 || o.MaxPageSize > maxPageSize {
		r.refuse("options.MaxPageSize", "is not from 1 to %d", maxPageSize)
	}
	if o.Top < 0 {
		r.refuse("options.Top", "is negative")
	}
	if o.MaxPageSize > 0 {
		r.param("maxpagesize", strconv.Itoa(int(o.MaxPageSize)))
	}
	if o.Top > 0 {
		r.param("top", strconv.Itoa(int(o.Top)))
	}
	if o.ContinuationToken != "" {
		r.param("continuationToken", o.ContinuationToken)
	}
}

// next makes the request one for the link to the next page. A link that leads away from the service is not followed:
// the request carries credentials.
func (r *request) next(link string) {
	if r.err != nil {
		return
	}
	u, err := url.Parse(link)
	if err == nil {
		if target, ok := r.client.endpoint.rest(u); ok {
			r.goTo(target)
			return
		}
	}
	r.err = wrapError(r.operation, errors.New("the service's link to the next page leads away from the service, to another host, "+
		"scheme or path, and is not followed"))
}
