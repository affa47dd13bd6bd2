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
	"unicode/utf8"

	"github.com/awps-go/webpubsub/internal/metadata"
)

const (
	// maxHeaderBytes is more than the longest ce- header: group names reach 1,024 characters, ids are shorter.
	maxHeaderBytes = 8 << 10

	// maxStateBytes is for ce-connectionState, of which the service documents no limit. net/http takes far more; what
	// stands before a handler may take less, as nginx does with 8 KiB for a header.
	maxStateBytes = 32 << 10
)

// kind is what an event is about.
type kind int

const (
	kindConnect kind = iota
	kindConnected
	kindDisconnected
	kindUserEvent
	kindGroupJoined
	kindGroupLeft
)

const typeUserPrefix = "azure.webpubsub.user."

var systemTypes = map[string]kind{
	"azure.webpubsub.sys.connect":      kindConnect,
	"azure.webpubsub.sys.connected":    kindConnected,
	"azure.webpubsub.sys.disconnected": kindDisconnected,
	"azure.webpubsub.gp.joined":        kindGroupJoined,
	"azure.webpubsub.gp.left":          kindGroupLeft,
}

// oneHeader returns the value of a header, or "" if it is not there. More than one, one that is longer than limit, and
// one with a control character or broken UTF-8 are refused.
func oneHeader(header http.Header, name string, limit int) (string, error) {
	values := header[http.CanonicalHeaderKey(name)]
	if len(values) == 0 {
		return "", nil
	}
	value := values[0]
	switch {
	case len(values) > 1:
		return "", refuse(http.StatusBadRequest, "the header %s is there %d times", name, len(values))
	case len(value) > limit:
		return "", refuse(http.StatusBadRequest, "the header %s is longer than %d bytes", name, limit)
	case !utf8.ValidString(value):
		return "", refuse(http.StatusBadRequest, "the header %s is not valid UTF-8", name)
	case strings.ContainsFunc(value, func(r rune) bool { return r < ' ' || r >= 0x7F && r <= 0x9F }):
		return "", refuse(http.StatusBadRequest, "the header %s holds a control character", name)
	}
	return value, nil
}

// parseEvent reads the headers of an event and verifies them. Its error is a *refusedError.
func (h *Handler) parseEvent(r *http.Request) (kind, Event, error) {
	var err error // the first fault found
	header := func(name string, limit int) string {
		value, fault := oneHeader(r.Header, name, limit)
		if err == nil {
			err = fault
		}
		return value
	}
	required := func(name string) string {
		value := header(name, maxHeaderBytes)
		if err == nil && value == "" {
			err = refuse(http.StatusBadRequest, "the header %s is missing", name)
		}
		return value
	}
	event := Event{ConnectionID: required("ce-connectionId")}
	signature := header("ce-signature", maxHeaderBytes)
	if err != nil {
		return 0, Event{}, err
	}
	if err := h.verify(signature, event.ConnectionID); err != nil {
		return 0, Event{}, refuse(http.StatusUnauthorized, "%v", err)
	}

	specVersion, awpsVersion := required("ce-specversion"), required("ce-awpsversion")
	eventType := required("ce-type")
	required("ce-source")
	event.Hub = required("ce-hub")
	event.EventName = required("ce-eventName")
	event.EventID = required("ce-id")
	timestamp := required("ce-time")
	event.Origin = required(headerRequestOrigin)
	event.UserID = header("ce-userId", maxHeaderBytes)
	event.Subprotocol = header("ce-subprotocol", maxHeaderBytes)
	event.PhysicalConnectionID = header("ce-physicalConnectionId", maxHeaderBytes)
	event.SessionID = header("ce-sessionId", maxHeaderBytes)
	state := header("ce-connectionState", maxStateBytes)
	for name := range r.Header { // those above, and any other that the service may send one day
		if strings.HasPrefix(name, "Ce-") {
			header(name, maxStateBytes)
		}
	}
	if err != nil {
		return 0, Event{}, err
	}

	bad := func(format string, args ...any) (kind, Event, error) {
		return 0, Event{}, refuse(http.StatusBadRequest, format, args...)
	}
	if specVersion != "1.0" {
		return bad("the header ce-specversion is not 1.0")
	}
	if awpsVersion != "1.0" {
		return bad("the header ce-awpsversion is not 1.0")
	}
	if !h.originAllowed(event.Origin) {
		return 0, Event{}, refuse(http.StatusForbidden, "the origin may not send events here")
	}
	if !strings.EqualFold(event.Hub, h.options.Hub) {
		return 0, Event{}, refuse(http.StatusNotFound, "the hub is not the one of this handler")
	}
	eventKind, known := systemTypes[eventType]
	if name, user := strings.CutPrefix(eventType, typeUserPrefix); user {
		if !strings.EqualFold(name, event.EventName) {
			return bad("the headers ce-type and ce-eventName name different events")
		}
		eventKind, known = kindUserEvent, true
	} else if name, system := strings.CutPrefix(eventType, "azure.webpubsub.sys."); system && known && name != event.EventName {
		return bad("the headers ce-type and ce-eventName name different events")
	}
	if !known {
		return bad("the header ce-type is no known event type")
	}
	if event.Time, err = time.Parse(time.RFC3339, timestamp); err != nil {
		return bad("the header ce-time is not a time as in RFC 3339")
	}
	if event.State, err = parseState(state); err != nil {
		return bad("%v", err)
	}
	return eventKind, event, nil
}

