package emulator

import (
	"bytes"
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
)

// eventRetries is how long the service waits before it sends an event again that has failed for no fault of its own.
var eventRetries = []time.Duration{1 * time.Second, 3 * time.Second, 5 * time.Second}

const (
	// eventTimeout is how long a handler may take for an answer. It is time on the machine's clock, not on the
	// server's.
	eventTimeout = 30 * time.Second
	// maxEventAnswer bounds the body of an answer, in bytes.
	maxEventAnswer = maxMessageSize
)

// httpUpstream tells the application what happens, by posting events to the event handlers of the hubs' settings.
//
// For one connection the calls come one at a time and in order: connect, connected, its user events, disconnected. They
// are never made under a lock of the emulator's, and their ctx ends a while after the server has begun to close.
type httpUpstream struct {
	hubEventHandlers
	server *Server
	client *http.Client // for handlers on the network
}

func newHTTPUpstream(s *Server) *httpUpstream {
	transport := &http.Transport{Proxy: http.ProxyFromEnvironment}
	if ours, ok := http.DefaultTransport.(*http.Transport); ok { // tests may have put something else there
		transport = ours.Clone()
	}
	transport.MaxIdleConnsPerHost = 256 // one for each of many connections whose events are on their way at once
	return &httpUpstream{
		hubEventHandlers: hubEventHandlers{hubs: make(map[string][]*eventHandler)},
		server:           s,
		client:           newEventClient(transport),
	}
}

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
	return &event{name: name, ceType: "azure.webpubsub.sys." + name, contentType: "application/json", body: marshalJSON(body)}
}

// connectBody is the body of a connect event.
type connectBody struct {
	Claims             map[string][]string  `json:"claims"`
	Query              map[string][]string  `json:"query"`
	Headers            map[string][]string  `json:"headers"`
	Subprotocols       []string             `json:"subprotocols"`
	ClientCertificates []connectCertificate `json:"clientCertificates"`
	MQTT               *mqttConnect         `json:"mqtt,omitempty"`
}

type connectCertificate struct {
	Thumbprint string `json:"thumbprint"`
	Content    string `json:"content"`
}

func newConnectBody(r *connectRequest) *connectBody {
	b := &connectBody{Claims: r.claims, Query: r.query, Headers: r.header.Clone(),
		Subprotocols: append([]string{}, r.subprotocols...), ClientCertificates: []connectCertificate{}, // never null
		MQTT: r.mqtt}
	delete(b.Headers, "Authorization") // it holds the access token, which is the server's own business
	for _, c := range r.certificates {
		sum := sha1.Sum(c.Raw)
		b.ClientCertificates = append(b.ClientCertificates, connectCertificate{
			Thumbprint: strings.ToUpper(hex.EncodeToString(sum[:])),
			Content:    string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Raw})),
		})
	}
	return b
}

// connect asks whether a client may connect, before its handshake is answered. c is not in its hub yet: its id, hub and
// user are those of the token. A *rejection is passed on to the client; any other error is a 500. An MQTT client's
// handshake has been answered by then: it is its CONNECT packet that is, by a code of MQTT.
func (u *httpUpstream) connect(ctx context.Context, c *connection, r *connectRequest) (connectReply, error) {
	c.events.sent = 1 // connect is the event 0, also when nobody hears of it
	h := u.find(c.hub.name, takesSystem(eventConnect))
	if h == nil {
		return connectReply{}, nil
	}
	a, err := u.send(ctx, h, c, 0, systemEvent(eventConnect, newConnectBody(r)))
	if err != nil {
		return connectReply{}, err
	}
	switch {
	case a.status >= 400:
		var refused struct {
			MQTT *mqttConnack `json:"mqtt"`
		}
		if r.mqtt != nil && json.Unmarshal(a.body, &refused) == nil && refused.MQTT != nil {
			a.body = []byte(refused.MQTT.Reason) // the text of an answer for MQTT
			return connectReply{mqtt: refused.MQTT}, &rejection{a.status, a.reason()}
		}
		return connectReply{}, &rejection{a.status, a.reason()}
	case a.status/100 != 2:
		return connectReply{}, fmt.Errorf("the event handler answered with %d", a.status)
	}
	var reply struct {
		UserID      string   `json:"userId"`
		Groups      []string `json:"groups"`
		Roles       []string `json:"roles"`
		Subprotocol string   `json:"subprotocol"`

		MQTT *mqttConnack `json:"mqtt"`
	}
	if len(bytes.TrimSpace(a.body)) > 0 {
		if err := json.Unmarshal(a.body, &reply); err != nil {
			return connectReply{}, fmt.Errorf("the answer to connect is not its JSON: %s", jsonFault(err))
		}
	}
	if reply.Subprotocol != "" && !slices.Contains(r.subprotocols, reply.Subprotocol) {
		return connectReply{}, fmt.Errorf("the answer to connect picks the subprotocol %.80q, which the client does not offer",
			reply.Subprotocol)
	}
	if _, err := newPermissions(reply.Roles); err != nil {
		return connectReply{}, fmt.Errorf("the answer to connect: %w", err)
	}
	for _, group := range reply.Groups {
		if fault := checkGroup(group); fault != "" {
			return connectReply{}, fmt.Errorf("the answer to connect: %s", fault)
		}
	}
	c.events.setState(a)
	return connectReply{userID: reply.UserID, groups: reply.Groups, roles: reply.Roles, subprotocol: reply.Subprotocol,
		mqtt: reply.MQTT}, nil
}

