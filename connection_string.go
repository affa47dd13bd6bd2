package webpubsub

import (
	"net"
	"strconv"
	"strings"

	"github.com/awps-go/webpubsub/internal/redact"
)

// ConnectionString holds the parts of a connection string from the Azure portal. [ParseConnectionString] returns it.
type ConnectionString struct {
	// Endpoint is the URL of the service, such as https://NAME.webpubsub.azure.com. It includes the Port of the
	// connection string, if there is one.
	Endpoint string

	// AccessKey is the access key. It is omitted when a ConnectionString is printed or encoded as JSON.
	AccessKey string `json:"-"`
}

// String returns the connection string without the key.
func (c ConnectionString) String() string {
	return "Endpoint=" + c.Endpoint + ";AccessKey=" + redact.Mark + ";Version=1.0;"
}

// GoString returns the same text as String, so that %#v does not print the key.
func (c ConnectionString) GoString() string { return c.String() }

// ParseConnectionString parses a connection string such as
//
//	Endpoint=https://NAME.webpubsub.azure.com;AccessKey=KEY;Version=1.0;
//
// The parts may be in any order, and the case of their names does not matter. Values may contain =. A Port replaces the
// port of the endpoint. Parts with other names are ignored.
//
// ParseConnectionString returns [ErrInvalidArgument] if
//   - Endpoint or AccessKey is missing. For a connection string without AccessKey, which is for Microsoft Entra ID, use
//     [NewClient].
//   - a part is not name=value, or the value of Endpoint, AccessKey or Port is empty or given twice.
//   - the endpoint is not an http or https URL, or Port is not a port number.
//
// The error describes the problem. It never contains the key.
func ParseConnectionString(connectionString string) (ConnectionString, error) {
	return parseConnectionString("ParseConnectionString", connectionString)
}

func parseConnectionString(operation, connectionString string) (ConnectionString, error) {
	reject := func(format string, args ...any) (ConnectionString, error) {
		return ConnectionString{}, invalid(operation, "connectionString", format, args...)
	}
	values := map[string]string{"endpoint": "", "accesskey": "", "port": ""}
	for i, part := range strings.Split(connectionString, ";") {
		if part = strings.TrimSpace(part); part == "" {
			continue
		}
		name, value, found := strings.Cut(part, "=")
		name = strings.TrimSpace(name)
		if !found || name == "" {
			return reject("part %d is not name=value", i+1)
		}
		known, ok := values[strings.ToLower(name)]
		if !ok {
			continue
		}
		if known != "" {
			return reject("%s is given twice", name)
		}
		if value = strings.TrimSpace(value); value == "" {
			return reject("%s is empty", name)
		}
		values[strings.ToLower(name)] = value
	}
	if strings.TrimSpace(connectionString) == "" {
		return reject("is empty (is the environment variable set?)")
	}
	if values["endpoint"] == "" {
		return reject("Endpoint is missing")
	}
	u, problem := parseEndpoint(values["endpoint"])
	if problem != "" {
		return reject("Endpoint %s", problem)
	}
	if values["accesskey"] == "" {
		return reject("AccessKey is missing; to authenticate with Microsoft Entra ID, call NewClient with the endpoint and a credential")
	}
	if text := values["port"]; text != "" {
		if port, err := strconv.ParseUint(text, 10, 16); err != nil || port == 0 {
			return reject("Port must be a number from 1 to 65535")
		}
		u.Host = net.JoinHostPort(u.Hostname(), text)
	}
	return ConnectionString{Endpoint: baseURL(u), AccessKey: values["accesskey"]}, nil
}
