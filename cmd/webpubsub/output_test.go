package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"os"
	"testing"

	"github.com/stretchr/testify/require"
)

// In UTF-8, U+009B begins a control sequence in some terminals, like ESC [.
func TestJSONHasNoControlCharacters(t *testing.T) {
	const text = "\u009b31m \u202e \U000e0001 \x7f \x1b ok \u00e9 \U0001f600"
	var b bytes.Buffer
	require.NoError(t, printJSON(&b, map[string]any{"a": text, "b": json.RawMessage(`"\u009b"`)}))
	for _, r := range b.String() {
		printable := r >= ' ' && r < 0x7f || r >= 0xa0 && r != 0x202e && r != 0xe0001
		require.Truef(t, printable || r == '\n', "%U in %q", r, b.String())
	}
	var decoded map[string]string
	require.NoError(t, json.Unmarshal(b.Bytes(), &decoded))
	require.Equal(t, map[string]string{"a": text, "b": "\u009b"}, decoded)

	require.Equal(t, "\"\ufffd\"", string(safeJSON([]byte("\"\xff\""))))
}

func TestATerminalReceivesNoControlCharacters(t *testing.T) {
	for size := 1; size <= 8; size++ {
		var b bytes.Buffer
		w := &terminalWriter{w: &b}
		for text := []byte("a\x1b[31m\n\u00e9\U0001f600\u009b\xff!"); len(text) > 0; {
			n := min(size, len(text))
			written, err := w.Write(text[:n])
			require.NoError(t, err)
			require.Equal(t, n, written)
			text = text[n:]
		}
		require.Equal(t, "a\\u001b[31m\n\u00e9\U0001f600\\u009b\\xff!", b.String(), size)
	}
	file, err := os.CreateTemp(t.TempDir(), "")
	require.NoError(t, err)
	require.Equal(t, io.Writer(file), forTerminal(file), "a file receives the bytes unchanged")
	require.NoError(t, file.Close())
}

func TestErrorLinesHaveNoSecrets(t *testing.T) {
	line := errorLine(errors.New("malformed HTTP response \"\x1b code=MarkedKey\" at http://user:MarkedPassword@host/?access_token=MarkedToken"))
	require.NotContains(t, line, "Marked")
	require.NotContains(t, line, "\x1b")
}
