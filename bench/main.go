// Command bench measures the cost of a send with the client of github.com/awps-go/webpubsub. It compares the client with a
// floor, azcore as it is usually used, and the official JavaScript SDK. It prints a Markdown table and draws a plot. See the
// README.
package main

import (
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"log"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"time"
)

func main() {
	log.SetFlags(0)
	runs := flag.Int("runs", 15, "number of runs; each run uses new processes, and the median is printed")
	requests := flag.Int("requests", 8_000, "small requests per measurement; the JavaScript SDK sends a tenth")
	js := flag.Bool("js", true, "also measure the official clients: JavaScript if js/node_modules exists, Python (with -wsclient) if python/venv exists")
	plot := flag.String("plot", "cpu.svg", "file to write the plot to; empty for no plot")
	serving := flag.Bool("serve", false, "internal: run as the server process")
	emulators := flag.Bool("emulator", false, "measure the emulator instead of the client")
	program := flag.Bool("program", false, "measure the load generator of cmd/webpubsub instead of the client")
	clients := flag.Int("clients", 20_000, "with -emulator: the largest number of connected clients")
	broadcasting := flag.String("broadcast", "", "internal: run as the broadcaster with this name")
	holding := flag.Bool("hold", false, "internal: run as a process that holds WebSocket clients")
	tunnels := flag.Bool("tunnel", false, "measure events through the tunnel instead of the client")
	wsclients := flag.Bool("wsclient", false, "measure wsclient instead of the client")
	hubbing := flag.Bool("hub", false, "internal: run as a hub for WebSocket clients")
	dialing := flag.String("dial", "", "internal: run as the WebSocket client with this name")
	receiving := flag.String("receive", "", "internal: run as the event receiver with this name")
	working := flag.String("work", "", "internal: run as the contender with this name")
	flag.Parse()

	var err error
	switch {
	case *serving:
		err = serve()
	case *working != "":
		err = runNamed("contender", *working, contenders, func(c contender) string { return c.name }, work)
	case *broadcasting != "":
		err = runNamed("broadcaster", *broadcasting, broadcasters, func(b broadcaster) string { return b.name }, broadcast)
	case *holding:
		err = hold()
	case *receiving != "":
		err = runNamed("receiver", *receiving, receivers, func(r receiver) string { return r.name }, receive)
	case *hubbing:
		err = serveHub()
	case *dialing != "":
		err = runNamed("WebSocket client", *dialing, socketContenders, func(c socketContender) string { return c.name }, dialSockets)
	case *wsclients:
		err = benchWsclient(*runs, *js)
	case *tunnels:
		err = benchTunnel(*runs, *requests)
	case *emulators:
		err = benchEmulator(*runs, *clients)
	case *program:
		err = benchProgram(*runs)
	default:
		err = bench(*runs, *requests, *js, *plot)
	}
	if err != nil {
		log.Fatal("bench: ", err)
	}
}

// runNamed runs the item of a list that has a name.
func runNamed[T any](kind, name string, all []T, nameOf func(T) string, run func(T) error) error {
	i := slices.IndexFunc(all, func(item T) bool { return nameOf(item) == name })
	if i < 0 {
		return errors.New("unknown " + kind + " " + name)
	}
	return run(all[i])
}

// A row is one figure that is measured for every contender.
type row struct {
	title  string
	job    job
	secure bool
	goal   float64 // the highest acceptable ratio for our client, or 0 for none
	table  bool    // false for a figure that only the plot shows
}

const (
	javaScriptName = "JavaScript SDK"
	javaScriptNote = "Most of the JavaScript SDK's figure is due to one defect: it tries the key as a PEM key on every signature. Without the\n" +
		"defect we would be 5 x ahead, not 20 x."
)

func rows(requests int) []row {
	cpu := func(concurrency int, goal float64, table bool) row {
		return row{
			title: fmt.Sprintf("CPU, %d at once", concurrency), goal: goal, table: table,
			job: job{Concurrency: concurrency, Requests: requests, Size: smallBody},
		}
	}
	return []row{
		cpu(1, 1.10, true), cpu(4, 0, false), cpu(16, 0, false), cpu(64, 1.30, true), cpu(256, 1.40, true),
		{title: "CPU, TLS, 256 at once", secure: true, goal: 1.50, table: true,
			job: job{Concurrency: 256, Requests: requests, Size: smallBody}},
		{title: "CPU, bodies of 64 KiB, 64 at once", table: true,
			job: job{Concurrency: 64, Requests: requests / 5, Size: 64 << 10}},
		{title: "CPU, streams of 1 MB, 4 at once", table: true,
			job: job{Concurrency: 4, Requests: requests / 50, Size: 1_000_000, Stream: true}},
	}
}

// figures are the measurements of one contender: for each row, one value per run.
type figures struct {
	name        string
	command     []string
	process     *process    // the process of the current run
	cpu         [][]float64 // microseconds per request
	allocated   [][]float64 // bytes per request
	connections [2]int      // connections opened by each of the bursts
}

// bursts are the numbers of concurrent sends in a burst.
var bursts = [2]int{64, 256}

