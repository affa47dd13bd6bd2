package main

import (
	"errors"
	"fmt"
	"log"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"sync"
	"time"
)

// crowds are the numbers of clients that the emulator is measured with.
var crowds = []int{100, 1_000, 5_000, 10_000, 20_000}

// mainCrowd is the one that the ratios of the first table are for.
const mainCrowd = 5_000

// station is a process that broadcasts, and one that holds its clients.
type station struct {
	server, clients *process
	state           serverState
	connected       int
}

// broadcasterFigures are what one broadcaster was measured at, for each crowd.
type broadcasterFigures struct {
	name      string
	stations  []*station // another for each so many clients as the number of open files allows
	empty     serverState
	connect   map[int]float64   // µs per client
	memory    map[int]float64   // bytes per client
	resident  map[int]float64   // the same of the process
	broadcast map[int][]float64 // ms, for each run
	cpu       map[int][]float64 // ms of the server's process for a broadcast, for each run
	send      map[int][]float64 // µs, for each run
}

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
	defer func() {
		for _, f := range all {
			for _, s := range f.stations {
				s.clients.close()
				s.server.close()
			}
		}
	}()
	for _, b := range broadcasters {
		f := &broadcasterFigures{name: b.name, connect: map[int]float64{}, memory: map[int]float64{}, resident: map[int]float64{},
			broadcast: map[int][]float64{}, cpu: map[int][]float64{}, send: map[int][]float64{}}
		all = append(all, f)
	}
	sizes := slices.DeleteFunc(slices.Clone(crowds), func(n int) bool { return n > most })
	for _, n := range sizes {
		for _, f := range all {
			log.Printf("%d clients of %s", n, f.name)
			if err := f.grow(executable, n, limit); err != nil {
				return fmt.Errorf("%s, %d clients: %w", f.name, n, err)
			}
		}
		for run := range runs {
			log.Printf("run %d of %d with %d clients", run+1, runs, n)
			for _, f := range rotated(all, run) {
				if err := f.measure(n); err != nil {
					return fmt.Errorf("%s, %d clients: %w", f.name, n, err)
				}
			}
		}
	}
	printEmulator(all, sizes, starts)
	fmt.Printf("\n%d runs, interleaved; %d cores, %s, %s/%s.\n", runs, runtime.NumCPU(), runtime.Version(), runtime.GOOS, runtime.GOARCH)
	return nil
}

