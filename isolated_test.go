package webpubsub

import (
	"os"
	"os/exec"
	"testing"

	"github.com/stretchr/testify/require"
)

// inOwnProcess runs a test that sets azcore's log listener in a process of its own, and reports whether this is that process.
// azcore reads the listener without a lock, and the goroutines of calls that an earlier test has abandoned may still read it.
func inOwnProcess(t *testing.T) bool {
	t.Helper()
	const variable = "WEBPUBSUB_TEST_PROCESS"
	if os.Getenv(variable) == t.Name() {
		return true
	}
	executable, err := os.Executable()
	require.NoError(t, err)
	cmd := exec.CommandContext(t.Context(), executable, "-test.run=^"+t.Name()+"$", "-test.count=1")
	cmd.Env = append(os.Environ(), variable+"="+t.Name())
	output, err := cmd.CombinedOutput()
	require.NoError(t, err, "%s", output)
	return false
}
