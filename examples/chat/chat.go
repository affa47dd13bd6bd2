package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/awps-go/webpubsub"
	"github.com/awps-go/webpubsub/eventhandler"
)

// hubName is the hub that the chat lives in.
const hubName = "chat"

const (
	defaultRoom   = "lobby"
	historyLength = 50   // messages that a room remembers
	maxTextLength = 2000 // characters of one message
	maxRooms      = 1000
)

var (
	// Many scripts write letters with marks, \p{M}; a name of marks alone would be one that nobody sees.
	validName = regexp.MustCompile(`^[\p{L}\p{N}_-][\p{L}\p{M}\p{N}_-]{0,23}$`)
	validRoom = regexp.MustCompile(`^[a-z0-9_-]{1,24}$`)
)

// isName says whether a text can be a name. Some letters and marks are there to be seen by nobody: a name that has one
// looks like another's.
func isName(s string) bool {
	return validName.MatchString(s) && !strings.ContainsFunc(s, func(r rune) bool {
		return unicode.In(r, unicode.Variation_Selector, unicode.Other_Default_Ignorable_Code_Point)
	})
}

// group is the group of a room. Who is in the room is in the group, and nobody else.
func group(room string) string { return "room-" + room }

// Chat is the application's side of the chat. Who is connected, who is in which room and who may speak there is the
// service's to know; Chat remembers the rooms themselves: what was said, who hosts them, and who is banned or muted.
type Chat struct {
	service  *webpubsub.ServiceClient
	sessions *sessions
	log      *slog.Logger

	mu    sync.Mutex // guards rooms
	rooms map[string]*room
}

// room is a room. It is hosted by whoever has opened it, who may mute people and remove them.
type room struct {
	name    string
	host    string
	history []message
	last    int64 // when the last message was said, or the room was made
	people  int   // how many were in it when it was last told who is
	muted   map[string]bool
	banned  map[string]bool

	presence sync.Mutex // held while the room is told who is in it, so that the newest news comes last
}

// message is one message.
type message struct {
	Type string `json:"type"` // message or direct
	ID   string `json:"id"`
	Room string `json:"room,omitempty"`
	From string `json:"from"`
	To   string `json:"to,omitempty"`
	Text string `json:"text"`
	At   int64  `json:"at"` // Unix milliseconds; no two messages of a room have the same
}

// messageID returns the id of the message that an event says. It is the service's name for the event: so a message has
// the same id if its event comes again, and no other message has it, not after a restart either.
func messageID(e *eventhandler.Event) string { return e.ConnectionID + "-" + e.EventID }

// welcome is what a connection is told when it has entered a room.
type welcome struct {
	Type    string    `json:"type"`
	Room    string    `json:"room"`
	Group   string    `json:"group"` // where the page sends that its user is typing
	User    string    `json:"user"`
	History []message `json:"history"`
}

// presence is who is in a room.
type presence struct {
	Type   string   `json:"type"`
	Room   string   `json:"room"`
	Host   string   `json:"host"`
	People []person `json:"people"`
}

type person struct {
	Name  string `json:"name"`
	Muted bool   `json:"muted,omitempty"`
}

// notice is a word to one user: that something went wrong, or that they have been removed or muted.
type notice struct {
	Type string `json:"type"` // error, removed, muted or unmuted
	Room string `json:"room,omitempty"`
	Text string `json:"text"`
}

// NewChat returns a chat that talks to the service through a client of its hub, for those who have sessions.
func NewChat(service *webpubsub.ServiceClient, sessions *sessions, log *slog.Logger) *Chat {
	return &Chat{service: service, sessions: sessions, log: log, rooms: make(map[string]*room)}
}

// Handler returns the handler of the service's events. The event handler must be set to the system events connect,
// connected and disconnected, and to all user events.
func (c *Chat) Handler(connectionString string) (*eventhandler.Handler, error) {
	return eventhandler.New(&eventhandler.Options{
		Hub:               hubName,
		ConnectionStrings: []string{connectionString},
		Logger:            c.log,
		OnConnect:         c.onConnect,
		OnConnected:       c.onConnected,
		OnUserEvent:       c.onUserEvent,
		OnDisconnected:    c.onDisconnected,
	})
}

// onConnect lets a client into the room that its URL names, if the session that gave it the URL is still open: the token
// outlives it. The room is remembered in the connection's state, which the service sends along with every later event.
func (c *Chat) onConnect(_ context.Context, r *eventhandler.ConnectRequest) (*eventhandler.ConnectResponse, error) {
	session := r.Query.Get("session")
	if !c.sessions.open(session, r.UserID) {
		return nil, eventhandler.Reject(http.StatusUnauthorized, "log in first")
	}
	name := r.Query.Get("room")
	if name == "" {
		name = defaultRoom
	}
	maySpeak, err := c.enter(name, r.UserID)
	if err != nil {
		return nil, err
	}
	response := &eventhandler.ConnectResponse{Groups: []string{group(name)},
		SetState: map[string]any{"room": name, "session": session}}
	if maySpeak {
		response.Roles = []string{webpubsub.RoleSendToGroup(group(name))}
	}
	return response, nil
}

