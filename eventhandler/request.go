package eventhandler

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"mime"
	"net/http"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/awps-go/webpubsub/internal/metadata"
)

// maxHeaderBytes is longer than any header of the service except the state: group names have up to 1,024 characters,
// and IDs are shorter.
const maxHeaderBytes = 8 << 10

// kind is the kind of an event.
type kind int

const (
	kindConnect kind = iota
	kindConnected
	kindDisconnected
	kindUserEvent
	kindGroupJoined
	kindGroupLeft
	kindUnknown // a system event that this package does not know
)

const (
	typeUserPrefix   = "azure.webpubsub.user."
	typeSystemPrefix = "azure.webpubsub.sys."
	typeGroupPrefix  = "azure.webpubsub.gp." // group presence
)

// headerProblem returns an error if a header's value is too long, is not valid UTF-8 or contains a control character.
func headerProblem(name, value string) error {
	switch {
	case len(value) > maxHeaderBytes:
		return requestErrorf(http.StatusBadRequest, "the header %s is longer than %d bytes", name, maxHeaderBytes)
	case !utf8.ValidString(value):
		return requestErrorf(http.StatusBadRequest, "the header %s is not valid UTF-8", name)
	case strings.ContainsFunc(value, unicode.IsControl):
		return requestErrorf(http.StatusBadRequest, "the header %s contains a control character", name)
	}
	return nil
}

// onlyHeader returns the value of a header unchanged, or "" if it is absent. It rejects a header that appears twice,
// because the two lines could name different users or connections.
func onlyHeader(header http.Header, name string) (string, error) {
	values := header.Values(name)
	if len(values) > 1 {
		return "", requestErrorf(http.StatusBadRequest, "the header %s appears %d times", name, len(values))
	}
	return strings.Join(values, ""), nil
}

// oneHeader is like onlyHeader, and rejects values that headerProblem rejects.
func oneHeader(header http.Header, name string) (string, error) {
	value, err := onlyHeader(header, name)
	if err == nil {
		err = headerProblem(name, value)
	}
	return value, err
}

// listHeader returns the value of a header that may be a list, on one line or several. The two forms are equivalent in
// HTTP, and the service's tunnel uses several lines.
func listHeader(header http.Header, name string) (string, error) {
	value := strings.Join(header.Values(name), ", ")
	return value, headerProblem(name, value)
}

// parseEvent reads and verifies the headers of an event. Its error is a *requestError. It ignores other headers, so a
// header that the service adds later cannot break an event.
func (h *Handler) parseEvent(r *http.Request) (kind, Event, error) {
	var err error // the first problem found
	read := func(get func(http.Header, string) (string, error), name string) string {
		value, fault := get(r.Header, name)
		if err == nil {
			err = fault
		}
		return value
	}
	optional := func(name string) string { return read(oneHeader, name) }
	required := func(name string) string {
		value := optional(name)
		if err == nil && value == "" {
			err = requestErrorf(http.StatusBadRequest, "the header %s is missing", name)
		}
		return value
	}
	event := Event{Header: r.Header, ConnectionID: required("ce-connectionId")}
	signatures := read(listHeader, "ce-signature")
	if err != nil {
		return 0, Event{}, err
	}
	if err := h.verify(signatures, event.ConnectionID); err != nil {
		return 0, Event{}, requestErrorf(http.StatusUnauthorized, "%v", err)
	}

	specVersion, eventType := required("ce-specversion"), required("ce-type")
	event.Hub = strings.ToLower(required("ce-hub"))
	event.EventName = required("ce-eventName")
	event.EventID = required("ce-id")
	event.UserID = optional("ce-userId")
	event.Subprotocol = optional("ce-subprotocol")
	event.PhysicalConnectionID = optional("ce-physicalConnectionId")
	event.SessionID = optional("ce-sessionId")
	event.Origin = read(listHeader, headerRequestOrigin)
	event.RawState = read(onlyHeader, "ce-connectionState") // opaque, so any length and any characters are valid
	if err != nil {
		return 0, Event{}, err
	}

	if specVersion != "1.0" {
		return 0, Event{}, requestErrorf(http.StatusBadRequest, "the header ce-specversion is not 1.0")
	}
	if len(h.origins) > 0 && len(h.allowedOrigins(event.Origin)) == 0 {
		return 0, Event{}, requestErrorf(http.StatusForbidden, "events from this origin are not allowed")
	}
	if !h.hubs[event.Hub] {
		return 0, Event{}, requestErrorf(http.StatusNotFound, "this handler does not serve this hub")
	}
	eventKind, err := kindOf(eventType, event.EventName)
	if err != nil {
		return 0, Event{}, err
	}
	if times := r.Header.Values("ce-time"); len(times) == 1 {
		event.Time, _ = time.Parse(time.RFC3339, times[0]) // zero if it does not parse
	}
	if event.State = parseState(event.RawState); event.State == nil {
		event.State = State{}
	}
	return eventKind, event, nil
}