// grow connects clients until there are n, and looks at the memory when all is quiet.
func (f *broadcasterFigures) grow(executable string, n, limit int) error {
	missing := n
	for _, s := range f.stations {
		missing -= s.connected
	}
	added := missing
	var took time.Duration
	for missing > 0 {
		if len(f.stations) == 0 || f.stations[len(f.stations)-1].connected == limit {
			s, err := startStation(executable, f.name)
			if err != nil {
				return err
			}
			if len(f.stations) == 0 {
				if f.empty, err = s.ask("memory"); err != nil {
					return err
				}
			}
			f.stations = append(f.stations, s)
		}
		s := f.stations[len(f.stations)-1]
		count := min(missing, limit-s.connected)
		r, err := s.do(clientPath(), clientJob{Connect: count})
		if err != nil {
			return err
		}
		s.connected += count
		missing -= count
		took += r.Connected
	}
	f.connect[n] = micros(took) / float64(added)
	var memory, resident int64
	for _, s := range f.stations {
		state, err := s.ask("memory")
		if err != nil {
			return err
		}
		memory += state.Memory - f.empty.Memory
		resident += state.Resident - f.empty.Resident
	}
	f.memory[n], f.resident[n] = float64(memory)/float64(n), float64(resident)/float64(n)
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
	for _, s := range f.stations {
		wg.Go(func() {
			r, err := s.do(broadcastPath(), clientJob{Posts: posts, Reach: s.connected})
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
	f.broadcast[n] = append(f.broadcast[n], micros(slowest)/1000/float64(posts))
	f.cpu[n] = append(f.cpu[n], micros(after-before)/1000/float64(posts))

	s := f.stations[0]
	if s.state.First == "" {
		if s.state, err = s.ask("first"); err != nil {
			return err
		}
	}
	const sends = 2_000
	r, err := s.do(sendPath(s.state.First), clientJob{Posts: sends, Reach: 1})
	if err != nil {
		return err
	}
	f.send[n] = append(f.send[n], micros(r.Answered)/sends)
	return nil
}

func (f *broadcasterFigures) cpuTime() (total time.Duration, err error) {
	for _, s := range f.stations {
		state, err := s.ask("")
		if err != nil {
			return 0, err
		}
		total += state.CPU
	}
	return total, nil
}

func micros(d time.Duration) float64 { return float64(d) / float64(time.Microsecond) }

func startStation(executable, name string) (*station, error) {
	s := &station{}
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

func (s *station) ask(question string) (state serverState, err error) {
	err = s.server.do(question, &state)
	return state, err
}

// do has the clients' process do a job at a path of the server.
func (s *station) do(path string, j clientJob) (r clientResult, err error) {
	j.URL = s.state.Endpoint + path
	if j.Token, err = mapClaimsToken(j.URL); err != nil {
		return r, err
	}
	if err = s.clients.do(j, &r); err == nil && r.Error != "" {
		err = errors.New(r.Error)
	}
	return r, err
}

func printEmulator(all []*broadcasterFigures, sizes []int, starts []float64) {
	bare, ours := all[0], all[1]
	n := mainCrowd
	if !slices.Contains(sizes, n) {
		n = sizes[len(sizes)-1]
	}
	compare := func(title, unit, reach string, bare, ours []float64) []string {
		return []string{title, number(median(bare)) + unit, number(median(ours)) + unit, fmt.Sprintf("%.2f", ratio(ours, bare)), reach}
	}
	kib := func(bytes float64) []float64 { return []float64{bytes / 1024} }
	printMarkdown(os.Stdout, [][]string{
		{fmt.Sprintf("with %d JSON clients", n), bare.name, ours.name, "ratio", "reach"},
		compare("broadcast of 100 bytes, until all have it", " ms", "≤ 1.25", bare.broadcast[n], ours.broadcast[n]),
		compare("the server's CPU for it", " ms", "", bare.cpu[n], ours.cpu[n]),
		compare("REST send of 100 bytes to a connection", " µs", "≤ 1.30", bare.send[n], ours.send[n]),
		compare("memory per idle client: heap and stacks", " KiB", "≤ 1.25", kib(bare.memory[n]), kib(ours.memory[n])),
		compare("memory per idle client: of the process", " KiB", "", kib(bare.resident[n]), kib(ours.resident[n])),
		{fmt.Sprintf("start to first answer, median of %d", len(starts)), "", number(median(starts)) + " ms", "", "< 5 ms"},
		{"the slowest of them", "", number(slices.Max(starts)) + " ms", "", ""},
	})
	fmt.Println()
	table := [][]string{{"clients", "processes", "connecting one", "… to the bare loop", "broadcast",
		"… by the bare loop", "per client", "REST send to one", "× bare loop", "memory per client", "of the process"}}
	for _, n := range sizes {
		table = append(table, []string{
			fmt.Sprint(n), fmt.Sprint(ours.processes(n)), number(ours.connect[n]) + " µs", number(bare.connect[n]) + " µs",
			number(median(ours.broadcast[n])) + " ms", number(median(bare.broadcast[n])) + " ms",
			number(median(ours.broadcast[n])*1000/float64(n)) + " µs", number(median(ours.send[n])) + " µs",
			fmt.Sprintf("%.2f", ratio(ours.send[n], bare.send[n])), number(ours.memory[n]/1024) + " KiB", number(ours.resident[n]/1024) + " KiB",
		})
	}
	printMarkdown(os.Stdout, table)
}

// processes is how many it took to hold so many clients.
func (f *broadcasterFigures) processes(n int) int {
	count := 0
	for _, s := range f.stations {
		if n > 0 {
			count++
		}
		n -= s.connected
	}
	return count
}
