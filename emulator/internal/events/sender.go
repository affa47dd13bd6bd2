// Package events tells the application what happens, by posting CloudEvents to the event handlers of the hubs' settings, over
// the network or in process: it is the kernel's Application. It knows HTTP and the kernel's events, and nothing of how
// clients are connected.
package events

import (
	"bytes"
	"cmp"
	"context"
	"crypto/hmac"
	"crypto/sha1"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/awps-go/webpubsub/emulator/internal/hub"
	"github.com/awps-go/webpubsub/emulator/internal/protocol"
	"github.com/awps-go/webpubsub/emulator/internal/text"
)

// eventRetries is how long the service waits before it sends an event again that has failed for no fault of its own.
var eventRetries = []time.Duration{1 * time.Second, 3 * time.Second, 5 * time.Second}

const (
	// eventTimeout is how long a handler may take for an answer. It is time on the machine's clock, not on the
	// server's.
	eventTimeout = 30 * time.Second
	// maxEventAnswer bounds the body of an answer, in bytes.
	maxEventAnswer = hub.MaxMessageSize
	// maxReason bounds the text of a refusal, in bytes.
	maxReason = 512
)

// Sender is a [hub.Application] that tells event handlers.
type Sender struct {
	hubHandlers
	service *hub.Service
	origin  string    // the server's host and port
	keys    [2]string // sign events
	client  *http.Client
}

// NewSender makes a Sender without handlers. keys are the access keys, origin is the server's host and port.
func NewSender(service *hub.Service, origin string, keys [2]string) *Sender {
	transport := &http.Transport{Proxy: http.ProxyFromEnvironment}
	if ours, ok := http.DefaultTransport.(*http.Transport); ok { // tests may have put something else there
		transport = ours.Clone()
	}
	transport.MaxIdleConnsPerHost = 256 // one for each of many connections whose events are on their way at once
	return &Sender{
		hubHandlers: hubHandlers{hubs: make(map[string][]*handler)},
		service:     service,
		origin:      origin,
		keys:        keys,
		client:      newEventClient(transport),
	}
}

// CloseIdleConnections closes the connections to handlers on the network.
func (u *Sender) CloseIdleConnections() { u.client.CloseIdleConnections() }

func newEventClient(transport http.RoundTripper) *http.Client {
	return &http.Client{
		Transport:     transport,
		Timeout:       eventTimeout,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

// event is one event on its way to a handler.
type event struct {
	name        string // as in ce-eventName
	ceType      string
	contentType string
	body        []byte
	metadata    map[string]string
}

func systemEvent(name string, body any) *event {
	return &event{name: name, ceType: "azure.webpubsub.sys." + name, contentType: "application/json", body: text.JSON(body)}
}

// connectBody is the body of a connect event.
type connectBody struct {
	Claims             map[string][]string   `json:"claims"`
	Query              map[string][]string   `json:"query"`
	Headers            map[string][]string   `json:"headers"`
	Subprotocols       []string              `json:"subprotocols"`
	ClientCertificates []connectCertificate  `json:"clientCertificates"`
	MQTT               *protocol.MQTTConnect `json:"mqtt,omitempty"`
}

type connectCertificate struct {
	Thumbprint string `json:"thumbprint"`
	Content    string `json:"content"`
}

func newConnectBody(r *hub.ConnectRequest) *connectBody {
	b := &connectBody{Claims: r.Claims, Query: r.Query, Headers: r.Header,
		Subprotocols: append([]string{}, r.Subprotocols...), ClientCertificates: []connectCertificate{}} // never null
	b.MQTT, _ = r.Detail.(*protocol.MQTTConnect)
	for _, c := range r.Certificates {
		sum := sha1.Sum(c)
		b.ClientCertificates = append(b.ClientCertificates, connectCertificate{
			Thumbprint: strings.ToUpper(hex.EncodeToString(sum[:])),
			Content:    string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c})),
		})
	}
	return b
}

