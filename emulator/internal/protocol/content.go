package protocol

import (
	"encoding/json"
	"fmt"
	"mime"
	"slices"
	"unicode/utf8"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/awps-go/webpubsub/emulator/internal/hub"
)

// ContentTypes maps data types to their HTTP content types.
var ContentTypes = [...]string{
	hub.DataJSON:     "application/json",
	hub.DataText:     "text/plain",
	hub.DataBinary:   "application/octet-stream",
	hub.DataProtobuf: "application/x-protobuf",
}

// ParseContentType returns the data type for a Content-Type header, and false if there is none. It ignores parameters.
func ParseContentType(contentType string) (hub.DataType, bool) {
	i := slices.Index(ContentTypes[:], contentType)
	if i < 0 {
		if mediaType, _, err := mime.ParseMediaType(contentType); err == nil {
			i = slices.Index(ContentTypes[:], mediaType)
		}
	}
	return hub.DataType(max(i, 0)), i >= 0
}

// Unfit returns the format that a payload's type requires and its data does not have, such as "JSON", or "" if the data is
// valid.
func Unfit(p *hub.Payload) string {
	switch {
	case (p.Type == hub.DataJSON || p.Type == hub.DataText) && !utf8.Valid(p.Data):
		return "UTF-8"
	case p.Type == hub.DataJSON && !json.Valid(p.Data):
		return "JSON"
	case p.Type == hub.DataJSON && tooDeep(p.Data):
		return fmt.Sprintf("JSON with at most %d levels", maxJSONDepth)
	case p.Type == hub.DataProtobuf && proto.Unmarshal(p.Data, &anypb.Any{}) != nil:
		return "google.protobuf.Any"
	}
	return ""
}

// maxJSONDepth is the maximum nesting of objects and arrays, in a message and in a client's frame. It is the default of .NET's
// JSON parser, which Microsoft's emulator uses.
const maxJSONDepth = 64

// tooDeep reports whether valid JSON is nested too deep.
func tooDeep(data []byte) bool {
	depth := 0
	for i := 0; i < len(data); i++ {
		switch data[i] {
		case '"':
			i = endOfString(data, i)
		case '{', '[':
			if depth++; depth > maxJSONDepth {
				return true
			}
		case '}', ']':
			depth--
		}
	}
	return false
}
