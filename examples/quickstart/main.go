// Quickstart connects three clients to a hub, sends them messages of every kind in every way, and shows who received
// what. It runs on the emulator, in this process, unless WEBPUBSUB_CONNECTION_STRING names a service.
package main

import (
	"context"
	"fmt"
	"log"
	"math/rand/v2"
	"os"
	"os/signal"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/awps-go/webpubsub"
	"github.com/awps-go/webpubsub/emulator"
)

func main() {
	log.SetFlags(0)
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	if err := run(ctx); err != nil {
		log.Fatalln("quickstart failed:", err)
	}
}

func run(ctx context.Context) error {
	connectionString := os.Getenv("WEBPUBSUB_CONNECTION_STRING")
	if connectionString == "" {
		server, err := emulator.Start(nil)
		if err != nil {
			return err
		}
		defer server.Close()
		connectionString = server.ConnectionString()
		fmt.Println("WEBPUBSUB_CONNECTION_STRING is not set: running on the emulator, at", server.Endpoint())
	}
	hub, err := webpubsub.NewClientFromConnectionString(connectionString, "quickstart", nil)
	if err != nil {
		return err
	}
	if err := hub.GetServiceStatus(ctx, nil); err != nil {
		return err
	}

	// Users and groups of this run alone, as the hub of a real service may have other clients.
	suffix := fmt.Sprintf("-%04x", rand.N(0x10000))
	alice, bob, room := "alice"+suffix, "bob"+suffix, "room"+suffix

	// Three clients connect, each with a URL that GetClientAccessToken made for it.
	fmt.Println("\nThree clients connect:")
	clients := make(map[string]*client)
	for _, c := range []struct {
		name, subprotocol, what string
		options                 webpubsub.ClientAccessTokenOptions
	}{
		{"raw", "", "a plain WebSocket without a user", webpubsub.ClientAccessTokenOptions{}},
		{"alice", jsonSubprotocol, "a JSON client, in the group room", webpubsub.ClientAccessTokenOptions{UserID: alice, Groups: []string{room}}},
		{"bob", jsonSubprotocol, "a JSON client, in no group", webpubsub.ClientAccessTokenOptions{UserID: bob}},
	} {
		access, err := hub.GetClientAccessToken(ctx, &c.options)
		if err != nil {
			return err
		}
		connected, err := connect(ctx, c.name, access.URL, c.subprotocol)
		if err != nil {
			return err
		}
		defer connected.close()
		clients[c.name] = connected
		fmt.Printf("  %-6s %s\n", c.name, c.what)
	}

	fmt.Println("\nMessages, and who receives them:")
	for _, s := range []struct {
		what     string
		send     func() error
		received string   // as each client sees it
		by       []string // everyone else must not
		others   string   // why not
	}{
		{"JSON to all", func() error {
			return hub.SendToAll(ctx, webpubsub.JSON(map[string]string{"from": "server", "data": "Hello world"}), nil)
		}, `{"data":"Hello world","from":"server"}`, []string{"alice", "bob", "raw"}, ""},
		{"text to all", func() error {
			return hub.SendToAll(ctx, webpubsub.Text("Hello, all"), nil)
		}, "Hello, all", []string{"alice", "bob", "raw"}, ""},
		{"a binary stream to all", func() error {
			return hub.SendToAll(ctx, webpubsub.BinaryStream(strings.NewReader("\x00\x01 streamed")), nil)
		}, "\x00\x01 streamed", []string{"alice", "bob", "raw"}, ""},
		{"text to the group", func() error {
			return hub.SendToGroup(ctx, room, webpubsub.Text("Hello, room"), nil)
		}, "Hello, room", []string{"alice"}, "not in the group"},
		{"JSON to the user bob", func() error {
			return hub.SendToUser(ctx, bob, webpubsub.JSON([]int{1, 2, 3}), nil)
		}, "[1,2,3]", []string{"bob"}, "of another user, or of none"},
		{"binary to one connection", func() error {
			return hub.SendToConnection(ctx, clients["alice"].connectionID, webpubsub.Binary([]byte{0xff}), nil)
		}, "\xff", []string{"alice"}, "another connection"},
		{"text to all, with a filter", func() error {
			return hub.SendToAll(ctx, webpubsub.Text("Hello, all but bob"), &webpubsub.SendToAllOptions{
				Filter: webpubsub.FormatFilter("userId ne %v", bob)})
		}, "Hello, all but bob", []string{"alice", "raw"}, "the filter is userId ne 'bob'"},
		{"text to all, with an exclusion", func() error {
			return hub.SendToAll(ctx, webpubsub.Text("Hello, others"), &webpubsub.SendToAllOptions{
				Excluded: []string{clients["alice"].connectionID}})
		}, "Hello, others", []string{"bob", "raw"}, "excluded by connection id"},
		{"text to a filtered group", func() error {
			if err := hub.AddUserToGroup(ctx, room, bob, nil); err != nil {
				return err
			}
			return hub.SendToGroup(ctx, room, webpubsub.Text("Hello, b"), &webpubsub.SendToGroupOptions{
				Filter: "startswith(userId, 'b')"})
		}, "Hello, b", []string{"bob"}, "not in the group, or not a user with b"},
	} {
		if err := s.send(); err != nil {
			return err
		}
		var missed []string
		for name, c := range clients {
			if !slices.Contains(s.by, name) {
				missed = append(missed, name)
				continue
			}
			if err := c.expect(ctx, s.received); err != nil {
				return fmt.Errorf("%s: %w", s.what, err)
			}
		}
		if err := expectSilence(ctx, hub, clients); err != nil {
			return fmt.Errorf("%s: %w", s.what, err)
		}
		shown := s.received
		if strings.ContainsFunc(shown, func(r rune) bool { return !unicode.IsPrint(r) }) || !utf8.ValidString(shown) {
			shown = fmt.Sprintf("% x", shown)
		}
		fmt.Printf("  %-30s  %-38s  to %s\n", s.what, shown, strings.Join(s.by, ", "))
		if len(missed) > 0 {
			slices.Sort(missed)
			fmt.Printf("  %70s  not %s: %s\n", "", strings.Join(missed, ", "), s.others)
		}
	}

	fmt.Println("\nConnections in the group:")
	for member, err := range hub.ConnectionsInGroup(ctx, room, nil) {
		if err != nil {
			return err
		}
		fmt.Printf("  %s, user %s\n", member.ConnectionID, member.UserID)
	}

	fmt.Println("\nMay bob send to the group?")
	may := func(want bool) error {
		ok, err := hub.HasPermission(ctx, webpubsub.PermissionSendToGroup, clients["bob"].connectionID,
			&webpubsub.HasPermissionOptions{TargetName: room})
		if err == nil && ok != want {
			err = fmt.Errorf("HasPermission is %t", ok)
		}
		return err
	}
	if err := may(false); err != nil {
		return err
	}
	fmt.Println("  no: his token has no role")
	if err := hub.GrantPermission(ctx, webpubsub.PermissionSendToGroup, clients["bob"].connectionID,
		&webpubsub.GrantPermissionOptions{TargetName: room}); err != nil {
		return err
	}
	if err := may(true); err != nil {
		return err
	}
	if err := clients["bob"].sendToGroup(ctx, room, "Hello from bob"); err != nil {
		return err
	}
	if err := clients["alice"].expect(ctx, "Hello from bob"); err != nil {
		return err
	}
	fmt.Println("  yes, once it is granted: alice received \"Hello from bob\"")
	if err := hub.RevokePermission(ctx, webpubsub.PermissionSendToGroup, clients["bob"].connectionID,
		&webpubsub.RevokePermissionOptions{TargetName: room}); err != nil {
		return err
	}
	if err := may(false); err != nil {
		return err
	}
	fmt.Println("  no more, once it is revoked")

	fmt.Println("\nbob's connection is closed:")
	if err := hub.CloseConnection(ctx, clients["bob"].connectionID, &webpubsub.CloseConnectionOptions{Reason: "good night"}); err != nil {
		return err
	}
	if err := clients["bob"].expectClose(ctx, "Application server closed the connection. Reason: good night"); err != nil {
		return err
	}
	fmt.Println("  he was told the reason: good night")
	fmt.Println("\nEverything arrived where it should, and nowhere else.")
	return nil
}

// expectSilence finds whether any client received more than was expected: it sends each a last message, before which
// nothing else may arrive.
func expectSilence(ctx context.Context, hub *webpubsub.ServiceClient, clients map[string]*client) error {
	for _, c := range clients {
		if c.connectionID == "" { // a raw client does not learn its id; it is the one without a user
			if err := hub.SendToAll(ctx, webpubsub.Text("fence"), &webpubsub.SendToAllOptions{Filter: "userId eq null"}); err != nil {
				return err
			}
		} else if err := hub.SendToConnection(ctx, c.connectionID, webpubsub.Text("fence"), nil); err != nil {
			return err
		}
		if err := c.expect(ctx, "fence"); err != nil {
			return err
		}
	}
	return nil
}