// Connect asks whether a client may connect, before its handshake is answered. c is not in its hub yet: its id, hub and
// user are those of the token. A *hub.Rejection is passed on to the client; any other error is a 500. An MQTT client's
// handshake has been answered by then: it is its CONNECT packet that is, by a code of MQTT.
func (u *Sender) Connect(ctx context.Context, c *hub.Connection, r *hub.ConnectRequest) (hub.ConnectReply, error) {
	id := c.NextEventID() // also when nobody hears of it
	h := u.find(c.Hub.Name, takesSystem(eventConnect))
	if h == nil {
		return hub.ConnectReply{}, nil
	}
	a, err := u.send(ctx, h, c, id, systemEvent(eventConnect, newConnectBody(r)))
	if err != nil {
		return hub.ConnectReply{}, err
	}
	switch {
	case a.status >= 400:
		var refused struct {
			MQTT *protocol.MQTTConnack `json:"mqtt"`
		}
		if r.Detail != nil && json.Unmarshal(a.body, &refused) == nil && refused.MQTT != nil {
			a.body = []byte(refused.MQTT.Reason) // the text of an answer for MQTT
			return hub.ConnectReply{Detail: refused.MQTT}, &hub.Rejection{Status: a.status, Reason: a.reason()}
		}
		return hub.ConnectReply{}, &hub.Rejection{Status: a.status, Reason: a.reason()}
	case a.status/100 != 2:
		return hub.ConnectReply{}, fmt.Errorf("the event handler answered with %d", a.status)
	}
	var reply struct { // what is absent or null stays as the token says
		UserID      *string   `json:"userId"`
		Groups      []*string `json:"groups"`
		Roles       []*string `json:"roles"`
		Subprotocol string    `json:"subprotocol"`

		MQTT *protocol.MQTTConnack `json:"mqtt"`
	}
	if len(bytes.TrimSpace(a.body)) > 0 {
		if err := json.Unmarshal(a.body, &reply); err != nil {
			return hub.ConnectReply{}, fmt.Errorf("the answer to connect is not its JSON: %s", text.JSONFault(err))
		}
	}
	if reply.Subprotocol != "" && !slices.Contains(r.Subprotocols, reply.Subprotocol) {
		return hub.ConnectReply{}, fmt.Errorf("the answer to connect picks the subprotocol %.80q, which the client does not offer",
			reply.Subprotocol)
	}
	if reply.UserID != nil && *reply.UserID != "" {
		if fault := protocol.CheckUser(*reply.UserID); fault != "" {
			return hub.ConnectReply{}, fmt.Errorf("the answer to connect: %s", fault)
		}
	}
	groups, fault := named("groups", reply.Groups)
	for _, group := range groups {
		fault = cmp.Or(fault, protocol.CheckGroup(group))
	}
	roles, roleFault := named("roles", reply.Roles)
	if fault = cmp.Or(fault, roleFault); fault != "" {
		return hub.ConnectReply{}, fmt.Errorf("the answer to connect: %s", fault)
	}
	keepState(c, a)
	return hub.ConnectReply{UserID: reply.UserID, Groups: groups, Roles: roles, Subprotocol: reply.Subprotocol,
		Detail: reply.MQTT}, nil
}

// named returns the strings of a list, nil if there is no list; the text is what is wrong with it.
func named(what string, list []*string) ([]string, string) {
	if list == nil {
		return nil, ""
	}
	all := make([]string, len(list))
	for i, s := range list {
		if s == nil {
			return nil, what + " has a null"
		}
		all[i] = *s
	}
	return all, ""
}

// Connected tells that a client is connected.
func (u *Sender) Connected(ctx context.Context, c *hub.Connection) {
	u.notify(ctx, c, systemEvent(eventConnected, struct{}{}))
}

// Disconnected reports that a client is gone for good.
func (u *Sender) Disconnected(ctx context.Context, c *hub.Connection, reason string) {
	body := struct {
		Reason string                   `json:"reason"`
		MQTT   *protocol.MQTTDisconnect `json:"mqtt,omitempty"`
	}{Reason: reason}
	if client, ok := c.Link.(protocol.MQTTLink); ok {
		body.MQTT = client.Disconnection()
	}
	u.notify(ctx, c, systemEvent(eventDisconnected, body))
}

// notify sends an event whose answer means nothing.
func (u *Sender) notify(ctx context.Context, c *hub.Connection, e *event) {
	if h := u.find(c.Hub.Name, takesSystem(e.name)); h != nil {
		_, _ = u.send(ctx, h, c, c.NextEventID(), e) // send has logged what went wrong
	}
}

// UserEvent tells the application what a client sent. A reply that is not nil goes to the client as a message from the server. An error,
// such as hub.ErrNoHandler, fails the event.
func (u *Sender) UserEvent(ctx context.Context, c *hub.Connection, e *hub.UserEvent) (*hub.Payload, error) {
	h := u.find(c.Hub.Name, takesUser(e.Name))
	if h == nil {
		return nil, hub.ErrNoHandler
	}
	a, err := u.send(ctx, h, c, c.NextEventID(), &event{name: e.Name, ceType: "azure.webpubsub.user." + e.Name,
		contentType: protocol.ContentTypes[e.Type], body: e.Data, metadata: e.Metadata})
	if err != nil {
		return nil, err
	}
	if a.status/100 != 2 {
		return nil, &hub.Rejection{Status: a.status, Reason: a.reason()}
	}
	reply, err := a.payload()
	if err != nil {
		return nil, err
	}
	keepState(c, a)
	return reply, nil
}

