package emulator_test

import (
	"encoding/json"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/awps-go/webpubsub/emulator"
)

// groupsOf reads the state of the server: the groups of a connection, in order.
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
		a, b         string // the groups afterwards; at first a (user ann) is in g1 and g2, b (user bob) in g1
	}{
		"add a connection":                   {"PUT", "hubs/chat/groups/g%2F3/connections/{a}", "", 200, "g/3 g1 g2", "g1"},
		"add a connection twice":             {"PUT", "hubs/chat/groups/g1/connections/{a}", "", 200, "g1 g2", "g1"},
		"add a connection that is not":       {"PUT", "hubs/chat/groups/g/connections/x", "", 404, "g1 g2", "g1"},
		"remove a connection":                {"DELETE", "hubs/chat/groups/g1/connections/{a}", "", 204, "g2", "g1"},
		"remove a connection not in it":      {"DELETE", "hubs/chat/groups/g9/connections/{a}", "", 204, "g1 g2", "g1"},
		"remove a connection that is not":    {"DELETE", "hubs/chat/groups/g1/connections/x", "", 204, "g1 g2", "g1"},
		"remove a connection from all":       {"DELETE", "hubs/chat/connections/{a}/groups", "", 204, "", "g1"},
		"remove an absent one from all":      {"DELETE", "hubs/chat/connections/x/groups", "", 204, "g1 g2", "g1"},
		"add a user":                         {"PUT", "hubs/chat/users/bob/groups/g3", "", 200, "g1 g2", "g1 g3"},
		"add a user who is not":              {"PUT", "hubs/chat/users/eve/groups/g3", "", 404, "g1 g2", "g1"},
		"remove a user":                      {"DELETE", "hubs/chat/users/ann/groups/g1", "", 204, "g2", "g1"},
		"remove a user who is not":           {"DELETE", "hubs/chat/users/eve/groups/g1", "", 204, "g1 g2", "g1"},
		"remove a user from all":             {"DELETE", "hubs/chat/users/ann/groups", "", 204, "", "g1"},
		"add by filter":                      {"POST", "hubs/chat/:addToGroups", `{"groups":["x","y"],"filter":"userId eq 'bob'"}`, 200, "g1 g2", "g1 x y"},
		"add everyone":                       {"POST", "hubs/chat/:addToGroups", `{"groups":["x"],"filter":""}`, 200, "g1 g2 x", "g1 x"},
		"add without a filter":               {"POST", "hubs/chat/:addToGroups", `{"groups":["x"]}`, 200, "g1 g2 x", "g1 x"},
		"add with null for a filter":         {"POST", "hubs/chat/:addToGroups", `{"groups":["x"],"filter":null}`, 200, "g1 g2 x", "g1 x"},
		"a filter sees no change of its own": {"POST", "hubs/chat/:removeFromGroups", `{"groups":["g2","g1"],"filter":"'g2' in groups"}`, 200, "", "g1"},
		"remove everyone":                    {"POST", "hubs/chat/:removeFromGroups", `{"groups":["g1"]}`, 200, "g2", ""},
		"a bad filter":                       {"POST", "hubs/chat/:removeFromGroups", `{"groups":["g1"],"filter":"x eq 1"}`, 400, "g1 g2", "g1"},
		"a bad group":                        {"POST", "hubs/chat/:addToGroups", `{"groups":["x"," "]}`, 400, "g1 g2", "g1"},
		"no groups":                          {"POST", "hubs/chat/:addToGroups", `{"groups":[]}`, 400, "g1 g2", "g1"},
		"groups of another type":             {"POST", "hubs/chat/:addToGroups", `{"groups":"x"}`, 400, "g1 g2", "g1"},
		"no JSON":                            {"POST", "hubs/chat/:addToGroups", `groups`, 400, "g1 g2", "g1"},
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
	var ids []string
	users := map[string]string{}
	for i := range 7 {
		o := dialOptions{groups: []string{"a b"}}
		if i > 0 {
			o.user = fmt.Sprintf("user %d", i)
		}
		c := dialJSON(t, srv, o)
		ids = append(ids, c.id)
		users[c.id] = o.user
	}
	dialJSON(t, srv, dialOptions{groups: []string{"other"}})
	slices.Sort(ids)

	for name, tt := range map[string]struct {
		query string
		pages []int
	}{
		"as it comes":              {"api-version=2024-12-01", []int{7}},
		"by pages":                 {"api-version=2024-12-01&maxpagesize=3", []int{3, 3, 1}},
		"pages that come out even": {"maxpagesize=7", []int{7}},
		"the first few":            {"top=2", []int{2}},
		"the first few, by pages":  {"top=5&maxpagesize=2", []int{2, 2, 1}},
		"more than there are":      {"top=50&maxpagesize=200", []int{7}},
	} {
		t.Run(name, func(t *testing.T) {
			var got []string
			path := "hubs/chat/groups/a%20b/connections?" + tt.query
			for i, n := range tt.pages {
				var page struct {
					Value    []struct{ ConnectionID, UserID string }
					NextLink string
				}
				require.NoError(t, json.Unmarshal([]byte(api.must(200, "GET", path).body), &page))
				require.Len(t, page.Value, n)
				for _, m := range page.Value {
					got = append(got, m.ConnectionID)
					require.Equal(t, users[m.ConnectionID], m.UserID)
				}
				require.Equal(t, i == len(tt.pages)-1, page.NextLink == "", "the last page has no link")
				path = strings.TrimPrefix(page.NextLink, srv.Endpoint()+"/api/")
			}
			require.Equal(t, ids[:len(got)], got)
		})
	}

	// A continuation token is of a hub, whose name is compared without regard to case, and of a group.
	newContinuation := func(hub, group, size string) string {
		var page struct{ NextLink string }
		body := api.must(200, "GET", "hubs/"+hub+"/groups/"+group+"/connections?maxpagesize="+size).body
		require.NoError(t, json.Unmarshal([]byte(body), &page))
		next, err := url.Parse(page.NextLink)
		require.NoError(t, err)
		return url.QueryEscape(next.Query().Get("continuationToken"))
	}
	require.JSONEq(t, `{"value":[]}`, api.must(200, "GET", "hubs/chat/groups/none/connections").body)
	token := newContinuation("CHAT", "a%20b", "4")
	for range 2 {
		dialJSON(t, srv, dialOptions{hub: "other", groups: []string{"a b"}})
		dialJSON(t, srv, dialOptions{groups: []string{"a"}})
	}
	require.Contains(t, api.must(200, "GET", "hubs/chat/groups/a%20b/connections?continuationToken="+token).body, ids[4])
	for _, bad := range []string{"maxpagesize=0", "maxpagesize=201", "top=0", "top=x", "continuationToken=", "continuationToken=abc",
		"continuationToken=" + newContinuation("other", "a%20b", "1"), "continuationToken=" + newContinuation("chat", "a", "1")} {
		api.must(400, "GET", "hubs/chat/groups/a%20b/connections?"+bad)
	}
}