// connected tells that a client is connected.
func (u *httpUpstream) connected(ctx context.Context, c *connection) {
	u.notify(ctx, c, systemEvent(eventConnected, struct{}{}))
}

// disconnected tells that a client is gone for good.
func (u *httpUpstream) disconnected(ctx context.Context, c *connection, reason string) {
	body := struct {
		Reason string          `json:"reason"`
		MQTT   *mqttDisconnect `json:"mqtt,omitempty"`
	}{Reason: reason}
	if c.mqtt != nil {
		body.MQTT = c.mqtt.disconnection()
	}
	u.notify(ctx, c, systemEvent(eventDisconnected, body))
}

// notify sends an event whose answer means nothing.
func (u *httpUpstream) notify(ctx context.Context, c *connection, e *event) {
	if h := u.find(c.hub.name, takesSystem(e.name)); h != nil {
		_, _ = u.send(ctx, h, c, c.events.next(), e) // send has logged what went wrong
	}
}

// userEvent tells what a client said. A reply that is not nil goes to the client as a message from the server. An error,
// such as errNoHandler, fails the event.
func (u *httpUpstream) userEvent(ctx context.Context, c *connection, e *userEvent) (*payload, error) {
	h := u.find(c.hub.name, takesUser(e.name))
	if h == nil {
		return nil, errNoHandler
	}
	a, err := u.send(ctx, h, c, c.events.next(), &event{name: e.name, ceType: "azure.webpubsub.user." + e.name,
		contentType: contentTypes[e.dataType], body: e.data, metadata: e.metadata})
	if err != nil {
		return nil, err
	}
	if a.status/100 != 2 {
		return nil, &rejection{a.status, a.reason()}
	}
	reply, err := a.payload()
	if err != nil {
		return nil, err
	}
	c.events.setState(a)
	return reply, nil
}

// next is the id of the next event of the connection.
func (q *eventQueue) next() int {
	q.sent++
	return q.sent - 1
}

