package webpubsub

import (
	"net"
	"strconv"
	"strings"

	"github.com/awps-go/webpubsub/internal/redact"
)

// ConnectionString holds the parts of a connection string from the Azure portal, as [ParseConnectionString] returns them.
type ConnectionString struct {
	// Endpoint is the URL of the service, such as https://NAME.webpubsub.azure.com. If the connection string has a Port,
	// the URL has that port.
	Endpoint string

	// AccessKey is the key, as text. It is omitted when a ConnectionString is printed or encoded as JSON.
	AccessKey string `json:"-"`
}

// String returns the connection string without the key.
func (c ConnectionString) String() string {
	return "Endpoint=" + c.Endpoint + ";AccessKey=" + redact.Mark + ";Version=1.0;"
}

// GoString returns the same as String, so that %#v does not print the key either.
func (c ConnectionString) GoString() string { return c.String() }

// ParseConnectionString parses a connection string such as
//
//	Endpoint=https://NAME.webpubsub.azure.com;AccessKey=KEY;Version=1.0;
//
// The parts may be in any order and their names in any case. Values may contain =. A Port replaces the port of the
// endpoint. Parts with other names are ignored.
//
// It returns [ErrInvalidArgument] if
//   - Endpoint or AccessKey is missing. A connection string without AccessKey is for Microsoft Entra ID: use [NewClient].
//   - a part is not name=value, is empty, or is given twice.
//   - the endpoint is not an http or https URL, or Port is not a port number.
//
// The error names the fault and never holds the key.
func ParseConnectionString(connectionString string) (ConnectionString, error) {
	return parseConnectionString("ParseConnectionString", connectionString)
}

func parseConnectionString(operation, connectionString string) (ConnectionString, error) {
	refuse := func(format string, args ...any) (ConnectionString, error) {
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
			return refuse("part %d is not name=value", i+1)
		}
		known, ok := values[strings.ToLower(name)]
		if !ok {
			continue
		}
		if known != "" {
			return refuse("%s is given twice", name)
		}
		if value = strings.TrimSpace(value); value == "" {
			return refuse("%s is empty", name)
		}
		values[strings.ToLower(name)] = value
	}
	if strings.TrimSpace(connectionString) == "" {
		return refuse("is empty (is the environment variable set?)")
	}
	if values["endpoint"] == "" {
		return refuse("Endpoint is missing")
	}
	u, problem := parseEndpoint(values["endpoint"])
	if problem != "" {
		return refuse("Endpoint %s", problem)
	}
	if values["accesskey"] == "" {
		return refuse("AccessKey is missing; to authenticate with Microsoft Entra ID, call NewClient with the endpoint and a credential")
	}
	if text := values["port"]; text != "" {
		if port, err := strconv.ParseUint(text, 10, 16); err != nil || port == 0 {
			return refuse("Port is not a port number from 1 to 65535")
		}
		u.Host = net.JoinHostPort(u.Hostname(), text)
	}
	return ConnectionString{Endpoint: baseURL(u), AccessKey: values["accesskey"]}, nil
}
