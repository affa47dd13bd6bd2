// Package internal_test keeps the walls between the rooms of the emulator, and those between the packages of the module.
package internal_test

import (
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

const (
	module = "github.com/awps-go/webpubsub"
	rooms  = module + "/emulator/internal/"
)

// mayImport is which rooms each room may import, of those below it. A new room gets a line.
var mayImport = map[string][]string{
	"text":       nil,
	"odata":      nil,
	"recent":     nil,
	"hub":        {"odata", "text"},
	"watch":      {"hub"},
	"mqttpacket": nil,
	"protocol":   {"hub", "mqttpacket", "text"},
	"wire":       {"hub", "text"},
	"faults":     {"hub", "wire"},
	"token":      {"text", "wire"},
	"handshake":  {"faults", "hub", "protocol", "text", "token", "wire"},
	"client":     {"handshake", "hub", "protocol", "wire"},
	"mqtt":       {"handshake", "hub", "mqttpacket", "protocol", "text", "wire"},
	"rest":       {"faults", "hub", "odata", "protocol", "recent", "text", "token", "wire"},
	"tunnel":     {"handshake", "hub", "protocol", "wire"},
	"events":     {"faults", "hub", "protocol", "recent", "text", "tunnel"},
	"liveview":   {"hub", "text", "watch", "wire"},
}

// kernelKnowsNot is what the kernel must not depend on, however indirectly.
var kernelKnowsNot = []string{"net", "crypto/tls", "crypto/x509", "github.com/coder/websocket", "github.com/golang-jwt",
	"github.com/eclipse"}

// goPackage is what go list knows of a package.
type goPackage struct {
	ImportPath    string
	Imports, Deps []string // without those of tests
}

// list returns the packages of a pattern, by import path.
func list(t *testing.T, pattern string) map[string]goPackage {
	t.Helper()
	noticeSources(t)
	cmd := exec.CommandContext(t.Context(), "go", "list", "-e", "-json=ImportPath,Imports,Deps", pattern)
	cmd.Dir = "../.." // the module's root
	out, err := cmd.Output()
	require.NoError(t, err)
	all := make(map[string]goPackage)
	for d := json.NewDecoder(strings.NewReader(string(out))); ; {
		var p goPackage
		err := d.Decode(&p)
		if errors.Is(err, io.EOF) {
			return all
		}
		require.NoError(t, err)
		all[p.ImportPath] = p
	}
}

// noticeSources looks at every source file of the module, so that go test runs these tests again when one of them has
// changed: it does not know what go list reads.
func noticeSources(t *testing.T) {
	t.Helper()
	require.NoError(t, filepath.WalkDir("../..", func(path string, entry fs.DirEntry, err error) error {
		if err == nil && filepath.Ext(path) == ".go" {
			_, err = os.Stat(path)
		}
		return err
	}))
}

// isOrBelow reports whether a package is another one or in a folder below it.
func isOrBelow(path, parent string) bool {
	return path == parent || strings.HasPrefix(path, parent+"/")
}

func TestTheKernelKnowsNoNetwork(t *testing.T) {
	kernel := list(t, "./emulator/internal/hub")[rooms+"hub"]
	require.NotEmpty(t, kernel.Deps)
	for _, dep := range kernel.Deps {
		for _, unknown := range kernelKnowsNot {
			require.False(t, isOrBelow(dep, unknown), "the kernel depends on %s", dep)
		}
	}
}

func TestArrowsBetweenRoomsRunDownOnly(t *testing.T) {
	packages := list(t, "./emulator/internal/...")
	for path, p := range packages {
		room := strings.TrimPrefix(path, rooms)
		if path == strings.TrimSuffix(rooms, "/") { // this test
			continue
		}
		allowed, known := mayImport[room]
		require.True(t, known, "the room %s has no line in mayImport", room)
		for _, imported := range p.Imports {
			if !isOrBelow(imported, module) || isOrBelow(imported, module+"/internal") {
				continue
			}
			below, isRoom := strings.CutPrefix(imported, rooms)
			require.True(t, isRoom, "the room %s imports %s, which is above it", room, imported)
			require.Contains(t, allowed, below, "the room %s imports %s", room, below)
		}
	}
	for room, below := range mayImport {
		require.Contains(t, packages, rooms+room)
		for _, b := range below {
			require.NotContains(t, mayImport[b], room, "%s and %s may import each other", room, b)
		}
	}
}

func TestThePackagesOfTheModuleKeepTheirDistance(t *testing.T) {
	for _, wall := range []struct {
		pattern  string
		unknown  []string // with what is below them
		optional bool
	}{
		{pattern: ".", unknown: []string{module + "/wsclient", module + "/eventhandler", module + "/emulator", module + "/cmd",
			"github.com/coder/websocket"}},
		{pattern: "./eventhandler", unknown: []string{module + "/wsclient", module + "/emulator", "github.com/coder/websocket"}},
		{pattern: "./emulator", unknown: []string{module + "/wsclient", module + "/eventhandler",
			"github.com/Azure/azure-sdk-for-go"}},
		{pattern: "./wsclient", optional: true, unknown: []string{module + "/eventhandler", module + "/emulator",
			"github.com/Azure/azure-sdk-for-go", "github.com/golang-jwt"}},
	} {
		t.Run(wall.pattern, func(t *testing.T) {
			path := strings.TrimSuffix(module+"/"+strings.TrimLeft(wall.pattern, "./"), "/")
			p := list(t, wall.pattern)[path]
			if wall.optional && len(p.Deps) == 0 {
				t.Skip("there is no such package yet")
			}
			require.NotEmpty(t, p.Deps)
			for _, dep := range p.Deps {
				for _, unknown := range wall.unknown {
					require.False(t, isOrBelow(dep, unknown) && !isOrBelow(path, unknown), "it depends on %s", dep)
				}
				if isOrBelow(dep, module) && wall.pattern != "./eventhandler" { // which may import the root
					own := path != module && isOrBelow(dep, path)
					require.True(t, own || isOrBelow(dep, module+"/internal"), "it depends on %s", dep)
				}
			}
		})
	}
}
