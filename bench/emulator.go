package main

import (
	"errors"
	"fmt"
	"log"
	"os"
	"os/exec"
	"slices"
	"sync"
	"time"
)

// clientCounts are the numbers of clients that the emulator is measured with.
var clientCounts = []int{100, 1_000, 5_000, 10_000, 20_000}

// mainClientCount is the number of clients for the ratios of the first table.
const mainClientCount = 5_000

// testbed is the process of a broadcaster, and a process that holds its clients.
type testbed struct {
	server, clients *process
	state           serverState
	connected       int
}

// broadcasterFigures are the measurements of one broadcaster.
type broadcasterFigures struct {
	name      string
	testbeds  []*testbed  // of this run; a new one is added when the limit of open files is reached
	processes map[int]int // the number of server processes, by the number of clients
	empty     serverState // the state of the first server before any client connected
	connect   figuresOf   // µs per client
	memory    figuresOf   // KiB of heap and stacks per client
	resident  figuresOf   // KiB of resident memory per client
	broadcast figuresOf   // ms
	cpu       figuresOf   // ms of the server's process for a broadcast
	send      figuresOf   // µs
}

// figuresOf maps a number of clients to one figure per run.
type figuresOf map[int][]float64

func (f figuresOf) add(n int, x float64) { f[n] = append(f[n], x) }

func benchEmulator(runs, most int) error {
	executable, err := os.Executable()
	if err != nil {
		return err
	}
	limit, err := maxClients()
	if err != nil {
		return err
	}
	starts, err := startTimes(100)
	if err != nil {
		return err
	}
	var all []*broadcasterFigures
	for _, b := range broadcasters {
		all = append(all, &broadcasterFigures{name: b.name, processes: map[int]int{}, connect: figuresOf{}, memory: figuresOf{},
			resident: figuresOf{}, broadcast: figuresOf{}, cpu: figuresOf{}, send: figuresOf{}})
	}
	sizes := slices.DeleteFunc(slices.Clone(clientCounts), func(n int) bool { return n > most })
	for run := range runs {
		if err := benchEmulatorOnce(executable, limit, sizes, all, run); err != nil {
			return err
		}
	}
	printEmulator(all, sizes, starts)
	fmt.Printf("\n%d runs, interleaved; %s.\n", runs, machine())
	return nil
}

// benchEmulatorOnce measures everything once, with new processes.
func benchEmulatorOnce(executable string, limit int, sizes []int, all []*broadcasterFigures, run int) error {
	defer func() {
		for _, f := range all {
			for _, s := range f.testbeds {
				_ = s.clients.close()
				_ = s.server.close()
			}
			f.testbeds = nil
		}
	}()
	for _, n := range sizes {
		log.Printf("run %d: %d clients", run+1, n)
		for _, f := range rotated(all, run) {
			if err := f.grow(executable, n, limit); err != nil {
				return fmt.Errorf("%s, %d clients: %w", f.name, n, err)
			}
		}
		for _, f := range rotated(all, run) {
			if err := f.measure(n); err != nil {
				return fmt.Errorf("%s, %d clients: %w", f.name, n, err)
			}
		}
	}
	return nil
}

// grow connects clients until there are n, then measures the memory while they are idle.
func (f *broadcasterFigures) grow(executable string, n, limit int) error {
	missing := n
	for _, s := range f.testbeds {
		missing -= s.connected
	}
	added := missing
	var took time.Duration
	for missing > 0 {
		if len(f.testbeds) == 0 || f.testbeds[len(f.testbeds)-1].connected == limit {
			s, err := startTestbed(executable, f.name)
			if err != nil {
				return err
			}
			if len(f.testbeds) == 0 {
				if f.empty, err = s.ask("memory"); err != nil {
					return err
				}
			}
			f.testbeds = append(f.testbeds, s)
		}
		s := f.testbeds[len(f.testbeds)-1]
		count := min(missing, limit-s.connected)
		r, err := s.do(clientPath(), clientJob{Connect: count})
		if err != nil {
			return err
		}
		s.connected += count
		missing -= count
		took += r.Connected
	}
	f.connect.add(n, micros(took)/float64(added))
	f.processes[n] = len(f.testbeds)
	var memory, resident int64
	for _, s := range f.testbeds {
		state, err := s.ask("memory")
		if err != nil {
			return err
		}
		memory += state.Memory - f.empty.Memory
		resident += state.Resident - f.empty.Resident
	}
	f.memory.add(n, float64(memory)/1024/float64(n))
	f.resident.add(n, float64(resident)/1024/float64(n))
	return nil
}

