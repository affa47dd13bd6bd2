package main

import (
	"context"
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

// A broadcaster is a server that sends messages to clients. Its first function returns the id of a connection.
type broadcaster struct {
	name  string
	start func() (endpoint string, first func() string, err error)
}

// broadcasters are the bare loop and the emulator. Both serve the same requests: a broadcast to all clients, and a send to one
// client.
var broadcasters = []broadcaster{
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

// bare is the least that can broadcast: net/http, the emulator's WebSocket library, and a loop that writes the same frame to
// one connection after another.
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
	go func() { _ = http.Serve(ln, mux) }() // runs until the process ends
	return "http://" + ln.Addr().String(), func() string { return "first" }, nil
}

func (b *bare) connect(w http.ResponseWriter, r *http.Request) {
	c, err := websocket.Accept(w, r, &websocket.AcceptOptions{Subprotocols: []string{jsonProtocol}})
	if err != nil {
		return
	}
	defer c.CloseNow()
	if b.add(r.Context(), c) != nil {
		return
	}
	_, _, _ = c.Read(context.Background()) // returns when the client is gone, because the client sends nothing
}

// add adds a connection and sends the connected message. It holds the lock for both, so a client that has the message gets every
// later broadcast.
func (b *bare) add(ctx context.Context, c *websocket.Conn) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.connections = append(b.connections, c)
	return c.Write(ctx, websocket.MessageText, []byte(`{"type":"system","event":"connected"}`))
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

// serverState is the state of a broadcaster's process.
type serverState struct {
	Endpoint string
	First    string        // the id of a connection; only for the question "first"
	Memory   int64         // bytes of heap and stacks in use after a collection; only for the question "memory"
	Resident int64         // resident bytes of the process, or 0 if unknown; only for the question "memory"
	CPU      time.Duration // user and system time of the process
}

// broadcast is the main function of a broadcaster's process. It answers each question on its standard input with its state.
// The question is "", "first" for the id of a connection, or "memory" for the memory in use, which takes longer.
func broadcast(b broadcaster) error {
	endpoint, first, err := b.start()
	if err != nil {
		return err
	}
	return serveJobs(func(question string) (serverState, error) {
		state := serverState{Endpoint: endpoint, CPU: cpuTime()}
		switch question {
		case "first":
			state.First = first()
		case "memory":
			state.Memory, state.Resident = memory()
		}
		return state, nil
	})
}

// maxClients returns how many clients a process can hold, which the hard limit of open files determines. Go raises the soft
// limit to the hard limit when a program starts.
func maxClients() (int, error) {
	var limit syscall.Rlimit
	err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit)
	const others = 100
	return int(min(limit.Max, 1<<20)) - others, err
}

// memory returns the memory that the process uses after a collection, when unused memory was returned to the system.
func memory() (inUse, resident int64) {
	runtime.GC()
	debug.FreeOSMemory()
	var stats runtime.MemStats
	runtime.ReadMemStats(&stats)
	status, _ := os.ReadFile("/proc/self/status") // exists on Linux only
	for line := range strings.Lines(string(status)) {
		if fields := strings.Fields(line); len(fields) > 1 && fields[0] == "VmRSS:" {
			kib, _ := strconv.ParseInt(fields[1], 10, 64)
			resident = kib << 10
		}
	}
	return int64(stats.HeapAlloc + stats.StackInuse), resident
}

// startTimes starts n emulators, one after the other, and returns the milliseconds until each has answered a request.
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
			return nil, fmt.Errorf("the emulator's health check: status %s", resp.Status)
		}
		srv.Close()
		times = append(times, float64(took)/float64(time.Millisecond))
	}
	return times, nil
}
