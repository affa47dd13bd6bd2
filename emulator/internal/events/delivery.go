package events

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/awps-go/webpubsub/emulator/internal/hub"
	"github.com/awps-go/webpubsub/emulator/internal/protocol"
	"github.com/awps-go/webpubsub/emulator/internal/tunnel"
	"github.com/awps-go/webpubsub/internal/redact"
)

// eventRetries are the waits before each retry of an event, on the server's clock. Only failures that may be temporary are
// retried.
var eventRetries = []time.Duration{1 * time.Second, 3 * time.Second, 5 * time.Second}

const (
	// eventTimeout bounds the wait for the response headers, over all attempts and the waits between them, and then the
	// wait for each part of the body. It runs on the machine's clock, not on the server's.
	eventTimeout = 100 * time.Second
	// maxLoggedBody bounds the part of a response body that is logged, in bytes.
	maxLoggedBody = 512
)

// send delivers an event, with retries. accept checks the response, whose status may be an error, and returns an error if the
// response is not acceptable. send logs the error that it returns.
func (u *Sender) send(ctx context.Context, d *delivery, accept func(*answer) error) error {
	err := u.attempts(ctx, d)
	if err == nil {
		if err = d.answer.checkState(); err == nil {
			err = accept(d.answer)
		}
		if err == nil && d.answer.ok() {
			u.log(slog.LevelDebug, "event", d, nil, "")
		} else {
			u.log(slog.LevelInfo, "event failed", d, err, d.consequence(err))
		}
	}
	failure := err
	if err == nil && !d.answer.ok() { // accept has no objection, but the event has failed
		failure = d.answer.rejection()
	}
	u.record(u.newRecord(d, failure))
	u.Service.Observer.Changed()
	return err
}

// attempts sends an event until a response is final, which it keeps in d.answer. It returns an error, already logged, if there
// is no such response.
func (u *Sender) attempts(ctx context.Context, d *delivery) error {
	err := d.fault
	if err == nil {
		err = u.validate(ctx, d.handler, d.origin)
	}
	if err != nil {
		u.log(slog.LevelInfo, "event cannot be sent", d, err, d.consequence(err))
		u.show(d, "not sent")
		return err
	}
	deadline := newDeadline(ctx, u.timeout)
	defer deadline.stop()
	for {
		d.attempts++
		d.answer, err = u.attempt(deadline, d)
		u.show(d, "no response")
		if !isTemporary(d.answer, err) || d.attempts > len(eventRetries) {
			if err != nil {
				u.log(slog.LevelInfo, "event failed", d, err, d.consequence(err))
			}
			return err
		}
		wait := eventRetries[d.attempts-1]
		u.log(slog.LevelInfo, "event failed", d, err, "retry in "+wait.String())
		if !u.Service.StartDelay(wait)(deadline.ctx) {
			err = deadline.err()
			if err == nil {
				err = errClosing
			}
			u.log(slog.LevelInfo, "event failed", d, err, d.consequence(err))
			return err
		}
	}
}

// isTemporary reports whether the service retries a request after this outcome.
func isTemporary(a *answer, err error) bool {
	if err != nil {
		return !isFinal(err)
	}
	return a.status == http.StatusRequestTimeout || a.status >= 500
}

// errGone is returned if the context of an event ends before its response arrives.
var errGone = &finalError{"the client has disconnected, or the server is closing"}

// errClosing is returned if the server closes while an event or a validation waits for a retry.
var errClosing = &finalError{"the server is closing"}

// consequence describes, for the log, the effect of an event that failed with an error.
func (d *delivery) consequence(err error) string {
	_, isMQTT := d.connection.Link.(protocol.MQTTLink)
	rejected, responded := errors.AsType[*hub.Rejection](err)
	switch {
	case d.ceType == systemConnect && isMQTT:
		return "no retry; the client is rejected"
	case d.ceType == systemConnect && responded:
		return "no retry; the client is rejected with status " + strconv.Itoa(rejected.Status)
	case d.ceType == systemConnect:
		return "no retry; the client is rejected with status 500"
	case strings.HasPrefix(d.ceType, "azure.webpubsub.sys."):
		return "no retry; the client is not affected"
	case isMQTT && d.answer != nil && err == nil:
		return "no retry; the client receives the response"
	default:
		return "no retry; the client's event fails, and the client is not told why"
	}
}

// attempt sends one request.
func (u *Sender) attempt(deadline *deadline, d *delivery) (*answer, error) {
	deadline.begin()
	r, err := http.NewRequestWithContext(deadline.ctx, http.MethodPost, d.url.String(), bytes.NewReader(d.body))
	if err != nil {
		return nil, &finalError{errNoURL.Error()}
	}
	r.Header = d.fields.Clone()
	for _, cookie := range d.cookies.Cookies(d.url) {
		r.AddCookie(cookie)
	}
	a, err := u.do(d.handler, r, deadline)
	if err == nil && a.ok() {
		d.cookies.SetCookies(d.url, (&http.Response{Header: a.header}).Cookies())
	}
	return a, err
}

