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

// readHubs reads a file of hub settings. A name that no setting has is an error, so that a mistyped one is noticed.
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
		return nil, fmt.Errorf("%s: there is more after the settings", file)
	}
	names := make(map[string]bool)
	for hub := range hubs {
		key := strings.ToLower(hub)
		if names[key] {
			return nil, fmt.Errorf("%s: the hub %q is there twice, in different case", file, hub)
		}
		names[key] = true
	}
	return hubs, nil
}

// watchInterval is how often the file of hub settings is looked at.
const watchInterval = time.Second

// hubsWatcher applies the file of hub settings again when it has changed. A file with a fault changes nothing.
type hubsWatcher struct {
	file   string
	set    func(hub string, settings emulator.HubSettings) error
	log    *slog.Logger
	hubs   map[string]emulator.HubSettings // that hold, by lower-case name
	looked fileState
}

// fileState tells whether a file has changed. The zero value is a file that is not there.
type fileState struct {
	modified time.Time
	size     int64
}

func newHubsWatcher(file string, hubs map[string]emulator.HubSettings, server *emulator.Server, log *slog.Logger) *hubsWatcher {
	w := &hubsWatcher{file: file, set: server.SetHubSettings, log: log, hubs: byLowerName(hubs)}
	w.looked = w.state()
	return w
}

// run looks at the file until ctx ends.
func (w *hubsWatcher) run(ctx context.Context) {
	ticker := time.NewTicker(watchInterval)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
			w.look()
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

// look reads the file if it has changed since the last look.
func (w *hubsWatcher) look() {
	state := w.state()
	if state == w.looked {
		return
	}
	w.looked = state
	hubs, err := readHubs(w.file)
	if err == nil {
		err = w.apply(byLowerName(hubs))
	}
	if err != nil {
		w.log.Warn("the file of hub settings has a fault: the last good settings still hold", "file", w.file, "error", err)
		return
	}
	w.log.Info("the hub settings were read again", "file", w.file, "hubs", len(hubs))
}

// apply makes settings hold, all of them or, if one has a fault, none.
func (w *hubsWatcher) apply(hubs map[string]emulator.HubSettings) error {
	all := make(map[string]emulator.HubSettings, len(hubs))
	for hub := range w.hubs {
		all[hub] = emulator.HubSettings{} // unless it is in the file still
	}
	maps.Copy(all, hubs)
	var changed []string
	for hub, settings := range all {
		if reflect.DeepEqual(settings, w.hubs[hub]) { // its handlers need not be validated again
			continue
		}
		if err := w.set(hub, settings); err != nil {
			for _, hub := range changed {
				_ = w.set(hub, w.hubs[hub]) // they held before
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
