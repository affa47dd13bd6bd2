package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"net/url"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/awps-go/webpubsub"
	"github.com/awps-go/webpubsub/emulator"
	"github.com/awps-go/webpubsub/eventhandler"
	"github.com/awps-go/webpubsub/wsclient"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m)
}

// startChat starts the chat on an emulator and returns the page's URL. network makes the emulator send its events over
// HTTP instead of calling the handler in process.
func startChat(t *testing.T, network bool) string {
	t.Helper()
	page, _, _ := startChatWith(t, network, nil)
	return page
}

func startChatWith(t *testing.T, network bool, options *webpubsub.ClientOptions) (page string, chat *Chat, service *emulator.Server) {
	t.Helper()
	service = emulator.StartT(t, nil)
	page, chat = startChatOn(t, service, network, options)
	return page, chat, service
}

// startChatOn starts the chat on a service, which may have served another chat before.
func startChatOn(t *testing.T, service *emulator.Server, network bool, options *webpubsub.ClientOptions) (page string, chat *Chat) {
	t.Helper()
	client, err := webpubsub.NewClientFromConnectionString(service.ConnectionString(), hubName, options)
	require.NoError(t, err)
	log := slog.New(slog.DiscardHandler)
	chat = NewChat(client, newSessions(client, log), log)
	events, err := chat.Handler(service.ConnectionString())
	require.NoError(t, err)
	server := httptest.NewServer(newServer(chat.sessions, events))
	t.Cleanup(server.Close)
	handler := emulator.EventHandler{SystemEvents: []string{"connect", "connected", "disconnected"}, UserEventPattern: "*"}
	if network {
		handler.URLTemplate = server.URL + "/eventhandler/{event}"
	} else {
		handler.Handler = events
	}
	require.NoError(t, service.SetHubSettings(hubName, emulator.HubSettings{EventHandlers: []emulator.EventHandler{handler}}))
	return server.URL, chat
}

// browser is a user's browser, with a cookie jar.
type browser struct {
	t      *testing.T
	page   string
	client *http.Client
}

func newBrowser(t *testing.T, page string) *browser {
	jar, err := cookiejar.New(nil)
	require.NoError(t, err)
	return &browser{t, page, &http.Client{Jar: jar, Transport: &http.Transport{DisableKeepAlives: true}}}
}

func (b *browser) post(path, body string) (int, string) {
	b.t.Helper()
	resp, err := b.client.Post(b.page+path, "application/json", strings.NewReader(body))
	require.NoError(b.t, err)
	defer resp.Body.Close()
	data, err := io.ReadAll(resp.Body)
	require.NoError(b.t, err)
	return resp.StatusCode, string(data)
}

// tab is one connection of a browser.
type tab struct {
	t    *testing.T
	conn *wsclient.Conn
}

// negotiate returns a URL to connect to.
func (b *browser) negotiate() string {
	b.t.Helper()
	status, body := b.post("/api/negotiate", "{}")
	require.Equal(b.t, http.StatusOK, status, body)
	var access struct{ URL string }
	require.NoError(b.t, json.Unmarshal([]byte(body), &access))
	return access.URL
}

// open connects like the page.
func (b *browser) open(room string) (*tab, error) {
	b.t.Helper()
	return b.connect(b.negotiate(), room)
}

func (b *browser) connect(to, room string) (*tab, error) {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.t.Context(), 20*time.Second)
	defer cancel()
	conn, err := wsclient.Dial(ctx, wsclient.StaticURL(to+"&room="+url.QueryEscape(room)),
		&wsclient.Options{Protocol: wsclient.JSONPlain, Reconnect: wsclient.ReconnectOptions{Disabled: true}})
	if err != nil {
		return nil, err
	}
	b.t.Cleanup(func() { conn.Close() })
	return &tab{b.t, conn}, nil
}

// requireRefused requires that the handshake failed with the status.
func requireRefused(t *testing.T, status int, err error, why ...any) {
	t.Helper()
	refused, ok := errors.AsType[*wsclient.HandshakeError](err)
	require.True(t, ok, "%v", err)
	require.Equal(t, status, refused.StatusCode, why...)
}

// join logs a user in, opens a tab in a room, and receives its welcome.
func join(t *testing.T, page, name, room string) (*browser, *tab, map[string]any) {
	t.Helper()
	b := newBrowser(t, page)
	status, body := b.post("/api/login", `{"name":"`+name+`"}`)
	require.Equal(t, http.StatusNoContent, status, body)
	tab, err := b.open(room)
	require.NoError(t, err)
	return b, tab, tab.expect("welcome")
}

// send sends an event without waiting for a result.
func (tab *tab) send(event string, data map[string]any) {
	tab.t.Helper()
	require.NoError(tab.t, tab.conn.SendEvent(tab.t.Context(), event, wsclient.JSON(data), &wsclient.SendEventOptions{NoAck: true}))
}

// expect returns the data of the next message of a type; it ignores messages of other types.
func (tab *tab) expect(kind string) map[string]any {
	tab.t.Helper()
	ctx, cancel := context.WithTimeout(tab.t.Context(), 20*time.Second)
	defer cancel()
	for {
		m, err := tab.conn.Receive(ctx)
		require.NoError(tab.t, err, "while waiting for %s", kind)
		var data map[string]any
		require.NoError(tab.t, m.JSON(&data))
		if data["type"] == kind {
			return data
		}
	}
}

