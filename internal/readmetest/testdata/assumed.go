package fragment

import (
	"context"
	"io"
	"net/http"
	"testing"
	"time"

	"github.com/awps-go/webpubsub"
	"github.com/awps-go/webpubsub/emulator"
	"github.com/awps-go/webpubsub/eventhandler"
	"github.com/awps-go/webpubsub/wsclient"
)

// Variables that a fragment may use without declaring them. A name has the same meaning in every README.
var (
	t   *testing.T
	ctx context.Context
	err error

	client  *webpubsub.ServiceClient
	server  *emulator.Server
	conn    *wsclient.Conn
	handler *eventhandler.Handler
	mux     *http.ServeMux

	connectionString, endpoint, key string
	connectionID, user              string
	users, ids                      []string

	data        []byte
	v, query    any
	file        io.ReadSeeker
	source      io.Reader
	httpRequest *http.Request
	d           time.Duration
)

// announce is the code under test of the README's first test.
func announce(ctx context.Context, client *webpubsub.ServiceClient, text string) error {
	return client.SendToAll(ctx, webpubsub.Text(text), nil)
}
