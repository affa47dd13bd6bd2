package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"time"
)

// The load: every message goes to all clients. A message is posted as soon as the one before is answered.
const (
	loadClients  = 500
	loadMessages = 400
)

// A generator is a process that generates the load, and its measurements, one value per run.
type generator struct {
	name      string
	run       func(executable, program, endpoint string) (perSecond float64, cpu time.Duration, err error)
	perSecond []float64 // deliveries
	cpu       []float64 // microseconds per delivery
}

// benchProgram measures the load generator of cmd/webpubsub beside the raw loop of clientPool, which does not decode frames.
// Each generator has an emulator in another process.
func benchProgram(runs int) error {
	directory, err := os.MkdirTemp("", "bench")
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(directory) }()
	program := filepath.Join(directory, "webpubsub")
	build := exec.Command("go", "build", "-o", program, "./cmd/webpubsub")
	build.Dir = ".."
	if out, err := build.CombinedOutput(); err != nil {
		return fmt.Errorf("building cmd/webpubsub: %w: %s", err, out)
	}
	executable, err := os.Executable()
	if err != nil {
		return err
	}
	generators := []*generator{
		{name: "raw loop", run: runRawLoop},
		{name: "json", run: runProgram("json")},
		{name: "json-reliable", run: runProgram("json-reliable")},
		{name: "protobuf-reliable", run: runProgram("protobuf-reliable")},
	}
	for run := range runs {
		for _, g := range rotated(generators, run) {
			if err := g.measure(executable, program); err != nil {
				return fmt.Errorf("%s: %w", g.name, err)
			}
		}
	}
	printProgram(generators)
	return nil
}

func (g *generator) measure(executable, program string) error {
	server, err := startProcess(exec.Command(executable, "-broadcast", "emulator"))
	if err != nil {
		return err
	}
	defer func() { _ = server.close() }()
	var state serverState
	if err := server.do("", &state); err != nil {
		return err
	}
	perSecond, cpu, err := g.run(executable, program, state.Endpoint)
	if err != nil {
		return err
	}
	g.perSecond = append(g.perSecond, perSecond)
	g.cpu = append(g.cpu, micros(cpu)/(loadClients*loadMessages))
	return nil
}

func runRawLoop(executable, _, endpoint string) (perSecond float64, cpu time.Duration, err error) {
	clients, err := startProcess(exec.Command(executable, "-hold"))
	if err != nil {
		return 0, 0, err
	}
	var r clientResult
	for _, j := range []clientJob{
		{URL: endpoint + clientPath(), Connect: loadClients},
		{URL: endpoint + broadcastPath(), Posts: loadMessages, Recipients: loadClients, Ahead: true},
	} {
		if j.Token, err = mapClaimsToken(j.URL); err != nil {
			return 0, 0, err
		}
		if err := clients.do(j, &r); err != nil {
			return 0, 0, err
		}
	}
	if err := clients.close(); err != nil {
		return 0, 0, err
	}
	return loadClients * loadMessages / r.Arrived.Seconds(), cpuOf(clients.command), nil
}

func runProgram(protocol string) func(executable, program, endpoint string) (float64, time.Duration, error) {
	return func(_, program, endpoint string) (float64, time.Duration, error) {
		command := exec.Command(program, "bench", "--json", "--quiet", "--protocol", protocol, "--target", "all", "--senders", "1",
			"--clients", strconv.Itoa(loadClients), "--connect-rate", "0", "--rate", "0", "--messages", strconv.Itoa(loadMessages),
			"--duration", "1m", "--size", strconv.Itoa(smallBody))
		command.Env = append(os.Environ(), "WEBPUBSUB_CONNECTION_STRING=Endpoint="+endpoint+";AccessKey="+accessKey, "WEBPUBSUB_HUB="+hub)
		var stderr bytes.Buffer
		command.Stderr = &stderr
		out, err := command.Output()
		if err != nil {
			return 0, 0, fmt.Errorf("%w: %s", err, &stderr)
		}
		var report struct {
			Deliveries struct {
				Received  int
				PerSecond float64
			}
		}
		if err := json.Unmarshal(out, &report); err != nil {
			return 0, 0, err
		}
		if report.Deliveries.Received != loadClients*loadMessages {
			return 0, 0, fmt.Errorf("%d of %d messages arrived", report.Deliveries.Received, loadClients*loadMessages)
		}
		return report.Deliveries.PerSecond, cpuOf(command), nil
	}
}

func cpuOf(command *exec.Cmd) time.Duration {
	return command.ProcessState.UserTime() + command.ProcessState.SystemTime()
}

func printProgram(generators []*generator) {
	head, line, rate, cpu, times := fmt.Sprintf("| %d clients, %d messages to all |", loadClients, loadMessages), "| --- |",
		"| deliveries a second |", "| CPU of the process per delivery |", "| … to the raw loop |"
	for _, g := range generators {
		head += " " + g.name + " |"
		line += " ---: |"
		rate += " " + number(median(g.perSecond)) + " |"
		cpu += " " + number(median(g.cpu)) + " µs |"
		times += " " + number(ratio(g.cpu, generators[0].cpu)) + " |"
	}
	fmt.Println(head + "\n" + line + "\n" + rate + "\n" + cpu + "\n" + times)
}
