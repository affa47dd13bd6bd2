package emulatorcmd

import (
	"bytes"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/awps-go/webpubsub/emulator"
)

func TestTheHubSettingsFileIsReloaded(t *testing.T) {
	file := filepath.Join(t.TempDir(), "hubs.json")
	modified := time.Now().Add(-time.Hour)
	write := func(text string) {
		t.Helper()
		require.NoError(t, os.WriteFile(file, []byte(text), 0o600))
		modified = modified.Add(time.Second) // because the clock of the file system may be coarse
		require.NoError(t, os.Chtimes(file, modified, modified))
	}
	handlers := func(hub, url string) string {
		return `"` + hub + `":{"eventHandlers":[{"urlTemplate":"` + url + `","userEventPattern":"*"}]}`
	}
	write(`{` + handlers("Chat", "http://a/") + `,` + handlers("old", "http://b/") + `}`)
	hubs, err := readHubs(file)
	require.NoError(t, err)
	server, err := emulator.Start(&emulator.Options{Hubs: hubs})
	require.NoError(t, err)
	defer server.Close()
	var log bytes.Buffer
	w := newHubsWatcher(file, hubs, server, slog.New(slog.NewTextHandler(&log, nil)))
	var set []string
	w.set = func(hub string, settings emulator.HubSettings) error {
		err := server.SetHubSettings(hub, settings)
		call := hub + "="
		for _, h := range settings.EventHandlers {
			call += h.URLTemplate
		}
		if err != nil {
			call += "!"
		}
		set = append(set, call)
		return err
	}
	// check returns the calls of w.set, and the log.
	check := func() ([]string, string) {
		set = nil
		log.Reset()
		w.check()
		return set, log.String()
	}

	calls, logged := check()
	require.Empty(t, calls, "nothing has changed")
	require.Empty(t, logged)

	write(`{` + handlers("chat", "http://a/") + `,` + handlers("old", "http://c/") + `,` + handlers("new", "http://d/") + `}`)
	calls, logged = check()
	require.ElementsMatch(t, []string{"old=http://c/", "new=http://d/"}, calls, "chat has not changed")
	require.Contains(t, logged, "reloaded")

	for name, fault := range map[string]string{"no JSON": `{`, "an unknown name": `{"chat":{"handlers":[]}}`, "nothing": ``,
		"a hub twice": `{"chat":{},"CHAT":{}}`} {
		write(fault)
		calls, logged = check()
		require.Empty(t, calls, name)
		require.Contains(t, logged, "the last good settings still apply", name)
		_, logged = check()
		require.Empty(t, logged, "each fault is logged once")
	}
	require.NoError(t, os.Remove(file))
	calls, logged = check()
	require.Empty(t, calls)
	require.Contains(t, logged, "the last good settings still apply")

	// One invalid hub among valid ones: settings that were already changed are restored.
	write(`{` + handlers("new", "http://e/") + `,` + handlers("bad", "ftp://x/") + `}`)
	calls, logged = check()
	require.Contains(t, logged, "URLTemplate is not an http or https URL")
	held := map[string]string{}
	for _, call := range calls {
		if hub, url, _ := strings.Cut(call, "="); !strings.HasSuffix(url, "!") {
			held[hub] = url
		}
	}
	for hub, url := range held {
		require.Equal(t, map[string]string{"chat": "http://a/", "old": "http://c/", "new": "http://d/"}[hub], url, hub)
	}

	write(`{` + handlers("chat", "http://a/") + `}`)
	calls, _ = check()
	require.ElementsMatch(t, []string{"old=", "new="}, calls, "a hub that is no longer in the file has no handlers")
}

// TestTheReadmesFileIsValid reads the example of a settings file in the emulator's README.
func TestTheReadmesFileIsValid(t *testing.T) {
	readme, err := os.ReadFile("../../../emulator/README.md")
	require.NoError(t, err)
	_, rest, found := strings.Cut(strings.ReplaceAll(string(readme), "\r\n", "\n"), "```json\n")
	require.True(t, found)
	text, _, _ := strings.Cut(rest, "```")
	file := filepath.Join(t.TempDir(), "hubs.json")
	require.NoError(t, os.WriteFile(file, []byte(text), 0o600))
	hubs, err := readHubs(file)
	require.NoError(t, err)
	server, err := emulator.Start(&emulator.Options{Hubs: hubs})
	require.NoError(t, err)
	defer server.Close()
	require.Equal(t, []string{"connect", "connected", "disconnected"}, hubs["chat"].EventHandlers[0].SystemEvents)
}
