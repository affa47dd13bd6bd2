package emulatorcmd

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"os"
	"reflect"
	"strings"
	"time"

	"github.com/awps-go/webpubsub/emulator"
)

// readHubs reads a file of hub settings. It rejects unknown names, so that a mistyped setting is noticed.
func readHubs(file string) (map[string]emulator.HubSettings, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	var hubs map[string]emulator.HubSettings
	d := json.NewDecoder(bytes.NewReader(text))
	d.DisallowUnknownFields()
	if err := d.Decode(&hubs); err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("%s: unexpected data after the settings", file)
	}
	names := make(map[string]bool)
	for hub := range hubs {
		key := strings.ToLower(hub)
		if names[key] {
			return nil, fmt.Errorf("%s: the hub %q appears twice, in different case", file, hub)
		}
		names[key] = true
	}
	return hubs, nil
}

// watchInterval is how often the settings file is checked for changes.
const watchInterval = time.Second

// hubsWatcher reloads the settings file when it changes. An invalid file changes nothing.
type hubsWatcher struct {
	file    string
	set     func(hub string, settings emulator.HubSettings) error
	log     *slog.Logger
	hubs    map[string]emulator.HubSettings // the current settings, by lower-case name
	checked fileState
}

// fileState identifies a version of a file. The zero value means that the file does not exist.
type fileState struct {
	modified time.Time
	size     int64
}

func newHubsWatcher(file string, hubs map[string]emulator.HubSettings, server *emulator.Server, log *slog.Logger) *hubsWatcher {
	w := &hubsWatcher{file: file, set: server.SetHubSettings, log: log, hubs: byLowerName(hubs)}
	w.checked = w.state()
	return w
}

// run checks the file every watchInterval until ctx ends.
func (w *hubsWatcher) run(ctx context.Context) {
	ticker := time.NewTicker(watchInterval)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
			w.check()
		}
	}
}

func (w *hubsWatcher) state() fileState {
	info, err := os.Stat(w.file)
	if err != nil {
		return fileState{}
	}
	return fileState{info.ModTime(), info.Size()}
}

// check reloads the file if it has changed since the last check.
func (w *hubsWatcher) check() {
	state := w.state()
	if state == w.checked {
		return
	}
	w.checked = state
	hubs, err := readHubs(w.file)
	if err == nil {
		err = w.apply(byLowerName(hubs))
	}
	if err != nil {
		w.log.Warn("invalid hub settings file: the last good settings still apply", "file", w.file, "error", err)
		return
	}
	w.log.Info("hub settings reloaded", "file", w.file, "hubs", len(hubs))
}

// apply puts all settings into effect, or none if one is invalid.
func (w *hubsWatcher) apply(hubs map[string]emulator.HubSettings) error {
	all := make(map[string]emulator.HubSettings, len(hubs))
	for hub := range w.hubs {
		all[hub] = emulator.HubSettings{} // removes the settings of a hub that is no longer in the file
	}
	maps.Copy(all, hubs)
	var changed []string
	for hub, settings := range all {
		if reflect.DeepEqual(settings, w.hubs[hub]) { // unchanged handlers need no new validation
			continue
		}
		if err := w.set(hub, settings); err != nil {
			for _, hub := range changed {
				_ = w.set(hub, w.hubs[hub]) // these settings were valid before
			}
			return err
		}
		changed = append(changed, hub)
	}
	w.hubs = hubs
	return nil
}

func byLowerName(hubs map[string]emulator.HubSettings) map[string]emulator.HubSettings {
	all := make(map[string]emulator.HubSettings, len(hubs))
	for hub, settings := range hubs {
		all[strings.ToLower(hub)] = settings
	}
	return all
}
