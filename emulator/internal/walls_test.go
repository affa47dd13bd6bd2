// Package internal_test checks which packages the emulator's internal packages (its rooms) may import, and which packages the
// module's public packages may depend on.
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

// mayImport lists the rooms that each room may import. A new room needs a line here.
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

// notInKernel lists the packages that the kernel must not depend on, directly or indirectly.
var notInKernel = []string{"net", "crypto/tls", "crypto/x509", "github.com/coder/websocket", "github.com/golang-jwt",
	"github.com/eclipse"}

// goPackage is a package in the output of go list.
type goPackage struct {
	ImportPath    string
	Imports, Deps []string // without the imports of tests
}

// listPackages returns the packages that match a pattern of go list, by import path.
func listPackages(t *testing.T, pattern string) map[string]goPackage {
	t.Helper()
	registerSources(t)
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

// registerSources stats every source file of the module. This makes go test rerun these tests when a file changes: its cache
// knows the files that a test opens or stats, but not those that go list reads.
func registerSources(t *testing.T) {
	t.Helper()
	require.NoError(t, filepath.WalkDir("../..", func(path string, entry fs.DirEntry, err error) error {
		if err == nil && filepath.Ext(path) == ".go" {
			_, err = os.Stat(path)
		}
		return err
	}))
}

// isOrBelow reports whether path is parent or a package below it.
func isOrBelow(path, parent string) bool {
	return path == parent || strings.HasPrefix(path, parent+"/")
}

func TestTheKernelDoesNotDependOnTheNetwork(t *testing.T) {
	kernel := listPackages(t, "./emulator/internal/hub")[rooms+"hub"]
	require.NotEmpty(t, kernel.Deps)
	for _, dep := range kernel.Deps {
		for _, forbidden := range notInKernel {
			require.False(t, isOrBelow(dep, forbidden), "the kernel must not depend on %s", dep)
		}
	}
}

func TestRoomsImportOnlyRoomsBelowThem(t *testing.T) {
	packages := listPackages(t, "./emulator/internal/...")
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
			require.True(t, isRoom, "the room %s must not import %s, which is above it", room, imported)
			require.Contains(t, allowed, below, "the room %s must not import %s", room, below)
		}
	}
	for room, below := range mayImport {
		require.Contains(t, packages, rooms+room)
		for _, b := range below {
			require.NotContains(t, mayImport[b], room, "mayImport lets %s and %s import each other", room, b)
		}
	}
}

func TestPublicPackagesDependOnlyOnAllowedPackages(t *testing.T) {
	for _, wall := range []struct {
		pattern   string
		forbidden []string // and all packages below them
		optional  bool
	}{
		{pattern: ".", forbidden: []string{module + "/wsclient", module + "/eventhandler", module + "/emulator", module + "/cmd",
			"github.com/coder/websocket"}},
		{pattern: "./eventhandler", forbidden: []string{module + "/wsclient", module + "/emulator", "github.com/coder/websocket"}},
		{pattern: "./emulator", forbidden: []string{module + "/wsclient", module + "/eventhandler",
			"github.com/Azure/azure-sdk-for-go"}},
		{pattern: "./wsclient", optional: true, forbidden: []string{module + "/eventhandler", module + "/emulator",
			"github.com/Azure/azure-sdk-for-go", "github.com/golang-jwt"}},
	} {
		t.Run(wall.pattern, func(t *testing.T) {
			path := strings.TrimSuffix(module+"/"+strings.TrimLeft(wall.pattern, "./"), "/")
			p := listPackages(t, wall.pattern)[path]
			if wall.optional && len(p.Deps) == 0 {
				t.Skip("the package does not exist")
			}
			require.NotEmpty(t, p.Deps)
			for _, dep := range p.Deps {
				for _, forbidden := range wall.forbidden {
					require.False(t, isOrBelow(dep, forbidden) && !isOrBelow(path, forbidden), "it must not depend on %s", dep)
				}
				if isOrBelow(dep, module) && wall.pattern != "./eventhandler" { // eventhandler may import the root
					own := path != module && isOrBelow(dep, path)
					require.True(t, own || isOrBelow(dep, module+"/internal"), "it must not depend on %s", dep)
				}
			}
		})
	}
}
