package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/awps-go/webpubsub"
	"github.com/awps-go/webpubsub/wsclient"
)

// people are the clients of the example, by name.
type people map[string]*wsclient.Conn

// delivery is one message and the clients that must receive it.
type delivery struct {
	what     string
	send     func() error
	received string
	by       []string // the clients that receive it; no other client may
	others   string   // why the other clients do not receive it
}

// deliver sends messages in every way, prints who received them, and fails if a client received anything else.
func deliver(ctx context.Context, client *webpubsub.ServiceClient) error {
	// The users and groups are unique to this run, because the hub of a real service may have other clients.
	suffix := fmt.Sprintf("-%04x", rand.N(0x10000))
	alice, bob, room := "alice"+suffix, "bob"+suffix, "room"+suffix

	fmt.Println("\nThree clients connect:")
	clients := people{}
	for _, c := range []struct {
		name     string
		protocol wsclient.Protocol
		what     string
		options  webpubsub.ClientAccessTokenOptions
	}{
		{"alice", wsclient.JSONReliable, "in the group room", webpubsub.ClientAccessTokenOptions{UserID: alice, Groups: []string{room}}},
		{"bob", wsclient.JSONPlain, "in no group", webpubsub.ClientAccessTokenOptions{UserID: bob}},
		{"anon", wsclient.ProtobufReliable, "without a user", webpubsub.ClientAccessTokenOptions{}},
	} {
		conn, err := wsclient.Dial(ctx, func(ctx context.Context) (string, error) {
			access, err := client.GetClientAccessToken(ctx, &c.options)
			return access.URL, err
		}, &wsclient.Options{Protocol: c.protocol, Reconnect: wsclient.ReconnectOptions{Disabled: true}})
		if err != nil {
			return fmt.Errorf("%s cannot connect: %w", c.name, err)
		}
		defer conn.Close()
		clients[c.name] = conn
		fmt.Printf("  %-6s %-18s %s\n", c.name, c.what, c.protocol)
	}

	fmt.Println("\nMessages, and who receives them:")
	for _, d := range []delivery{
		{"JSON to all", func() error {
			return client.SendToAll(ctx, webpubsub.JSON(map[string]string{"from": "server", "data": "Hello world"}), nil)
		}, `{"data":"Hello world","from":"server"}`, []string{"alice", "anon", "bob"}, ""},
		{"text to all", func() error {
			return client.SendToAll(ctx, webpubsub.Text("Hello, all"), nil)
		}, "Hello, all", []string{"alice", "anon", "bob"}, ""},
		{"a binary stream to all", func() error {
			return client.SendToAll(ctx, webpubsub.BinaryStream(strings.NewReader("\x00\x01 streamed")), nil)
		}, "\x00\x01 streamed", []string{"alice", "anon", "bob"}, ""},
		{"text to the group", func() error {
			return client.SendToGroup(ctx, room, webpubsub.Text("Hello, room"), nil)
		}, "Hello, room", []string{"alice"}, "not in the group"},
		{"JSON to the user bob", func() error {
			return client.SendToUser(ctx, bob, webpubsub.JSON([]int{1, 2, 3}), nil)
		}, "[1,2,3]", []string{"bob"}, "of another user, or without a user"},
		{"binary to one connection", func() error {
			return client.SendToConnection(ctx, clients["alice"].ConnectionID(), webpubsub.Binary([]byte{0xff}), nil)
		}, "\xff", []string{"alice"}, "another connection"},
		{"text to all, with a filter", func() error {
			return client.SendToAll(ctx, webpubsub.Text("Hello, all but bob"), &webpubsub.SendToAllOptions{
				Filter: webpubsub.FormatFilter("userId ne %v", bob)})
		}, "Hello, all but bob", []string{"alice", "anon"}, "the filter is userId ne 'bob'"},
		{"text to all, with an exclusion", func() error {
			return client.SendToAll(ctx, webpubsub.Text("Hello, others"), &webpubsub.SendToAllOptions{
				Excluded: []string{clients["alice"].ConnectionID()}})
		}, "Hello, others", []string{"anon", "bob"}, "excluded by connection id"},
		{"text to a filtered group", func() error {
			if err := client.AddUserToGroup(ctx, room, bob, nil); err != nil {
				return err
			}
			return client.SendToGroup(ctx, room, webpubsub.Text("Hello, b"), &webpubsub.SendToGroupOptions{
				Filter: "startswith(userId, 'b')"})
		}, "Hello, b", []string{"bob"}, "not in the group, or no user that begins with b"},
		{"text from bob to the group", func() error {
			if err := clients["bob"].SendToGroup(ctx, room, wsclient.Text("early"), nil); !errors.Is(err, wsclient.ErrForbidden) {
				return fmt.Errorf("bob may not send to the group yet, but the result was: %w", err)
			}
			if err := client.GrantPermission(ctx, webpubsub.PermissionSendToGroup, clients["bob"].ConnectionID(),
				&webpubsub.GrantPermissionOptions{TargetName: room}); err != nil {
				return err
			}
			return clients["bob"].SendToGroup(ctx, room, wsclient.Text("Hello from bob"), &wsclient.SendToGroupOptions{NoEcho: true})
		}, "Hello from bob", []string{"alice"}, "the sender, or not in the group"},
	} {
		if err := clients.check(ctx, client, d); err != nil {
			return fmt.Errorf("%s: %w", d.what, err)
		}
		d.print(clients)
	}

	fmt.Println("\nConnections in the group:")
	for member, err := range client.ConnectionsInGroup(ctx, room, nil) {
		if err != nil {
			return err
		}
		fmt.Printf("  %s, user %s\n", member.ConnectionID, member.UserID)
	}

	fmt.Println("\nbob's connection is closed:")
	if err := client.CloseConnection(ctx, clients["bob"].ConnectionID(), &webpubsub.CloseConnectionOptions{Reason: "good night"}); err != nil {
		return err
	}
	_, err := clients["bob"].Receive(ctx)
	if ended, ok := errors.AsType[*wsclient.CloseError](err); !ok || !strings.Contains(ended.Message, "good night") {
		return fmt.Errorf("bob did not receive the reason good night: %w", err)
	}
	fmt.Println("  he received the reason: good night")
	fmt.Println("\nEvery message reached its recipients, and nobody else.")
	return nil
}