// closed waits until the service has closed the connection.
func (tab *tab) closed() {
	tab.t.Helper()
	select {
	case <-tab.conn.Done():
	case <-time.After(20 * time.Second):
		tab.t.Fatal("the connection was not closed")
	}
	ended, ok := errors.AsType[*wsclient.CloseError](tab.conn.Err())
	require.True(tab.t, ok, "%v", tab.conn.Err())
	require.Equal(tab.t, 1000, ended.Code)
}

// people waits until the room's presence is want, in order, as "name" or "name (muted)".
func (tab *tab) people(want ...string) {
	tab.t.Helper()
	for {
		var got []string
		for _, p := range tab.expect("presence")["people"].([]any) {
			person := p.(map[string]any)
			name := fmt.Sprint(person["name"])
			if person["muted"] == true {
				name += " (muted)"
			}
			got = append(got, name)
		}
		if strings.Join(got, ",") == strings.Join(want, ",") {
			return
		}
	}
}

func texts(history any) []string {
	var all []string
	for _, m := range history.([]any) {
		all = append(all, fmt.Sprint(m.(map[string]any)["text"]))
	}
	return all
}

func TestTwoPeopleChat(t *testing.T) {
	for name, network := range map[string]bool{"in process": false, "over the network": true} {
		t.Run(name, func(t *testing.T) {
			page := startChat(t, network)
			_, ann, _ := join(t, page, "ann", "lobby")
			ann.people("ann")
			bobs, bob, welcome := join(t, page, "bob", "lobby")
			require.Equal(t, "bob", welcome["user"])
			ann.people("ann", "bob")

			ann.send("say", map[string]any{"text": " hello <b>bob</b> "})
			for _, tab := range []*tab{ann, bob} {
				m := tab.expect("message")
				require.Equal(t, []any{"ann", "hello <b>bob</b>"}, []any{m["from"], m["text"]})
			}
			bob.send("say", map[string]any{"text": "hi"})
			require.Equal(t, "hi", ann.expect("message")["text"])

			// A reload is a new connection of the same user.
			require.NoError(t, bob.conn.Close())
			ann.people("ann")
			bob, err := bobs.open("lobby")
			require.NoError(t, err)
			require.Equal(t, []string{"hello <b>bob</b>", "hi"}, texts(bob.expect("welcome")["history"]))
			ann.people("ann", "bob")
		})
	}
}

func TestRooms(t *testing.T) {
	page := startChat(t, false)
	_, ann, _ := join(t, page, "ann", "lobby")
	_, bob, _ := join(t, page, "bob", "lobby")
	ann.people("ann", "bob")

	ann.send("enter", map[string]any{"room": "garden"})
	require.Equal(t, "room-garden", ann.expect("welcome")["group"])
	bob.people("bob")
	ann.send("say", map[string]any{"text": "anyone?"})
	ann.expect("message")
	bob.send("say", map[string]any{"text": "where is she?"})
	require.Equal(t, "where is she?", bob.expect("message")["text"], "bob must not receive messages of the other room")

	bob.send("enter", map[string]any{"room": "garden"})
	require.Equal(t, []string{"anyone?"}, texts(bob.expect("welcome")["history"]))
	ann.people("ann", "bob")
	bob.send("say", map[string]any{"text": "here"})
	require.Equal(t, "garden", ann.expect("message")["room"])

	bob.send("enter", map[string]any{"room": "No Such Name"})
	require.Contains(t, bob.expect("error")["text"], "a room name has")
	require.NoError(t, bob.conn.Close())
	ann.people("ann")
}

func TestNobodyCanTakeAllRooms(t *testing.T) {
	page, chat, _ := startChatWith(t, false, nil)
	_, ann, _ := join(t, page, "ann", "lobby")
	ann.people("ann")
	ann.send("say", map[string]any{"text": "hello"})
	ann.expect("message")
	for i := range 2 * maxRooms { // somebody who enters many rooms
		_, err := chat.enter(fmt.Sprint("room", i), "eve")
		require.NoError(t, err)
	}
	_, bob, _ := join(t, page, "bob", "garden")
	bob.send("enter", map[string]any{"room": "lobby"})
	require.Equal(t, []string{"hello"}, texts(bob.expect("welcome")["history"]), "a room with people in it must not be dropped")

	chat.mu.Lock()
	require.Len(t, chat.rooms, maxRooms)
	for _, r := range chat.rooms { // pretend that every room has somebody in it
		r.people = 1
	}
	chat.mu.Unlock()
	_, err := chat.enter("one-more", "eve")
	require.ErrorContains(t, err, "there are too many rooms")
}