// onConnected greets a client that has entered its first room, and tells the room.
func (c *Chat) onConnected(ctx context.Context, r *eventhandler.ConnectedRequest) error {
	name, err := roomOf(&r.Event)
	if err != nil {
		return err
	}
	// Since connect, when the service did not know this connection yet, the user may have logged out, and the host may have
	// removed or muted them.
	var session string
	if _, err := r.State.Get("session", &session); err != nil {
		return err
	}
	if !c.sessions.open(session, r.UserID) {
		return c.service.CloseConnection(ctx, r.ConnectionID, &webpubsub.CloseConnectionOptions{Reason: "logged out"})
	}
	maySpeak, err := c.enter(name, r.UserID)
	if err != nil {
		return c.service.CloseConnection(ctx, r.ConnectionID,
			&webpubsub.CloseConnectionOptions{Reason: "removed from " + name})
	}
	if !maySpeak {
		if err := c.permit(ctx, r.ConnectionID, name, false); err != nil {
			return err
		}
	}
	if err := c.service.SendToConnection(ctx, r.ConnectionID, webpubsub.JSON(c.welcome(name, r.UserID)), nil); err != nil {
		return err
	}
	return c.tellPresence(ctx, name)
}

// onDisconnected tells the room that somebody may have left it.
func (c *Chat) onDisconnected(ctx context.Context, r *eventhandler.DisconnectedRequest) error {
	name, err := roomOf(&r.Event)
	if err != nil {
		return err
	}
	return c.tellPresence(ctx, name)
}

// command is what the page sends in each of its events.
type command struct {
	Text  string `json:"text"`
	Room  string `json:"room"`
	To    string `json:"to"`
	User  string `json:"user"`
	Muted bool   `json:"muted"`
}

// onUserEvent does what a client asks for. What the user got wrong comes back as an error message, not as a failed
// event.
func (c *Chat) onUserEvent(ctx context.Context, r *eventhandler.UserEventRequest,
) (*eventhandler.UserEventResponse, error) {
	var cmd command
	if err := r.JSON(&cmd); err != nil {
		return nil, err
	}
	name, err := roomOf(&r.Event)
	if err != nil {
		return nil, err
	}
	switch r.EventName {
	case "say":
		err = c.say(ctx, &r.Event, name, cmd.Text)
	case "direct":
		err = c.direct(ctx, &r.Event, cmd.To, cmd.Text)
	case "enter":
		err = c.move(ctx, r, name, cmd.Room)
		if err == nil { // the state is how every later event knows the room
			return &eventhandler.UserEventResponse{
				Message:  webpubsub.JSON(c.welcome(cmd.Room, r.UserID)),
				SetState: map[string]any{"room": cmd.Room},
			}, nil
		}
	case "remove":
		err = c.remove(ctx, name, r.UserID, cmd.User)
	case "mute":
		err = c.mute(ctx, name, r.UserID, cmd.User, cmd.Muted)
	default:
		return nil, eventhandler.Reject(http.StatusNotFound, "there is no event "+r.EventName)
	}
	if mistake, ok := errors.AsType[*eventhandler.RejectError](err); ok {
		return &eventhandler.UserEventResponse{Message: webpubsub.JSON(notice{Type: "error", Text: mistake.Reason})}, nil
	}
	return nil, err
}