// measure broadcasts to all clients, and sends to one.
func (f *broadcasterFigures) measure(n int) error {
	posts := max(3, 3_000/n)
	before, err := f.cpuTime()
	if err != nil {
		return err
	}
	var mu sync.Mutex
	var slowest time.Duration
	var faults []error
	var wg sync.WaitGroup
	for _, s := range f.testbeds {
		wg.Go(func() {
			r, err := s.do(broadcastPath(), clientJob{Posts: posts, Recipients: s.connected})
			mu.Lock()
			defer mu.Unlock()
			slowest, faults = max(slowest, r.Arrived), append(faults, err)
		})
	}
	wg.Wait()
	after, err := f.cpuTime()
	if err := errors.Join(append(faults, err)...); err != nil {
		return err
	}
	f.broadcast.add(n, micros(slowest)/1000/float64(posts))
	f.cpu.add(n, micros(after-before)/1000/float64(posts))

	s := f.testbeds[0]
	if s.state.First == "" {
		if s.state, err = s.ask("first"); err != nil {
			return err
		}
	}
	const sends = 2_000
	r, err := s.do(sendPath(s.state.First), clientJob{Posts: sends, Recipients: 1})
	if err != nil {
		return err
	}
	f.send.add(n, micros(r.Answered)/sends)
	return nil
}

func (f *broadcasterFigures) cpuTime() (total time.Duration, err error) {
	for _, s := range f.testbeds {
		state, err := s.ask("")
		if err != nil {
			return 0, err
		}
		total += state.CPU
	}
	return total, nil
}

func micros(d time.Duration) float64 { return float64(d) / float64(time.Microsecond) }

func startTestbed(executable, name string) (*testbed, error) {
	s := &testbed{}
	var err error
	if s.server, err = startProcess(exec.Command(executable, "-broadcast", name)); err != nil {
		return nil, err
	}
	if s.clients, err = startProcess(exec.Command(executable, "-hold")); err != nil {
		return nil, err
	}
	s.state, err = s.ask("")
	return s, err
}

// ask returns the state of the server; broadcast describes the questions.
func (s *testbed) ask(question string) (state serverState, err error) {
	err = s.server.do(question, &state)
	return state, err
}

// do runs a job in the clients' process, against a path of the server.
func (s *testbed) do(path string, j clientJob) (r clientResult, err error) {
	j.URL = s.state.Endpoint + path
	if j.Token, err = mapClaimsToken(j.URL); err != nil {
		return r, err
	}
	err = s.clients.do(j, &r)
	return r, err
}

func printEmulator(all []*broadcasterFigures, sizes []int, starts []float64) {
	bare, ours := all[0], all[1]
	n := mainClientCount
	if !slices.Contains(sizes, n) {
		n = sizes[len(sizes)-1]
	}
	compare := func(title, unit, goal string, bare, ours []float64) []string {
		return []string{title, number(median(bare)) + unit, number(median(ours)) + unit, fmt.Sprintf("%.2f", ratio(ours, bare)), goal}
	}
	printMarkdown(os.Stdout, [][]string{
		{fmt.Sprintf("with %d JSON clients", n), bare.name, ours.name, "ratio", "goal"},
		compare("broadcast of 100 bytes, until all have it", " ms", "≤ 1.25", bare.broadcast[n], ours.broadcast[n]),
		compare("the server's CPU for it", " ms", "", bare.cpu[n], ours.cpu[n]),
		compare("REST send of 100 bytes to a connection", " µs", "≤ 1.30", bare.send[n], ours.send[n]),
		compare("memory per idle client: heap and stacks", " KiB", "≤ 1.25", bare.memory[n], ours.memory[n]),
		compare("memory per idle client: of the process", " KiB", "", bare.resident[n], ours.resident[n]),
		{fmt.Sprintf("start to first answer, median of %d", len(starts)), "", number(median(starts)) + " ms", "", "< 5 ms"},
		{"the slowest of them", "", number(slices.Max(starts)) + " ms", "", ""},
	})
	fmt.Println()
	table := [][]string{{"clients", "processes", "connecting one", "… to the bare loop", "broadcast",
		"… by the bare loop", "per client", "REST send to one", "× bare loop", "memory per client", "of the process"}}
	for _, n := range sizes {
		table = append(table, []string{
			fmt.Sprint(n), fmt.Sprint(ours.processes[n]), number(median(ours.connect[n])) + " µs", number(median(bare.connect[n])) + " µs",
			number(median(ours.broadcast[n])) + " ms", number(median(bare.broadcast[n])) + " ms",
			number(median(ours.broadcast[n])*1000/float64(n)) + " µs", number(median(ours.send[n])) + " µs",
			fmt.Sprintf("%.2f", ratio(ours.send[n], bare.send[n])), number(median(ours.memory[n])) + " KiB",
			number(median(ours.resident[n])) + " KiB",
		})
	}
	printMarkdown(os.Stdout, table)
}