// keepState keeps the state that the answer to a blocking event sets, if it does.
func keepState(c *hub.Connection, a *eventAnswer) {
	if values := a.header.Values("ce-connectionState"); len(values) > 0 {
		c.SetState(values[0])
	}
}

// eventAnswer is what a handler has answered.
type eventAnswer struct {
	status int
	header http.Header
	body   []byte
}

// reason is the text of a refusal.
func (a *eventAnswer) reason() string {
	if words := strings.TrimSpace(text.Shorten(string(a.body), maxReason)); words != "" && utf8.ValidString(words) {
		return words
	}
	return "the event handler answered " + strconv.Itoa(a.status)
}

// payload is the message for the client that sent the event, nil if there is no message.
func (a *eventAnswer) payload() (*hub.Payload, error) {
	if len(a.body) == 0 {
		return nil, nil
	}
	contentType := a.header.Get("Content-Type")
	t, ok := protocol.ParseContentType(contentType)
	if !ok {
		return nil, fmt.Errorf("the answer of the event handler has the content type %.80q, which no message has", contentType)
	}
	p := &hub.Payload{Type: t, Data: a.body}
	if what := protocol.Unfit(p); what != "" {
		return nil, fmt.Errorf("the answer of the event handler is not valid %s", what)
	}
	for name, values := range a.header {
		if key, ok := protocol.CutMetadataHeader(name); ok {
			if p.Metadata == nil {
				p.Metadata = make(map[string]string)
			}
			p.Metadata[strings.ToLower(key)] = strings.Join(values, ",")
		}
	}
	if fault := protocol.CheckMetadata(p.Metadata); fault != "" {
		return nil, fmt.Errorf("the answer of the event handler: %s", fault)
	}
	return p, nil
}

// send sends an event, again where that may help, and returns the answer. An error, which is also in the log, means
// that there is no answer; it is about the handler, and fit for the client's eyes.
func (u *Sender) send(ctx context.Context, h *handler, c *hub.Connection, id int, e *event) (*eventAnswer, error) {
	now := u.service.Clock.Now()
	for try := 0; ; try++ {
		a, err := u.try(ctx, h, c, id, now, e)
		u.record(c, e, a, err)
		again := err != nil || a.status == http.StatusRequestTimeout || a.status >= 500
		_, final := errors.AsType[*finalError](err)
		if !again || final || try == len(eventRetries) || !u.sleep(ctx, eventRetries[try]) {
			return a, err
		}
	}
}

// sleep waits until d has passed on the clock. It reports false at once when ctx ends or the server closes.
func (u *Sender) sleep(ctx context.Context, d time.Duration) bool {
	passed := make(chan struct{})
	t := u.service.Clock.AfterFunc(d, func() { close(passed) })
	defer t.Stop()
	select {
	case <-passed:
		return true
	case <-ctx.Done():
	case <-u.service.Life.Closing():
	}
	return false
}

// record tells the log and the live view of an attempt.
func (u *Sender) record(c *hub.Connection, e *event, a *eventAnswer, err error) {
	outcome := "no answer"
	status := 0
	if a != nil {
		outcome, status = strconv.Itoa(a.status), a.status
	}
	switch {
	case err != nil:
		u.service.Log.Info("event failed", "event", e.name, "hub", c.Hub.Name, "connectionId", c.ID, "error", err)
	case status/100 != 2:
		u.service.Log.Info("event refused", "event", e.name, "hub", c.Hub.Name, "connectionId", c.ID, "status", status)
	default:
		u.service.Log.Debug("event", "event", e.name, "hub", c.Hub.Name, "connectionId", c.ID, "status", status)
	}
	if u.service.Observer.Watched() {
		t := hub.TrafficEvent{Kind: "event", Hub: c.Hub.Name, ConnectionID: c.ID, UserID: c.UserID,
			Text: "event " + e.name + ": " + outcome, Status: status}
		if strings.HasPrefix(e.contentType, "text/") || e.contentType == protocol.ContentTypes[hub.DataJSON] && e.name != eventConnect {
			p := hub.Payload{Type: hub.DataText, Data: e.body}
			t.Data = p.Excerpt()
		}
		u.service.Observer.Traffic(t)
	}
}

