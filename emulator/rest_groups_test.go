package emulator_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/awps-go/webpubsub/emulator"
)

// groupsOf returns the groups of a connection, in order.
func groupsOf(srv *emulator.Server, connectionID string) []string {
	for _, c := range srv.Connections("chat") {
		if c.ID == connectionID {
			return c.Groups
		}
	}
	return nil
}

func TestGroupMembership(t *testing.T) {
	for name, tt := range map[string]struct {
		method, path string
		body         string
		status       int
		a, b         string // the groups afterwards. At the start, a (user ann) is in g1 and g2, b (user bob) in g1
	}{
		"add a connection":                             {"PUT", "hubs/chat/groups/g%203/connections/{a}", "", 200, "g 3 g1 g2", "g1"},
		"a slash stays encoded":                        {"PUT", "hubs/chat/groups/g%2F3/connections/{a}", "", 200, "g%2F3 g1 g2", "g1"},
		"a slash in a body":                            {"POST", "hubs/chat/:addToGroups", `{"groups":["g/3"],"filter":"userId eq 'ann'"}`, 200, "g/3 g1 g2", "g1"},
		"add a connection twice":                       {"PUT", "hubs/chat/groups/g1/connections/{a}", "", 200, "g1 g2", "g1"},
		"add an unknown connection":                    {"PUT", "hubs/chat/groups/g/connections/x", "", 404, "g1 g2", "g1"},
		"remove a connection":                          {"DELETE", "hubs/chat/groups/g1/connections/{a}", "", 204, "g2", "g1"},
		"remove a connection not in it":                {"DELETE", "hubs/chat/groups/g9/connections/{a}", "", 204, "g1 g2", "g1"},
		"remove an unknown connection":                 {"DELETE", "hubs/chat/groups/g1/connections/x", "", 204, "g1 g2", "g1"},
		"remove a connection from all":                 {"DELETE", "hubs/chat/connections/{a}/groups", "", 204, "", "g1"},
		"remove an unknown connection from all":        {"DELETE", "hubs/chat/connections/x/groups", "", 204, "g1 g2", "g1"},
		"add a user":                                   {"PUT", "hubs/chat/users/bob/groups/g3", "", 200, "g1 g2", "g1 g3"},
		"add an unknown user":                          {"PUT", "hubs/chat/users/eve/groups/g3", "", 404, "g1 g2", "g1"},
		"remove a user":                                {"DELETE", "hubs/chat/users/ann/groups/g1", "", 204, "g2", "g1"},
		"remove an unknown user":                       {"DELETE", "hubs/chat/users/eve/groups/g1", "", 204, "g1 g2", "g1"},
		"remove a user from all":                       {"DELETE", "hubs/chat/users/ann/groups", "", 204, "", "g1"},
		"add by filter":                                {"POST", "hubs/chat/:addToGroups", `{"groups":["x","y"],"filter":"userId eq 'bob'"}`, 200, "g1 g2", "g1 x y"},
		"add everyone":                                 {"POST", "hubs/chat/:addToGroups", `{"groups":["x"],"filter":""}`, 200, "g1 g2 x", "g1 x"},
		"add without a filter":                         {"POST", "hubs/chat/:addToGroups", `{"groups":["x"]}`, 200, "g1 g2 x", "g1 x"},
		"add with a null filter":                       {"POST", "hubs/chat/:addToGroups", `{"groups":["x"],"filter":null}`, 200, "g1 g2 x", "g1 x"},
		"the filter uses the groups before the change": {"POST", "hubs/chat/:removeFromGroups", `{"groups":["g2","g1"],"filter":"'g2' in groups"}`, 200, "", "g1"},
		"remove everyone":                              {"POST", "hubs/chat/:removeFromGroups", `{"groups":["g1"]}`, 200, "g2", ""},
		"a bad filter":                                 {"POST", "hubs/chat/:removeFromGroups", `{"groups":["g1"],"filter":"x eq 1"}`, 400, "g1 g2", "g1"},
		"a bad group":                                  {"POST", "hubs/chat/:addToGroups", `{"groups":["x"," "]}`, 400, "g1 g2", "g1"},
		"no groups":                                    {"POST", "hubs/chat/:addToGroups", `{"groups":[]}`, 400, "g1 g2", "g1"},
		"groups of another type":                       {"POST", "hubs/chat/:addToGroups", `{"groups":"x"}`, 400, "g1 g2", "g1"},
		"a null group":                                 {"POST", "hubs/chat/:addToGroups", `{"groups":["x",null]}`, 400, "g1 g2", "g1"},
		"a group that is too long":                     {"POST", "hubs/chat/:addToGroups", `{"groups":["x","` + strings.Repeat("😀", 513) + `"]}`, 400, "g1 g2", "g1"},
		"a filter of white space":                      {"POST", "hubs/chat/:addToGroups", `{"groups":["x"],"filter":" "}`, 400, "g1 g2", "g1"},
		"null":                                         {"POST", "hubs/chat/:addToGroups", `null`, 400, "g1 g2", "g1"},
		"a list":                                       {"POST", "hubs/chat/:addToGroups", `["x"]`, 400, "g1 g2", "g1"},
		"the same group twice":                         {"POST", "hubs/chat/:addToGroups", `{"groups":["x","x"]}`, 200, "g1 g2 x", "g1 x"},
		"not JSON":                                     {"POST", "hubs/chat/:addToGroups", `groups`, 400, "g1 g2", "g1"},
	} {
		t.Run(name, func(t *testing.T) {
			srv := emulator.StartT(t, nil)
			a := dialJSON(t, srv, dialOptions{user: "ann", groups: []string{"g1", "g2"}})
			b := dialJSON(t, srv, dialOptions{user: "bob", groups: []string{"g1"}})
			r := rest{t, srv}.do(tt.method, strings.ReplaceAll(tt.path, "{a}", a.id), []byte(tt.body), "Content-Type", "application/json")
			require.Equal(t, tt.status, r.status, r.body)
			require.Equal(t, tt.a, strings.Join(groupsOf(srv, a.id), " "))
			require.Equal(t, tt.b, strings.Join(groupsOf(srv, b.id), " "))
		})
	}
}

