package eventhandler

import (
	"bytes"
	"cmp"
	"encoding/json"
	"net/http"
)

// MQTTUserProperty is a user property of an MQTT 5.0 packet. A packet may have several with the same name.
type MQTTUserProperty struct {
	Name  string `json:"name"`
	Value string `json:"value"`
}

// MQTTConnect holds the fields of an MQTT client's CONNECT packet.
type MQTTConnect struct {
	// ProtocolVersion is 4 for MQTT 3.1.1 and 5 for MQTT 5.0.
	ProtocolVersion int `json:"protocolVersion"`

	// Username is empty if the client sent none.
	Username string `json:"username"`

	// Password holds the bytes that the client sent, which need not be text. It is empty if the client sent none. (The
	// service sends the password in base64.)
	Password string `json:"password"`

	// UserProperties are the user properties of the packet.
	UserProperties []MQTTUserProperty `json:"userProperties"`
}

// UnmarshalJSON decodes the member mqtt of a connect event.
func (c *MQTTConnect) UnmarshalJSON(data []byte) error {
	type plain MQTTConnect // without this method
	packet := struct {
		*plain
		Password []byte `json:"password"`
	}{plain: (*plain)(c)}
	if err := json.Unmarshal(data, &packet); err != nil {
		return err
	}
	c.Password = string(packet.Password)
	return nil
}

// MQTTDisconnect describes how an MQTT client's session ended.
type MQTTDisconnect struct {
	// InitiatedByClient reports whether the client ended the session with a DISCONNECT packet.
	InitiatedByClient bool `json:"initiatedByClient"`

	// DisconnectPacket is the DISCONNECT packet that the client or the service sent. It is nil if there was none, for
	// example because the network connection was lost.
	DisconnectPacket *MQTTDisconnectPacket `json:"disconnectPacket"`
}

// MQTTDisconnectPacket is a DISCONNECT packet.
type MQTTDisconnectPacket struct {
	// Code is the MQTT 5.0 reason code; 0 is a normal disconnection.
	Code byte `json:"code"`

	// UserProperties are the user properties of the packet.
	UserProperties []MQTTUserProperty `json:"userProperties"`
}

// The protocol versions of MQTT.
const (
	mqtt311 = 4
	mqtt50  = 5
)

// mqttVersion returns the protocol version of an MQTT client, or 0 for any other client.
func (r *ConnectRequest) mqttVersion() int {
	switch {
	case r.MQTT != nil:
		return cmp.Or(r.MQTT.ProtocolVersion, mqtt50)
	case r.IsMQTT():
		return mqtt50
	}
	return 0
}

// failedMQTTVersion is like mqttVersion, for a request that is rejected before it was decoded. It reads the body if
// body is nil.
func (h *Handler) failedMQTTVersion(w http.ResponseWriter, r *http.Request, body []byte) int {
	if r.Header.Get("ce-type") != typeSystemPrefix+"connect" || r.Header.Get("ce-physicalConnectionId") == "" {
		return 0
	}
	if body == nil {
		body, _ = h.readBody(w, r)
	}
	var event struct {
		MQTT struct{ ProtocolVersion int }
	}
	_ = json.Unmarshal(body, &event)
	return cmp.Or(event.MQTT.ProtocolVersion, mqtt50)
}

// mqttFailure returns the answer to a connect event of an MQTT client that failed without a decision of the
// application.
func mqttFailure(status int, reason string, version int) *answer {
	code := byte(0x83) // implementation specific error
	switch {
	case status == http.StatusUnauthorized || status == http.StatusForbidden:
		code = mqttCode(status, version)
	case version == mqtt311:
		code = 0x03 // server unavailable
	case status >= http.StatusInternalServerError:
		code = 0x88 // server unavailable
	}
	return mqttAnswer(status, code, reason, nil)
}

// mqttAnswer returns the answer to a connect event of an MQTT client. The code goes into its CONNACK packet.
func mqttAnswer(status int, code byte, reason string, properties []MQTTUserProperty) *answer {
	type mqtt struct {
		Code           byte               `json:"code"`
		Reason         string             `json:"reason,omitempty"`
		UserProperties []MQTTUserProperty `json:"userProperties,omitempty"`
	}
	data, _ := json.Marshal(struct { // strings and numbers always encode
		MQTT mqtt `json:"mqtt"`
	}{mqtt{code, reason, properties}})
	return &answer{status: status, header: http.Header{"Content-Type": {ContentTypeJSON + "; charset=utf-8"}}, body: bytes.NewReader(data)}
}

// mqttCode returns the CONNACK code for the status of a rejection. For 400, 401 and 500 it is the choice of the
// JavaScript middleware; for other statuses it is the code with that meaning.
func mqttCode(status, version int) byte {
	if version == mqtt311 {
		switch status {
		case http.StatusBadRequest:
			return 0x04 // bad user name or password
		case http.StatusUnauthorized, http.StatusForbidden:
			return 0x05 // not authorized
		}
		return 0x03 // server unavailable
	}
	switch status {
	case http.StatusBadRequest:
		return 0x86 // bad user name or password
	case http.StatusUnauthorized, http.StatusForbidden:
		return 0x87 // not authorized
	case http.StatusTooManyRequests:
		return 0x9F // connection rate exceeded
	case http.StatusServiceUnavailable:
		return 0x88 // server unavailable
	}
	return 0x80 // unspecified error
}

// mqttStatus returns the status for a CONNACK code.
func mqttStatus(code byte) int {
	status := map[byte]int{
		0x01: http.StatusBadRequest, // MQTT 3.1.1: unacceptable protocol version
		0x02: http.StatusBadRequest, // identifier rejected
		0x03: http.StatusServiceUnavailable,
		0x04: http.StatusUnauthorized, // bad user name or password
		0x05: http.StatusUnauthorized, // not authorized

		0x81: http.StatusBadRequest, // MQTT 5.0: malformed packet
		0x82: http.StatusBadRequest, // protocol error
		0x83: http.StatusBadRequest, // implementation specific error
		0x84: http.StatusBadRequest, // unsupported protocol version
		0x85: http.StatusBadRequest, // client identifier not valid
		0x86: http.StatusUnauthorized,
		0x87: http.StatusUnauthorized,
		0x8A: http.StatusForbidden,       // banned
		0x8C: http.StatusBadRequest,      // bad authentication method
		0x90: http.StatusBadRequest,      // topic name invalid
		0x95: http.StatusBadRequest,      // packet too large
		0x97: http.StatusTooManyRequests, // quota exceeded
		0x99: http.StatusBadRequest,      // payload format invalid
		0x9A: http.StatusBadRequest,      // retain not supported
		0x9B: http.StatusBadRequest,      // QoS not supported
		0x9F: http.StatusTooManyRequests, // connection rate exceeded
	}[code]
	return cmp.Or(status, http.StatusInternalServerError)
}