// try makes one attempt.
func (u *Sender) try(ctx context.Context, h *handler, c *hub.Connection, id int, at time.Time, e *event) (*eventAnswer, error) {
	if err := u.validate(ctx, h); err != nil {
		return nil, err
	}
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, h.url(e.name), bytes.NewReader(e.body))
	if err != nil {
		return nil, errors.New("the URL template of the event handler makes no URL")
	}
	headers := []struct{ name, value string }{
		{"Content-Type", e.contentType},
		{"WebHook-Request-Origin", u.origin},
		{"ce-specversion", "1.0"},
		{"ce-awpsversion", "1.0"},
		{"ce-type", e.ceType},
		{"ce-source", "/hubs/" + c.Hub.Name + "/client/" + c.ID},
		{"ce-id", strconv.Itoa(id)},
		{"ce-time", at.UTC().Format("2006-01-02T15:04:05.000Z")},
		{"ce-hub", c.Hub.Name},
		{"ce-connectionId", c.ID},
		{"ce-eventName", e.name},
		{"ce-userId", c.UserID},
		{"ce-subprotocol", c.Subprotocol},
		{"ce-connectionState", c.State()},
		{"ce-signature", u.signature(c.ID)},
	}
	if client, ok := c.Link.(protocol.MQTTLink); ok {
		physicalID, sessionID := client.Identity()
		r.Header.Set("ce-physicalConnectionId", physicalID)
		r.Header.Set("ce-sessionId", sessionID)
	}
	for _, header := range headers {
		if header.value != "" {
			r.Header.Set(header.name, protocol.HeaderValue(header.value))
		}
	}
	for key, value := range e.metadata {
		r.Header["X-WebPubSub-Metadata-"+key] = []string{protocol.HeaderValue(value)} // as it is: the key's case is the client's
	}
	return u.do(h, r)
}

// do makes a request and reads the answer. Its errors leave the URL out, whose query may hold a secret.
func (u *Sender) do(h *handler, r *http.Request) (*eventAnswer, error) {
	resp, err := h.client.Do(r)
	if errors.Is(err, errBrokeOff) {
		return nil, errBrokeOff
	}
	if urlError, ok := errors.AsType[*url.Error](err); ok {
		return nil, fmt.Errorf("the event handler cannot be reached: %w", urlError.Err)
	}
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxEventAnswer+1))
	switch {
	case err != nil:
		return nil, errors.New("the answer of the event handler broke off")
	case len(body) > maxEventAnswer:
		return nil, &finalError{fmt.Sprintf("the answer of the event handler is longer than %d bytes", maxEventAnswer)}
	}
	return &eventAnswer{resp.StatusCode, resp.Header, body}, nil
}

// finalError is one that sending the event again would not help against.
type finalError struct{ reason string }

func (e *finalError) Error() string { return e.reason }

// validate asks a handler, before it is sent its first event, whether it accepts requests of this server: CloudEvents'
// abuse protection.
func (u *Sender) validate(ctx context.Context, h *handler) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.validated {
		return nil
	}
	var a *eventAnswer
	for _, method := range []string{http.MethodOptions, http.MethodGet} {
		r, err := http.NewRequestWithContext(ctx, method, h.url(eventValidate), nil)
		if err != nil {
			return &finalError{"the URL template of the event handler makes no URL"}
		}
		r.Header.Set("WebHook-Request-Origin", u.origin)
		r.Header.Set("ce-awpsversion", "1.0") // the JavaScript middleware looks at nothing without it
		if a, err = u.do(h, r); err != nil {
			return err
		}
		if a.status != http.StatusNotFound {
			break
		}
	}
	switch {
	case a.status == http.StatusRequestTimeout || a.status >= 500:
		return fmt.Errorf("the event handler answered the validation with %d", a.status)
	case a.status/100 != 2:
		return &finalError{fmt.Sprintf("the event handler refused the validation with %d", a.status)}
	case !u.allowed(a.header.Values("WebHook-Allowed-Origin")):
		return &finalError{"the event handler does not allow the origin " + u.origin}
	}
	h.validated = true
	return nil
}

// allowed reports whether the origins that a handler allows, each value a list, are ours.
func (u *Sender) allowed(values []string) bool {
	hostname, _, _ := net.SplitHostPort(u.origin)
	for _, value := range values {
		for origin := range strings.SplitSeq(value, ",") {
			origin = strings.TrimSpace(origin)
			if origin == "*" || strings.EqualFold(origin, u.origin) || strings.EqualFold(origin, hostname) {
				return true
			}
		}
	}
	return false
}

// signature signs a connection's id with both access keys.
func (u *Sender) signature(connectionID string) string {
	var signatures []string
	for _, key := range u.keys {
		mac := hmac.New(sha256.New, []byte(key))
		mac.Write([]byte(connectionID))
		signatures = append(signatures, "sha256="+hex.EncodeToString(mac.Sum(nil)))
	}
	return strings.Join(signatures, ",")
}