func TestAHostCannotTakeAllMemory(t *testing.T) {
	_, chat, _ := startChatWith(t, false, nil)
	_, err := chat.enter("lobby", "eve")
	require.NoError(t, err)
	set := func(names func(*room) map[string]bool, user string, on bool) error {
		return chat.changeAsHost("lobby", "eve", user, func(r *room) {
			if names(r)[user] = true; !on {
				delete(names(r), user)
			}
		})
	}
	muted := func(r *room) map[string]bool { return r.muted }
	banned := func(r *room) map[string]bool { return r.banned }
	for i := range maxSilenced / 2 {
		require.NoError(t, set(muted, fmt.Sprint("muted", i), true))
		require.NoError(t, set(banned, fmt.Sprint("banned", i), true))
	}
	require.ErrorContains(t, set(muted, "ann", true), "too many users are muted or removed in lobby")
	require.ErrorContains(t, set(banned, "ann", true), "too many users are muted or removed in lobby")
	require.NoError(t, set(muted, "muted0", false), "a muted user can still be unmuted")
	require.NoError(t, set(muted, "ann", true))
}

// interceptor is a transport that calls a function once, before the next PUT whose path has the prefix.
type interceptor struct {
	mu     sync.Mutex
	prefix string
	before func()
}

func (i *interceptor) Do(r *http.Request) (*http.Response, error) {
	i.mu.Lock()
	before := i.before
	if before != nil && r.Method == http.MethodPut && strings.HasPrefix(r.URL.Path, i.prefix) {
		i.before = nil
	} else {
		before = nil
	}
	i.mu.Unlock()
	if before != nil {
		before()
	}
	return http.DefaultTransport.RoundTrip(r)
}

func TestTheHostActsWhileSomebodyEnters(t *testing.T) {
	for name, test := range map[string]struct {
		host    func(chat *Chat, ctx context.Context) error
		wantErr string
		room    string
	}{
		"removing them": {func(chat *Chat, ctx context.Context) error { return chat.remove(ctx, "garden", "ann", "bob") },
			"you have been removed from garden", "lobby"},
		"muting them": {func(chat *Chat, ctx context.Context) error { return chat.mute(ctx, "garden", "ann", "bob", true) },
			"you cannot speak in garden", "garden"},
	} {
		t.Run(name, func(t *testing.T) {
			way := &interceptor{}
			defer http.DefaultTransport.(*http.Transport).CloseIdleConnections()
			page, chat, service := startChatWith(t, false, &webpubsub.ClientOptions{ClientOptions: azcore.ClientOptions{Transport: way}})
			join(t, page, "ann", "garden")
			_, bob, _ := join(t, page, "bob", "lobby")
			way.mu.Lock()
			way.prefix, way.before = "/api/hubs/chat/groups/room-garden/connections/", func() {
				if err := test.host(chat, t.Context()); err != nil {
					t.Error(err)
				}
			}
			way.mu.Unlock()
			bob.send("enter", map[string]any{"room": "garden"})
			bob.send("say", map[string]any{"text": "hello"})
			if test.room == "lobby" {
				require.Equal(t, test.wantErr, bob.expect("error")["text"])
				require.Equal(t, "lobby", bob.expect("message")["room"])
			} else {
				require.Equal(t, test.wantErr, bob.expect("error")["text"])
			}
			for _, c := range service.Connections(hubName) {
				if c.UserID == "bob" {
					require.Equal(t, []string{group(test.room)}, c.Groups)
				}
			}
		})
	}
}

func TestARetriedEventDoesNotRepeatAMessage(t *testing.T) {
	page, chat, service := startChatWith(t, false, nil)
	_, ann, _ := join(t, page, "ann", "lobby")
	ann.people("ann") // wait: the fault must not hit this message
	said := &eventhandler.UserEventRequest{
		Event: eventhandler.Event{ConnectionID: service.Connections(hubName)[0].ID, UserID: "ann", EventName: "say", EventID: "7",
			State: eventhandler.State{"room": json.RawMessage(`"lobby"`)}},
		ContentType: eventhandler.ContentTypeJSON, Data: []byte(`{"text":"once"}`),
	}
	require.NoError(t, service.InjectFault(emulator.Fault{Operation: "SendToGroup", Status: http.StatusBadRequest}))
	_, err := chat.onUserEvent(t.Context(), said)
	require.Error(t, err, "the event must fail, so that the service retries it")
	for range 2 {
		_, err = chat.onUserEvent(t.Context(), said)
		require.NoError(t, err)
		require.Equal(t, chat.welcome("lobby", "ann").History[0].ID, ann.expect("message")["id"])
	}
	require.Len(t, chat.welcome("lobby", "ann").History, 1)
}

func TestARetriedEventKeepsTheIDOfADirectMessage(t *testing.T) {
	page, chat, _ := startChatWith(t, false, nil)
	_, bob, _ := join(t, page, "bob", "lobby")
	var ids []any
	for _, event := range []string{"7", "7", "8"} {
		_, err := chat.onUserEvent(t.Context(), &eventhandler.UserEventRequest{
			Event: eventhandler.Event{ConnectionID: "anns", UserID: "ann", EventName: "direct", EventID: event,
				State: eventhandler.State{"room": json.RawMessage(`"lobby"`)}},
			ContentType: eventhandler.ContentTypeJSON, Data: []byte(`{"to":"bob","text":"psst"}`),
		})
		require.NoError(t, err)
		ids = append(ids, bob.expect("direct")["id"])
	}
	require.Equal(t, ids[0], ids[1])
	require.NotEqual(t, ids[1], ids[2])
}