// setState keeps the state that the answer to a blocking event sets, if it does.
func (q *eventQueue) setState(a *eventAnswer) {
	if values := a.header.Values("ce-connectionState"); len(values) > 0 {
		q.state = values[0]
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
	if text := strings.TrimSpace(shorten(string(a.body), maxTrafficData)); text != "" && utf8.ValidString(text) {
		return text
	}
	return "the event handler answered " + strconv.Itoa(a.status)
}

// payload is the message for the client that sent the event, nil if there is none.
func (a *eventAnswer) payload() (*payload, error) {
	if len(a.body) == 0 {
		return nil, nil
	}
	contentType := a.header.Get("Content-Type")
	t, ok := parseContentType(contentType)
	if !ok {
		return nil, fmt.Errorf("the answer of the event handler has the content type %.80q, which no message has", contentType)
	}
	p := &payload{dataType: t, data: a.body}
	if what := p.unfit(); what != "" {
		return nil, fmt.Errorf("the answer of the event handler is not valid %s", what)
	}
	for name, values := range a.header {
		if key, ok := cutMetadataHeader(name); ok {
			if p.metadata == nil {
				p.metadata = make(map[string]string)
			}
			p.metadata[strings.ToLower(key)] = strings.Join(values, ",")
		}
	}
	if fault := checkMetadata(p.metadata); fault != "" {
		return nil, fmt.Errorf("the answer of the event handler: %s", fault)
	}
	return p, nil
}

// send sends an event, again where that may help, and returns the answer. An error, which is also in the log, means
// that there is none; it is about the handler, and fit for the client's eyes.
func (u *httpUpstream) send(ctx context.Context, h *eventHandler, c *connection, id int, e *event) (*eventAnswer, error) {
	now := u.server.clock.now()
	for try := 0; ; try++ {
		a, err := u.try(ctx, h, c, id, now, e)
		u.record(c, e, a, err)
		again := err != nil || a.status == http.StatusRequestTimeout || a.status >= 500
		_, final := errors.AsType[*finalError](err)
		if !again || final || try == len(eventRetries) || !u.server.sleep(ctx, eventRetries[try]) {
			return a, err
		}
	}
}

// sleep waits until d has passed on the clock. It reports false at once when ctx ends or the server closes.
func (s *Server) sleep(ctx context.Context, d time.Duration) bool {
	passed := make(chan struct{})
	t := s.clock.afterFunc(d, func() { close(passed) })
	defer t.stop()
	select {
	case <-passed:
		return true
	case <-ctx.Done():
	case <-s.quit:
	}
	return false
}

// record tells the log and the live view of an attempt.
func (u *httpUpstream) record(c *connection, e *event, a *eventAnswer, err error) {
	outcome := "no answer"
	status := 0
	if a != nil {
		outcome, status = strconv.Itoa(a.status), a.status
	}
	switch {
	case err != nil:
		u.server.log.Info("event failed", "event", e.name, "hub", c.hub.name, "connectionId", c.id, "error", err)
	case status/100 != 2:
		u.server.log.Info("event refused", "event", e.name, "hub", c.hub.name, "connectionId", c.id, "status", status)
	default:
		u.server.log.Debug("event", "event", e.name, "hub", c.hub.name, "connectionId", c.id, "status", status)
	}
	if u.server.traffic.on() {
		t := trafficEvent{Kind: "event", Hub: c.hub.name, ConnectionID: c.id, UserID: c.userID,
			Text: "event " + e.name + ": " + outcome, Status: status}
		if strings.HasPrefix(e.contentType, "text/") || e.contentType == contentTypes[dataJSON] && e.name != eventConnect {
			p := payload{dataType: dataText, data: e.body}
			t.Data = p.excerpt()
		}
		u.server.traffic.publish(t)
	}
}

// try makes one attempt.
func (u *httpUpstream) try(ctx context.Context, h *eventHandler, c *connection, id int, at time.Time, e *event) (*eventAnswer, error) {
	if err := u.validate(ctx, h); err != nil {
		return nil, err
	}
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, h.url(e.name), bytes.NewReader(e.body))
	if err != nil {
		return nil, errors.New("the URL template of the event handler makes no URL")
	}
	headers := []struct{ name, value string }{
		{"Content-Type", e.contentType},
		{"WebHook-Request-Origin", u.server.host},
		{"ce-specversion", "1.0"},
		{"ce-awpsversion", "1.0"},
		{"ce-type", e.ceType},
		{"ce-source", "/hubs/" + c.hub.name + "/client/" + c.id},
		{"ce-id", strconv.Itoa(id)},
		{"ce-time", at.UTC().Format("2006-01-02T15:04:05.000Z")},
		{"ce-hub", c.hub.name},
		{"ce-connectionId", c.id},
		{"ce-eventName", e.name},
		{"ce-userId", c.userID},
		{"ce-subprotocol", c.subprotocol},
		{"ce-connectionState", c.events.state},
		{"ce-signature", u.signature(c.id)},
	}
	if c.mqtt != nil {
		physicalID, sessionID := c.mqtt.identity()
		r.Header.Set("ce-physicalConnectionId", physicalID)
		r.Header.Set("ce-sessionId", sessionID)
	}
	for _, header := range headers {
		if header.value != "" {
			r.Header.Set(header.name, headerValue(header.value))
		}
	}
	for key, value := range e.metadata {
		r.Header["X-WebPubSub-Metadata-"+key] = []string{headerValue(value)} // as it is: the key's case is the client's
	}
	return u.do(h, r)
}

// do makes a request and reads the answer. Its errors leave the URL out, whose query may hold a secret.
func (u *httpUpstream) do(h *eventHandler, r *http.Request) (*eventAnswer, error) {
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

// validate asks a handler, before it is sent its first event, whether it takes requests of this server: CloudEvents'
// abuse protection.
func (u *httpUpstream) validate(ctx context.Context, h *eventHandler) error {
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
		r.Header.Set("WebHook-Request-Origin", u.server.host)
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
		return &finalError{"the event handler does not allow the origin " + u.server.host}
	}
	h.validated = true
	return nil
}

// allowed reports whether the origins that a handler allows, each value a list, are ours.
func (u *httpUpstream) allowed(values []string) bool {
	hostname, _, _ := net.SplitHostPort(u.server.host)
	for _, value := range values {
		for origin := range strings.SplitSeq(value, ",") {
			origin = strings.TrimSpace(origin)
			if origin == "*" || strings.EqualFold(origin, u.server.host) || strings.EqualFold(origin, hostname) {
				return true
			}
		}
	}
	return false
}

// signature signs a connection's id with both access keys.
func (u *httpUpstream) signature(connectionID string) string {
	var signatures []string
	for _, key := range []string{u.server.key, u.server.secondaryKey} {
		mac := hmac.New(sha256.New, []byte(key))
		mac.Write([]byte(connectionID))
		signatures = append(signatures, "sha256="+hex.EncodeToString(mac.Sum(nil)))
	}
	return strings.Join(signatures, ",")
}

// headerValue makes a text fit for a header: control characters are percent-encoded, as in CloudEvents' HTTP binding.
// All else stays as it is, UTF-8 outside ASCII too.
func headerValue(text string) string {
	if !strings.ContainsFunc(text, isControl) {
		return text
	}
	var b strings.Builder
	for _, r := range text {
		if isControl(r) {
			for _, octet := range []byte(string(r)) {
				fmt.Fprintf(&b, "%%%02X", octet)
			}
		} else {
			b.WriteRune(r)
		}
	}
	return b.String()
}

func isControl(r rune) bool { return r < ' ' || r >= 0x7F && r <= 0x9F }