func TestListingAGroup(t *testing.T) {
	srv := emulator.StartT(t, nil)
	api := rest{t, srv}
	users := map[string]any{}
	for i := range 7 {
		o := dialOptions{groups: []string{"a b"}}
		if i > 0 {
			o.user = fmt.Sprintf("user %d", i)
		}
		id := dialJSON(t, srv, o).id
		users[id] = nil
		if o.user != "" {
			users[id] = o.user
		}
	}
	dialJSON(t, srv, dialOptions{groups: []string{"other"}})

	for name, tt := range map[string]struct {
		query string
		pages []int
		links []string // queries of the nextLinks, without the continuationToken
	}{
		"without options":            {"api-version=2024-12-01", []int{7}, nil},
		"in pages":                   {"api-version=2023-07-01&maxpagesize=3", []int{3, 3, 1}, []string{"maxpagesize=3&api-version=2023-07-01", "maxpagesize=3&api-version=2023-07-01"}},
		"a full last page":           {"maxpagesize=7", []int{7}, nil},
		"top":                        {"top=2", []int{2}, nil},
		"top, in pages":              {"top=5&maxpagesize=2", []int{2, 2, 1}, []string{"top=3&maxpagesize=2&api-version=2024-12-01", "top=1&maxpagesize=2&api-version=2024-12-01"}},
		"top, with a full last page": {"top=4&maxpagesize=2", []int{2, 2}, []string{"top=2&maxpagesize=2&api-version=2024-12-01"}},
		"more than there are":        {"top=50&maxpagesize=200", []int{7}, nil},
		"names in another case":      {"TOP=3&MaxPageSize=2", []int{2, 1}, []string{"top=1&maxpagesize=2&api-version=2024-12-01"}},
	} {
		t.Run(name, func(t *testing.T) {
			seen := map[string]any{}
			path := "hubs/CHAT/groups/a%20b/connections?" + tt.query
			for i, n := range tt.pages {
				body := api.must(200, "GET", path).body
				var page struct {
					Value    []map[string]any
					NextLink *string
				}
				require.NoError(t, json.Unmarshal([]byte(body), &page))
				require.Len(t, page.Value, n)
				for _, m := range page.Value {
					require.Len(t, m, 2)
					id := m["connectionId"].(string)
					require.NotContains(t, seen, id)
					require.Contains(t, users, id)
					require.Equal(t, users[id], m["userId"])
					seen[id] = true
				}
				if i == len(tt.pages)-1 {
					require.NotContains(t, body, "nextLink", "the last page has no nextLink, not even null")
					break
				}
				link := strings.Replace(*page.NextLink, "continuationToken="+page.Value[0]["connectionId"].(string)+"&", "", 1)
				require.Equal(t, srv.Endpoint()+"/api/hubs/CHAT/groups/a%20b/connections?"+tt.links[i], link)
				path = strings.TrimPrefix(*page.NextLink, srv.Endpoint()+"/api/")
			}
		})
	}
	require.Equal(t, `{"value":[]}`, api.must(200, "GET", "hubs/chat/groups/none/connections").body)
	require.Equal(t, `{"value":[]}`, api.must(200, "GET", "hubs/chat/groups/a%20b/connections?continuationToken=zzzz").body)
	require.Contains(t, api.must(200, "GET", "hubs/chat/groups/a%20b/connections?continuationToken=__&maxpagesize=1").body, "nextLink",
		"any text is a valid token")
	for _, bad := range []string{"maxpagesize=0", "maxpagesize=201", "maxpagesize=1.5", "maxpagesize=", "maxpagesize=1&maxpagesize=1",
		"top=0", "top=x", "top=", "top=2147483648", "top=1&TOP=2", "continuationToken=", "continuationToken=a&continuationToken=b",
		"continuationToken=" + strings.Repeat("x", 2049)} {
		r := api.must(400, "GET", "hubs/chat/groups/a%20b/connections?"+bad)
		require.Equal(t, "application/problem+json; charset=utf-8", r.header.Get("Content-Type"), bad)
	}
}
