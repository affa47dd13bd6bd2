package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httputil"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/spf13/cobra"

	"github.com/awps-go/webpubsub/internal/tunnelframe"
	"github.com/awps-go/webpubsub/tunnel"
)

// listenFlags are the flags of listen.
type listenFlags struct {
	to      string
	timeout time.Duration
	asJSON  bool
}

func newListen(p *program) *cobra.Command {
	var f listenFlags
	cmd := &cobra.Command{
		Use:   "listen",
		Short: "Receive the hub's events through a tunnel, and forward them to a URL",
		Long: `Receive the hub's events over a connection that this program opens, and forward each event to the event handler at --to.
The event handler needs no public address, and may be written in any language. In the service, the URL template of the
hub's event handler must begin with tunnel:///, for example tunnel:///eventhandler/.

If --to has a path, all events are sent to that path. If it has no path, or only /, the path of the URL template is kept,
with the event's name in place of {event}. The query of the URL template is kept in both cases.

For each event, the command prints a line to standard output: time, event, user, response status, and duration. With
--json the line is a JSON object. Changes of the connection are logged to standard error, at level info unless
--log-level is given. If the event handler cannot be reached, the event fails with 502. If it does not respond within
--timeout, the event fails with 504.

After Ctrl-C, the command finishes the events that it has received, for up to 30 seconds, and ends. A second Ctrl-C ends
it at once. The tunnel is experimental: Microsoft does not document its protocol.`,
		Example: `  webpubsub listen --hub chat --to http://localhost:8080/eventhandler/
  webpubsub listen --hub chat --to http://localhost:8080 --json | jq 'select(.status >= 400)'`,
		Args: argumentsOf("listen"),
		RunE: action(func(cmd *cobra.Command, args []string) error { return f.run(p, cmd) }),
	}
	cmd.Flags().StringVar(&f.to, "to", "", "the `URL` of the event handler (required)")
	cmd.Flags().DurationVar(&f.timeout, "timeout", 100*time.Second, "how long the event handler may take to respond to an event")
	cmd.Flags().BoolVar(&f.asJSON, "json", false, "print one JSON object a line")
	return cmd
}

func (f *listenFlags) run(p *program, cmd *cobra.Command) error {
	to, err := f.target()
	if err != nil {
		return err
	}
	if f.timeout <= 0 {
		return usageErrorf("--timeout must be positive")
	}
	if !cmd.Flags().Changed("log-level") {
		p.logLevel.Level = slog.LevelInfo
	}
	ctx, cancel := context.WithCancelCause(cmd.Context())
	defer cancel(nil)
	l := &listener{out: cmd.OutOrStdout(), asJSON: f.asJSON, timeout: f.timeout, log: p.logger(cmd.ErrOrStderr()), fail: cancel}
	l.proxy = l.newProxy(to)
	defer context.AfterFunc(ctx, func() { l.log.Info("shutting down: waiting for in-flight events") })()
	if err := p.serveTunnel(ctx, l, l.log); err != nil {
		return fmt.Errorf("listen: %w", err)
	}
	if cmd.Context().Err() == nil {
		return context.Cause(ctx) // the output is closed
	}
	return nil
}

// target returns the URL of --to. Its errors do not repeat the URL, which may contain a key.
func (f *listenFlags) target() (*url.URL, error) {
	if f.to == "" {
		return nil, usageErrorf("the event handler is missing: use --to URL")
	}
	to, err := url.Parse(f.to)
	switch {
	case err != nil, to.Scheme != "http" && to.Scheme != "https", to.Hostname() == "":
		return nil, usageErrorf("--to must be a URL such as http://localhost:8080/eventhandler/")
	case to.User != nil:
		return nil, usageErrorf("--to must not have a user name or a password")
	case strings.Contains(to.Path, "{"):
		return nil, usageErrorf("--to must not have a placeholder: without a path, the path of the URL template is kept")
	case to.Fragment != "":
		return nil, usageErrorf("--to must not have a fragment")
	}
	return to, nil
}

// serveTunnel serves the hub's events with the handler. It authenticates with the connection string or Microsoft Entra
// ID.
func (p *program) serveTunnel(ctx context.Context, handler http.Handler, log *slog.Logger) error {
	hub, err := p.hubName()
	if err != nil {
		return err
	}
	options := &tunnel.Options{Logger: log}
	if p.endpoint != "" {
		credential, err := p.credential()
		if err != nil {
			return err
		}
		return tunnel.ServeWithCredential(ctx, p.endpoint, hub, credential, handler, options)
	}
	connectionString, err := p.connectionString()
	if err != nil {
		return err
	}
	return tunnel.Serve(ctx, connectionString, hub, handler, options)
}

// listener forwards events and prints a line for each.
type listener struct {
	proxy   *httputil.ReverseProxy
	timeout time.Duration // for the response to an event
	log     *slog.Logger
	fail    context.CancelCauseFunc // ends the command with an error
	asJSON  bool

	mu  sync.Mutex
	out io.Writer
}