func TestConnectedUsersContinueAfterARestart(t *testing.T) {
	service := emulator.StartT(t, nil)
	page, _ := startChatOn(t, service, false, nil)
	_, ann, _ := join(t, page, "ann", "lobby")
	_, bob, _ := join(t, page, "bob", "lobby")
	ann.people("ann", "bob")
	var said []map[string]any
	say := func(text string) {
		t.Helper()
		ann.send("say", map[string]any{"text": text})
		said = append(said, bob.expect("message"))
	}
	say("before")

	page, _ = startChatOn(t, service, false, nil)
	say("after")
	say("and again")
	ids := map[any]bool{}
	for _, m := range said {
		ids[m["id"]] = true
	}
	require.Len(t, ids, 3, "message ids must be unique")
	require.Less(t, said[1]["at"], said[2]["at"], "a later message must have a later time")

	// The room has no host until somebody enters.
	ann.send("mute", map[string]any{"user": "bob", "muted": true})
	require.Equal(t, "only the host of lobby can do that", ann.expect("error")["text"])
	_, eve, welcome := join(t, page, "eve", "lobby")
	require.Equal(t, []string{"after", "and again"}, texts(welcome["history"]))
	require.Equal(t, "eve", bob.expect("presence")["host"])
	eve.send("mute", map[string]any{"user": "bob", "muted": true})
	bob.expect("muted")
}

func TestDirectMessages(t *testing.T) {
	page := startChat(t, false)
	_, ann, _ := join(t, page, "ann", "lobby")
	_, bob, _ := join(t, page, "bob", "garden")
	_, eve, _ := join(t, page, "eve", "lobby")
	ann.send("direct", map[string]any{"to": "bob", "text": "psst"})
	for _, tab := range []*tab{ann, bob} {
		m := tab.expect("direct")
		require.Equal(t, []any{"ann", "bob", "psst"}, []any{m["from"], m["to"], m["text"]})
	}
	eve.send("direct", map[string]any{"to": "eve", "text": "note to self"})
	require.Equal(t, "note to self", eve.expect("direct")["text"], "eve must not receive the direct messages of others")

	ann.send("direct", map[string]any{"to": "zoe", "text": "hello?"})
	require.Equal(t, "zoe is not here", ann.expect("error")["text"])
}

func TestTheHostRemovesSomebody(t *testing.T) {
	page := startChat(t, false)
	_, ann, _ := join(t, page, "ann", "lobby")
	bobs, bob, _ := join(t, page, "bob", "lobby")
	ann.people("ann", "bob")
	bob.send("remove", map[string]any{"user": "ann"})
	require.Equal(t, "only the host of lobby can do that", bob.expect("error")["text"])

	ann.send("remove", map[string]any{"user": "bob"})
	require.Equal(t, "ann has removed you from lobby", bob.expect("removed")["text"])
	ann.people("ann")
	bob.send("say", map[string]any{"text": "I am still here"})
	require.Equal(t, "you cannot speak in lobby", bob.expect("error")["text"])
	bob.send("enter", map[string]any{"room": "lobby"})
	require.Equal(t, "you have been removed from lobby", bob.expect("error")["text"])

	_, err := bobs.open("lobby")
	requireRefused(t, http.StatusForbidden, err, "a reload must not help")
	bob.send("enter", map[string]any{"room": "garden"})
	require.Equal(t, "garden", bob.expect("welcome")["room"])
}

func TestTheHostMutesSomebody(t *testing.T) {
	page := startChat(t, false)
	_, ann, _ := join(t, page, "ann", "lobby")
	bobs, bob, _ := join(t, page, "bob", "lobby")
	ann.people("ann", "bob")
	ann.send("mute", map[string]any{"user": "bob", "muted": true})
	bob.expect("muted")
	ann.people("ann", "bob (muted)")
	bob.send("say", map[string]any{"text": "but"})
	require.Equal(t, "you cannot speak in lobby", bob.expect("error")["text"])
	// The service itself rejects messages that bypass the application.
	require.ErrorIs(t, bob.conn.SendToGroup(t.Context(), "room-lobby", wsclient.JSON(map[string]any{"type": "typing"}), nil),
		wsclient.ErrForbidden)

	again, err := bobs.open("lobby")
	require.NoError(t, err)
	again.expect("welcome")
	again.send("say", map[string]any{"text": "from another tab"})
	require.Equal(t, "you cannot speak in lobby", again.expect("error")["text"])

	ann.send("mute", map[string]any{"user": "bob", "muted": false})
	bob.expect("unmuted")
	again.expect("unmuted")
	bob.send("say", map[string]any{"text": "thanks"})
	require.Equal(t, "thanks", ann.expect("message")["text"])
}

