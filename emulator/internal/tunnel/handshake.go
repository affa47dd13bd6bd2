package tunnel

import (
	"net/http"

	"github.com/awps-go/webpubsub/emulator/internal/handshake"
	"github.com/awps-go/webpubsub/emulator/internal/hub"
	"github.com/awps-go/webpubsub/emulator/internal/wire"
	"github.com/awps-go/webpubsub/internal/tunnelframe"
)

// ServeHTTP handles the WebSocket handshake of a server.
func (t *Tunnels) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	query := r.URL.Query()
	name := query.Get("hub")
	user, err := t.check(r, name)
	if err != nil {
		t.Service.Log.Info("a server's tunnel was rejected", "hub", name, "status", err.Status, "reason", err.Message)
		t.show(name, err.Status, "tunnel rejected: "+err.Message)
		err.Write(w, r)
		return
	}
	ws, nc := t.Upgrade(w, r, "", nil)
	if ws == nil {
		return
	}
	c := newConn(t, ws, nc)
	c.hub, c.user, c.target = t.Service.Hub(name).Name, user, query.Get("target")
	if c.write(&tunnelframe.Connected{ConnectionID: c.id, UserID: user}) != nil {
		ws.CloseNow()
		nc.Untrack()
		return
	}
	t.Service.Hub(name).Use()
	t.add(c)
	t.Service.Log.Info("a server has connected to the tunnel", "hub", c.hub, "tunnel", c.id)
	t.show(c.hub, 0, "tunnel "+c.id+" connected")
	if t.Service.Life.IsClosing() { // Close may have run before add
		nc.ShortenClosing()
		t.Service.Life.GoFrom(c.closeGoingAway)
	}
	go c.read()
}

// check checks a handshake and returns the user of its token.
func (t *Tunnels) check(r *http.Request, name string) (user string, err *wire.Error) {
	if err := handshake.CheckHub(name); err != nil {
		return "", err
	}
	if r.Header.Get("Origin") != "" {
		return "", &wire.Error{Status: http.StatusForbidden, Code: "Forbidden", Target: "Origin", Message: "web pages may not connect to the tunnel"}
	}
	user, fault := t.Tokens.AuthorizeTunnel(r)
	if fault != nil {
		return "", wire.Unauthorized(fault)
	}
	return user, handshake.CheckWebSocket(r)
}

// show reports an event of a connection to the traffic observers.
func (t *Tunnels) show(hubName string, status int, what string) {
	if o := t.Service.Observer; o.Watched() {
		o.Traffic(hub.TrafficEvent{Kind: "tunnel", Hub: hubName, Status: status, Text: what})
	}
}
