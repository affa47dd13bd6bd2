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

// This file holds the parts of events that are specific to MQTT clients.

// mqttHeader is the prefix of the headers that carry user properties, in lower case.
const mqttHeader = "mqtt-"

// mqttUserEvent sends an MQTT client's event to the application. The client receives every response, including an error.
func (u *Sender) mqttUserEvent(ctx context.Context, h *handler, c *hub.Connection, e *hub.UserEvent, detail *protocol.MQTTEvent) error {
	request := userEvent(e)
	request.contentType, request.metadata = detail.ContentType, nil
	for _, p := range detail.UserProperties {
		request.header = append(request.header, field{mqttHeader + p.Name, strings.Trim(p.Value, " \t")}) // HTTP trims it anyway
	}
	d := u.newDelivery(h, c, c.NextEventID(), request)
	for _, p := range detail.UserProperties {
		if d.fault == nil && !httpguts.ValidHeaderFieldName(p.Name) {
			d.fault = fmt.Errorf("the user property name %.80q is not a valid HTTP header name", p.Name)
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

// mqttAnswer converts a response to the form that the MQTT client receives.
func mqttAnswer(a *answer) *protocol.MQTTAnswer {
	answer := &protocol.MQTTAnswer{Status: a.status, ContentType: a.contentType(), Body: a.body}
	for _, name := range slices.Sorted(maps.Keys(a.header)) {
		if key, ok := strings.CutPrefix(strings.ToLower(name), mqttHeader); ok && key != "" {
			for _, value := range a.header[name] {
				answer.UserProperties = append(answer.UserProperties, protocol.MQTTUserProperty{Name: key, Value: value})
			}
		}
	}
	return answer
}

// rejectedMQTT interprets a response that rejects an MQTT client. The reason and the code come from the response's mqtt object.
// Without that object, the reason is the beginning of the body.
func rejectedMQTT(a *answer, rejection *hub.Rejection) (hub.ConnectReply, error) {
	var refused struct {
		MQTT *struct {
			Code           json.RawMessage `json:"code"`
			Reason         json.RawMessage `json:"reason"`
			UserProperties json.RawMessage `json:"userProperties"`
		} `json:"mqtt"`
	}
	if json.Unmarshal(a.body, &refused) == nil && refused.MQTT != nil {
		no := &protocol.MQTTConnack{} // members of the wrong type are ignored: the client is rejected in any case
		_ = json.Unmarshal(refused.MQTT.Reason, &no.Reason)
		_ = json.Unmarshal(refused.MQTT.UserProperties, &no.UserProperties)
		if json.Unmarshal(refused.MQTT.Code, &no.Code) != nil {
			no.Code = 0 // not a valid rejection code; the MQTT server replaces it
		}
		if no.Reason != "" {
			rejection.Reason = no.Reason
		}
		return hub.ConnectReply{Detail: no}, rejection
	}
	if words := strings.TrimSpace(text.Shorten(string(a.body), maxLoggedBody)); words != "" && utf8.ValidString(words) {
		rejection.Reason = words
	}
	return hub.ConnectReply{}, rejection
}
