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

// SendToGroup sends a message to every connection in a group. It succeeds even if the group has no connections. It does
// not reach a group with a / in its name: see Names in the package documentation.
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

// GroupExists reports whether any connection is in a group. It does not find a group with a / in its name: see Names in
// the package documentation.
//
// REST: HEAD /api/hubs/{hub}/groups/{group}.
func (c *ServiceClient) GroupExists(ctx context.Context, group string, options *GroupExistsOptions) (bool, error) {
	return c.newHubRequest("GroupExists", http.MethodHead).group(group).exists(ctx)
}

// CloseGroupConnections closes every connection in a group. Clients with a JSON or protobuf subprotocol receive the
// reason first. CloseGroupConnections does not reach a group with a / in its name: see Names in the package
// documentation.
//
// REST: POST /api/hubs/{hub}/groups/{group}/:closeConnections.
func (c *ServiceClient) CloseGroupConnections(ctx context.Context, group string, options *CloseGroupConnectionsOptions) error {
	o := valueOf(options)
	r := c.newHubRequest("CloseGroupConnections", http.MethodPost).group(group).literal("/:closeConnections")
	r.excluded(o.Excluded)
	r.reason(o.Reason)
	return r.run(ctx)
}

// AddConnectionToGroup adds a connection to a group. It returns [ErrNotFound] if the connection does not exist. For a
// group with a / in its name, use [ServiceClient.AddConnectionsToGroups]: see Names in the package documentation.
//
// REST: PUT /api/hubs/{hub}/groups/{group}/connections/{connectionId}.
func (c *ServiceClient) AddConnectionToGroup(ctx context.Context, group, connectionID string, options *AddConnectionToGroupOptions) error {
	return c.newHubRequest("AddConnectionToGroup", http.MethodPut).group(group).connection(connectionID).run(ctx)
}

// RemoveConnectionFromGroup removes a connection from a group. It succeeds even if the connection is not in the group
// or does not exist. For a group with a / in its name, use [ServiceClient.RemoveConnectionsFromGroups]: see Names in
// the package documentation.
//
// REST: DELETE /api/hubs/{hub}/groups/{group}/connections/{connectionId}.
func (c *ServiceClient) RemoveConnectionFromGroup(ctx context.Context, group, connectionID string, options *RemoveConnectionFromGroupOptions) error {
	return c.newHubRequest("RemoveConnectionFromGroup", http.MethodDelete).group(group).connection(connectionID).run(ctx)
}

// AddConnectionsToGroups adds every connection that matches the filter to each of the groups. The empty filter matches
// every connection. At least one group is required. Groups and users may have a / in their names, because the groups
// and the filter are sent in the request body.
//
// REST: POST /api/hubs/{hub}/:addToGroups.
func (c *ServiceClient) AddConnectionsToGroups(ctx context.Context, groups []string, filter Filter, options *AddConnectionsToGroupsOptions) error {
	return c.changeGroups(ctx, "AddConnectionsToGroups", "/:addToGroups", groups, filter)
}

// RemoveConnectionsFromGroups removes every connection that matches the filter from each of the groups. The empty
// filter matches every connection. At least one group is required. Groups and users may have a / in their names,
// because the groups and the filter are sent in the request body.
//
// REST: POST /api/hubs/{hub}/:removeFromGroups.
func (c *ServiceClient) RemoveConnectionsFromGroups(ctx context.Context, groups []string, filter Filter, options *RemoveConnectionsFromGroupsOptions) error {
	return c.changeGroups(ctx, "RemoveConnectionsFromGroups", "/:removeFromGroups", groups, filter)
}

func (c *ServiceClient) changeGroups(ctx context.Context, operation, action string, groups []string, filter Filter) error {
	r := c.newHubRequest(operation, http.MethodPost).literal(action)
	if len(groups) == 0 {
		r.reject("groups", "is empty")
	}
	r.checkEach("groups", groups, groupProblem)
	r.check("filter", filter.problem())
	r.message(JSON(struct {
		Groups []string `json:"groups"`
		Filter Filter   `json:"filter,omitempty"`
	}{groups, filter}), nil)
	return r.run(ctx)
}

// NewListConnectionsInGroupPager returns a pager for the connections in a group. The pages are ordered by connection
// ID, but the connections within a page are not ordered. Connections may join and leave between pages. For an invalid
// argument, the first NextPage returns [ErrInvalidArgument]. The pager does not find a group with a / in its name: see
// Names in the package documentation.
//
// REST: GET /api/hubs/{hub}/groups/{group}/connections.
func (c *ServiceClient) NewListConnectionsInGroupPager(group string, options *ListConnectionsInGroupOptions) *runtime.Pager[ListConnectionsInGroupPage] {
	o := valueOf(options)
	return runtime.NewPager(runtime.PagingHandler[ListConnectionsInGroupPage]{
		More: func(page ListConnectionsInGroupPage) bool { return page.nextLink != "" },
		Fetcher: func(ctx context.Context, last *ListConnectionsInGroupPage) (ListConnectionsInGroupPage, error) {
			r := c.newHubRequest("ListConnectionsInGroup", http.MethodGet).group(group).literal("/connections")
			r.addPaging(o)
			if last != nil {
				r.followLink(last.nextLink)
			}
			var response struct {
				Value    []GroupMember `json:"value"`
				NextLink string        `json:"nextLink"`
			}
			err := r.json(ctx, &response, func() error {
				if last != nil && response.NextLink == last.nextLink {
					return errors.New("the link to the next page leads to the same page")
				}
				return nil
			})
			if err != nil {
				return ListConnectionsInGroupPage{}, err
			}
			page := ListConnectionsInGroupPage{Members: response.Value, nextLink: response.NextLink}
			_, query, _ := strings.Cut(response.NextLink, "?")
			token, _ := queryValue(query, "continuationToken")
			page.ContinuationToken, _ = url.QueryUnescape(token)
			return page, nil
		},
	})
}

// ConnectionsInGroup returns an iterator over the connections in a group. It requests one page at a time; see
// [ServiceClient.NewListConnectionsInGroupPager] for the order. If a request fails, the iterator yields a zero
// GroupMember with the error, and stops. It does not find a group with a / in its name: see Names in the package
// documentation.
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

// addPaging adds the query parameters of a list.
func (r *request) addPaging(o ListConnectionsInGroupOptions) {
	const maxPageSize = 200
	if o.MaxPageSize < 0 || o.MaxPageSize > maxPageSize {
		r.reject("options.MaxPageSize", "must be from 1 to %d", maxPageSize)
	}
	if o.Top < 0 {
		r.reject("options.Top", "is negative")
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

// followLink sets the path and query to those of the link to the next page. A link out of the service is an error,
// because the request carries credentials.
func (r *request) followLink(link string) {
	if r.err != nil {
		return
	}
	u, err := url.Parse(link)
	if err == nil {
		if target, ok := r.client.endpoint.within(u); ok {
			r.setTarget(target)
			return
		}
	}
	r.err = wrapError(r.operation, errors.New("the link to the next page is not followed: it leads to another host, scheme or path"))
}
