// Command bench measures what a send costs with the client of github.com/awps-go/webpubsub, beside a floor, azcore as it is
// usually used, and the official JavaScript SDK. It prints a table as Markdown and draws a plot. See the README.
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
	runs := flag.Int("runs", 15, "how often everything is measured, each time by new processes; the median is printed")
	requests := flag.Int("requests", 8_000, "small requests in one measurement; JavaScript sends a tenth")
	js := flag.Bool("js", true, "measure the official clients too: JavaScript if js/node_modules is there, Python (with -wsclient) if python/venv is")
	plot := flag.String("plot", "cpu.svg", "the file for the plot; empty for none")
	serving := flag.Bool("serve", false, "be the server's process")
	emulators := flag.Bool("emulator", false, "measure the emulator instead of the client")
	program := flag.Bool("program", false, "measure the load generator of cmd/webpubsub instead of the client")
	clients := flag.Int("clients", 20_000, "with -emulator: the most clients that are connected")
	broadcasting := flag.String("broadcast", "", "be the process of the broadcaster of this name")
	holding := flag.Bool("hold", false, "be a process that holds WebSocket clients")
	tunnels := flag.Bool("tunnel", false, "measure events through the tunnel instead of the client")
	wsclients := flag.Bool("wsclient", false, "measure wsclient instead of the client")
	hubbing := flag.Bool("hub", false, "be the process of a hub for WebSocket clients")
	dialing := flag.String("dial", "", "be the process of the WebSocket client of this name")
	receiving := flag.String("receive", "", "be the process of the receiver of this name")
	working := flag.String("work", "", "be the process of the contender of this name")
	flag.Parse()

	var err error
	switch {
	case *serving:
		err = serve()
	case *working != "":
		err = errors.New("no contender " + *working)
		for _, c := range contenders {
			if c.name == *working {
				err = work(c)
			}
		}
	case *broadcasting != "":
		err = errors.New("no broadcaster " + *broadcasting)
		for _, b := range broadcasters {
			if b.name == *broadcasting {
				err = broadcast(b.start)
			}
		}
	case *holding:
		err = hold()
	case *receiving != "":
		err = errors.New("no receiver " + *receiving)
		for _, r := range receivers {
			if r.name == *receiving {
				err = receive(r)
			}
		}
	case *hubbing:
		err = serveHub()
	case *dialing != "":
		err = errors.New("no client " + *dialing)
		for _, c := range socketContenders {
			if c.name == *dialing {
				err = dialSockets(c)
			}
		}
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

// A row is one figure that every contender's process is asked for.
type row struct {
	title  string
	job    job
	secure bool
	reach  float64 // the ratio that ours shall reach, or 0
	table  bool    // or is it for the plot only?
}

const (
	javaScriptName = "JavaScript SDK"
	javaScriptNote = "Most of the JavaScript SDK's figure is one defect: it tries the key as a PEM key on every signature; without it we\n" +
		"would be 5 x ahead, not 20 x."
)

func rows(requests int) []row {
	cpu := func(concurrency int, reach float64, table bool) row {
		return row{
			title: fmt.Sprintf("CPU, %d at once", concurrency), reach: reach, table: table,
			job: job{Concurrency: concurrency, Requests: requests, Size: smallBody},
		}
	}
	return []row{
		cpu(1, 1.10, true), cpu(4, 0, false), cpu(16, 0, false), cpu(64, 1.30, true), cpu(256, 1.40, true),
		{title: "CPU, TLS, 256 at once", secure: true, reach: 1.50, table: true,
			job: job{Concurrency: 256, Requests: requests, Size: smallBody}},
		{title: "CPU, bodies of 64 KiB, 64 at once", table: true,
			job: job{Concurrency: 64, Requests: requests / 5, Size: 64 << 10}},
		{title: "CPU, streams of 1 MB, 4 at once", table: true,
			job: job{Concurrency: 4, Requests: requests / 50, Size: 1_000_000, Stream: true}},
	}
}

// figures are what one contender was measured at: for each row one value for each run.
type figures struct {
	name        string
	command     []string
	process     *process    // of this run
	cpu         [][]float64 // microseconds per request
	allocated   [][]float64 // bytes per request
	connections [2]int      // opened by bursts of 64 and of 256
}

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
			log.Print("js/node_modules is not there: run npm ci in js to measure the JavaScript SDK")
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
	fmt.Printf("\n%d runs, interleaved; %d cores, %s, %s/%s.\n", runs, runtime.NumCPU(), runtime.Version(), runtime.GOOS, runtime.GOARCH)
	if plot == "" {
		return nil
	}
	return writePlot(plot, rows, all)
}

// benchOnce measures everything once. All processes are new: some are by luck a tenth faster or slower than others for as
// long as they live.
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
		// The contenders' own transports shall trust the server.
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

// burstSends is how many sends there are in bursts of each size.
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
			f.connections[i] = after - before - 1 // that asked for the number
		}
	}
	return nil
}

func (f *figures) measure(j job) (result, error) {
	var r result
	if err := f.process.do(j, &r); err != nil {
		return r, err
	}
	if r.Error != "" {
		return r, fmt.Errorf("%s, %+v: %s", f.name, j, r.Error)
	}
	return r, nil
}

// rotated lets each run begin with another contender.
func rotated[T any](s []T, n int) []T {
	n %= len(s)
	return append(slices.Clone(s[n:]), s[:n]...)
}

func median(values []float64) float64 {
	sorted := slices.Sorted(slices.Values(values))
	n := len(sorted)
	return (sorted[(n-1)/2] + sorted[n/2]) / 2
}

// ratio is the median over the runs of a value to that of the floor in the same run.
func ratio(values, floor []float64) float64 {
	ratios := make([]float64, len(values))
	for i := range values {
		ratios[i] = values[i] / floor[i]
	}
	return median(ratios)
}

// number writes a figure with about three digits.
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