// enter opens a room if there is none of that name, and says whether a user may speak in it. The error of a user who
// may not come in is a rejection.
func (c *Chat) enter(name, user string) (maySpeak bool, err error) {
	if !validRoom.MatchString(name) {
		return false, eventhandler.Reject(http.StatusBadRequest, "a room's name is up to 24 small letters, digits, - and _")
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for c.rooms[name] == nil && len(c.rooms) >= maxRooms {
		if !c.forgetRoom() {
			return false, eventhandler.Reject(http.StatusForbidden, "there are enough rooms")
		}
	}
	r := c.room(name)
	if r.host == "" {
		r.host = user
	}
	if r.banned[user] {
		return false, eventhandler.Reject(http.StatusForbidden, "you have been removed from "+name)
	}
	return !r.muted[user], nil
}

// room returns a room, with c.mu held. One that it does not know it makes: there may be people in it all the same, whose
// connections are older than this process. It has no host until somebody enters.
func (c *Chat) room(name string) *room {
	r := c.rooms[name]
	if r == nil {
		r = &room{name: name, last: time.Now().UnixMilli(), muted: make(map[string]bool), banned: make(map[string]bool)}
		c.rooms[name] = r
	}
	return r
}

// forgetRoom makes place for a room, with c.mu held: of the rooms that nobody is in it forgets the one that has been
// silent for the longest time. If somebody is entering just then, that does no harm: entering makes the room again.
func (c *Chat) forgetRoom() bool {
	var oldest *room
	for _, r := range c.rooms {
		if r.people == 0 && (oldest == nil || r.last < oldest.last) {
			oldest = r
		}
	}
	if oldest == nil {
		return false
	}
	delete(c.rooms, oldest.name)
	return true
}

// welcome returns what a user is told on entering a room.
func (c *Chat) welcome(name, user string) welcome {
	c.mu.Lock()
	defer c.mu.Unlock()
	history := append([]message{}, c.room(name).history...)
	return welcome{Type: "welcome", Room: name, Group: group(name), User: user, History: history}
}

// say tells a room what somebody says. Whether they may is the service's to know. If it fails the service sends the event
// again, and what has been said then is the same message, not another.
func (c *Chat) say(ctx context.Context, e *eventhandler.Event, name, text string) error {
	text, err := checkText(text)
	if err != nil {
		return err
	}
	maySpeak, err := c.service.HasPermission(ctx, webpubsub.PermissionSendToGroup, e.ConnectionID,
		&webpubsub.HasPermissionOptions{TargetName: group(name)})
	if err != nil {
		return err
	}
	if !maySpeak {
		return eventhandler.Reject(http.StatusForbidden, "you cannot speak in "+name)
	}
	m := c.remember(name, message{Type: "message", ID: messageID(e), Room: name, From: e.UserID, Text: text})
	return c.service.SendToGroup(ctx, group(name), webpubsub.JSON(m), nil)
}

// remember adds a message to its room's history, with the time, unless it is there.
func (c *Chat) remember(name string, m message) message {
	c.mu.Lock()
	defer c.mu.Unlock()
	r := c.room(name)
	if i := slices.IndexFunc(r.history, func(other message) bool { return other.ID == m.ID }); i >= 0 {
		return r.history[i]
	}
	r.last = max(r.last+1, time.Now().UnixMilli())
	m.At = r.last
	r.history = append(r.history, m)
	r.history = r.history[max(0, len(r.history)-historyLength):]
	return m
}

// direct sends a message to one user, on all of their connections, and to the sender's own. If the second fails, the
// service sends the event again and the first gets the message again; the page knows it by its id.
func (c *Chat) direct(ctx context.Context, e *eventhandler.Event, to, text string) error {
	text, err := checkText(text)
	if err != nil {
		return err
	}
	if !isName(to) {
		return eventhandler.Reject(http.StatusBadRequest, "to whom?")
	}
	present, err := c.service.UserExists(ctx, to, nil)
	if err != nil {
		return err
	}
	if !present {
		return eventhandler.Reject(http.StatusNotFound, to+" is not here")
	}
	m := webpubsub.JSON(message{Type: "direct", ID: messageID(e), From: e.UserID, To: to, Text: text,
		At: time.Now().UnixMilli()})
	if err := c.service.SendToUser(ctx, to, m, nil); err != nil || e.UserID == to {
		return err
	}
	return c.service.SendToUser(ctx, e.UserID, m, nil)
}

// move takes a connection out of one room and into another.
func (c *Chat) move(ctx context.Context, r *eventhandler.UserEventRequest, from, to string) error {
	could, err := c.enter(to, r.UserID)
	if err != nil || from == to {
		return err
	}
	if err := c.service.AddConnectionToGroup(ctx, group(to), r.ConnectionID, nil); err != nil {
		return err
	}
	if err := c.permit(ctx, r.ConnectionID, to, could); err != nil {
		return err
	}
	// The host may have removed or muted the user meanwhile, without finding this connection in the room.
	can, err := c.enter(to, r.UserID)
	if err != nil {
		return errors.Join(err, c.leave(ctx, r.ConnectionID, to))
	}
	if can != could {
		if err := c.permit(ctx, r.ConnectionID, to, can); err != nil {
			return err
		}
	}
	if err := c.leave(ctx, r.ConnectionID, from); err != nil {
		return err
	}
	return errors.Join(c.tellPresence(ctx, from), c.tellPresence(ctx, to))
}

// leave takes a connection out of a room, and the permission to speak there from it.
func (c *Chat) leave(ctx context.Context, connectionID, name string) error {
	return errors.Join(c.service.RemoveConnectionFromGroup(ctx, group(name), connectionID, nil),
		c.permit(ctx, connectionID, name, false))
}

// remove takes a user out of a room, on all of their connections, for good.
func (c *Chat) remove(ctx context.Context, name, host, user string) error {
	if err := c.host(name, host, user, func(r *room) { r.banned[user] = true }); err != nil {
		return err
	}
	connections, err := c.connections(ctx, name, user)
	if err != nil {
		return err
	}
	for _, id := range connections {
		if err := c.permit(ctx, id, name, false); err != nil {
			return err
		}
	}
	if err := c.service.RemoveUserFromGroup(ctx, group(name), user, nil); err != nil {
		return err
	}
	removed := notice{Type: "removed", Room: name, Text: host + " has removed you from " + name}
	for _, id := range connections {
		if err := c.service.SendToConnection(ctx, id, webpubsub.JSON(removed), nil); err != nil {
			return err
		}
	}
	return c.tellPresence(ctx, name)
}

// mute takes from a user the permission to speak in a room, on all of their connections, or gives it back.
func (c *Chat) mute(ctx context.Context, name, host, user string, muted bool) error {
	err := c.host(name, host, user, func(r *room) {
		if r.muted[user] = true; !muted {
			delete(r.muted, user)
		}
	})
	if err != nil {
		return err
	}
	connections, err := c.connections(ctx, name, user)
	if err != nil {
		return err
	}
	told := notice{Type: "unmuted", Room: name, Text: host + " lets you speak again in " + name}
	if muted {
		told.Type, told.Text = "muted", host+" has muted you in "+name
	}
	for _, id := range connections {
		if err := c.permit(ctx, id, name, !muted); err != nil {
			return err
		}
		if err := c.service.SendToConnection(ctx, id, webpubsub.JSON(told), nil); err != nil {
			return err
		}
	}
	return c.tellPresence(ctx, name)
}

// host changes a room for somebody else, as only its host may.
func (c *Chat) host(name, host, user string, change func(*room)) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	r := c.room(name)
	switch {
	case r.host != host:
		return eventhandler.Reject(http.StatusForbidden, "only the host of "+name+" can do that")
	case user == host || !isName(user):
		return eventhandler.Reject(http.StatusBadRequest, "to whom?")
	}
	change(r)
	return nil
}

