package readmetest

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/awps-go/webpubsub/emulator"
)

// patience bounds every wait of these tests. It elapses only if a test fails.
const patience = 2 * time.Minute

// overlay adds files to the module, below internal/readmetest/blocks, with the go command's flag -overlay. The files are not
// written into the repository.
type overlay struct {
	dir     string
	Replace map[string]string
}

func newOverlay(t *testing.T) *overlay {
	return &overlay{dir: t.TempDir(), Replace: map[string]string{}}
}

// add adds a file to the package in a folder. It returns the pattern that names the package to the go command.
func (o *overlay) add(t *testing.T, folder, name, text string) (pattern string) {
	t.Helper()
	written := filepath.Join(o.dir, fmt.Sprintf("%d.go", len(o.Replace)))
	require.NoError(t, os.WriteFile(written, []byte(text), 0o600))
	virtual, err := filepath.Abs(filepath.Join("blocks", folder, name))
	require.NoError(t, err)
	o.Replace[virtual] = written
	return "./internal/readmetest/blocks/" + folder
}

// run runs the go command in the module's root, with the overlay.
func (o *overlay) run(t *testing.T, args ...string) {
	t.Helper()
	text, err := json.Marshal(o)
	require.NoError(t, err)
	list := filepath.Join(o.dir, "overlay.json")
	require.NoError(t, os.WriteFile(list, text, 0o600))
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	args = append([]string{args[0], "-overlay", list}, args[1:]...)
	cmd := exec.CommandContext(ctx, "go", args...)
	cmd.Dir = root
	out, err := cmd.CombinedOutput()
	require.NoError(t, err, "go %s: a block does not compile: %s", args[0], out)
}

func TestEveryGoBlockCompilesAndTheWholeOnesRun(t *testing.T) {
	assumed, err := os.ReadFile(filepath.Join("testdata", "assumed.go"))
	require.NoError(t, err)

	o := newOverlay(t)
	var compiled, tested, programs []string // package patterns
	seen := map[kind]int{}
	for _, name := range markdownFiles(t) {
		for i, b := range goBlocks(name, readMarkdown(t, name)) {
			seen[b.kind()]++
			folder := fmt.Sprintf("%s%d", strings.NewReplacer("/", "_", ".", "_").Replace(strings.ToLower(name)), i)
			text, err := b.source("fragment")
			require.NoError(t, err)
			switch b.kind() {
			case program:
				programs = append(programs, o.add(t, folder, "main.go", text))
			case file:
				compiled = append(compiled, o.add(t, folder, "file.go", text))
			case tests:
				o.add(t, folder, "assumed_test.go", string(assumed))
				tested = append(tested, o.add(t, folder, "block_test.go", text))
			default:
				o.add(t, folder, "assumed.go", string(assumed))
				compiled = append(compiled, o.add(t, folder, "block.go", text))
			}
		}
	}
	require.NotZero(t, seen[statements])
	require.NotEmpty(t, tested, "the README has a test")
	require.NotEmpty(t, programs, "the README has a program")

	o.run(t, append([]string{"build"}, compiled...)...)
	for _, p := range tested { // go test alone would fail, because it runs the test in the package's folder, which does not exist
		binary := filepath.Join(t.TempDir(), "block.test.exe")
		o.run(t, "test", "-vet=off", "-c", "-o", binary, p)
		require.Contains(t, output(t, "", binary, "-test.v"), "--- PASS: Test", p)
	}
	for _, p := range programs {
		binary := filepath.Join(t.TempDir(), "program.exe")
		o.run(t, "build", "-o", binary, p)
		require.NotEmpty(t, output(t, emulator.StartT(t, nil).ConnectionString(), binary), "%s prints what it received", p)
	}
}

// output runs a program in a temporary folder and returns its output. The program must succeed.
func output(t *testing.T, connectionString, name string, args ...string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Dir = t.TempDir()
	cmd.Env = append(os.Environ(), "WEBPUBSUB_CONNECTION_STRING="+connectionString)
	out, err := cmd.CombinedOutput()
	require.NoError(t, err, "%s", out)
	return string(out)
}

func TestBlocksAreFoundAndToldApart(t *testing.T) {
	const text = "a\n```go\nx := 1\n```\n\n  ```go\n  func f() {}\n  ```\n```sh\ngo\n```\n" +
		"```go\nfunc TestX(t *testing.T) { ... }\n```\n```go\npackage main\n```\n```go\n// A comment.\npackage a_test\n```\n"
	blocks := goBlocks("a/b.md", text)
	require.Len(t, blocks, 5)
	var kinds []kind
	for _, b := range blocks {
		kinds = append(kinds, b.kind())
	}
	require.Equal(t, []kind{statements, declarations, tests, program, file}, kinds)
	require.Equal(t, "a/b.md:3", blocks[0].String())
	require.Equal(t, "func f() {}\n", blocks[1].code)
}

func TestAFragmentThatDoesNotParseIsNamed(t *testing.T) {
	_, err := block{file: "README.md", line: 7, code: "client.SendToAll(ctx, ...)\n"}.source("fragment")
	require.ErrorContains(t, err, "README.md:7")
}
