package eventhandler_test

import (
	"context"
	"encoding/json"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/awps-go/webpubsub/eventhandler"
)

// FuzzEvent sends events with arbitrary content, signed or not. A callback may be called only for a valid event, and
// the response must have a suitable status.
func FuzzEvent(f *testing.F) {
	state := "eyJuIjozfQ=="
	f.Add("POST", "azure.webpubsub.sys.connect", "connect", "chat", "c1", "u", "0", "2026-11-24T03:04:05Z", state, "application/json",
		`{"claims":{"a":["b"]},"query":{},"headers":{"X":["y"]},"subprotocols":["s"],"clientCertificates":[{"thumbprint":"t"}]}`, "", true)
	f.Add("POST", "azure.webpubsub.sys.connected", "connected", "CHAT", "c1", "", "1", "2026-11-24T03:04:05+01:00", "", "application/json", `{}`, "", true)
	f.Add("POST", "azure.webpubsub.sys.disconnected", "disconnected", "chat", "c1", "", "2", "2026-11-24T03:04:05Z", "e30=", "application/json",
		`{"reason":"r","mqtt":{"initiatedByClient":true,"disconnectPacket":{"code":0}}}`, "", true)
	f.Add("POST", "azure.webpubsub.user.message", "message", "chat", "c1", "", "3", "2026-11-24T03:04:05Z", "", "text/plain; charset=utf-8", "hi", "", true)
	f.Add("POST", "azure.webpubsub.user.message", "message", "chat", "c1", "", "3", "2026-11-24T03:04:05Z", "%%", "application/json", "{", "", true)
	f.Add("POST", "azure.webpubsub.gp.joined", "joined", "chat", "c1", "", "3", "2026-11-24T03:04:05Z", "", "application/json", `{"group":"g"}`, "", true)
	f.Add("POST", "azure.webpubsub.user.message", "message", "chat", "c1", "", "3", "2026-11-24T03:04:05Z", "", "text/plain", "hi", "", false)
	f.Add("POST", "azure.webpubsub.sys.connect", "connect", "chat", "c1", "", "0", "2026-11-24T03:04:05Z", "", "application/json",
		`{"mqtt":{"protocolVersion":4,"password":"AP8="}}`, "p1", true)
	f.Add("POST", "azure.webpubsub.user.hello", "hello", "chat", "c1", "", "3", "2026-11-24T03:04:05Z", "step-2", "image/png; x", "\xff", "p1", true)
	f.Add("POST", "azure.webpubsub.gp.new", "new", "chat", "c1", "", "3", "", "", "", "", "", true)
	f.Add("OPTIONS", "", "", "", "", "", "", "", "", "", "", "", false)

	f.Fuzz(func(t *testing.T, method, eventType, name, hub, connection, user, id, time, state, contentType, body, physical string, signed bool) {
		called := false
		check := func(event *eventhandler.Event) {
			called = true
			if !signed || method != http.MethodPost {
				t.Error("a callback was called for an unsigned event")
			}
			if !strings.EqualFold(event.Hub, "chat") || event.ConnectionID != connection || connection == "" || event.EventID == "" ||
				!strings.EqualFold(event.EventName, name) || event.UserID != user || event.State == nil || event.RawState != state {
				t.Errorf("a callback was called with %+v", event)
			}
			for _, value := range []string{event.ConnectionID, event.UserID, event.EventName, event.EventID} {
				if !utf8.ValidString(value) || strings.ContainsAny(value, "\r\n\t\x00\x7f") {
					t.Errorf("a callback was called with %q", value)
				}
			}
		}
		handler, err := eventhandler.New(&eventhandler.Options{
			Hub: "chat", AccessKeys: []string{testKey}, Logger: slog.New(slog.DiscardHandler),
			OnConnect: func(_ context.Context, r *eventhandler.ConnectRequest) (*eventhandler.ConnectResponse, error) {
				check(&r.Event)
				return &eventhandler.ConnectResponse{UserID: r.UserID, SetState: map[string]any{"x": 1}}, nil
			},
			OnConnected: func(_ context.Context, r *eventhandler.ConnectedRequest) error { check(&r.Event); return nil },
			OnUserEvent: func(_ context.Context, r *eventhandler.UserEventRequest) (*eventhandler.UserEventResponse, error) {
				check(&r.Event)
				if r.ContentType == eventhandler.ContentTypeJSON && !json.Valid(r.Data) && !r.IsMQTT() || r.Text() != body {
					t.Errorf("a callback was called with %s %q", r.ContentType, r.Data)
				}
				return nil, nil
			},
			OnDisconnected: func(_ context.Context, r *eventhandler.DisconnectedRequest) error { check(&r.Event); return nil },
			OnGroupJoined:  func(_ context.Context, r *eventhandler.GroupRequest) error { check(&r.Event); return nil },
			OnGroupLeft:    func(_ context.Context, r *eventhandler.GroupRequest) error { check(&r.Event); return nil },
		})
		if err != nil {
			t.Fatal(err)
		}

		r := newEvent("http://h", "user.message", contentType, body, with("ce-type", eventType), with("ce-eventName", name),
			with("ce-hub", hub), with("ce-connectionId", connection), with("ce-userId", user), with("ce-id", id),
			with("ce-time", time), with("ce-connectionState", state),
			with("ce-physicalConnectionId", physical), with("ce-signature", sign(connection, testKey)))
		r.Method = method
		if !signed {
			r.Header.Set("ce-signature", sign(connection, "another key"))
		}
		w := httptest.NewRecorder()
		handler.ServeHTTP(w, r)
		switch {
		case called && w.Code/100 != 2 && w.Code != http.StatusUnprocessableEntity: // a user or a state that cannot be sent
			t.Errorf("status %d for an event that was handled", w.Code)
		case !called && method == http.MethodPost && w.Code/100 != 4 && w.Code != http.StatusNoContent: // an unknown system event
			t.Errorf("status %d for an invalid event", w.Code)
		case w.Code/100 == 4 && strings.HasPrefix(w.Header().Get("Content-Type"), "application/json"):
			var failure struct{ MQTT struct{ Code byte } }
			if err := json.Unmarshal(w.Body.Bytes(), &failure); err != nil || failure.MQTT.Code == 0 || physical == "" {
				t.Errorf("response %q to a failing connect event of an MQTT client: %v", w.Body, err)
			}
		case w.Code/100 == 4 && strings.Count(w.Body.String(), "\n") != 1:
			t.Errorf("the reason has more than one line: %q", w.Body)
		}
	})
}