// mediaType returns the content type of the body, without its parameters.
func mediaType(r *http.Request) (string, error) {
	value, err := oneHeader(r.Header, "Content-Type", maxHeaderBytes)
	if err != nil {
		return "", err
	}
	contentType, parameters, err := mime.ParseMediaType(value)
	if err != nil {
		return "", refuse(http.StatusUnsupportedMediaType, "the header Content-Type is missing or no media type")
	}
	if charset := parameters["charset"]; charset != "" && !strings.EqualFold(charset, "utf-8") {
		return "", refuse(http.StatusUnsupportedMediaType, "the charset of the body is not UTF-8")
	}
	return contentType, nil
}

// readBody reads the whole body, up to Options.MaxBodyBytes.
func (h *Handler) readBody(w http.ResponseWriter, r *http.Request) ([]byte, error) {
	if encoding := r.Header.Get("Content-Encoding"); encoding != "" && !strings.EqualFold(encoding, "identity") {
		return nil, refuse(http.StatusUnsupportedMediaType, "the body has a content encoding, which the service does not use")
	}
	body := r.Body
	if body == nil { // a request that no server has read
		body = http.NoBody
	}
	data, err := io.ReadAll(http.MaxBytesReader(w, body, h.options.MaxBodyBytes))
	if tooLarge, ok := errors.AsType[*http.MaxBytesError](err); ok {
		return nil, refuse(http.StatusRequestEntityTooLarge, "the body is larger than %d bytes", tooLarge.Limit)
	}
	if err != nil {
		return nil, refuse(http.StatusBadRequest, "the body broke off")
	}
	if r.ContentLength >= 0 && int64(len(data)) != r.ContentLength { // again, of no server
		return nil, refuse(http.StatusBadRequest, "the body is not as long as the header Content-Length says")
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
		return refuse(http.StatusUnsupportedMediaType, "the content type of this event is %s", ContentTypeJSON)
	}
	data, err := h.readBody(w, r)
	if err != nil {
		return err
	}
	if !utf8.Valid(data) {
		return refuse(http.StatusBadRequest, "the body is not valid UTF-8")
	}
	if !bytes.HasPrefix(bytes.TrimSpace(data), []byte("{")) {
		return refuse(http.StatusBadRequest, "the body is no JSON object")
	}
	if err := json.Unmarshal(data, request); err != nil {
		return refuse(http.StatusBadRequest, "the body is not the JSON of this event: %v", err)
	}
	return nil
}

// readUserEvent reads the payload and the metadata of a user event.
func (h *Handler) readUserEvent(w http.ResponseWriter, r *http.Request, request *UserEventRequest) (err error) {
	if request.Metadata, err = readMetadata(r.Header); err != nil {
		return err
	}
	if request.ContentType, err = mediaType(r); err != nil {
		return err
	}
	switch request.ContentType {
	case ContentTypeText, ContentTypeJSON, ContentTypeBinary, ContentTypeProtobuf:
	default:
		return refuse(http.StatusUnsupportedMediaType, "the content type is none of a user event")
	}
	if request.Data, err = h.readBody(w, r); err != nil {
		return err
	}
	text := request.ContentType == ContentTypeText || request.ContentType == ContentTypeJSON
	switch {
	case text && !utf8.Valid(request.Data):
		return refuse(http.StatusBadRequest, "the body is not valid UTF-8")
	case request.ContentType == ContentTypeJSON && !json.Valid(request.Data):
		return refuse(http.StatusBadRequest, "the body is not valid JSON")
	}
	return nil
}

// metadataPrefix is metadata.Prefix as net/http reads it.
var metadataPrefix = http.CanonicalHeaderKey(metadata.Prefix)

// readMetadata reads the metadata of a user event.
func readMetadata(header http.Header) (map[string]string, error) {
	var m map[string]string
	for name := range header {
		key, found := strings.CutPrefix(name, metadataPrefix)
		if !found || key == "" {
			continue
		}
		value, err := oneHeader(header, name, maxHeaderBytes)
		if err != nil {
			return nil, err
		}
		if m == nil {
			m = map[string]string{}
		}
		m[strings.ToLower(key)] = value
	}
	return m, nil
}
