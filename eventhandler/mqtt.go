package eventhandler

import (
	"cmp"
	"errors"
	"net/http"
)

// MQTTUserProperty is a user property of an MQTT 5.0 packet. A packet may hold several of one name.
type MQTTUserProperty struct {
	Name  string `json:"name"`
	Value string `json:"value"`
}

// MQTTConnect is what an MQTT client sends in its CONNECT packet.
type MQTTConnect struct {
	// ProtocolVersion is 4 for MQTT 3.1.1 and 5 for MQTT 5.0.
	ProtocolVersion int `json:"protocolVersion"`

	// Username and Password are as the client sent them; empty if it sent none.
	Username string `json:"username"`
	Password string `json:"password"`

	// UserProperties are those of the packet.
	UserProperties []MQTTUserProperty `json:"userProperties"`
}

// MQTTDisconnect says how an MQTT client's connection ended.
type MQTTDisconnect struct {
	// InitiatedByClient says whether the client ended it with a DISCONNECT packet.
	InitiatedByClient bool `json:"initiatedByClient"`

	// DisconnectPacket is the DISCONNECT packet that the client or the service sent; nil if there was none.
	DisconnectPacket *MQTTDisconnectPacket `json:"disconnectPacket"`
}

// MQTTDisconnectPacket is a DISCONNECT packet.
type MQTTDisconnectPacket struct {
	// Code is the MQTT 5.0 reason code; 0 is a normal disconnection.
	Code byte `json:"code"`

	// UserProperties are those of the packet.
	UserProperties []MQTTUserProperty `json:"userProperties"`
}

// mqtt311 is the protocol version of MQTT 3.1.1.
const mqtt311 = 4

// mqttRejection completes the rejection of an MQTT client with the code for its CONNACK packet. Errors that are no
// rejection stay as they are.
func mqttRejection(r *ConnectRequest, err error) error {
	rejection, ok := errors.AsType[*RejectError](err)
	if r.MQTT == nil || !ok || rejection == nil {
		return err
	}
	complete := *rejection
	complete.forMQTT = true
	if complete.MQTTCode == 0 {
		complete.MQTTCode = mqttCode(rejection.status(), r.MQTT.ProtocolVersion)
	}
	return &complete
}

// mqttCode is the CONNACK code for a status: the JavaScript middleware's choice for 400, 401 and 500, and the code of
// that meaning for the others.
func mqttCode(status, version int) byte {
	if version == mqtt311 {
		switch {
		case status == http.StatusBadRequest:
			return 0x04 // bad user name or password
		case status == http.StatusUnauthorized, status == http.StatusForbidden:
			return 0x05 // not authorized
		}
		return 0x03 // server unavailable
	}
	switch {
	case status == http.StatusBadRequest:
		return 0x86 // bad user name or password
	case status == http.StatusUnauthorized, status == http.StatusForbidden:
		return 0x87 // not authorized
	case status == http.StatusTooManyRequests:
		return 0x9F // connection rate exceeded
	case status == http.StatusServiceUnavailable:
		return 0x88 // server unavailable
	}
	return 0x80 // unspecified error
}

// mqttStatus is the status for a CONNACK code; 0 is no code.
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
