package rest

import (
	"encoding/json"
	"io"
	"mime"
	"net/http"
	"strings"
	"unicode/utf8"

	"github.com/awps-go/webpubsub/emulator/internal/hub"
	"github.com/awps-go/webpubsub/emulator/internal/protocol"
	"github.com/awps-go/webpubsub/emulator/internal/text"
	"github.com/awps-go/webpubsub/emulator/internal/wire"
)

// This file reads the body of a request and the headers that describe it. The order of the checks is the service's: the
// length, the type, the body, the metadata.

// The service's texts.
const (
	invalidLength = "Invalid Content-Length header."
	invalidJSON   = "The request body is not a valid JSON."
)

// maxDrained bounds how much of a rejected body is read, in bytes. A client that is still sending may not read the response.
const maxDrained = 16 << 20

// checkLength rejects a body whose length is unknown or too large.
func (c *call) checkLength() error {
	e := wire.BadRequest("Request", invalidLength)
	switch length := c.request.ContentLength; {
	case length < 0 || c.request.Header.Get("Content-Length") == "":
		e.Hint = "the service rejects a body of unknown length (chunked): send a Content-Length"
	case length > hub.MaxMessageSize:
		e.Hint = "the body has " + text.Plural(int(length), "byte") + "; the service's limit is 1 MiB"
	default:
		return nil
	}
	if c.request.Header.Get("Expect") == "" {
		_, _ = io.Copy(io.Discard, io.LimitReader(c.request.Body, maxDrained))
	}
	return e
}

// readType returns the data type and the charset of the Content-Type. Without a Content-Type, the body is binary.
func (c *call) readType() (hub.DataType, charset, error) {
	contentType := strings.Join(c.request.Header.Values("Content-Type"), ", ")
	if strings.TrimSpace(contentType) == "" {
		return hub.DataBinary, charset{}, nil
	}
	mediaType, parameters, err := mime.ParseMediaType(contentType)
	dataType, ok := protocol.ParseContentType(mediaType)
	if err != nil || !ok || dataType == hub.DataProtobuf {
		return 0, charset{}, unsupportedType("the Content-Type %.64q is not one of %s", contentType,
			strings.Join(protocol.ContentTypes[:hub.DataProtobuf], ", "))
	}
	if dataType == hub.DataBinary {
		return dataType, charset{}, nil
	}
	encoding, ok := findCharset(parameters["charset"])
	if !ok {
		return 0, charset{}, unsupportedType("the charset %.32q is not supported", parameters["charset"])
	}
	return dataType, encoding, nil
}

func unsupportedType(format string, args ...any) error {
	e := wire.BadRequest("Content-Type", format, args...)
	e.Status, e.Code = http.StatusUnsupportedMediaType, "UnsupportedMediaType"
	return e
}

// read reads the body and converts it to UTF-8. The caller has checked its length.
func (c *call) read(encoding charset) ([]byte, error) {
	b := make([]byte, c.request.ContentLength)
	n, err := io.ReadFull(c.request.Body, b)
	c.body = b[:n]
	if err != nil {
		return nil, wire.BadRequest("Request", "the body was cut short")
	}
	if encoding.decode == nil {
		return b, nil
	}
	return []byte(encoding.decode(b)), nil
}

// payload reads the message in a request: the body, and the metadata in the headers.
func (c *call) payload() (p hub.Payload, err error) {
	if err := c.checkLength(); err != nil {
		return p, err
	}
	var encoding charset
	if p.Type, encoding, err = c.readType(); err != nil {
		return p, err
	}
	if p.Data, err = c.read(encoding); err != nil {
		return p, err
	}
	switch what := protocol.Unfit(&p); {
	case what != "" && p.Type == hub.DataJSON:
		e := wire.BadRequest("Request", invalidJSON)
		e.Hint = "the body is not valid " + what
		return p, e
	case what != "":
		return p, wire.BadRequest("Request", "the body is not valid %s", what)
	}
	p.Metadata = protocol.MetadataOf(c.request.Header)
	if fault := protocol.CheckMetadata(p.Metadata); fault != "" {
		return p, wire.BadRequest("Request", "%s", fault)
	}
	return p, nil
}

// jsonBody decodes the JSON body of a request into v.
func (c *call) jsonBody(v any) error {
	if err := c.checkLength(); err != nil {
		return err
	}
	dataType, encoding, err := c.readType()
	if err != nil {
		return err
	}
	if dataType != hub.DataJSON {
		return unsupportedType("the Content-Type of this operation must be %s", protocol.ContentTypes[hub.DataJSON])
	}
	b, err := c.read(encoding)
	if err != nil {
		return err
	}
	if !utf8.Valid(b) || !json.Valid(b) {
		return wire.BadRequest("Request", invalidJSON)
	}
	if err := json.Unmarshal(b, v); err != nil {
		return wire.BadRequest("Request", "the body is not the JSON that this operation expects: %s", text.JSONFault(err))
	}
	return nil
}