// permit says whether a connection may send to a room's group.
func (c *Chat) permit(ctx context.Context, connectionID, name string, maySpeak bool) error {
	if maySpeak {
		return c.service.GrantPermission(ctx, webpubsub.PermissionSendToGroup, connectionID,
			&webpubsub.GrantPermissionOptions{TargetName: group(name)})
	}
	return c.service.RevokePermission(ctx, webpubsub.PermissionSendToGroup, connectionID,
		&webpubsub.RevokePermissionOptions{TargetName: group(name)})
}

// connections returns the ids of a user's connections in a room.
func (c *Chat) connections(ctx context.Context, name, user string) ([]string, error) {
	var ids []string
	for member, err := range c.service.ConnectionsInGroup(ctx, group(name), nil) {
		if err != nil {
			return nil, err
		}
		if member.UserID == user {
			ids = append(ids, member.ConnectionID)
		}
	}
	return ids, nil
}

// tellPresence tells a room who is in it, as the service knows it.
func (c *Chat) tellPresence(ctx context.Context, name string) error {
	c.mu.Lock()
	r := c.room(name)
	c.mu.Unlock()
	r.presence.Lock()
	defer r.presence.Unlock()
	names := map[string]bool{}
	for member, err := range c.service.ConnectionsInGroup(ctx, group(name), nil) {
		if err != nil {
			return err
		}
		names[member.UserID] = true
	}
	c.mu.Lock()
	r.people = len(names)
	now := presence{Type: "presence", Room: name, Host: r.host, People: []person{}}
	for _, user := range slices.Sorted(maps.Keys(names)) {
		now.People = append(now.People, person{Name: user, Muted: r.muted[user]})
	}
	c.mu.Unlock()
	return c.service.SendToGroup(ctx, group(name), webpubsub.JSON(now), nil)
}

// roomOf returns the room that a connection is in.
func roomOf(e *eventhandler.Event) (string, error) {
	var name string
	ok, err := e.State.Get("room", &name)
	if err == nil && !ok {
		err = fmt.Errorf("the state of connection %s names no room", e.ConnectionID)
	}
	return name, err
}

// checkText returns a text to send, trimmed.
func checkText(text string) (string, error) {
	text = strings.TrimSpace(text)
	switch {
	case text == "":
		return "", eventhandler.Reject(http.StatusBadRequest, "there is nothing to send")
	case utf8.RuneCountInString(text) > maxTextLength:
		return "", eventhandler.Reject(http.StatusRequestEntityTooLarge, "the message is too long")
	}
	return text, nil
}
