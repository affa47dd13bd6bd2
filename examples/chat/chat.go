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

// hubName is the hub of the chat.
const hubName = "chat"

const (
	defaultRoom   = "lobby"
	historyLength = 50   // messages in a room's history
	maxTextLength = 2000 // characters in a message
	maxRooms      = 1000
	maxSilenced   = 1000 // muted and removed users of a room
)

var (
	// Many scripts write letters with marks, \p{M}. A name must not begin with a mark: a name of marks only would be
	// invisible.
	validName = regexp.MustCompile(`^[\p{L}\p{N}_-][\p{L}\p{M}\p{N}_-]{0,23}$`)
	validRoom = regexp.MustCompile(`^[a-z0-9_-]{1,24}$`)
)

// isName reports whether a text is a valid name. It rejects invisible letters and marks, because such a name would look
// like another name.
func isName(s string) bool {
	return validName.MatchString(s) && !strings.ContainsFunc(s, func(r rune) bool {
		return unicode.In(r, unicode.Variation_Selector, unicode.Other_Default_Ignorable_Code_Point)
	})
}

// group returns the group of a room. The group's members are exactly the connections in the room.
func group(room string) string { return "room-" + room }

// Chat is the application's side of the chat. The service knows who is connected, who is in which room, and who may
// speak there. Chat keeps the rooms: history, hosts, and banned and muted users.
type Chat struct {
	service  *webpubsub.ServiceClient
	sessions *sessions
	log      *slog.Logger

	mu    sync.Mutex // guards rooms
	rooms map[string]*room
}

// room is a room. Its host is the user who opened it, and may mute and remove users.
type room struct {
	name    string
	host    string
	history []message
	last    int64 // Unix milliseconds of the last message, or of the room's creation
	people  int   // number of users at the last presence message
	muted   map[string]bool
	banned  map[string]bool

	presence sync.Mutex // held while presence is sent, so that the latest state arrives last
}

// message is a chat message.
type message struct {
	Type string `json:"type"` // message or direct
	ID   string `json:"id"`
	Room string `json:"room,omitempty"`
	From string `json:"from"`
	To   string `json:"to,omitempty"`
	Text string `json:"text"`
	At   int64  `json:"at"` // Unix milliseconds, unique in a room
}

// messageID returns the id of the message in an event. It is derived from the event's id, so a retried event gives the
// same id. Ids are unique, even across restarts.
func messageID(e *eventhandler.Event) string { return e.ConnectionID + "-" + e.EventID }

// welcome is sent to a connection when it has entered a room.
type welcome struct {
	Type    string    `json:"type"`
	Room    string    `json:"room"`
	Group   string    `json:"group"` // the group for typing notifications
	User    string    `json:"user"`
	History []message `json:"history"`
}

// presence lists the users in a room.
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

// notice is a message of the chat to one user: an error, or that the user was removed, muted or unmuted.
type notice struct {
	Type string `json:"type"` // error, removed, muted or unmuted
	Room string `json:"room,omitempty"`
	Text string `json:"text"`
}

// NewChat returns a chat on the service client's hub, for the users of the sessions.
func NewChat(service *webpubsub.ServiceClient, sessions *sessions, log *slog.Logger) *Chat {
	return &Chat{service: service, sessions: sessions, log: log, rooms: make(map[string]*room)}
}

// Handler returns the event handler of the chat. The service must send it the system events connect, connected and
// disconnected, and all user events.
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

// onConnect accepts a client into the room in its URL. The session in the URL must still be open, because the token may
// outlive it. The room is kept in the connection's state, which the service sends with every later event.
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

// onConnected welcomes a client in its first room, and notifies the room.
func (c *Chat) onConnected(ctx context.Context, r *eventhandler.ConnectedRequest) error {
	name, err := roomOf(&r.Event)
	if err != nil {
		return err
	}
	// Check again what onConnect checked. Until now the service did not know the connection, so a logout, removal or
	// mute since then could not reach it.
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
		if err := c.setMaySpeak(ctx, r.ConnectionID, name, false); err != nil {
			return err
		}
	}
	if err := c.service.SendToConnection(ctx, r.ConnectionID, webpubsub.JSON(c.welcome(name, r.UserID)), nil); err != nil {
		return err
	}
	return c.sendPresence(ctx, name)
}

// onDisconnected notifies the room, which the user may have left.
func (c *Chat) onDisconnected(ctx context.Context, r *eventhandler.DisconnectedRequest) error {
	name, err := roomOf(&r.Event)
	if err != nil {
		return err
	}
	return c.sendPresence(ctx, name)
}

// command is the data of the page's events.
type command struct {
	Text  string `json:"text"`
	Room  string `json:"room"`
	To    string `json:"to"`
	User  string `json:"user"`
	Muted bool   `json:"muted"`
}

// onUserEvent carries out a command of a client. It responds to a user's mistake with an error message, so the event
// itself does not fail.
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
		if err == nil { // later events find the room in the state
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
		return nil, eventhandler.Reject(http.StatusNotFound, "unknown event "+r.EventName)
	}
	if mistake, ok := errors.AsType[*eventhandler.RejectError](err); ok {
		return &eventhandler.UserEventResponse{Message: webpubsub.JSON(notice{Type: "error", Text: mistake.Reason})}, nil
	}
	return nil, err
}

