package emulator

import (
	"io"
	"net/http"
	"strings"

	"github.com/awps-go/webpubsub/emulator/internal/client"
	kernel "github.com/awps-go/webpubsub/emulator/internal/hub"
	"github.com/awps-go/webpubsub/emulator/internal/liveview"
	"github.com/awps-go/webpubsub/emulator/internal/mqtt"
	"github.com/awps-go/webpubsub/emulator/internal/rest"
	"github.com/awps-go/webpubsub/emulator/internal/tunnel"
	"github.com/awps-go/webpubsub/emulator/internal/wire"
)

// router passes each request to the package that serves it.
type router struct {
	api    *rest.API
	client client.Server
	mqtt   mqtt.Server
	tunnel *tunnel.Tunnels
	view   *liveview.View

	handshakeDone func() // called when the handshake of a client has ended, even if it was cut
}

func (t *router) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if liveview.Serves(r.URL.Path) { // before AllowOrigin, which would let other pages read it
		t.view.ServeHTTP(w, r)
		return
	}
	if wire.AllowOrigin(w, r) {
		return
	}
	switch path := r.URL.Path; {
	case path == "/client" || strings.HasPrefix(path, "/client/"):
		defer t.handshakeDone()
		t.client.ServeHTTP(w, r)
	case strings.HasPrefix(path, wire.MQTTPath):
		defer t.handshakeDone()
		t.mqtt.ServeHTTP(w, r)
	case path == tunnel.Path:
		t.tunnel.ServeHTTP(w, r)
	case strings.HasPrefix(path, "/api/"):
		t.api.ServeHTTP(w, r)
	default:
		_, _ = io.Copy(io.Discard, io.LimitReader(r.Body, kernel.MaxMessageSize))
		wire.NotFound("there is nothing at this path").Write(w, r)
	}
}