func bench(runs, requests int, js bool, plot string) error {
	rows := rows(requests)
	var all []*figures
	add := func(name string, command ...string) {
		all = append(all, &figures{
			name: name, command: command, cpu: make([][]float64, len(rows)), allocated: make([][]float64, len(rows)),
		})
	}
	executable, err := os.Executable()
	if err != nil {
		return err
	}
	for _, c := range contenders {
		add(c.name, executable, "-work", c.name)
	}
	if js {
		if _, err := os.Stat(filepath.Join("js", "node_modules")); errors.Is(err, fs.ErrNotExist) {
			log.Print("js/node_modules does not exist: run npm ci in js to measure the JavaScript SDK")
		} else {
			add(javaScriptName, "node", filepath.Join("js", "worker.mjs"))
		}
	}
	for run := range runs {
		log.Printf("run %d of %d", run+1, runs)
		if err := benchOnce(executable, rows, all, run); err != nil {
			return err
		}
	}

	if err := printTable(os.Stdout, rows, all); err != nil {
		return err
	}
	if js := all[len(all)-1]; js.name == javaScriptName {
		fmt.Print("\n", javaScriptNote, "\n")
	}
	if err := printTokens(os.Stdout, runs); err != nil {
		return err
	}
	fmt.Printf("\n%d runs, interleaved; %s.\n", runs, machine())
	if plot == "" {
		return nil
	}
	return writePlot(plot, rows, all)
}

// machine describes the machine of the measurements.
func machine() string {
	return fmt.Sprintf("%d cores, %s, %s/%s", runtime.NumCPU(), runtime.Version(), runtime.GOOS, runtime.GOARCH)
}

// benchOnce measures everything once, with new processes. By chance, a process is a tenth faster or slower than another for
// its whole life.
func benchOnce(executable string, rows []row, all []*figures, run int) error {
	directory, err := os.MkdirTemp("", "bench")
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(directory) }()
	server, err := startServer(executable, directory)
	if err != nil {
		return err
	}
	defer func() { _ = server.process.close() }()
	for _, f := range all {
		command := exec.Command(f.command[0], f.command[1:]...)
		// Make the contenders' own transports trust the server.
		command.Env = append(os.Environ(), "SSL_CERT_FILE="+server.root, "NODE_EXTRA_CA_CERTS="+server.root)
		if f.process, err = startProcess(command); err != nil {
			return err
		}
		defer func() { _ = f.process.close() }()
	}
	if run == 0 {
		if err := countConnections(server, all); err != nil {
			return err
		}
	}
	for _, f := range all {
		if _, err := f.measure(job{URL: server.HTTP, Concurrency: 64, Requests: 1_000, Size: smallBody}); err != nil { // warm up
			return err
		}
	}
	for i, row := range rows {
		for _, f := range rotated(all, run) {
			if f.name == javaScriptName && (row.secure || row.job.Size != smallBody) {
				continue
			}
			job := row.job
			job.URL = server.HTTP
			if row.secure {
				job.URL = server.HTTPS
			}
			if f.name == javaScriptName {
				job.Requests /= 10
			}
			r, err := f.measure(job)
			if err != nil {
				return err
			}
			f.cpu[i] = append(f.cpu[i], float64(r.CPU)/float64(job.Requests)/float64(time.Microsecond))
			f.allocated[i] = append(f.allocated[i], float64(r.Allocated)/float64(job.Requests))
		}
	}
	return nil
}

// burstSends is the total number of sends in bursts of one size.
const burstSends = 20_000

func countConnections(server *server, all []*figures) error {
	for i, size := range bursts {
		for _, f := range all {
			before, err := server.connections()
			if err != nil {
				return err
			}
			job := job{URL: server.HTTP, Concurrency: size, Requests: burstSends, Size: smallBody, Burst: true}
			if _, err := f.measure(job); err != nil {
				return err
			}
			after, err := server.connections()
			if err != nil {
				return err
			}
			f.connections[i] = after - before - 1 // minus the connection of the first query
		}
	}
	return nil
}

func (f *figures) measure(j job) (result, error) {
	var r result
	if err := f.process.do(j, &r); err != nil {
		return r, fmt.Errorf("%s, %+v: %w", f.name, j, err)
	}
	return r, nil
}

// rotated returns s rotated by n, so that each run begins with another contender.
func rotated[T any](s []T, n int) []T {
	n %= len(s)
	return append(slices.Clone(s[n:]), s[:n]...)
}

func median(values []float64) float64 {
	sorted := slices.Sorted(slices.Values(values))
	n := len(sorted)
	return (sorted[(n-1)/2] + sorted[n/2]) / 2
}

// ratio returns the median, over the runs, of a value divided by the floor's value in the same run.
func ratio(values, floor []float64) float64 {
	ratios := make([]float64, len(values))
	for i := range values {
		ratios[i] = values[i] / floor[i]
	}
	return median(ratios)
}

// number formats a figure with about three digits.
func number(x float64) string {
	decimals := 2
	if x >= 10 {
		decimals = 1
	}
	if x >= 100 || x == float64(int64(x)) {
		decimals = 0
	}
	return strconv.FormatFloat(x, 'f', decimals, 64)
}
