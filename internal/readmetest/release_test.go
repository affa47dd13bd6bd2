package readmetest

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestTheNotesOfARelease runs .ci/release on a repository of its own.
func TestTheNotesOfARelease(t *testing.T) {
	bash, err := exec.LookPath("bash")
	if err != nil || os.PathSeparator == '\\' {
		t.Skip("needs bash")
	}
	script, err := os.ReadFile(filepath.Join(root, ".ci", "release"))
	require.NoError(t, err)
	dir := t.TempDir()
	require.NoError(t, os.Mkdir(filepath.Join(dir, ".ci"), 0o700))
	write := func(name, text string) {
		require.NoError(t, os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600))
	}
	write(".ci/release", string(script))
	write("go.mod", "module example.com/m\n\ngo 1.26\n")
	write("version.go", "package m\n\nconst (\n\tname          = \"m\"\n\tmoduleVersion = \"v1.2.3\"\n)\n")
	run := func(command string) (string, error) {
		out, err := exec.CommandContext(t.Context(), bash, filepath.Join(dir, ".ci", "release"), command).CombinedOutput()
		return string(out), err
	}

	out, err := run("version")
	require.NoError(t, err, out)
	require.Equal(t, "v1.2.3\n", out)

	write("CHANGELOG.md", "# Changelog\n\n## Unreleased (1.2.3)\n\nText.\n\n## 1.2.30 (2026-01-31)\n\nOther text.\n")
	for _, command := range []string{"notes", "check"} {
		out, err = run(command)
		require.Error(t, err)
		require.Contains(t, out, `CHANGELOG.md has no section "## 1.2.3 (date)"`)
	}

	for _, heading := range []string{"## 1.2.3 (2026-01-31)", "## [1.2.3] - 2026-01-31"} {
		write("CHANGELOG.md", "# Changelog\n\n## Unreleased\n\n- Later.\n\n"+heading+"\n\nOne paragraph\nof two lines. [Scaling](docs/scaling.md#a)\n"+
			"and [Go](https://go.dev).\n\n### Added\n\n- An item\n  of two lines:\n  - a part\n    of two lines;\n  - another.\n"+
			"\n```go\na := 1\nb := 2\n```\n\n## 1.2.2 (2026-01-30)\n\n- Earlier.\n")
		out, err = run("notes")
		require.NoError(t, err, out)
		require.Equal(t, "\nOne paragraph of two lines. [Scaling](https://example.com/m/blob/v1.2.3/docs/scaling.md#a) and [Go](https://go.dev).\n\n"+
			"### Added\n\n- An item of two lines:\n  - a part of two lines;\n  - another.\n\n```go\na := 1\nb := 2\n```\n", out)
	}
}
