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

// eventRetries is how long the service waits before it sends an event again that has failed for no fault of its own, on the
// server's clock.
var eventRetries = []time.Duration{1 * time.Second, 3 * time.Second, 5 * time.Second}

const (
	// eventTimeout is how long a handler may take for the headers of an answer, over all attempts and the time between
	// them, and then for each part of its body. It is time on the machine's clock, not on the server's.
	eventTimeout = 100 * time.Second
	// maxSaid is how much of an answer is logged, in bytes.
	maxSaid = 512
)

// send delivers an event, again where that may help. accept says what is wrong with the answer, if anything is; the
// answer may be unsuccessful. An error has been logged.
func (u *Sender) send(ctx context.Context, d *delivery, accept func(*answer) error) error {
	err := u.attempts(ctx, d)
	if err == nil {
		if err = d.answer.checkState(); err == nil {
			err = accept(d.answer)
		}
		if err == nil && d.answer.ok() {
			u.log(slog.LevelDebug, "event", d, nil, "")
		} else {
			u.log(slog.LevelInfo, "an event failed", d, err, d.consequence())
		}
	}
	u.remember(u.newRecord(d, err))
	u.Service.Observer.Changed()
	return err
}

// attempts sends an event until there is an answer to keep. An error, which has been logged, means that there is none.
func (u *Sender) attempts(ctx context.Context, d *delivery) error {
	err := d.fault
	if err == nil {
		err = u.validate(ctx, d.handler, d.origin)
	}
	if err != nil {
		u.log(slog.LevelInfo, "an event cannot be sent", d, err, d.consequence())
		u.show(d, "not sent")
		return err
	}
	deadline := newDeadline(ctx, u.timeout)
	defer deadline.stop()
	for {
		d.attempts++
		d.answer, err = u.attempt(deadline, d)
		u.show(d, "no answer")
		again := err == nil && d.answer.retried() || err != nil && !isFinal(err)
		if !again || d.attempts > len(eventRetries) {
			if err != nil {
				u.log(slog.LevelInfo, "an event failed", d, err, d.consequence())
			}
			return err
		}
		wait := eventRetries[d.attempts-1]
		u.log(slog.LevelInfo, "an event failed", d, err, "it is sent again in "+wait.String())
		if !u.sleep(deadline.ctx, wait) {
			return u.gone(deadline)
		}
	}
}

// gone returns why an event is not sent again.
func (u *Sender) gone(deadline *deadline) error {
	if err := deadline.err(); err != nil {
		return err
	}
	return &finalError{"the server is closing"}
}

// consequence is what comes of an event that has failed, in the words of the log.
func (d *delivery) consequence() string {
	switch {
	case d.ceType == systemConnect && d.answer != nil && !d.answer.ok():
		return "it is not sent again; the client is refused with status " + strconv.Itoa(d.answer.status)
	case d.ceType == systemConnect:
		return "it is not sent again; the client is refused with status 500"
	case strings.HasPrefix(d.ceType, "azure.webpubsub.sys."):
		return "it is not sent again; the client is not affected"
	default:
		return "it is not sent again; the client's event fails, and the client is not told why"
	}
}

// attempt makes one request.
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

// do makes a request and reads the answer. Its errors leave the URL out, whose query may hold a secret.
func (u *Sender) do(h *handler, r *http.Request, deadline *deadline) (*answer, error) {
	r.Header["User-Agent"] = nil // rather than net/http's own
	resp, err := h.client.Do(r)
	if err != nil {
		if ended := deadline.err(); ended != nil {
			return nil, ended
		}
		if errors.Is(err, errBrokeOff) {
			return nil, errBrokeOff
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
		return nil, &finalError{fmt.Sprintf("the event handler answered with the status %d, which ends no request", resp.StatusCode)}
	}
	body, err := io.ReadAll(io.LimitReader(progress{resp.Body, deadline}, maxAnswer+1))
	switch {
	case len(body) > maxAnswer:
		return nil, &finalError{fmt.Sprintf("the answer of the event handler is longer than %d bytes", maxAnswer)}
	case err != nil && deadline.err() != nil:
		return nil, deadline.err()
	case err != nil:
		return nil, errors.New("the answer of the event handler broke off")
	}
	return &answer{resp.StatusCode, resp.Header, body}, nil
}

// deadline is when the wait for an answer ends.
type deadline struct {
	ctx    context.Context
	cancel context.CancelCauseFunc
	limit  time.Duration
	end    time.Time // of the wait for headers
	timer  *time.Timer
}

func newDeadline(ctx context.Context, limit time.Duration) *deadline {
	d := &deadline{limit: limit, end: time.Now().Add(limit)}
	d.ctx, d.cancel = context.WithCancelCause(ctx)
	d.timer = time.AfterFunc(limit, func() {
		d.cancel(&finalError{"the event handler did not answer within " + limit.String()})
	})
	return d
}

// begin says that an attempt begins.
func (d *deadline) begin() { d.timer.Reset(time.Until(d.end)) }

// progressed says that a part of an answer has come.
func (d *deadline) progressed() { d.timer.Reset(d.limit) }

func (d *deadline) stop() {
	d.timer.Stop()
	d.cancel(nil)
}

// err returns why the wait has ended, nil if it has not.
func (d *deadline) err() error {
	cause := context.Cause(d.ctx)
	switch {
	case cause == nil || isFinal(cause):
		return cause
	default:
		return &finalError{"the client has gone, or the server is closing"}
	}
}

// progress is the body of an answer.
type progress struct {
	io.Reader
	deadline *deadline
}

func (p progress) Read(b []byte) (int, error) {
	p.deadline.progressed()
	return p.Reader.Read(b)
}

// finalError is one that sending the event again would not help against.
type finalError struct{ reason string }

func (e *finalError) Error() string { return e.reason }

func isFinal(err error) bool {
	_, final := errors.AsType[*finalError](err)
	return final
}

// sleep waits until d has passed on the clock. It reports false at once when ctx ends or the server closes.
func (u *Sender) sleep(ctx context.Context, d time.Duration) bool { return u.alarm(d)(ctx) }

// alarm sets the clock for a wait that begins now. The caller calls wait, which is sleep for what is left.
func (u *Sender) alarm(d time.Duration) (wait func(context.Context) bool) {
	passed := make(chan struct{})
	t := u.Service.Clock.AfterFunc(d, func() { close(passed) })
	return func(ctx context.Context) bool {
		defer t.Stop()
		select {
		case <-passed:
			return true
		case <-ctx.Done():
		case <-u.Service.Life.Closing():
		}
		return false
	}
}

// log logs what became of a delivery, and what comes next.
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
			attrs = append(attrs, slog.String("answer", redact.Line(redact.Excerpt(d.answer.body, maxSaid, u.secrets()...), maxSaid)))
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

// show shows those who watch an attempt.
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