// kindOf returns the kind of the event with this type and name. The service's documentation does not define the type of
// group presence events, so they are recognized by name.
func kindOf(eventType, eventName string) (kind, error) {
	mismatch := func() (kind, error) {
		return 0, requestErrorf(http.StatusBadRequest, "the headers ce-type and ce-eventName name different events")
	}
	if name, user := strings.CutPrefix(eventType, typeUserPrefix); user {
		if !strings.EqualFold(name, eventName) {
			return mismatch()
		}
		return kindUserEvent, nil
	}
	name, system := strings.CutPrefix(eventType, typeSystemPrefix)
	if !system {
		var presence bool
		if name, presence = strings.CutPrefix(eventType, typeGroupPrefix); !presence {
			return 0, requestErrorf(http.StatusBadRequest, "the header ce-type does not name an event of Web PubSub")
		}
	}
	kinds := map[string]kind{"joined": kindGroupJoined, "left": kindGroupLeft}
	if system {
		kinds["connect"], kinds["connected"], kinds["disconnected"] = kindConnect, kindConnected, kindDisconnected
	}
	if _, known := kinds[name]; known && name != eventName {
		return mismatch()
	}
	if k, known := kinds[eventName]; known && (name == eventName || k == kindGroupJoined || k == kindGroupLeft) {
		return k, nil
	}
	return kindUnknown, nil
}

// mediaType returns the content type of the body, without its parameters.
func mediaType(r *http.Request) (string, error) {
	value, err := oneHeader(r.Header, "Content-Type")
	if err != nil {
		return "", err
	}
	contentType, parameters, err := mime.ParseMediaType(value)
	if err != nil {
		return "", requestErrorf(http.StatusUnsupportedMediaType, "the header Content-Type is missing or not a media type")
	}
	if charset := parameters["charset"]; charset != "" && !strings.EqualFold(charset, "utf-8") {
		return "", requestErrorf(http.StatusUnsupportedMediaType, "the charset of the body is not UTF-8")
	}
	return contentType, nil
}

// mqttMediaType returns the content type of an MQTT client's event, without its parameters. It accepts any value
// because the client chose it. MQTT 3.1.1 has no content type.
func mqttMediaType(r *http.Request) string {
	value := strings.Join(r.Header.Values("Content-Type"), ", ")
	if value == "" {
		return ContentTypeBinary
	}
	contentType, _, err := mime.ParseMediaType(value)
	if err != nil && !errors.Is(err, mime.ErrInvalidMediaParameter) {
		return value
	}
	return contentType
}