func TestWrongInputIsAnswered(t *testing.T) {
	page := startChat(t, false)
	_, ann, _ := join(t, page, "ann", "lobby")
	for name, test := range map[string]struct {
		event string
		data  map[string]any
		want  string
	}{
		"nothing to say":      {"say", map[string]any{"text": "  "}, "there is nothing to send"},
		"too much to say":     {"say", map[string]any{"text": strings.Repeat("x", 2001)}, "the message is too long"},
		"too much Cyrillic":   {"say", map[string]any{"text": strings.Repeat("ж", 2001)}, "the message is too long"},
		"to nobody":           {"direct", map[string]any{"text": "x"}, "choose a recipient"},
		"removing oneself":    {"remove", map[string]any{"user": "ann"}, "choose another user"},
		"muting nobody":       {"mute", map[string]any{"muted": true}, "choose another user"},
		"a room with no name": {"enter", map[string]any{}, "a room name has 1 to 24 characters: a-z, 0-9, - and _"},
	} {
		t.Run(name, func(t *testing.T) {
			ann.send(test.event, test.data)
			require.Equal(t, test.want, ann.expect("error")["text"])
		})
	}
	longest := strings.Repeat("ж", 2000)
	ann.send("say", map[string]any{"text": longest})
	require.Equal(t, longest, ann.expect("message")["text"], "characters are counted, not bytes")
	for event, payload := range map[string]wsclient.Payload{"dance": wsclient.JSON(map[string]any{}), "say": wsclient.Text("x")} {
		failed, ok := errors.AsType[*wsclient.AckError](ann.conn.SendEvent(t.Context(), event, payload, &wsclient.SendEventOptions{AtMostOnce: true}))
		require.True(t, ok)
		require.Equal(t, "Internal server error", failed.Message, "clients must not receive the application's error text")
	}
}

func TestNamesAreInAnyScript(t *testing.T) {
	page := startChat(t, true)
	for _, name := range []string{"Änn", "A\u0308nne", "नमस्ते", "สมชาย", "日本語"} {
		_, tab, welcome := join(t, page, name, "lobby")
		require.Equal(t, name, welcome["user"])
		tab.send("direct", map[string]any{"to": name, "text": "note to self"})
		require.Equal(t, name, tab.expect("direct")["to"])
	}
	for name, want := range map[string]int{
		"änn":           http.StatusConflict,
		"a\u0308NNE":    http.StatusConflict,
		"\u0308":        http.StatusBadRequest,
		"a\u200db":      http.StatusBadRequest,
		"\u2067a":       http.StatusBadRequest,
		"alice\u034f":   http.StatusBadRequest,
		"नमस्ते नमस्ते": http.StatusBadRequest,
	} {
		status, _ := newBrowser(t, page).post("/api/login", `{"name":"`+name+`"}`)
		require.Equal(t, want, status, "%q", name)
	}
}

func TestNamesHaveNoInvisibleCharacters(t *testing.T) {
	for _, name := range []string{
		"alice", "a-b_1", "नमस्ते", "क्षत्रिय", "علي", "مُحَمَّد", "Ame\u0301lie", "ᠮᠣᠩᠭᠣᠯ", "ខ្មែរ", "김철수",
	} {
		require.True(t, isName(name), "%+q", name)
	}
	for name, r := range map[string]rune{
		"combining grapheme joiner": 0x34f, "Hangul choseong filler": 0x115f, "Hangul jungseong filler": 0x1160,
		"Khmer inherent aq": 0x17b4, "Mongolian variation selector 1": 0x180b, "Mongolian variation selector 4": 0x180f,
		"Hangul filler": 0x3164, "halfwidth Hangul filler": 0xffa0, "variation selector 1": 0xfe00,
		"variation selector 16": 0xfe0f, "variation selector 17": 0xe0100, "variation selector 256": 0xe01ef,
	} {
		t.Run(name, func(t *testing.T) {
			require.False(t, isName("alice"+string(r)))
			require.False(t, isName("ali"+string(r)+"ce"))
			require.False(t, isName(string(r)))
		})
	}

	page := startChat(t, false)
	_, ann, _ := join(t, page, "ann", "lobby")
	for event, data := range map[string]map[string]any{
		"direct": {"to": "bob\ufe0f", "text": "x"},
		"mute":   {"user": "bob\ufe0f", "muted": true},
	} {
		want := map[string]string{"direct": "choose a recipient", "mute": "choose another user"}[event]
		ann.send(event, data)
		require.Equal(t, want, ann.expect("error")["text"])
	}
}