// check sends a message. It fails unless exactly the expected clients receive it.
func (p people) check(ctx context.Context, client *webpubsub.ServiceClient, d delivery) error {
	if err := d.send(); err != nil {
		return err
	}
	for _, name := range d.by {
		if err := p.expect(ctx, name, d.received); err != nil {
			return err
		}
	}
	for name, conn := range p { // a client must receive nothing before this message
		if err := client.SendToConnection(ctx, conn.ConnectionID(), webpubsub.Text("fence"), nil); err != nil {
			return err
		}
		if err := p.expect(ctx, name, "fence"); err != nil {
			return err
		}
	}
	return nil
}

// expect waits for a client's next message and fails if its text is not want.
func (p people) expect(ctx context.Context, name, want string) error {
	m, err := p[name].Receive(ctx)
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	if m.Text() != want {
		return fmt.Errorf("%s received %q, not %q", name, m.Text(), want)
	}
	return nil
}

// print prints who received a message.
func (d delivery) print(clients people) {
	shown := d.received
	if strings.ContainsFunc(shown, func(r rune) bool { return !unicode.IsPrint(r) }) || !utf8.ValidString(shown) {
		shown = fmt.Sprintf("% x", shown)
	}
	fmt.Printf("  %-30s  %-38s  to %s\n", d.what, shown, strings.Join(d.by, ", "))
	var missed []string
	for name := range clients {
		if !slices.Contains(d.by, name) {
			missed = append(missed, name)
		}
	}
	if len(missed) > 0 {
		slices.Sort(missed)
		fmt.Printf("  %70s  not %s: %s\n", "", strings.Join(missed, ", "), d.others)
	}
}
