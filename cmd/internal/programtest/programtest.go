// Package programtest runs the program under test as a separate process.
package programtest

import (
	"bufio"
	"bytes"
	"context"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// asProgram is the environment variable that makes the test binary run as the program.
const asProgram = "TEST_BINARY_IS_THE_PROGRAM"

// Main is called by TestMain. It runs the tests, or the program if a test started the process. The test binary is the
// program, so both are built from the same code, with the race detector if it is on. A program that the tests built
// would be invisible to go test's cache, which would then report stale results.
func Main(m *testing.M, main func()) {
	if os.Getenv(asProgram) != "" {
		main()
	}
	os.Exit(m.Run())
}

// Process is a running program.
type Process struct {
	*exec.Cmd
	Stdin  io.WriteCloser
	Stdout *bufio.Reader
	Stderr *Buffer
}

// Start starts the program with arguments and environment variables. It omits the environment variables of the test
// that would affect the program. The program is killed at the end of the test, or after two minutes.
func Start(t *testing.T, args []string, env ...string) *Process {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	t.Cleanup(cancel)
	program, err := os.Executable()
	require.NoError(t, err)
	p := &Process{Cmd: exec.CommandContext(ctx, program, args...), Stderr: &Buffer{}}
	p.Env = environment(env)
	p.Cmd.Stderr = p.Stderr
	p.Stdin, err = p.StdinPipe()
	require.NoError(t, err)
	stdout, err := p.StdoutPipe()
	require.NoError(t, err)
	p.Stdout = bufio.NewReader(stdout)
	require.NoError(t, p.Cmd.Start())
	t.Cleanup(func() { _, _ = p.Process.Kill(), p.Wait() })
	return p
}

// environment returns the environment variables of a program that a test starts.
func environment(env []string) (all []string) {
	for _, variable := range os.Environ() {
		if !strings.HasPrefix(variable, "WEBPUBSUB_") && !strings.HasPrefix(variable, "AZURE_") {
			all = append(all, variable)
		}
	}
	// By default the race detector makes each program sleep for a second before it exits.
	return append(append(all, asProgram+"=1", "GORACE=atexit_sleep_ms=0"), env...)
}

// Shell returns a function that runs a command line in sh, where name is the program under test. The function returns the
// output and the errors, as a terminal shows them.
func Shell(t *testing.T, name string, env ...string) func(line string) string {
	t.Helper()
	program, err := os.Executable()
	require.NoError(t, err)
	folder := t.TempDir()
	require.NoError(t, os.Symlink(program, filepath.Join(folder, name)))
	variables := append(environment(env), "PATH="+folder+string(os.PathListSeparator)+os.Getenv("PATH"))
	return func(line string) string {
		t.Helper()
		ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
		defer cancel()
		command := exec.CommandContext(ctx, "sh", "-c", line)
		command.Env = variables
		output, err := command.CombinedOutput()
		require.NoError(t, err, "%s: %s", line, output)
		return string(output)
	}
}

// Line reads a line of standard output and returns it without its end.
func (p *Process) Line(t *testing.T) string {
	t.Helper()
	line, err := p.Stdout.ReadString('\n')
	require.NoError(t, err, "standard error: %s", p.Stderr)
	return strings.TrimSuffix(line, "\n")
}

// Result waits for the program to exit. It returns the exit code and the rest of standard output.
func (p *Process) Result(t *testing.T) (code int, stdout string) {
	t.Helper()
	rest, err := io.ReadAll(p.Stdout)
	require.NoError(t, err)
	_ = p.Wait() // the exit code is returned
	return p.ProcessState.ExitCode(), string(rest)
}

// Interrupt sends the signal that Ctrl-C sends.
func (p *Process) Interrupt(t *testing.T) { p.Signal(t, os.Interrupt) }

// End sends SIGTERM.
func (p *Process) End(t *testing.T) { p.Signal(t, syscall.SIGTERM) }

// Signal sends the program a signal.
func (p *Process) Signal(t *testing.T, signal os.Signal) {
	t.Helper()
	if runtime.GOOS == "windows" {
		t.Skip("Windows cannot signal a process")
	}
	require.NoError(t, p.Process.Signal(signal))
}

// Buffer holds the output of a program, and can be read while the program writes.
type Buffer struct {
	mu      sync.Mutex
	buf     bytes.Buffer
	changed chan struct{} // closed at the next write; nil if nobody waits
}

func (b *Buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.changed != nil {
		close(b.changed)
		b.changed = nil
	}
	return b.buf.Write(p)
}

func (b *Buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}

// WaitFor waits until the buffer contains the text.
func (b *Buffer) WaitFor(t *testing.T, text string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	for {
		b.mu.Lock()
		found := strings.Contains(b.buf.String(), text)
		if b.changed == nil {
			b.changed = make(chan struct{})
		}
		changed := b.changed
		b.mu.Unlock()
		if found {
			return
		}
		select {
		case <-changed:
		case <-ctx.Done():
			t.Fatalf("the program did not write %q; it wrote: %s", text, b)
		}
	}
}