func TestLogin(t *testing.T) {
	page := startChat(t, false)
	ann := newBrowser(t, page)
	status, _ := ann.post("/api/negotiate", "{}")
	require.Equal(t, http.StatusUnauthorized, status)
	for _, name := range []string{"", "a b", "a/b", "<a>", strings.Repeat("x", 25)} {
		status, _ := ann.post("/api/login", `{"name":"`+name+`"}`)
		require.Equal(t, http.StatusBadRequest, status, name)
	}
	status, _ = ann.post("/api/login", `nothing`)
	require.Equal(t, http.StatusBadRequest, status)
	status, _ = ann.post("/api/login", `{"name":"Änn"}`)
	require.Equal(t, http.StatusNoContent, status)
	tab, err := ann.open("lobby")
	require.NoError(t, err)
	require.Equal(t, "Änn", tab.expect("welcome")["user"])

	other := newBrowser(t, page)
	status, body := other.post("/api/login", `{"name":"änn"}`)
	require.Equal(t, http.StatusConflict, status)
	require.Equal(t, "änn is taken.\n", body)
	status, _ = ann.post("/api/logout", "{}")
	require.Equal(t, http.StatusNoContent, status)
	tab.closed() // the name must have no connections
	status, _ = ann.post("/api/negotiate", "{}")
	require.Equal(t, http.StatusUnauthorized, status)
	status, _ = other.post("/api/login", `{"name":"änn"}`)
	require.Equal(t, http.StatusNoContent, status)

	_, err = other.open("Not A Room")
	requireRefused(t, http.StatusBadRequest, err)

	r, err := http.NewRequest(http.MethodPost, page+"/api/negotiate", strings.NewReader("{}"))
	require.NoError(t, err)
	r.Header.Set("Origin", "https://evil.example")
	resp, err := other.client.Do(r)
	require.NoError(t, err)
	resp.Body.Close()
	require.Equal(t, http.StatusForbidden, resp.StatusCode, "a page of another site must not receive a URL")
}

func TestAURLIsValidOnlyForItsSession(t *testing.T) {
	page, chat, service := startChatWith(t, false, nil)
	mallory := newBrowser(t, page)
	status, _ := mallory.post("/api/login", `{"name":"alice"}`)
	require.Equal(t, http.StatusNoContent, status)
	old := mallory.negotiate()
	status, _ = mallory.post("/api/logout", "{}")
	require.Equal(t, http.StatusNoContent, status)

	_, alice, _ := join(t, page, "alice", "lobby")
	_, err := mallory.connect(old, "lobby")
	requireRefused(t, http.StatusUnauthorized, err, "the name belongs to somebody else")

	status, _ = mallory.post("/api/login", `{"name":"mallory"}`)
	require.Equal(t, http.StatusNoContent, status)
	token, _, _ := strings.Cut(old, "&session=")
	_, session, _ := strings.Cut(mallory.negotiate(), "&session=")
	_, err = mallory.connect(token+"&session="+session, "lobby")
	requireRefused(t, http.StatusUnauthorized, err, "a session under another name must not help")

	// A session that ends between connect and connected.
	require.NoError(t, chat.onConnected(t.Context(), &eventhandler.ConnectedRequest{Event: eventhandler.Event{
		ConnectionID: service.Connections(hubName)[0].ID, UserID: "alice",
		State: eventhandler.State{"room": json.RawMessage(`"lobby"`), "session": json.RawMessage(`"ended"`)}}}))
	alice.closed()
}

func TestASessionThatExpiresEndsItsConnections(t *testing.T) {
	page, chat, _ := startChatWith(t, false, nil)
	anns, ann, _ := join(t, page, "ann", "lobby")
	chat.sessions.mu.Lock()
	for _, session := range chat.sessions.byID {
		session.expiry.Reset(0)
	}
	chat.sessions.mu.Unlock()
	ann.closed()
	status, _ := anns.post("/api/negotiate", "{}")
	require.Equal(t, http.StatusUnauthorized, status)
	isFree(t, page, "ann")
}

func TestStrangersWhoLogInOftenDoNotKeepOthersOut(t *testing.T) {
	page, chat, _ := startChatWith(t, false, nil)
	_, ann, _ := join(t, page, "ann", "lobby")
	chat.sessions.mu.Lock()
	for i := range maxSessions - 1 {
		chat.sessions.byID[fmt.Sprint(i)] = &session{name: fmt.Sprint("stranger", i), expiry: time.NewTimer(time.Hour)}
	}
	chat.sessions.mu.Unlock()
	_, ben, _ := join(t, page, "ben", "lobby")
	ben.send("say", map[string]any{"text": "hi"})
	require.Equal(t, "hi", ann.expect("message")["text"], "a session with a connection stays")
	require.Len(t, chat.sessions.byID, maxSessions)

	// A session whose user is connected is not ended.
	chat.sessions.mu.Lock()
	for _, session := range chat.sessions.byID {
		session.name = "ann"
	}
	chat.sessions.mu.Unlock()
	status, body := newBrowser(t, page).post("/api/login", `{"name":"carol"}`)
	require.Equal(t, http.StatusServiceUnavailable, status)
	require.Equal(t, "The chat is full.\n", body)
}

// isFree waits until somebody else can log in under a name. The name is free once its connections are closed.
func isFree(t *testing.T, page, name string) {
	t.Helper()
	b := newBrowser(t, page)
	require.Eventually(t, func() bool {
		status, _ := b.post("/api/login", `{"name":"`+name+`"}`)
		return status == http.StatusNoContent
	}, 20*time.Second, time.Millisecond)
}

// failCloseRequests makes the next requests to close the connections of a user fail.
func failCloseRequests(t *testing.T, service *emulator.Server, times int) {
	t.Helper()
	require.NoError(t, service.InjectFault(emulator.Fault{Operation: "CloseUserConnections", Times: times,
		Status: http.StatusBadRequest}))
}

