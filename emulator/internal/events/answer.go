package events

import (
	"fmt"
	"net/http"
	"strconv"

	"github.com/awps-go/webpubsub/emulator/internal/hub"
	"github.com/awps-go/webpubsub/emulator/internal/protocol"
)

// maxAnswer bounds the body of a response, in bytes.
const maxAnswer = 16 << 20

// answer is the response of an event handler.
type answer struct {
	status int
	header http.Header
	body   []byte
}

func (a *answer) ok() bool { return a.status/100 == 2 }

func (a *answer) contentType() string { return a.header.Get("Content-Type") }

// rejection returns the error for the kernel if the response is not a success.
func (a *answer) rejection() *hub.Rejection {
	return &hub.Rejection{Status: a.status, ContentType: a.contentType(), Body: a.body,
		Reason: "the event handler answered " + strconv.Itoa(a.status)}
}

// userReply returns the message in a response for the client that sent the event, or nil if there is none.
func userReply(a *answer) (*hub.Payload, error) {
	if !a.ok() {
		return nil, a.rejection()
	}
	p := &hub.Payload{Type: hub.DataText, Data: a.body, Metadata: protocol.MetadataOf(a.header)}
	delete(p.Metadata, "") // not an error in a response
	if fault := protocol.CheckMetadata(p.Metadata); fault != "" {
		return nil, fmt.Errorf("the event handler's response has invalid metadata: %s", fault)
	}
	if len(a.body) == 0 { // regardless of the content type
		if len(p.Metadata) == 0 {
			return nil, nil
		}
		return p, nil
	}
	switch contentType := a.contentType(); contentType {
	case "":
		p.Type = hub.DataBinary
	default:
		t, ok := protocol.ParseContentType(contentType)
		if !ok {
			return nil, fmt.Errorf("the event handler's response has the content type %.80q, which messages do not support: "+
				"use text/plain, application/json, application/octet-stream or application/x-protobuf", contentType)
		}
		p.Type = t
	}
	if what := protocol.Unfit(p); what != "" {
		return nil, fmt.Errorf("the event handler's response is not valid %s", what)
	}
	return p, nil
}

// checkState returns an error if a successful response sets the connection's state more than once, which the service does not
// allow.
func (a *answer) checkState() error {
	if n := len(a.header.Values(headerState)); a.ok() && n > 1 {
		return fmt.Errorf("the event handler's response has %d %s headers; only one is allowed", n, headerState)
	}
	return nil
}