// enter opens the room if it does not exist, and reports whether the user may speak in it. It returns a rejection if
// the user may not enter.
func (c *Chat) enter(name, user string) (maySpeak bool, err error) {
	if !validRoom.MatchString(name) {
		return false, eventhandler.Reject(http.StatusBadRequest, "a room name has 1 to 24 characters: a-z, 0-9, - and _")
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for c.rooms[name] == nil && len(c.rooms) >= maxRooms {
		if !c.forgetRoom() {
			return false, eventhandler.Reject(http.StatusForbidden, "there are too many rooms")
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

// room returns a room, and creates it if necessary. A new room may already have people in it, with connections from
// before this process started. It has no host until somebody enters. The caller holds c.mu.
func (c *Chat) room(name string) *room {
	r := c.rooms[name]
	if r == nil {
		r = &room{name: name, last: time.Now().UnixMilli(), muted: make(map[string]bool), banned: make(map[string]bool)}
		c.rooms[name] = r
	}
	return r
}

// forgetRoom drops the empty room with the oldest last message, and reports whether there was one. If somebody is
// entering that room right now, enter creates it again. The caller holds c.mu.
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

// welcome returns the welcome for a user who enters a room.
func (c *Chat) welcome(name, user string) welcome {
	c.mu.Lock()
	defer c.mu.Unlock()
	history := append([]message{}, c.room(name).history...)
	return welcome{Type: "welcome", Room: name, Group: group(name), User: user, History: history}
}

// say sends a user's message to a room, if the service says that the user may speak there. If it fails, the service
// retries the event, and the message keeps its id.
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

// remember sets a message's time and adds it to the room's history. If the message is already there, it returns that
// one.
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

// direct sends a message to all connections of one user, and to the sender's own connections. If the second send fails,
// the service retries the event and the recipient receives the message again; the page recognizes it by its id.
func (c *Chat) direct(ctx context.Context, e *eventhandler.Event, to, text string) error {
	text, err := checkText(text)
	if err != nil {
		return err
	}
	if !isName(to) {
		return eventhandler.Reject(http.StatusBadRequest, "choose a recipient")
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

// move moves a connection from one room to another.
func (c *Chat) move(ctx context.Context, r *eventhandler.UserEventRequest, from, to string) error {
	could, err := c.enter(to, r.UserID)
	if err != nil || from == to {
		return err
	}
	if err := c.service.AddConnectionToGroup(ctx, group(to), r.ConnectionID, nil); err != nil {
		return err
	}
	if err := c.setMaySpeak(ctx, r.ConnectionID, to, could); err != nil {
		return err
	}
	// The host may have removed or muted the user in the meantime, before this connection was in the room.
	can, err := c.enter(to, r.UserID)
	if err != nil {
		return errors.Join(err, c.leave(ctx, r.ConnectionID, to))
	}
	if can != could {
		if err := c.setMaySpeak(ctx, r.ConnectionID, to, can); err != nil {
			return err
		}
	}
	if err := c.leave(ctx, r.ConnectionID, from); err != nil {
		return err
	}
	return errors.Join(c.sendPresence(ctx, from), c.sendPresence(ctx, to))
}

// leave removes a connection from a room and revokes its permission to speak there.
func (c *Chat) leave(ctx context.Context, connectionID, name string) error {
	return errors.Join(c.service.RemoveConnectionFromGroup(ctx, group(name), connectionID, nil),
		c.setMaySpeak(ctx, connectionID, name, false))
}

// remove bans a user from a room and removes all of the user's connections from it.
func (c *Chat) remove(ctx context.Context, name, host, user string) error {
	if err := c.changeAsHost(name, host, user, func(r *room) { r.banned[user] = true }); err != nil {
		return err
	}
	connections, err := c.connections(ctx, name, user)
	if err != nil {
		return err
	}
	for _, id := range connections {
		if err := c.setMaySpeak(ctx, id, name, false); err != nil {
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
	return c.sendPresence(ctx, name)
}

// mute revokes or grants the permission to speak in a room, for all of a user's connections.
func (c *Chat) mute(ctx context.Context, name, host, user string, muted bool) error {
	err := c.changeAsHost(name, host, user, func(r *room) {
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
		if err := c.setMaySpeak(ctx, id, name, !muted); err != nil {
			return err
		}
		if err := c.service.SendToConnection(ctx, id, webpubsub.JSON(told), nil); err != nil {
			return err
		}
	}
	return c.sendPresence(ctx, name)
}

// changeAsHost changes a room on behalf of its host, in a way that affects another user. It rejects anybody but the
// host.
func (c *Chat) changeAsHost(name, host, user string, change func(*room)) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	r := c.room(name)
	switch {
	case r.host != host:
		return eventhandler.Reject(http.StatusForbidden, "only the host of "+name+" can do that")
	case user == host || !isName(user):
		return eventhandler.Reject(http.StatusBadRequest, "choose another user")
	case len(r.muted)+len(r.banned) >= maxSilenced && !r.muted[user]: // a muted user can be unmuted
		return eventhandler.Reject(http.StatusForbidden, "too many users are muted or removed in "+name)
	}
	change(r)
	return nil
}

// setMaySpeak grants or revokes a connection's permission to send to a room's group.
func (c *Chat) setMaySpeak(ctx context.Context, connectionID, name string, maySpeak bool) error {
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

// sendPresence sends a room the list of its users, as the service knows them.
func (c *Chat) sendPresence(ctx context.Context, name string) error {
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
		err = fmt.Errorf("the state of connection %s has no room", e.ConnectionID)
	}
	return name, err
}

// checkText trims a text and rejects it if it is empty or too long.
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