func TestAFailedLogoutCanBeRetried(t *testing.T) {
	page, _, service := startChatWith(t, false, nil)
	anns, ann, _ := join(t, page, "ann", "lobby")
	before := anns.negotiate()
	failCloseRequests(t, service, 2)
	for range 2 {
		status, _ := anns.post("/api/logout", "{}")
		require.Equal(t, http.StatusBadGateway, status)
		status, _ = anns.post("/api/negotiate", "{}")
		require.Equal(t, http.StatusUnauthorized, status)
		_, err := anns.connect(before, "lobby")
		requireRefused(t, http.StatusUnauthorized, err, "the session is closed")
		status, _ = newBrowser(t, page).post("/api/login", `{"name":"ann"}`)
		require.Equal(t, http.StatusConflict, status, "the name still has a connection")
	}
	ann.send("say", map[string]any{"text": "I am still here"})
	ann.expect("message")

	status, _ := anns.post("/api/logout", "{}")
	require.Equal(t, http.StatusNoContent, status)
	ann.closed()
	to, err := url.Parse(page)
	require.NoError(t, err)
	require.Empty(t, anns.client.Jar.Cookies(to))
	join(t, page, "ann", "lobby")
}

func TestEndingASessionIsRetried(t *testing.T) {
	page, chat, service := startChatWith(t, false, nil)
	chat.sessions.retry = time.Millisecond
	anns, ann, _ := join(t, page, "ann", "lobby")
	failCloseRequests(t, service, 3)
	status, _ := anns.post("/api/logout", "{}")
	require.Equal(t, http.StatusBadGateway, status)
	ann.closed()
	isFree(t, page, "ann")
}

func TestLoginAfterAFailedLogout(t *testing.T) {
	for _, name := range []string{"ann", "bob"} {
		t.Run(name, func(t *testing.T) {
			page, _, service := startChatWith(t, false, nil)
			browser, ann, _ := join(t, page, "ann", "lobby")
			failCloseRequests(t, service, 1)
			status, _ := browser.post("/api/logout", "{}")
			require.Equal(t, http.StatusBadGateway, status)
			failCloseRequests(t, service, 2) // once for the old session, once for the new name
			status, _ = browser.post("/api/login", `{"name":"`+name+`"}`)
			require.Equal(t, http.StatusBadGateway, status)

			status, _ = browser.post("/api/login", `{"name":"`+name+`"}`)
			require.Equal(t, http.StatusNoContent, status)
			ann.closed()
			tab, err := browser.open("lobby")
			require.NoError(t, err)
			require.Equal(t, name, tab.expect("welcome")["user"])
			if name != "ann" {
				join(t, page, "ann", "lobby")
			}
		})
	}
}

func TestABrowserHasOneSession(t *testing.T) {
	page := startChat(t, false)
	browser, ann, _ := join(t, page, "ann", "lobby")
	join(t, page, "eve", "lobby")
	status, _ := browser.post("/api/login", `{"name":"eve"}`)
	require.Equal(t, http.StatusConflict, status)
	ann.send("say", map[string]any{"text": "I am still here"})
	ann.expect("message")

	for _, name := range []string{"bob", "BOB"} {
		status, _ = browser.post("/api/login", `{"name":"`+name+`"}`)
		require.Equal(t, http.StatusNoContent, status)
	}
	ann.closed()
	join(t, page, "ann", "lobby")
	bob, err := browser.open("lobby")
	require.NoError(t, err)
	require.Equal(t, "BOB", bob.expect("welcome")["user"])
}

func TestLoginClosesTheConnectionsOfAnEarlierRun(t *testing.T) {
	service := emulator.StartT(t, nil)
	page, _ := startChatOn(t, service, false, nil)
	_, before, _ := join(t, page, "ann", "lobby")
	page, _ = startChatOn(t, service, false, nil)

	failCloseRequests(t, service, 2)
	for range 2 { // a failed login must not reserve the name
		status, _ := newBrowser(t, page).post("/api/login", `{"name":"ann"}`)
		require.Equal(t, http.StatusBadGateway, status, "the name must not be shared")
	}
	join(t, page, "ann", "lobby")
	before.closed()
}

func TestTheProgramServesThePage(t *testing.T) {
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	started, ended := make(chan string, 1), make(chan error, 1)
	go func() {
		ended <- run(ctx, config{addr: "127.0.0.1:0"}, slog.New(slog.DiscardHandler), func(url string) { started <- url })
	}()
	page := <-started
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	for path, want := range map[string]string{"": "<title>Chat</title>", "app.js": "WebSocket", "style.css": "color-scheme"} {
		resp, err := client.Get(page + path)
		require.NoError(t, err)
		body, err := io.ReadAll(resp.Body)
		require.NoError(t, err)
		resp.Body.Close()
		require.Contains(t, string(body), want)
		require.Contains(t, resp.Header.Get("Content-Security-Policy"), "default-src 'self'")
	}
	_, ann, _ := join(t, strings.TrimSuffix(page, "/"), "ann", "lobby")
	ann.send("say", map[string]any{"text": "hi"})
	require.Equal(t, "hi", ann.expect("message")["text"])
	stop()
	require.NoError(t, <-ended)

	c := config{addr: "127.0.0.1:0", connectionString: "Endpoint=x"}
	require.ErrorIs(t, run(t.Context(), c, slog.Default(), func(string) {}), webpubsub.ErrInvalidArgument)
}

