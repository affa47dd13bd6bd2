package events

import (
	"fmt"
	"net/http"
	"strconv"
	"strings"

	"github.com/awps-go/webpubsub/emulator/internal/hub"
	"github.com/awps-go/webpubsub/emulator/internal/protocol"
)

// maxAnswer bounds the body of an answer, in bytes.
const maxAnswer = 16 << 20

// answer is what a handler has answered.
type answer struct {
	status int
	header http.Header
	body   []byte
}

func (a *answer) ok() bool { return a.status/100 == 2 }

func (a *answer) contentType() string { return a.header.Get("Content-Type") }

// retried reports whether the service sends an event again that was answered so.
func (a *answer) retried() bool { return a.status == http.StatusRequestTimeout || a.status >= 500 }

// rejection is the answer as the kernel hears of it.
func (a *answer) rejection() *hub.Rejection {
	return &hub.Rejection{Status: a.status, ContentType: a.contentType(), Body: a.body,
		Reason: "the event handler answered " + strconv.Itoa(a.status)}
}

// userReply returns the message that an answer makes for the client that sent the event, nil if there is none.
func userReply(a *answer) (*hub.Payload, error) {
	if !a.ok() {
		return nil, a.rejection()
	}
	p := &hub.Payload{Type: hub.DataText, Data: a.body, Metadata: a.metadata()}
	if fault := protocol.CheckMetadata(p.Metadata); fault != "" {
		return nil, fmt.Errorf("the answer of the event handler: %s", fault)
	}
	if len(a.body) == 0 { // whatever its content type is
		if p.Metadata == nil {
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
			return nil, fmt.Errorf("the answer of the event handler has the content type %.80q, which no message has: "+
				"text/plain, application/json, application/octet-stream and application/x-protobuf are possible", contentType)
		}
		p.Type = t
	}
	if what := protocol.Unfit(p); what != "" {
		return nil, fmt.Errorf("the answer of the event handler is not valid %s", what)
	}
	return p, nil
}

// metadata returns the metadata of the message that an answer makes, nil if there are none. Of several lines of a key the
// last one counts, and of that what follows its last comma.
func (a *answer) metadata() map[string]string {
	var metadata map[string]string
	for name, values := range a.header {
		key, ok := protocol.CutMetadataHeader(name)
		if !ok || len(values) == 0 {
			continue
		}
		if metadata == nil {
			metadata = make(map[string]string)
		}
		value := values[len(values)-1]
		metadata[strings.ToLower(key)] = strings.TrimSpace(value[strings.LastIndexByte(value, ',')+1:])
	}
	return metadata
}

// checkState fails if an answer sets the connection's state twice, which the service does not allow.
func (a *answer) checkState() error {
	if n := len(a.header.Values(headerState)); a.ok() && n > 1 {
		return fmt.Errorf("the answer of the event handler has %d headers %s, and may have one", n, headerState)
	}
	return nil
}