// readBody reads the whole body, up to Options.MaxBodyBytes.
func (h *Handler) readBody(w http.ResponseWriter, r *http.Request) ([]byte, error) {
	if encoding := r.Header.Get("Content-Encoding"); encoding != "" && !strings.EqualFold(encoding, "identity") {
		return nil, requestErrorf(http.StatusUnsupportedMediaType, "the body must not have a content encoding")
	}
	body := r.Body
	if body == nil { // the request did not come through a server
		body = http.NoBody
	}
	data, err := io.ReadAll(http.MaxBytesReader(w, body, h.options.MaxBodyBytes))
	if tooLarge, ok := errors.AsType[*http.MaxBytesError](err); ok {
		return nil, requestErrorf(http.StatusRequestEntityTooLarge, "the body is larger than %d bytes", tooLarge.Limit)
	}
	if err != nil {
		return nil, requestErrorf(http.StatusBadRequest, "the body ended early")
	}
	if r.ContentLength >= 0 && int64(len(data)) != r.ContentLength { // again, a request that did not come through a server
		return nil, requestErrorf(http.StatusBadRequest, "the length of the body differs from the header Content-Length")
	}
	return data, nil
}

// readSystemBody decodes the JSON body of a system event into request.
func (h *Handler) readSystemBody(w http.ResponseWriter, r *http.Request, request any) error {
	contentType, err := mediaType(r)
	if err != nil {
		return err
	}
	if contentType != ContentTypeJSON {
		return requestErrorf(http.StatusUnsupportedMediaType, "the content type of this event must be %s", ContentTypeJSON)
	}
	data, err := h.readBody(w, r)
	if err != nil {
		return err
	}
	switch {
	case !utf8.Valid(data):
		return requestErrorf(http.StatusBadRequest, "the body is not valid UTF-8")
	case !bytes.HasPrefix(bytes.TrimSpace(data), []byte("{")):
		return requestErrorf(http.StatusBadRequest, "the body is not a JSON object")
	}
	if err := json.Unmarshal(data, request); err != nil {
		return &requestError{http.StatusBadRequest, "the body is not valid JSON for this event: " + err.Error(), data}
	}
	return nil
}

// readUserEvent reads the payload and the metadata of a user event.
func (h *Handler) readUserEvent(w http.ResponseWriter, r *http.Request, request *UserEventRequest) (err error) {
	if request.Metadata, err = readMetadata(r.Header); err != nil {
		return err
	}
	if request.IsMQTT() { // the client chose the content type: leave the bytes unchanged
		request.ContentType = mqttMediaType(r)
		request.Data, err = h.readBody(w, r)
		return err
	}
	if request.ContentType, err = mediaType(r); err != nil {
		return err
	}
	switch request.ContentType {
	case ContentTypeText, ContentTypeJSON, ContentTypeBinary, ContentTypeProtobuf:
	default:
		return requestErrorf(http.StatusUnsupportedMediaType, "the content type is not one of a user event")
	}
	if request.Data, err = h.readBody(w, r); err != nil {
		return err
	}
	text := request.ContentType == ContentTypeText || request.ContentType == ContentTypeJSON
	switch {
	case text && !utf8.Valid(request.Data):
		return requestErrorf(http.StatusBadRequest, "the body is not valid UTF-8")
	case request.ContentType == ContentTypeJSON && !json.Valid(request.Data):
		return requestErrorf(http.StatusBadRequest, "the body is not valid JSON")
	}
	return nil
}

// metadataPrefix is metadata.Prefix in net/http's canonical form.
var metadataPrefix = http.CanonicalHeaderKey(metadata.Prefix)

// readMetadata reads the metadata of a user event. If a key appears on several lines, the last line wins, as in the
// service.
func readMetadata(header http.Header) (map[string]string, error) {
	var m map[string]string
	for name, values := range header {
		key, found := strings.CutPrefix(name, metadataPrefix)
		if !found || key == "" || len(values) == 0 {
			continue
		}
		value := values[len(values)-1]
		if err := headerProblem(name, value); err != nil {
			return nil, err
		}
		if m == nil {
			m = map[string]string{}
		}
		m[strings.ToLower(key)] = value
	}
	return m, nil
}
