package webpubsub

import (
	"net"
	"strconv"
	"strings"
)

// ConnectionString is what a connection string of the Azure portal says, as [ParseConnectionString] returns it.
type ConnectionString struct {
	// Endpoint is the URL of the service, as https://NAME.webpubsub.azure.com, with the port that the connection string's
	// Port names.
	Endpoint string

	// AccessKey is the key, as text. It is left out when a ConnectionString is printed or encoded as JSON.
	AccessKey string `json:"-"`
}

// String returns the connection string with the key left out.
func (c ConnectionString) String() string {
	return "Endpoint=" + c.Endpoint + ";AccessKey=" + redacted + ";Version=1.0;"
}

// GoString is String, so that %#v does not print the key either.
func (c ConnectionString) GoString() string { return c.String() }

// ParseConnectionString reads a connection string, as
//
//	Endpoint=https://NAME.webpubsub.azure.com;AccessKey=KEY;Version=1.0;
//
// Its parts may stand in any order and their names in any case; values may contain =. A Port replaces the port of the
// endpoint. Parts of other names are passed over.
//
// A missing Endpoint or AccessKey, a part that is no name=value, a part given twice, an endpoint that is not http or
// https and a Port that is no port number are each an [ErrInvalidArgument] that names the fault, and never the key.
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
	if values["accesskey"] == "" {
		return refuse("AccessKey is missing")
	}
	u, problem := parseEndpoint(values["endpoint"])
	if problem != "" {
		return refuse("Endpoint %s", problem)
	}
	if text := values["port"]; text != "" {
		if port, err := strconv.ParseUint(text, 10, 16); err != nil || port == 0 {
			return refuse("Port is no port number from 1 to 65535")
		}
		u.Host = net.JoinHostPort(u.Hostname(), text)
	}
	return ConnectionString{Endpoint: baseURL(u), AccessKey: values["accesskey"]}, nil
}
