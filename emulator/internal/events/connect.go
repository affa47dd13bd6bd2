package events

import (
	"crypto/sha1"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/awps-go/webpubsub/emulator/internal/hub"
	"github.com/awps-go/webpubsub/emulator/internal/protocol"
	"github.com/awps-go/webpubsub/emulator/internal/text"
)

// connectBody is the body of a connect event.
type connectBody struct {
	Claims             map[string][]string   `json:"claims"`
	Query              map[string][]string   `json:"query"`
	Headers            map[string][]string   `json:"headers"`
	Subprotocols       []string              `json:"subprotocols"`
	ClientCertificates []connectCertificate  `json:"clientCertificates"`
	MQTT               *protocol.MQTTConnect `json:"mqtt,omitempty"`
}

type connectCertificate struct {
	Thumbprint string `json:"thumbprint"`
	Content    string `json:"content"`
}

// internalHeaders is the prefix of the service's own headers, in lower case.
const internalHeaders = "x-asrs-internal-"

// newConnectBody describes a handshake for the application. It omits the client's token and the service's own headers.
func newConnectBody(r *hub.ConnectRequest) *connectBody {
	b := &connectBody{
		Claims:       r.Claims,
		Query:        without(r.Query, func(name string) bool { return strings.EqualFold(name, "access_token") }),
		Subprotocols: append([]string{}, r.Subprotocols...), ClientCertificates: []connectCertificate{}, // never null
		Headers: without(r.Header, func(name string) bool {
			return strings.EqualFold(name, "Authorization") || strings.HasPrefix(strings.ToLower(name), internalHeaders)
		}),
	}
	if b.Claims == nil {
		b.Claims = map[string][]string{}
	}
	b.MQTT, _ = r.Detail.(*protocol.MQTTConnect)
	for _, c := range r.Certificates {
		sum := sha1.Sum(c)
		b.ClientCertificates = append(b.ClientCertificates, connectCertificate{
			Thumbprint: strings.ToUpper(hex.EncodeToString(sum[:])),
			Content:    string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c})),
		})
	}
	return b
}

// without returns a copy of items, without those whose name drop accepts. The copy is never nil.
func without(items map[string][]string, drop func(name string) bool) map[string][]string {
	kept := make(map[string][]string, len(items))
	maps.Copy(kept, items)
	maps.DeleteFunc(kept, func(name string, _ []string) bool { return drop(name) })
	return kept
}

// connectReply interprets the response to the connect event of the handshake r. It returns a *hub.Rejection if the response is
// not a success, and another error if the response is invalid.
func connectReply(a *answer, r *hub.ConnectRequest) (hub.ConnectReply, error) {
	if !a.ok() {
		rejection := a.rejection()
		if a.status/100 != 4 { // only the body of a 4xx is meant for the client
			rejection.ContentType, rejection.Body = "", nil
		}
		if r.Detail != nil {
			return rejectedMQTT(a, rejection)
		}
		return hub.ConnectReply{}, rejection
	}
	var body struct { // absent and null members leave the token's values unchanged
		UserID      *string   `json:"userId"`
		Groups      []*string `json:"groups"`
		Roles       []*string `json:"roles"`
		Subprotocol string    `json:"subprotocol"`

		MQTT *protocol.MQTTConnack `json:"mqtt"`
	}
	if len(a.body) > 0 {
		if !utf8.Valid(a.body) {
			return hub.ConnectReply{}, errors.New("the response to connect is not valid UTF-8")
		}
		if err := json.Unmarshal(a.body, &body); err != nil {
			return hub.ConnectReply{}, fmt.Errorf("the response to connect is not the expected JSON: %s", text.JSONFault(err))
		}
	}
	reply := hub.ConnectReply{UserID: body.UserID}
	if body.MQTT != nil {
		reply.Detail = body.MQTT
	}
	if id := body.UserID; id != nil && *id != "" {
		if fault := protocol.CheckUser(*id); fault != "" {
			return hub.ConnectReply{}, fmt.Errorf("the response to connect has an invalid userId: %s", fault)
		}
	}
	var err error
	if reply.Groups, err = names("groups", body.Groups, protocol.CheckGroup); err != nil {
		return hub.ConnectReply{}, err
	}
	if reply.Roles, err = names("roles", body.Roles, checkRole); err != nil {
		return hub.ConnectReply{}, err
	}
	if body.Subprotocol != "" {
		i := slices.IndexFunc(r.Subprotocols, func(offered string) bool { return sameSubprotocol(offered, body.Subprotocol) })
		if i < 0 {
			return hub.ConnectReply{}, fmt.Errorf("the response to connect selects the subprotocol %.80q, which the client does not offer",
				body.Subprotocol)
		}
		reply.Subprotocol = r.Subprotocols[i]
	}
	return reply, nil
}

// sameSubprotocol reports whether a subprotocol that a client offers is the one that the application selects. It ignores case
// for the service's own subprotocols.
func sameSubprotocol(offered, selected string) bool {
	_, known := protocol.FindSubprotocol(selected)
	return offered == selected || known && strings.EqualFold(offered, selected)
}

// names checks a list in the response to connect and returns its members. The result is nil if the list is absent, and not nil
// if the list is empty.
func names(what string, list []*string, check func(string) string) ([]string, error) {
	if list == nil {
		return nil, nil
	}
	all := make([]string, len(list))
	for i, name := range list {
		if name == nil {
			return nil, fmt.Errorf("the response to connect has null in its %s", what)
		}
		if fault := check(*name); fault != "" {
			return nil, fmt.Errorf("the response to connect has an invalid name in its %s: %s", what, fault)
		}
		all[i] = *name
	}
	return all, nil
}

// checkRole returns the fault of a role, or "". Unknown roles are allowed.
func checkRole(role string) string {
	if strings.TrimSpace(role) == "" {
		return "the role is empty"
	}
	return ""
}
