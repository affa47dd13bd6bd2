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

// SendToGroup sends a message to every connection in a group. It succeeds if the group has no connections. The group may
// have no / in its name; see Names in the package's documentation.
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

// GroupExists reports whether a group has a connection. A group with a / in its name is not reached: see Names in the
// package's documentation.
//
// REST: HEAD /api/hubs/{hub}/groups/{group}.
func (c *ServiceClient) GroupExists(ctx context.Context, group string, options *GroupExistsOptions) (bool, error) {
	return c.newHubRequest("GroupExists", http.MethodHead).group(group).exists(ctx)
}

// CloseGroupConnections closes every connection in a group. Clients of the JSON and protobuf subprotocols receive the
// reason before. A group with a / in its name is not reached: see Names in the package's documentation.
//
// REST: POST /api/hubs/{hub}/groups/{group}/:closeConnections.
func (c *ServiceClient) CloseGroupConnections(ctx context.Context, group string, options *CloseGroupConnectionsOptions) error {
	o := valueOf(options)
	r := c.newHubRequest("CloseGroupConnections", http.MethodPost).group(group).literal("/:closeConnections")
	r.excluded(o.Excluded)
	r.reason(o.Reason)
	return r.run(ctx)
}

// AddConnectionToGroup adds a connection to a group. It returns [ErrNotFound] if the connection does not exist. A group
// with a / in its name is not reached, except by [ServiceClient.AddConnectionsToGroups]: see Names in the package's
// documentation.
//
// REST: PUT /api/hubs/{hub}/groups/{group}/connections/{connectionId}.
func (c *ServiceClient) AddConnectionToGroup(ctx context.Context, group, connectionID string, options *AddConnectionToGroupOptions) error {
	return c.newHubRequest("AddConnectionToGroup", http.MethodPut).group(group).connection(connectionID).run(ctx)
}

// RemoveConnectionFromGroup removes a connection from a group. It succeeds if the connection is not in the group or does
// not exist. A group with a / in its name is not reached, except by [ServiceClient.RemoveConnectionsFromGroups]: see
// Names in the package's documentation.
//
// REST: DELETE /api/hubs/{hub}/groups/{group}/connections/{connectionId}.
func (c *ServiceClient) RemoveConnectionFromGroup(ctx context.Context, group, connectionID string, options *RemoveConnectionFromGroupOptions) error {
	return c.newHubRequest("RemoveConnectionFromGroup", http.MethodDelete).group(group).connection(connectionID).run(ctx)
}

// AddConnectionsToGroups adds every connection that matches the filter to each of the groups. The empty filter matches
// every connection. At least one group is required. The groups and the filter travel in the request's body, so that
// names with a / are reached.
//
// REST: POST /api/hubs/{hub}/:addToGroups.
func (c *ServiceClient) AddConnectionsToGroups(ctx context.Context, groups []string, filter Filter, options *AddConnectionsToGroupsOptions) error {
	return c.changeGroups(ctx, "AddConnectionsToGroups", "/:addToGroups", groups, filter)
}

// RemoveConnectionsFromGroups removes every connection that matches the filter from each of the groups. The empty filter
// matches every connection. At least one group is required. The groups and the filter travel in the request's body, so
// that names with a / are reached.
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
	r.checkEach("groups", groups, groupProblem)
	r.checkFilter("filter", filter)
	r.message(JSON(struct {
		Groups []string `json:"groups"`
		Filter Filter   `json:"filter,omitempty"`
	}{groups, filter}), nil)
	return r.run(ctx)
}

// NewListConnectionsInGroupPager returns a pager of the connections in a group. Pages follow each other in the order of
// connection ids; within a page there is no order. Connections may join and leave between pages. The first page returns
// [ErrInvalidArgument] for a wrong argument. A group with a / in its name is not reached: see Names in the package's
// documentation.
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

// ConnectionsInGroup iterates over the connections in a group and requests page after page on the way; see
// [ServiceClient.NewListConnectionsInGroupPager] for their order. It ends after an error, which comes with an empty
// member. A group with a / in its name is not reached: see Names in the package's documentation.
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

// page adds the query of a list.
func (r *request) page(o ListConnectionsInGroupOptions) {
	const maxPageSize = 200
	if o.MaxPageSize < 0 || o.MaxPageSize > maxPageSize {
		r.refuse("options.MaxPageSize", "must be from 1 to %d", maxPageSize)
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

// next makes the request follow the link to the next page, if that stays within the service: the request carries
// credentials.
func (r *request) next(link string) {
	if r.err != nil {
		return
	}
	u, err := url.Parse(link)
	if err == nil {
		if target, ok := r.client.endpoint.within(u); ok {
			r.goTo(target)
			return
		}
	}
	r.err = wrapError(r.operation, errors.New("the service's link to the next page is not followed: it leads to another host, "+
		"scheme or path"))
}
