package main

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"log"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"time"

	"github.com/awps-go/webpubsub/emulator"
)

// The work of a Go contender of -wsclient in one run.
const (
	socketMessages = 100_000
	socketSends    = 5_000
	socketsHeld    = 10_000
	socketsCut     = 1_000
)

var smallText = strings.Repeat("a", smallBody)

// socketFigures are the measurements of one contender, one value per run.
type socketFigures struct {
	name         string
	command      []string
	messages     int       // to receive in one run
	sends        int       // in one run
	holds        bool      // whether the contender can hold many connections and report their memory
	hub          *process  // the hub of the current run
	url          string    // of the hub
	process      *process  // the contender's process of the current run
	rate         []float64 // messages received per second
	cpu          []float64 // µs per message
	acknowledged []float64 // acknowledged sends per second
	memory       []float64 // KiB of heap and stacks per idle connection
	resident     []float64 // KiB of resident memory per idle connection
	hold         []float64 // µs to connect one of the idle connections
	recovery     []float64 // seconds until all connections are recovered
	requests     []float64 // handshakes per recovered connection
}

// officialClients are measured if what they need exists. They are slower, so they do less work.
var officialClients = []struct {
	needs   string
	figures socketFigures
}{
	{filepath.Join("js", "node_modules"), socketFigures{name: "JavaScript client",
		command: []string{"node", filepath.Join("js", "client.mjs")}, messages: 20_000, sends: 1_000}},
	{filepath.Join("python", "venv"), socketFigures{name: "Python client",
		command: []string{filepath.Join("python", "venv", "bin", "python"), filepath.Join("python", "client.py")}, messages: 5_000, sends: 5}},
}

// benchWsclient measures wsclient beside a loop over its WebSocket library.
func benchWsclient(runs int, official bool) error {
	executable, err := os.Executable()
	if err != nil {
		return err
	}
	limit, err := maxClients()
	if err != nil {
		return err
	}
	if limit < socketsHeld {
		return fmt.Errorf("a process can open only %d connections, not %d: raise the hard limit of open files", limit, socketsHeld)
	}
	var all []*socketFigures
	for _, c := range socketContenders {
		all = append(all, &socketFigures{name: c.name, command: []string{executable, "-dial", c.name},
			messages: socketMessages, sends: socketSends, holds: true})
	}
	for i := range officialClients {
		c := &officialClients[i]
		if _, err := os.Stat(c.needs); !official || errors.Is(err, fs.ErrNotExist) {
			log.Printf("the %s is not measured: it needs -js and %s, see the README", c.figures.name, c.needs)
			continue
		}
		all = append(all, &c.figures)
	}
	for run := range runs {
		log.Printf("run %d of %d", run+1, runs)
		if err := benchWsclientOnce(executable, all, run); err != nil {
			return err
		}
	}
	printWsclient(all)
	fmt.Printf("\n%d runs, interleaved; %d cores, load %s, %s, %s/%s.\n",
		runs, runtime.NumCPU(), load1(), runtime.Version(), runtime.GOOS, runtime.GOARCH)
	return nil
}

// benchWsclientOnce measures everything once, with new processes. The contenders take turns for each figure.
func benchWsclientOnce(executable string, all []*socketFigures, run int) error {
	defer func() {
		for _, f := range all {
			f.stop()
		}
	}()
	for _, f := range all {
		if err := f.start(executable); err != nil {
			return err
		}
	}
	for _, measure := range []func(*socketFigures) error{(*socketFigures).receive, (*socketFigures).send, (*socketFigures).holdMany} {
		for _, f := range rotated(all, run) {
			if err := measure(f); err != nil {
				return fmt.Errorf("%s: %w", f.name, err)
			}
		}
	}
	return nil
}

// start starts the contender's process and a hub for it.
func (f *socketFigures) start(executable string) (err error) {
	if f.hub, err = startProcess(exec.Command(executable, "-hub")); err != nil {
		return err
	}
	if err = f.hub.read(&f.url); err != nil {
		return err
	}
	f.process, err = startProcess(exec.Command(f.command[0], f.command[1:]...))
	return err
}

// stop ends the processes that start started.
func (f *socketFigures) stop() {
	for _, p := range []**process{&f.process, &f.hub} {
		if *p != nil {
			_ = (*p).close()
			*p = nil
		}
	}
}

func (f *socketFigures) receive() error {
	if _, err := f.do(socketJob{Receive: f.messages / 10}); err != nil { // warm up
		return err
	}
	r, err := f.do(socketJob{Receive: f.messages})
	f.rate = append(f.rate, float64(f.messages)/r.Took.Seconds())
	f.cpu = append(f.cpu, micros(r.CPU)/float64(f.messages))
	return err
}

