package eventhandler

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"

	"github.com/awps-go/webpubsub"
	"github.com/awps-go/webpubsub/internal/keycredential"
)

// keys returns a function for each key, which returns the key's current value.
func (o *Options) keys() ([]func() (string, error), error) {
	var keys []func() (string, error)
	fixed := func(key string) { keys = append(keys, func() (string, error) { return key, nil }) }
	for i, key := range o.AccessKeys {
		if key == "" { // an unset environment variable must not make signatures forgeable
			return nil, invalid(fmt.Sprintf("AccessKeys[%d]", i), "is empty")
		}
		fixed(key)
	}
	for i, connectionString := range o.ConnectionStrings {
		parsed, err := webpubsub.ParseConnectionString(connectionString)
		if err != nil {
			return nil, fmt.Errorf("eventhandler: New: Options.ConnectionStrings[%d]: %w", i, err)
		}
		fixed(parsed.AccessKey)
	}
	for i, credential := range o.KeyCredentials {
		name := fmt.Sprintf("KeyCredentials[%d]", i)
		source, err := keycredential.New(credential)
		if err != nil {
			return nil, invalid(name, err.Error())
		}
		keys = append(keys, func() (string, error) { return source.Key(context.Background()) })
	}
	switch {
	case len(keys) == 0 && !o.DangerouslyDisableSignatureVerification:
		return nil, invalid("AccessKeys", "is empty, and so are KeyCredentials and ConnectionStrings: "+
			"a handler needs a key to verify signatures")
	case len(keys) > 0 && o.DangerouslyDisableSignatureVerification:
		return nil, invalid("DangerouslyDisableSignatureVerification", "cannot be combined with keys")
	}
	return keys, nil
}

// maxSignatures limits the signatures in a request. The service sends two.
const maxSignatures = 8

// verify checks that one of the signatures is the HMAC-SHA256 of the connection ID, made with one of the keys.
func (h *Handler) verify(signatures, connectionID string) error {
	if h.options.DangerouslyDisableSignatureVerification {
		return nil
	}
	if signatures == "" {
		return errors.New("the header ce-signature is missing")
	}
	given := strings.Split(signatures, ",")
	if len(given) > maxSignatures {
		return fmt.Errorf("the header ce-signature lists more than %d signatures", maxSignatures)
	}
	for _, read := range h.keys {
		key, err := read()
		if err != nil || key == "" {
			continue // never verify with the empty key of an updated credential
		}
		mac := hmac.New(sha256.New, []byte(key))
		mac.Write([]byte(connectionID))
		want := mac.Sum(nil)
		for _, signature := range given {
			digits, found := strings.CutPrefix(strings.TrimSpace(signature), "sha256=")
			if got, err := hex.DecodeString(digits); found && err == nil && hmac.Equal(got, want) {
				return nil
			}
		}
	}
	return errors.New("the header ce-signature has no signature made with a key of this handler")
}