// newProxy returns the proxy that forwards events. It reads a response completely before it passes it on, so a broken
// response becomes a 502 and not a truncated response.
func (l *listener) newProxy(to *url.URL) *httputil.ReverseProxy {
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.DisableCompression = true // pass the response on unchanged
	transport.MaxResponseHeaderBytes = 64 << 10
	transport.MaxIdleConnsPerHost = 256 // the number of events that the tunnel serves concurrently
	// Shorter than the idle timeout of servers (gunicorn: 2 seconds, Node: 5 seconds), because a POST on a connection that
	// is just being closed cannot be retried.
	transport.IdleConnTimeout = time.Second
	return &httputil.ReverseProxy{
		Transport: transport,
		Rewrite: func(r *httputil.ProxyRequest) {
			r.Out.URL.Scheme, r.Out.URL.Host = to.Scheme, to.Host
			r.Out.Host = "" // use the host of --to: development servers reject other hosts
			if to.Path != "" && to.Path != "/" {
				r.Out.URL.Path, r.Out.URL.RawPath = to.Path, to.RawPath
			}
			// Out lacks parameters that net/url cannot parse, such as code=a;b.
			r.Out.URL.RawQuery = strings.Trim(to.RawQuery+"&"+r.In.URL.RawQuery, "&")
		},
		ModifyResponse: readBody,
		ErrorHandler: func(w http.ResponseWriter, r *http.Request, err error) {
			status, text := http.StatusBadGateway, "the event handler cannot be reached"
			switch cause := context.Cause(r.Context()); {
			case errors.Is(cause, errTimeout):
				err, status, text = cause, http.StatusGatewayTimeout, cause.Error()
			case cause != nil:
				err = fmt.Errorf("the tunnel's connection has ended: %w", cause)
			}
			w.(*statusRecorder).err = err
			l.log.Error("the event handler at --to did not respond", slog.String("event", eventName(r)), slog.String("error", errorLine(err)))
			http.Error(w, text, status)
		},
	}
}

// readBody reads the body of a response. It returns an error if the response cannot be passed on.
func readBody(response *http.Response) error {
	if response.StatusCode == http.StatusSwitchingProtocols { // its body is the connection, which may stay open forever
		return errors.New("the response is 101 Switching Protocols")
	}
	body, err := io.ReadAll(io.LimitReader(response.Body, tunnelframe.MaxSize+1))
	response.Body.Close()
	if err != nil {
		return fmt.Errorf("the response was cut off: %w", err)
	}
	if len(body) > tunnelframe.MaxSize/2 {
		frame := &tunnelframe.Response{StatusCode: response.StatusCode, Headers: response.Header, Body: body}
		const rest = 1 << 10 // for the members that are unknown here
		if _, err := tunnelframe.Encode(frame, tunnelframe.MaxSize-rest); err != nil {
			return errors.New("the response is larger than 1 MiB")
		}
	}
	response.Body = io.NopCloser(bytes.NewReader(body))
	return nil
}

// errTimeout is the cause of a context that ended because of --timeout.
var errTimeout = errors.New("the event handler did not respond in time")

// ServeHTTP forwards an event.
func (l *listener) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	start := time.Now()
	a := &statusRecorder{ResponseWriter: w}
	ctx, cancel := context.WithTimeoutCause(r.Context(), l.timeout, fmt.Errorf("%w: --timeout is %v", errTimeout, l.timeout))
	defer cancel()
	l.proxy.ServeHTTP(a, r.WithContext(ctx))
	line := listenedEvent{
		Time: start, Event: eventName(r), Hub: r.Header.Get("Ce-Hub"), UserID: r.Header.Get("Ce-Userid"),
		ConnectionID: r.Header.Get("Ce-Connectionid"), Status: a.status,
		Milliseconds: float64(time.Since(start).Microseconds()) / 1000,
	}
	if a.err != nil {
		line.Error = errorLine(a.err)
	}
	if err := l.print(line); err != nil {
		l.fail(err)
	}
}

// statusRecorder is a response writer that remembers the status, or the error if there was no response.
type statusRecorder struct {
	http.ResponseWriter
	status int
	err    error
}

func (a *statusRecorder) WriteHeader(status int) {
	a.status = status // the last call counts: earlier ones were informational
	a.ResponseWriter.WriteHeader(status)
}

// eventName returns the name of the event. The service's validation request has no name; eventName returns "validate"
// for it, as in the URL of an event handler.
func eventName(r *http.Request) string {
	if name := r.Header.Get("Ce-Eventname"); name != "" {
		return name
	}
	if r.Header.Get("WebHook-Request-Origin") != "" {
		return "validate"
	}
	return r.Method + " " + r.URL.Path
}

// listenedEvent is an output line of listen. Its JSON names are part of the program's interface.
type listenedEvent struct {
	Time         time.Time `json:"time"` // when the event arrived
	Event        string    `json:"event"`
	Hub          string    `json:"hub,omitempty"`
	UserID       string    `json:"userId,omitempty"`
	ConnectionID string    `json:"connectionId,omitempty"`
	Status       int       `json:"status"`
	Milliseconds float64   `json:"milliseconds"`
	Error        string    `json:"error,omitempty"`
}

func (l *listener) print(e listenedEvent) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.asJSON {
		return printJSON(l.out, e)
	}
	text := e.Event
	if e.UserID != "" {
		text += ", user " + e.UserID
	}
	_, err := fmt.Fprintf(l.out, "%s %s, %d, %.2f ms\n", e.Time.Format(clock), printable(text), e.Status, e.Milliseconds)
	return err
}
