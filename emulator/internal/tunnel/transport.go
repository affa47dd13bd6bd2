package tunnel

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"maps"
	"net/http"
	"strconv"
	"strings"

	"github.com/awps-go/webpubsub/internal/tunnelframe"
)

// FinalError is the error of an event that a retry would not fix.
type FinalError struct{ Reason string }

func (e *FinalError) Error() string { return e.Reason }

// Transport returns a transport that sends the events of a hub through the tunnel. Its errors are *FinalError if a retry would
// not help.
func (t *Tunnels) Transport(hub string) http.RoundTripper { return transport{t, hub} }

type transport struct {
	tunnels *Tunnels
	hub     string
}

// RoundTrip sends an event through the tunnel.
func (t transport) RoundTrip(r *http.Request) (*http.Response, error) {
	event := &tunnelframe.Request{Method: r.Method, URL: r.URL.String(), Headers: frameHeaders(r.Header)}
	if r.Body != nil {
		body, err := io.ReadAll(r.Body)
		r.Body.Close()
		if err != nil {
			return nil, err
		}
		event.Body = body
		event.Headers["Content-Length"] = []string{strconv.Itoa(len(body))} // like over HTTP, even if it is 0
	}
	c, err := t.tunnels.waitForConn(r.Context(), t.hub)
	if err != nil {
		return nil, err
	}
	response, err := c.do(r.Context(), event)
	if err != nil {
		return nil, err
	}
	return httpResponse(r, response), nil
}

// frameHeaders returns the headers of a frame. The signatures of several keys become one header line each. A name without a value,
// which tells net/http to send no header of its own, is omitted.
func frameHeaders(h http.Header) map[string][]string {
	const signature = "Ce-Signature"
	all := map[string][]string(h.Clone())
	maps.DeleteFunc(all, func(_ string, values []string) bool { return len(values) == 0 })
	if values := all[signature]; len(values) > 0 {
		all[signature] = strings.Split(strings.Join(values, ","), ",")
	}
	return all
}

// waitForConn returns the connection for an event, and waits up to [Wait] for one. It returns a *FinalError if none arrives or
// the emulator closes, and ctx's error if ctx ends.
func (t *Tunnels) waitForConn(ctx context.Context, hub string) (*conn, error) {
	c, arrived := t.pick(hub)
	if c != nil {
		return c, nil
	}
	const next = "start a server that connects, such as one that calls tunnel.Serve, or run webpubsub listen"
	t.Service.Log.Info("an event waits for a server to connect to the tunnel", "hub", hub, "for", Wait, "next", next)
	passed := make(chan struct{})
	defer t.Service.Delay(Wait, func() { close(passed) }).Stop()
	for {
		select {
		case <-arrived:
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-passed:
			return nil, &FinalError{fmt.Sprintf("no server has connected to the tunnel of hub %s within %v: %s", hub, Wait, next)}
		case <-t.Service.Life.Closing():
			return nil, &FinalError{"no server is connected to the tunnel of hub " + hub + ", and the emulator is closing"}
		}
		if c, arrived = t.pick(hub); c != nil {
			return c, nil
		}
	}
}

// httpResponse converts the response frame of an event to an HTTP response.
func httpResponse(r *http.Request, response *tunnelframe.Response) *http.Response {
	header := make(http.Header, len(response.Headers))
	for name, values := range response.Headers {
		for _, value := range values {
			header.Add(name, value)
		}
	}
	return &http.Response{
		StatusCode: response.StatusCode, Status: strconv.Itoa(response.StatusCode) + " " + http.StatusText(response.StatusCode),
		Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		Header: header, Body: io.NopCloser(bytes.NewReader(response.Body)), ContentLength: int64(len(response.Body)), Request: r,
	}
}
