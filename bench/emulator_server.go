package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"runtime"
	"runtime/debug"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/awps-go/webpubsub/emulator"
	"github.com/coder/websocket"
)

// broadcasters are what the emulator is measured against, and the emulator. Each serves the same requests: a broadcast to all
// clients, and a send to the one that connected first.
var broadcasters = []struct {
	name  string
	start func() (endpoint string, first func() string, err error)
}{
	{bareName, startBare},
	{"emulator", startEmulator},
}

const (
	bareName     = "bare loop"
	jsonProtocol = "json.webpubsub.azure.v1"
)

func clientPath() string    { return "/client/hubs/" + hub }
func broadcastPath() string { return "/api/hubs/" + hub + "/:send" }

func sendPath(connectionID string) string {
	return "/api/hubs/" + hub + "/connections/" + connectionID + "/:send"
}

func startEmulator() (string, func() string, error) {
	srv, err := emulator.Start(&emulator.Options{AccessKey: accessKey})
	if err != nil {
		return "", nil, err
	}
	return srv.Endpoint(), func() string { return srv.Connections(hub)[0].ID }, nil
}

// bare is the least that can do it: net/http, the emulator's WebSocket library, and a loop over the connections that writes
// to one after the other a frame that was made once.
type bare struct {
	mu          sync.Mutex
	connections []*websocket.Conn
}

func startBare() (string, func() string, error) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", nil, err
	}
	b := &bare{}
	mux := http.NewServeMux()
	mux.HandleFunc("GET "+clientPath(), b.connect)
	mux.HandleFunc("POST "+broadcastPath(), func(w http.ResponseWriter, r *http.Request) {
		b.mu.Lock()
		defer b.mu.Unlock()
		b.send(w, r, b.connections)
	})
	mux.HandleFunc("POST "+sendPath("first"), func(w http.ResponseWriter, r *http.Request) {
		b.mu.Lock()
		defer b.mu.Unlock()
		b.send(w, r, b.connections[:1])
	})
	go func() { _ = http.Serve(ln, mux) }() // until the process ends
	return "http://" + ln.Addr().String(), func() string { return "first" }, nil
}

func (b *bare) connect(w http.ResponseWriter, r *http.Request) {
	c, err := websocket.Accept(w, r, &websocket.AcceptOptions{Subprotocols: []string{jsonProtocol}})
	if err != nil {
		return
	}
	defer c.CloseNow()
	if c.Write(r.Context(), websocket.MessageText, []byte(`{"type":"system","event":"connected"}`)) != nil {
		return
	}
	b.mu.Lock()
	b.connections = append(b.connections, c)
	b.mu.Unlock()
	_, _, _ = c.Read(context.Background()) // until the client is gone: it sends nothing
}

func (b *bare) send(w http.ResponseWriter, r *http.Request, to []*websocket.Conn) {
	data, err := io.ReadAll(r.Body)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	frame := append(append([]byte(`{"type":"message","from":"server","dataType":"json","data":`), data...), '}')
	for _, c := range to {
		if err := c.Write(context.Background(), websocket.MessageText, frame); err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
	}
	w.WriteHeader(http.StatusAccepted)
}

// serverState is what a broadcaster's process says of itself when it is asked.
type serverState struct {
	Endpoint string
	First    string // id of a connection, once there is one
	Memory   int64  // bytes of heap and stacks in use, after a collection
	Resident int64  // bytes of the process; 0 where that is not known
	CPU      time.Duration
}

// broadcast is a broadcaster's process: for each line on its standard input it says how it is. The line "memory" asks for
// that, too, which takes time.
func broadcast(start func() (string, func() string, error)) error {
	endpoint, first, err := start()
	if err != nil {
		return err
	}
	in, out := json.NewDecoder(os.Stdin), json.NewEncoder(os.Stdout)
	for {
		var question string
		if err := in.Decode(&question); err == io.EOF {
			return nil
		} else if err != nil {
			return err
		}
		state := serverState{Endpoint: endpoint, CPU: cpuTime()}
		switch question {
		case "first":
			state.First = first()
		case "memory":
			state.Memory, state.Resident = memory()
		}
		if err := out.Encode(state); err != nil {
			return err
		}
	}
}

// maxClients is how many clients a process can hold, by the number of files it may have open. Go raises that limit to the
// hard one by itself.
func maxClients() (int, error) {
	var limit syscall.Rlimit
	err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit)
	const others = 100
	return int(min(limit.Max, 1<<20)) - others, err
}

// memory is what the process uses once it has given back what it can.
func memory() (inUse, resident int64) {
	runtime.GC()
	debug.FreeOSMemory()
	var stats runtime.MemStats
	runtime.ReadMemStats(&stats)
	status, _ := os.ReadFile("/proc/self/status") // of Linux
	for line := range strings.Lines(string(status)) {
		if fields := strings.Fields(line); len(fields) > 1 && fields[0] == "VmRSS:" {
			kib, _ := strconv.ParseInt(fields[1], 10, 64)
			resident = kib << 10
		}
	}
	return int64(stats.HeapAlloc + stats.StackInuse), resident
}

// startTimes starts emulators one after the other, and measures until each has answered.
func startTimes(n int) ([]float64, error) {
	var times []float64
	for range n {
		client := &http.Client{Transport: &http.Transport{}}
		begin := time.Now()
		srv, err := emulator.Start(nil)
		if err != nil {
			return nil, err
		}
		resp, err := client.Head(srv.Endpoint() + "/api/health")
		took := time.Since(begin)
		if err != nil {
			return nil, err
		}
		resp.Body.Close()
		if resp.StatusCode != http.StatusOK {
			return nil, fmt.Errorf("the emulator answered %s", resp.Status)
		}
		srv.Close()
		times = append(times, float64(took)/float64(time.Millisecond))
	}
	return times, nil
}
