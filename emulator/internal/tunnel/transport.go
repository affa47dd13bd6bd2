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

// FinalError is why an event could not be answered, if sending it again would not help.
type FinalError struct{ Reason string }

func (e *FinalError) Error() string { return e.Reason }

// Transport returns the transport of the handlers of a hub that are behind the tunnel.
func (t *Tunnels) Transport(hub string) http.RoundTripper { return transport{t, hub} }

type transport struct {
	tunnels *Tunnels
	hub     string
}

// RoundTrip sends an event through the tunnel.
func (t transport) RoundTrip(r *http.Request) (*http.Response, error) {
	event := &tunnelframe.Request{Method: r.Method, URL: r.URL.String(), Headers: lines(r.Header)}
	if r.Body != nil {
		body, err := io.ReadAll(r.Body)
		r.Body.Close()
		if err != nil {
			return nil, err
		}
		event.Body = body
		event.Headers["Content-Length"] = []string{strconv.Itoa(len(body))} // as over HTTP, also of nothing
	}
	c, err := t.tunnels.wait(r.Context(), t.hub)
	if err != nil {
		return nil, err
	}
	answer, err := c.do(r.Context(), event)
	if err != nil {
		return nil, err
	}
	return response(r, answer), nil
}

// lines returns a header as it passes the tunnel: a signature by several keys has a line for each, and a name without a value,
// which tells net/http to send no header of its own, is left out.
func lines(h http.Header) map[string][]string {
	const signature = "Ce-Signature"
	all := map[string][]string(h.Clone())
	maps.DeleteFunc(all, func(_ string, values []string) bool { return len(values) == 0 })
	if values := all[signature]; len(values) > 0 {
		all[signature] = strings.Split(strings.Join(values, ","), ",")
	}
	return all
}

// wait returns the connection for an event, once there is one.
func (t *Tunnels) wait(ctx context.Context, hub string) (*conn, error) {
	c, arrived := t.pick(hub)
	if c != nil {
		return c, nil
	}
	const next = "start a server that connects, such as one that calls tunnel.Serve"
	t.Service.Log.Info("an event waits for a server to connect to the tunnel", "hub", hub, "for", Wait, "next", next)
	passed := make(chan struct{})
	defer t.Service.Clock.AfterFunc(Wait, func() { close(passed) }).Stop()
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

// response returns an answer as an HTTP transport would.
func response(r *http.Request, answer *tunnelframe.Response) *http.Response {
	header := make(http.Header, len(answer.Headers))
	for name, values := range answer.Headers {
		for _, value := range values {
			header.Add(name, value)
		}
	}
	return &http.Response{
		StatusCode: answer.StatusCode, Status: strconv.Itoa(answer.StatusCode) + " " + http.StatusText(answer.StatusCode),
		Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		Header: header, Body: io.NopCloser(bytes.NewReader(answer.Body)), ContentLength: int64(len(answer.Body)), Request: r,
	}
}
