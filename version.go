package webpubsub

import (
	"runtime"
	"strings"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
)

const (
	moduleName    = "github.com/awps-go/webpubsub"
	moduleVersion = "v0.1.0"
)

// userAgent returns the User-Agent of a client, or "" if telemetry is disabled. Like azcore, it puts the application id
// first, cut to 24 bytes and with spaces replaced by slashes.
func userAgent(options policy.TelemetryOptions) string {
	if options.Disabled {
		return ""
	}
	agent := "awps-go-webpubsub/" + moduleVersion + " (" + runtime.Version() + "; " + runtime.GOOS + ")"
	if id := strings.ReplaceAll(options.ApplicationID, " ", "/"); id != "" {
		agent = id[:min(len(id), 24)] + " " + agent
	}
	return agent
}
