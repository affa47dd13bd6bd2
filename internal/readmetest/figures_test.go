package readmetest

import (
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

var update = flag.Bool("update", false, "write the figures of the README anew")

// TestTheREADMESaysWhatIsCompiled compares the README's table of dependencies with go list -deps.
func TestTheREADMESaysWhatIsCompiled(t *testing.T) {
	table := new(strings.Builder)
	table.WriteString("\n| you import | packages | ours | of other modules |\n| --- | ---: | ---: | --- |\n")
	for _, p := range []struct{ name, path string }{
		{"`webpubsub`", "."}, {"`wsclient`", "./wsclient"}, {"`eventhandler`", "./eventhandler"}, {"`tunnel`", "./tunnel"},
		{"`emulator`, in tests", "./emulator"},
	} {
		table.WriteString(figures(t, p.name, p.path))
	}
	table.WriteString("\n")
	const begin, end = "-update -->\n", "<!-- end of figures -->"
	readme := readMarkdown(t, "README.md")
	before, rest, ok := strings.Cut(readme, begin)
	require.True(t, ok, "the README has the place of the figures")
	written, after, ok := strings.Cut(rest, end)
	require.True(t, ok)
	if *update && written != table.String() {
		require.NoError(t, os.WriteFile(filepath.Join(root, "README.md"), []byte(before+begin+table.String()+end+after), 0o644))
		return
	}
	require.Equal(t, table.String(), written, "to correct the README: go test ./internal/readmetest -update")
}

// figures returns a package's line of the table: how many packages it compiles, by module.
func figures(t *testing.T, name, path string) string {
	t.Helper()
	noticeSources(t)
	cmd := exec.CommandContext(t.Context(), "go", "list", "-deps", "-json=Standard,Module", path)
	cmd.Dir = root
	cmd.Env = append(os.Environ(), "GOOS=linux", "GOARCH=amd64", "CGO_ENABLED=0", "GOFLAGS=")
	out, err := cmd.Output()
	require.NoError(t, err)
	var modules []string // without ours, in the order of their names
	counts := map[string]int{}
	total := 0
	for d := json.NewDecoder(strings.NewReader(string(out))); ; {
		var p struct {
			Standard bool
			Module   struct{ Path string }
		}
		err := d.Decode(&p)
		if errors.Is(err, io.EOF) {
			break
		}
		require.NoError(t, err)
		if p.Standard {
			continue
		}
		total++
		if module := p.Module.Path; counts[module] == 0 && module != "github.com/awps-go/webpubsub" {
			modules = append(modules, module)
		}
		counts[p.Module.Path]++
	}
	slices.Sort(modules)
	var list []string
	for _, module := range modules {
		list = append(list, fmt.Sprintf("%s %d", strings.TrimPrefix(module, "github.com/"), counts[module]))
	}
	return fmt.Sprintf("| %s | %d | %d | %s |\n", name, total, counts["github.com/awps-go/webpubsub"], strings.Join(list, ", "))
}

// noticeSources looks at every source file of the module, so that go test runs these tests again when one has changed: it
// does not know what the go command reads.
func noticeSources(t *testing.T) {
	t.Helper()
	for _, pattern := range []string{"*.go", "*/*.go", "internal/*/*.go", "emulator/internal/*/*.go", "go.mod"} {
		files, err := filepath.Glob(filepath.Join(root, pattern))
		require.NoError(t, err)
		for _, name := range files {
			_, err := os.Stat(name)
			require.NoError(t, err)
		}
	}
}