// The service does not follow redirects.
func TestTheEventHandlerIsNotRedirected(t *testing.T) {
	page := startChat(t, false)
	for _, path := range []string{"/eventhandler", "/eventhandler/", "/eventhandler/connect"} {
		req, err := http.NewRequest(http.MethodOptions, page+path, nil)
		require.NoError(t, err)
		req.Header.Set("WebHook-Request-Origin", "name.webpubsub.azure.com")
		resp, err := (&http.Transport{DisableKeepAlives: true}).RoundTrip(req)
		require.NoError(t, err)
		require.NoError(t, resp.Body.Close())
		require.Equal(t, http.StatusOK, resp.StatusCode, path)
	}
}

func TestSlowAndIdleConnectionsEnd(t *testing.T) {
	read, idle := readTimeout, idleTimeout
	readTimeout, idleTimeout = 100*time.Millisecond, 100*time.Millisecond
	ctx, stop := context.WithCancel(t.Context())
	started, ended := make(chan string, 1), make(chan error, 1)
	go func() {
		ended <- run(ctx, config{addr: "127.0.0.1:0"}, slog.New(slog.DiscardHandler), func(url string) { started <- url })
	}()
	t.Cleanup(func() {
		stop()
		require.NoError(t, <-ended)
		readTimeout, idleTimeout = read, idle
	})
	address := strings.Trim(strings.TrimPrefix(<-started, "http://"), "/")
	for name, request := range map[string]string{
		"a body that does not arrive": "POST /api/login HTTP/1.1\r\nHost: chat\r\nContent-Length: 10\r\n\r\n{",
		"an idle connection":          "GET / HTTP/1.1\r\nHost: chat\r\n\r\n",
	} {
		t.Run(name, func(t *testing.T) {
			conn, err := net.Dial("tcp", address)
			require.NoError(t, err)
			defer conn.Close()
			require.NoError(t, conn.SetDeadline(time.Now().Add(10*time.Second)))
			_, err = io.WriteString(conn, request)
			require.NoError(t, err)
			_, err = io.Copy(io.Discard, conn) // until the server closes the connection
			require.NotErrorIs(t, err, os.ErrDeadlineExceeded)
		})
	}
}

func TestTheProgramEndsAfterTheRequestsInProgress(t *testing.T) {
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	started, ended := make(chan string, 1), make(chan error, 1)
	go func() {
		ended <- run(ctx, config{addr: "127.0.0.1:0"}, slog.New(slog.DiscardHandler), func(url string) { started <- url })
	}()
	address := strings.Trim(strings.TrimPrefix(<-started, "http://"), "/")
	conn, err := net.Dial("tcp", address)
	require.NoError(t, err)
	defer conn.Close()
	const body = `{"name":"ann"}`
	fmt.Fprintf(conn, "POST /api/login HTTP/1.1\r\nHost: %s\r\nContent-Length: %d\r\nExpect: 100-continue\r\n\r\n", address, len(body))
	reader := bufio.NewReader(conn)
	line, err := reader.ReadString('\n')
	require.NoError(t, err)
	require.Contains(t, line, "100 Continue", "login is reading the body")
	_, err = reader.ReadString('\n')
	require.NoError(t, err)

	stop()
	select {
	case err := <-ended:
		t.Fatal("the program has ended during a request:", err)
	case <-time.After(100 * time.Millisecond): // not long enough to fail a program that waits
	}
	fmt.Fprint(conn, body)
	resp, err := http.ReadResponse(reader, nil)
	require.NoError(t, err)
	resp.Body.Close()
	require.Equal(t, http.StatusNoContent, resp.StatusCode)
	require.NoError(t, <-ended)
}

func TestTheProgramReceivesTheServicesEventsThroughATunnel(t *testing.T) {
	service := emulator.StartT(t, nil)
	require.NoError(t, service.SetHubSettings(hubName, emulator.HubSettings{EventHandlers: []emulator.EventHandler{{
		URLTemplate: "tunnel:///eventhandler/{event}", SystemEvents: []string{"connect", "connected", "disconnected"}, UserEventPattern: "*"}}}))
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	started, ended := make(chan string, 1), make(chan error, 1)
	log := slog.New(slog.DiscardHandler)
	c := config{addr: "127.0.0.1:0", connectionString: service.ConnectionString(), tunnel: true}
	go func() { ended <- run(ctx, c, log, func(url string) { started <- url }) }()
	page := strings.TrimSuffix(<-started, "/")
	_, ann, _ := join(t, page, "ann", "lobby")
	_, ben, _ := join(t, page, "ben", "lobby")
	ann.send("say", map[string]any{"text": "hi"})
	require.Equal(t, "hi", ben.expect("message")["text"])
	stop()
	require.NoError(t, <-ended)

	c.connectionString = strings.Replace(c.connectionString, "AccessKey=", "AccessKey=wrong", 1)
	require.ErrorIs(t, run(t.Context(), c, log, func(string) {}), webpubsub.ErrUnauthorized)
}
