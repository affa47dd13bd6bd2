package eventhandler

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"maps"
)

// State is the state of a connection: named JSON values that the answer to a connect or user event sets (see SetState
// in [ConnectResponse] and [UserEventResponse]), and that the service sends back with every later event of the
// connection. On the wire it is what the JavaScript middleware makes of it, base64 of a JSON object, so that handlers
// in both languages can share a hub.
//
// A State is what was when the event was sent; changing the map changes nothing.
type State map[string]json.RawMessage

// Get decodes a value of the state into value, a pointer, as json.Unmarshal does. It returns false, and leaves value as
// it is, if the state has no such name.
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

// parseState reads a state from the header.
func parseState(header string) (State, error) {
	state := State{}
	if header == "" {
		return state, nil
	}
	data, err := base64.StdEncoding.DecodeString(header)
	if err != nil {
		return nil, fmt.Errorf("the header ce-connectionState is not base64")
	}
	if err := json.Unmarshal(data, &state); err != nil || state == nil {
		return nil, fmt.Errorf("the header ce-connectionState is not a JSON object in base64")
	}
	return state, nil
}

// with returns the header for the state with some values changed.
func (s State) with(values map[string]any) (string, error) {
	state := maps.Clone(s)
	for name, value := range values {
		if value == nil {
			delete(state, name)
			continue
		}
		data, err := json.Marshal(value)
		if err != nil {
			return "", fmt.Errorf("eventhandler: SetState %q: %w", name, err)
		}
		state[name] = data
	}
	data, err := json.Marshal(state)
	if err != nil {
		return "", fmt.Errorf("eventhandler: SetState: %w", err)
	}
	header := base64.StdEncoding.EncodeToString(data)
	if len(header) > maxStateBytes {
		return "", fmt.Errorf("eventhandler: SetState: the state takes %d bytes, more than %d", len(header), maxStateBytes)
	}
	return header, nil
}