func (f *socketFigures) send() error {
	if _, err := f.do(socketJob{Send: f.sends / 10}); err != nil { // warm up
		return err
	}
	r, err := f.do(socketJob{Send: f.sends})
	f.acknowledged = append(f.acknowledged, float64(f.sends)/r.Took.Seconds())
	return err
}

// holdMany is the last measurement of a contender, and stops it, because its open connections would slow down the others.
func (f *socketFigures) holdMany() error {
	defer f.stop()
	if !f.holds {
		return nil
	}
	r, err := f.do(socketJob{Hold: socketsHeld})
	if err != nil {
		return err
	}
	f.hold = append(f.hold, micros(r.Took)/socketsHeld)
	f.memory = append(f.memory, float64(r.Memory)/1024/socketsHeld)
	f.resident = append(f.resident, float64(r.Resident)/1024/socketsHeld)
	if f.name == wsclientName {
		return f.recover()
	}
	return nil
}

// recover cuts all connections at the same time and waits until the contender has recovered them. The emulator is in this
// process.
func (f *socketFigures) recover() error {
	service, err := emulator.Start(nil)
	if err != nil {
		return err
	}
	defer service.Close()
	url := service.Endpoint() + clientPath()
	token, err := signToken(service.AccessKey(), url)
	if err != nil {
		return err
	}
	if _, err := f.do(socketJob{URL: strings.Replace(url, "http", "ws", 1) + "?access_token=" + token, Hold: socketsCut}); err != nil {
		return err
	}
	connections, before := service.Connections(hub), service.RequestCount(emulator.OperationConnect)
	if len(connections) != socketsCut {
		return fmt.Errorf("the emulator has %d connections, not %d", len(connections), socketsCut)
	}
	start := time.Now()
	for _, c := range connections {
		service.DropConnection(hub, c.ID)
	}
	if _, err := f.do(socketJob{Recover: socketsCut}); err != nil {
		return err
	}
	f.recovery = append(f.recovery, time.Since(start).Seconds())
	f.requests = append(f.requests, float64(service.RequestCount(emulator.OperationConnect)-before)/socketsCut)
	return nil
}

func (f *socketFigures) do(j socketJob) (r socketResult, err error) {
	if j.URL == "" {
		j.URL = f.url
	}
	err = f.process.do(j, &r)
	return r, err
}

func printWsclient(all []*socketFigures) {
	floor := all[0]
	head := []string{"", floor.name + " itself"}
	for _, f := range all[1:] {
		head = append(head, f.name, "ratio")
	}
	table := [][]string{append(head, "goal")}
	add := func(title, unit, goal string, of func(*socketFigures) []float64) {
		cells := []string{title, number(median(of(floor))) + unit}
		for _, f := range all[1:] {
			if len(of(f)) == 0 {
				cells = append(cells, "", "")
				continue
			}
			cells = append(cells, number(median(of(f)))+unit, fmt.Sprintf("%.2f", ratio(of(f), of(floor))))
		}
		table = append(table, append(cells, goal))
	}
	add("messages of 100 bytes received per second", "", "≥ 0.80", func(f *socketFigures) []float64 { return f.rate })
	add("CPU per message", " µs", "≤ 1.25", func(f *socketFigures) []float64 { return f.cpu })
	add("acknowledged sends per second, one at a time", "", "≥ 0.80", func(f *socketFigures) []float64 { return f.acknowledged })
	add(fmt.Sprintf("memory of one of %d idle connections: heap and stacks", socketsHeld), " KiB", "≤ 1.40, ≤ 24 KiB",
		func(f *socketFigures) []float64 { return f.memory })
	add("the same of the process", " KiB", "", func(f *socketFigures) []float64 { return f.resident })
	add("connecting one of them, 32 at once", " µs", "", func(f *socketFigures) []float64 { return f.hold })
	printMarkdown(os.Stdout, table)

	table = [][]string{{fmt.Sprintf("recovery of %d connections cut at once", socketsCut), "until all are back", "handshakes per connection"}}
	for _, f := range all {
		if len(f.recovery) > 0 {
			table = append(table, []string{f.name, number(median(f.recovery)) + " s", number(median(f.requests))})
		}
	}
	fmt.Println()
	printMarkdown(os.Stdout, table)
}

// load1 returns the machine's load average over one minute, or "?" if it is unknown.
func load1() string {
	text, _ := os.ReadFile("/proc/loadavg") // exists on Linux only
	load, _, found := bytes.Cut(text, []byte(" "))
	if !found {
		return "?"
	}
	return string(load)
}
