package eventhandler

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"maps"
	"strings"
	"unicode/utf8"
)

// State is the state of a connection: named JSON values that the response to a connect or user event sets (see SetState
// in [ConnectResponse] and [UserEventResponse]). The service sends the state with every later event of the connection.
// A State is a snapshot from when the event was sent; changing the map has no effect.
//
// # A hub with handlers in several languages
//
// The service treats the state as opaque text. This package encodes it as base64 of one JSON object, like the
// JavaScript middleware, so handlers in Go and JavaScript can share values.
//
// The .NET middleware also writes an object, but each value is a string: the base64 of the value's bytes. If one value
// has another form, the .NET middleware treats the whole state as empty. A handler that shares a hub with .NET must
// read and set values of type []byte, which encoding/json encodes as base64:
//
//	var count []byte                                      // "2" for the number 2
//	ok, err := r.State.Get("count", &count)
//	response.SetState = map[string]any{"count": []byte("3")}
//
// A state of any other form is kept unchanged: State is then empty, and [Event.RawState] holds the text.
type State map[string]json.RawMessage

// Get decodes a value of the state into value, a pointer, like [json.Unmarshal]. If the state does not have the name,
// Get returns false and leaves value unchanged. If the value does not decode, Get returns an error.
func (s State) Get(name string, value any) (bool, error) {
	data, ok := s[name]
	if !ok {
		return false, nil
	}
	if err := json.Unmarshal(data, value); err != nil {
		return false, fmt.Errorf("eventhandler: state %q: %w", name, err)
	}
	return true, nil
}

// parseState returns the values of a state, or nil if the text is not base64 of a JSON object. Like the JavaScript
// middleware, it accepts both base64 alphabets, with and without padding.
func parseState(text string) State {
	if text == "" {
		return State{}
	}
	standard := strings.NewReplacer("-", "+", "_", "/").Replace(strings.TrimRight(text, "="))
	data, err := base64.RawStdEncoding.DecodeString(standard)
	if err != nil || !utf8.Valid(data) { // json.Unmarshal would change names that are not UTF-8
		return nil
	}
	var state State
	if json.Unmarshal(data, &state) != nil {
		return nil
	}
	return state
}

// maxStateBytes limits the states that responses set. The service documents no limit. For incoming states only the
// server's limit on headers applies: many servers allow 32 KiB for all headers, and nginx allows 8 KiB for one.
const maxStateBytes = 32 << 10

// with returns the header for the state, with some values changed.
func (s State) with(values map[string]any) (string, error) {
	state := maps.Clone(s)
	for name, value := range values {
		if value == nil {
			delete(state, name)
			continue
		}
		data, err := json.Marshal(value)
		if err != nil {
			return "", fmt.Errorf("SetState[%q]: %w", name, err)
		}
		state[name] = data
	}
	data, err := json.Marshal(state)
	if err != nil {
		return "", fmt.Errorf("SetState: %w", err)
	}
	header := base64.StdEncoding.EncodeToString(data)
	if len(header) > maxStateBytes {
		return "", fmt.Errorf("SetState makes a state of %d bytes; the limit is %d", len(header), maxStateBytes)
	}
	return header, nil
}

// rawStateProblem describes the problem with a raw state.
func rawStateProblem(text string) string {
	switch {
	case len(text) > maxStateBytes:
		return fmt.Sprintf("is longer than %d bytes", maxStateBytes)
	case !isHeaderText(text):
		return "must be printable ASCII that neither begins nor ends with a space, because it is sent in an HTTP header"
	}
	return ""
}

// isHeaderText reports whether a text arrives unchanged as the value of an HTTP header.
func isHeaderText(text string) bool {
	return strings.Trim(text, " ") == text && !strings.ContainsFunc(text, func(r rune) bool { return r < ' ' || r > '~' })
}