// do sends a request and reads the response. Its errors omit the URL, because the query may hold a secret.
func (u *Sender) do(h *handler, r *http.Request, deadline *deadline) (*answer, error) {
	r.Header["User-Agent"] = nil // omit net/http's default
	resp, err := h.client.Do(r)
	if err != nil {
		if ended := deadline.err(); ended != nil {
			return nil, ended
		}
		if errors.Is(err, errNoResponse) {
			return nil, errNoResponse
		}
		if final, ok := errors.AsType[*tunnel.FinalError](err); ok {
			return nil, &finalError{final.Reason}
		}
		if urlError, ok := errors.AsType[*url.Error](err); ok {
			err = urlError.Err
		}
		return nil, fmt.Errorf("the event handler cannot be reached: %w", err)
	}
	defer resp.Body.Close()
	if resp.StatusCode < http.StatusOK {
		return nil, &finalError{fmt.Sprintf("the event handler responded with status %d, which is not a final status", resp.StatusCode)}
	}
	body, err := io.ReadAll(io.LimitReader(progress{resp.Body, deadline}, maxAnswer+1))
	switch {
	case len(body) > maxAnswer:
		return nil, &finalError{fmt.Sprintf("the event handler's response is longer than %d bytes", maxAnswer)}
	case err != nil && deadline.err() != nil:
		return nil, deadline.err()
	case err != nil:
		return nil, errors.New("the event handler's response was cut short")
	}
	return &answer{resp.StatusCode, resp.Header, body}, nil
}

// deadline bounds the wait for a response. Its context ends when the time is up.
type deadline struct {
	ctx    context.Context
	cancel context.CancelCauseFunc
	limit  time.Duration
	end    time.Time // when the wait for the headers ends
	timer  *time.Timer
}

func newDeadline(ctx context.Context, limit time.Duration) *deadline {
	d := &deadline{limit: limit, end: time.Now().Add(limit)}
	d.ctx, d.cancel = context.WithCancelCause(ctx)
	d.timer = time.AfterFunc(limit, func() {
		d.cancel(&finalError{"the event handler did not respond within " + limit.String()})
	})
	return d
}

// begin restarts the timer for a new attempt, which has the time that is left until end.
func (d *deadline) begin() { d.timer.Reset(time.Until(d.end)) }

// progressed restarts the timer with the whole limit. It is called before each read of a response body.
func (d *deadline) progressed() { d.timer.Reset(d.limit) }

func (d *deadline) stop() {
	d.timer.Stop()
	d.cancel(nil)
}

// err returns the reason why the wait has ended, or nil if it has not.
func (d *deadline) err() error {
	cause := context.Cause(d.ctx)
	switch {
	case cause == nil || isFinal(cause):
		return cause
	default:
		return errGone
	}
}

// progress reads the body of a response and extends its deadline with each read.
type progress struct {
	io.Reader
	deadline *deadline
}

func (p progress) Read(b []byte) (int, error) {
	p.deadline.progressed()
	return p.Reader.Read(b)
}

// finalError is an error that a retry would not fix.
type finalError struct{ reason string }

func (e *finalError) Error() string { return e.reason }

func isFinal(err error) bool {
	_, final := errors.AsType[*finalError](err)
	return final
}

// log logs the outcome of a delivery or an attempt, and what happens next.
func (u *Sender) log(level slog.Level, message string, d *delivery, err error, next string) {
	if !u.Service.Log.Enabled(context.Background(), level) {
		return
	}
	attrs := []slog.Attr{slog.String("event", d.name), slog.String("hub", d.connection.Hub.Name),
		slog.String("connectionId", d.connection.ID), slog.String("id", d.id)}
	if d.attempts > 0 {
		attrs = append(attrs, slog.Int("attempt", d.attempts))
	}
	if d.answer != nil {
		attrs = append(attrs, slog.Int("status", d.answer.status))
		if !d.answer.ok() && len(d.answer.body) > 0 {
			attrs = append(attrs, slog.String("answer", redact.Line(redact.Excerpt(d.answer.body, maxLoggedBody, u.secrets()...), maxLoggedBody)))
		}
	}
	if _, rejected := errors.AsType[*hub.Rejection](err); err != nil && !rejected {
		attrs = append(attrs, slog.String("error", redact.Text(err.Error(), u.secrets()...)))
	}
	if next != "" {
		attrs = append(attrs, slog.String("next", next))
	}
	u.Service.Log.LogAttrs(context.Background(), level, message, attrs...)
}

func (u *Sender) secrets() []string {
	keys := u.Keys()
	return keys[:]
}

// show reports an attempt to the traffic observers. outcome is shown if there is no response.
func (u *Sender) show(d *delivery, outcome string) {
	if !u.Service.Observer.Watched() {
		return
	}
	t := hub.TrafficEvent{Kind: "event", Hub: d.connection.Hub.Name, ConnectionID: d.connection.ID, UserID: d.connection.UserID}
	if d.answer != nil {
		t.Status, outcome = d.answer.status, strconv.Itoa(d.answer.status)
	}
	t.Text = "event " + d.name + ": " + outcome
	if strings.HasPrefix(d.contentType, "text/") || d.contentType == protocol.ContentTypes[hub.DataJSON] {
		p := hub.Payload{Type: hub.DataText, Data: d.body}
		t.Data = p.Excerpt()
	}
	u.Service.Observer.Traffic(t)
}
