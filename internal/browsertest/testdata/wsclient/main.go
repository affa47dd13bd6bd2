//go:build js

// The command wsclient is a client in a web page. It shows its events in the element #log. The URL to connect to is the fragment
// of the page's URL.
package main

import (
	"context"
	"fmt"
	"net/url"
	"strings"
	"syscall/js"
	"time"

	"github.com/awps-go/webpubsub/wsclient"
)

func show(format string, args ...any) {
	js.Global().Get("document").Call("querySelector", "#log").Call("append", fmt.Sprintf(format, args...)+"\n")
}

func main() {
	fragment := js.Global().Get("location").Get("hash").String()
	target, _ := url.PathUnescape(strings.TrimPrefix(fragment, "#"))
	ctx := context.Background()
	conn, err := wsclient.Dial(ctx, wsclient.StaticURL(target), &wsclient.Options{
		KeepAlive:      wsclient.KeepAliveOptions{Interval: 500 * time.Millisecond},
		OnConnected:    func(e wsclient.ConnectedEvent) { show("connected %s", e.ConnectionID) },
		OnRecovered:    func(e wsclient.ConnectedEvent) { show("recovered %s", e.ConnectionID) },
		OnDisconnected: func(e wsclient.DisconnectedEvent) { show("disconnected %d", e.Err.Code) },
		OnServerClose:  func(reason string) bool { show("server close: %s", reason); return true },
	})
	if err != nil {
		show("%v", err)
		return
	}
	for m, err := range conn.Messages(ctx) {
		if err != nil {
			show("%v", err)
			return
		}
		if m.Text() == "close" {
			show("Close: %v", conn.Close())
			continue
		}
		show("message %s", m.Text())
	}
}
