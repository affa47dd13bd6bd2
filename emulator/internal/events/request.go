package events

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/awps-go/webpubsub/emulator/internal/hub"
	"github.com/awps-go/webpubsub/emulator/internal/protocol"
)

// Headers that are used in several places.
const (
	headerOrigin    = "WebHook-Request-Origin"
	headerAllowed   = "WebHook-Allowed-Origin"
	headerVersion   = "ce-awpsversion"
	headerState     = "ce-connectionState"
	headerUserID    = "ce-userId"
	headerRequestID = "x-ms-client-request-id"
)

// event is what the application is notified of.
type event struct {
	name        string // as in ce-eventName
	ceType      string
	contentType string
	body        []byte
	metadata    map[string]string
	header      []field // further headers
}

type field struct{ name, value string }

// delivery is an event on its way to a handler. Its headers and body are fixed when it is created, so a retry sends the same
// event.
type delivery struct {
	*event
	handler    *handler
	connection *hub.Connection
	id         string
	origin     string
	time       time.Time
	url        *url.URL
	fields     http.Header
	cookies    *cookiejar.Jar
	fault      error // the reason why it cannot be sent

	attempts int
	answer   *answer // the last response
}

// newDelivery creates the delivery of an event to a handler. It is called in the order of the connection's events.
func (u *Sender) newDelivery(h *handler, c *hub.Connection, id int, e *event) *delivery {
	d := &delivery{event: e, handler: h, connection: c, id: strconv.Itoa(id), origin: c.Host, time: u.Service.Clock.Now(),
		cookies: cookies(c)}
	if d.origin == "" {
		d.origin = u.Host
	}
	if d.url, d.fault = h.url(e.name); d.fault == nil {
		d.fields, d.fault = u.fields(d)
	}
	return d
}

// fields returns the headers of an event. The first ones are listed in the order of the service's documentation.
func (u *Sender) fields(d *delivery) (http.Header, error) {
	c, name := d.connection, strings.ToLower(d.connection.Hub.Name)
	source := "/hubs/" + name + "/client/" + c.ID
	list := []field{
		{"Content-Type", d.contentType},
		{headerOrigin, d.origin},
		{headerRequestID, newGUID()},
		{"ce-specversion", "1.0"},
		{headerVersion, "1.0"},
		{"ce-type", d.ceType},
		{"ce-id", d.id},
		{"ce-time", d.time.UTC().Format(time.RFC3339)},
		{"ce-hub", name},
		{"ce-connectionId", c.ID},
		{"ce-eventName", d.name},
		{"ce-signature", signature(u.Keys(), c.ID)},
	}
	if client, ok := c.Link.(protocol.MQTTLink); ok {
		physicalID, sessionID := client.Identity()
		source += "/" + physicalID
		list = append(list, field{"ce-physicalConnectionId", physicalID})
		if d.name != eventConnect { // the session begins with the response to connect
			list = append(list, field{"ce-sessionId", sessionID})
		}
	}
	list = append(list, field{"ce-source", source})
	if c.UserID != "" {
		list = append(list, field{headerUserID, c.UserID})
	}
	if c.Subprotocol != "" && (d.ceType != systemConnect || c.Subprotocol == protocol.MQTTSubprotocol) {
		list = append(list, field{"ce-subprotocol", c.Subprotocol})
	}
	if state, set := c.State(); set {
		list = append(list, field{headerState, state})
	}
	for _, key := range slices.Sorted(maps.Keys(d.metadata)) { // of keys that differ only in case, which only protobuf clients can send, one is sent
		list = append(list, field{protocol.MetadataHeader + key, strings.Trim(d.metadata[key], " \t")}) // HTTP trims it anyway
	}
	header := make(http.Header)
	for _, f := range list {
		if !survivesHTTP(f.value) {
			return nil, fmt.Errorf("the event's header %s has control characters, or leading or trailing white space, which HTTP does not transmit", f.name)
		}
		if f.name != headerUserID && strings.ContainsFunc(f.value, func(r rune) bool { return r >= utf8.RuneSelf }) {
			return nil, fmt.Errorf("the event's header %s has characters outside ASCII, which the service does not send", f.name)
		}
		header.Set(f.name, f.value)
	}
	for _, f := range d.header {
		if !survivesHTTP(f.value) || strings.ContainsFunc(f.value, func(r rune) bool { return r >= utf8.RuneSelf }) {
			return nil, fmt.Errorf("the event's header %.80q has characters that the service does not send", f.name)
		}
		header.Add(f.name, f.value)
	}
	return header, nil
}

const systemConnect = "azure.webpubsub.sys." + eventConnect

// survivesHTTP reports whether a header value arrives unchanged. HTTP trims white space and does not allow control characters.
func survivesHTTP(value string) bool {
	return strings.Trim(value, " \t") == value &&
		!strings.ContainsFunc(value, func(r rune) bool { return r < ' ' && r != '\t' || r == 0x7F })
}

// signature returns the signatures of a connection's id by both access keys.
func signature(keys [2]string, connectionID string) string {
	var signatures []string
	for _, key := range keys {
		mac := hmac.New(sha256.New, []byte(key))
		mac.Write([]byte(connectionID))
		signatures = append(signatures, "sha256="+hex.EncodeToString(mac.Sum(nil)))
	}
	return strings.Join(signatures, ",")
}

// newGUID returns a random GUID.
func newGUID() string {
	var b [16]byte
	rand.Read(b[:])
	b[6], b[8] = b[6]&0x0F|0x40, b[8]&0x3F|0x80 // version 4, random
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:])
}

// cookies returns the cookie jar of a connection. Successful responses to the connection's events set its cookies.
func cookies(c *hub.Connection) *cookiejar.Jar {
	memory := c.Memory()
	jar, ok := (*memory).(*cookiejar.Jar)
	if !ok {
		jar, _ = cookiejar.New(nil) // never fails
		*memory = jar
	}
	return jar
}

// errNoURL is returned if a URL template does not yield a valid URL for a hub and an event.
var errNoURL = errors.New("the event handler's URL template does not yield a valid URL")
