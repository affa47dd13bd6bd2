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

// router hands each request to the room that answers it.
type router struct {
	api    *rest.API
	client client.Server
	mqtt   mqtt.Server
	tunnel *tunnel.Tunnels
	view   *liveview.View

	shook func() // is called when the handshake of a client has been answered, or cut off
}

func (t *router) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if liveview.Serves(r.URL.Path) { // for its own page only, whatever others may call
		t.view.ServeHTTP(w, r)
		return
	}
	if wire.AllowOrigin(w, r) {
		return
	}
	switch path := r.URL.Path; {
	case path == "/client" || strings.HasPrefix(path, "/client/"):
		defer t.shook()
		t.client.ServeHTTP(w, r)
	case strings.HasPrefix(path, wire.MQTTPath):
		defer t.shook()
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
