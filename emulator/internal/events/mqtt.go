package events

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"unicode/utf8"

	"golang.org/x/net/http/httpguts"

	"github.com/awps-go/webpubsub/emulator/internal/hub"
	"github.com/awps-go/webpubsub/emulator/internal/protocol"
	"github.com/awps-go/webpubsub/emulator/internal/text"
)

// This file is what events of MQTT clients have that those of others do not.

// mqttHeader begins the names of the headers that carry user properties, in lower case.
const mqttHeader = "mqtt-"

// mqttUserEvent tells the application what an MQTT client has published. The answer is the client's, whatever it is.
func (u *Sender) mqttUserEvent(ctx context.Context, h *handler, c *hub.Connection, e *hub.UserEvent, detail *protocol.MQTTEvent) error {
	request := userEvent(e)
	request.contentType, request.metadata = detail.ContentType, nil
	for _, p := range detail.UserProperties {
		request.header = append(request.header, field{mqttHeader + p.Name, p.Value})
	}
	d := u.deliver(h, c, c.NextEventID(), request)
	for _, p := range detail.UserProperties {
		if d.fault == nil && !httpguts.ValidHeaderFieldName(p.Name) {
			d.fault = fmt.Errorf("the name of the user property %.80q is not an HTTP token, so that no header can carry it", p.Name)
		}
	}
	if err := u.send(ctx, d, func(*answer) error { return nil }); err != nil {
		return err
	}
	detail.Answer = mqttAnswer(d.answer)
	if !d.answer.ok() {
		return d.answer.rejection()
	}
	keepState(c, d.answer)
	return nil
}

// mqttAnswer returns an answer as the client receives it.
func mqttAnswer(a *answer) *protocol.MQTTAnswer {
	answer := &protocol.MQTTAnswer{Status: a.status, Body: a.body}
	if len(a.body) > 0 {
		answer.ContentType = a.contentType()
	}
	for _, name := range slices.Sorted(maps.Keys(a.header)) {
		if key, ok := strings.CutPrefix(strings.ToLower(name), mqttHeader); ok && key != "" {
			for _, value := range a.header[name] {
				answer.UserProperties = append(answer.UserProperties, protocol.MQTTUserProperty{Name: key, Value: value})
			}
		}
	}
	return answer
}

// refusedMQTT returns what an answer that refuses an MQTT client's CONNECT packet says in MQTT's terms, or else in words.
func refusedMQTT(a *answer, rejection *hub.Rejection) (hub.ConnectReply, error) {
	var refused struct {
		MQTT *struct {
			Code           json.RawMessage `json:"code"`
			Reason         json.RawMessage `json:"reason"`
			UserProperties json.RawMessage `json:"userProperties"`
		} `json:"mqtt"`
	}
	if json.Unmarshal(a.body, &refused) == nil && refused.MQTT != nil {
		no := &protocol.MQTTConnack{} // a member of another type is left out: a refusal it is all the same
		_ = json.Unmarshal(refused.MQTT.Reason, &no.Reason)
		_ = json.Unmarshal(refused.MQTT.UserProperties, &no.UserProperties)
		if json.Unmarshal(refused.MQTT.Code, &no.Code) != nil {
			no.Code = 0 // which refuses nobody, and so is no code of a refusal
		}
		if no.Reason != "" {
			rejection.Reason = no.Reason
		}
		return hub.ConnectReply{Detail: no}, rejection
	}
	if words := strings.TrimSpace(text.Shorten(string(a.body), maxSaid)); words != "" && utf8.ValidString(words) {
		rejection.Reason = words
	}
	return hub.ConnectReply{}, rejection
}
