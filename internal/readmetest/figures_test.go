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

var update = flag.Bool("update", false, "update the figures in the README")

// TestTheREADMESaysWhatIsCompiled compares the README's table of dependencies with the output of go list -deps.
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
	require.True(t, ok, "the README has the markers of the figures")
	written, after, ok := strings.Cut(rest, end)
	require.True(t, ok)
	if *update && written != table.String() {
		require.NoError(t, os.WriteFile(filepath.Join(root, "README.md"), []byte(before+begin+table.String()+end+after), 0o644))
		return
	}
	require.Equal(t, table.String(), written, "to update the README: go test ./internal/readmetest -update")
}

// figures returns a package's row of the table: the number of packages that it compiles, by module.
func figures(t *testing.T, name, path string) string {
	t.Helper()
	statSources(t)
	cmd := exec.CommandContext(t.Context(), "go", "list", "-deps", "-json=Standard,Module", path)
	cmd.Dir = root
	cmd.Env = append(os.Environ(), "GOOS=linux", "GOARCH=amd64", "CGO_ENABLED=0", "GOFLAGS=")
	out, err := cmd.Output()
	require.NoError(t, err)
	var modules []string // other modules, sorted by path
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

// statSources calls os.Stat for the module's source files. The go command does not know which files the test's subprocess reads.
// With these calls, it does not use a cached test result after a file has changed.
func statSources(t *testing.T) {
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
