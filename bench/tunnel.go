package main

import (
	"context"
	"fmt"
	"io"
	"log"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"strings"
	"time"

	"github.com/awps-go/webpubsub/emulator"
	"github.com/awps-go/webpubsub/tunnel"
	"github.com/awps-go/webpubsub/wsclient"
)

// A receiver is one way for a server to receive its events. Its start function returns the URL template of the handler.
type receiver struct {
	name  string
	start func(connectionString, hub string) (urlTemplate string, err error)
}

var receivers = []receiver{
	{"HTTP", receiveOverHTTP},
	{"tunnel", receiveThroughTunnel},
}

// acknowledge is the least that an event handler can do: it reads the event and answers without a body.
var acknowledge = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("WebHook-Allowed-Origin", "*")
	_, _ = io.ReadAll(r.Body)
	w.WriteHeader(http.StatusNoContent)
})

func receiveOverHTTP(string, string) (string, error) {
	return httptest.NewServer(acknowledge).URL + "/eventhandler/{event}", nil // the server runs until the process ends
}

func receiveThroughTunnel(connectionString, hub string) (string, error) {
	log := slog.New(slog.DiscardHandler)
	go func() {
		err := tunnel.Serve(context.Background(), connectionString, hub, acknowledge, &tunnel.Options{Logger: log})
		fmt.Fprintln(os.Stderr, "bench: the tunnel ended:", err)
	}()
	return "tunnel:///eventhandler/{event}", nil
}

// receiverJob starts the receiver if it has a connection string. Every job returns the CPU time of the process.
type receiverJob struct{ ConnectionString, Hub string }

type receiverState struct {
	URLTemplate string
	CPU         time.Duration
}

// receive is the main function of a receiver's process.
func receive(r receiver) error {
	return serveJobs(func(j receiverJob) (s receiverState, err error) {
		if j.ConnectionString != "" {
			s.URLTemplate, err = r.start(j.ConnectionString, j.Hub)
		}
		s.CPU = cpuTime()
		return s, err
	})
}

// receiverFigures are the measurements of one receiver.
type receiverFigures struct {
	name    string
	process *process // the process of the current run
	clients []*wsclient.Conn
	cpu     [][]float64 // microseconds per event: for each row, one value per run
}

func (f *receiverFigures) ask(j receiverJob) (s receiverState, err error) {
	err = f.process.do(j, &s)
	return s, err
}

// eventRows are the rows of the table: the number of concurrent events, the size of their bodies, and the goal for the ratio,
// or 0 for none.
var eventRows = []struct {
	concurrency, size int
	goal              float64
}{{1, smallBody, 1.5}, {64, smallBody, 1.5}, {64, 64 << 10, 0}}

// benchTunnel measures the CPU time of a server for an event. The emulator and its clients are in this process.
func benchTunnel(runs, events int) error {
	executable, err := os.Executable()
	if err != nil {
		return err
	}
	var all []*receiverFigures
	for _, r := range receivers {
		all = append(all, &receiverFigures{name: r.name, cpu: make([][]float64, len(eventRows))})
	}
	for run := range runs {
		log.Printf("run %d of %d", run+1, runs)
		if err := benchTunnelOnce(executable, events, all, run); err != nil {
			return err
		}
	}
	table := [][]string{{"CPU of the server for an event", all[0].name, all[1].name, "ratio", "goal"}}
	for i, row := range eventRows {
		goal := ""
		if row.goal > 0 {
			goal = fmt.Sprintf("≤ %.2f", row.goal)
		}
		table = append(table, []string{fmt.Sprintf("%d bytes, %d at once", row.size, row.concurrency),
			number(median(all[0].cpu[i])) + " µs", number(median(all[1].cpu[i])) + " µs",
			fmt.Sprintf("%.2f", ratio(all[1].cpu[i], all[0].cpu[i])), goal})
	}
	printMarkdown(os.Stdout, table)
	fmt.Printf("\n%d runs of %d events, interleaved; %s.\n", runs, events, machine())
	return nil
}

// benchTunnelOnce measures everything once, with new processes.
func benchTunnelOnce(executable string, events int, all []*receiverFigures, run int) error {
	service, err := emulator.Start(nil)
	if err != nil {
		return err
	}
	defer service.Close()
	for _, f := range all {
		if err := f.connect(executable, service); err != nil {
			return fmt.Errorf("%s: %w", f.name, err)
		}
		defer func() { _ = f.process.close() }()
	}
	for i, row := range eventRows {
		for _, f := range rotated(all, run) {
			n := events
			if row.size > smallBody {
				n /= 5
			}
			if err := f.send(row.concurrency, n/10, row.size); err != nil { // warm up
				return fmt.Errorf("%s: %w", f.name, err)
			}
			before, err := f.ask(receiverJob{})
			if err != nil {
				return err
			}
			if err := f.send(row.concurrency, n, row.size); err != nil {
				return fmt.Errorf("%s: %w", f.name, err)
			}
			after, err := f.ask(receiverJob{})
			if err != nil {
				return err
			}
			f.cpu[i] = append(f.cpu[i], micros(after.CPU-before.CPU)/float64(n/row.concurrency*row.concurrency))
		}
	}
	return nil
}

// connect starts the receiver's process and connects clients to its hub. The hub has the receiver's name.
func (f *receiverFigures) connect(executable string, service *emulator.Server) (err error) {
	if f.process, err = startProcess(exec.Command(executable, "-receive", f.name)); err != nil {
		return err
	}
	state, err := f.ask(receiverJob{ConnectionString: service.ConnectionString(), Hub: f.name})
	if err != nil {
		return err
	}
	if err := service.SetHubSettings(f.name, emulator.HubSettings{EventHandlers: []emulator.EventHandler{
		{URLTemplate: state.URLTemplate, UserEventPattern: "*"}}}); err != nil {
		return err
	}
	f.clients = nil
	for range 64 {
		c, err := connectEventClient(service, f.name)
		if err != nil {
			return err
		}
		f.clients = append(f.clients, c)
	}
	return nil
}

// send sends events from a number of clients concurrently.
func (f *receiverFigures) send(clients, events, size int) error {
	failed := make(chan error, clients)
	for _, c := range f.clients[:clients] {
		go func() { failed <- sendEvents(c, events/clients, size) }()
	}
	for range clients {
		if err := <-failed; err != nil {
			return err
		}
	}
	return nil
}

func connectEventClient(service *emulator.Server, hub string) (*wsclient.Conn, error) {
	path := "/client/hubs/" + hub
	token, err := signToken(service.AccessKey(), service.Endpoint()+path)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	url := strings.Replace(service.Endpoint(), "http", "ws", 1) + path + "?access_token=" + token
	return wsclient.Dial(ctx, wsclient.StaticURL(url), &wsclient.Options{Protocol: wsclient.JSONPlain})
}

// sendEvents sends one event after another. It waits for the acknowledgement of each event.
func sendEvents(conn *wsclient.Conn, events, size int) error {
	data := wsclient.Text(strings.Repeat("a", size))
	for range events {
		if err := conn.SendEvent(context.Background(), "e", data, nil); err != nil {
			return err
		}
	}
	return nil
}
