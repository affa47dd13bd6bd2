package main

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"os"
	"runtime"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// job is one measurement, as a contender's process takes it.
type job struct {
	URL         string // the endpoint
	Concurrency int    // sends at once
	Requests    int
	Size        int  // bytes of one body
	Stream      bool // the body comes as from a file
	Burst       bool // all of one burst end before the next begins
}

type result struct {
	CPU       time.Duration // user and system, of the whole process, for all requests
	Allocated uint64        // bytes; not known of JavaScript
	Error     string
}

// work is the process of one contender: it measures job after job until its standard input ends.
func work(c contender) error {
	in, out := json.NewDecoder(os.Stdin), json.NewEncoder(os.Stdout)
	type key struct {
		url    string
		size   int
		stream bool
	}
	connected := map[key]func(context.Context) error{}
	for {
		var j job
		if err := in.Decode(&j); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return err
		}
		k := key{j.URL, j.Size, j.Stream}
		if connected[k] == nil {
			send, err := c.connect(j.URL, newPayload(j.Size, j.Stream), nil)
			if err != nil {
				return err
			}
			connected[k] = send
		}
		if err := out.Encode(measure(j, connected[k])); err != nil {
			return err
		}
	}
}

func measure(j job, send func(context.Context) error) result {
	run := runLoop
	if j.Burst {
		run = runBursts
	} else if err := runLoop(j.Concurrency, 20*j.Concurrency, send); err != nil { // until all connections are open
		return result{Error: err.Error()}
	}
	runtime.GC()
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	start := cpuTime()
	err := run(j.Concurrency, j.Requests, send)
	r := result{CPU: cpuTime() - start}
	runtime.ReadMemStats(&after)
	r.Allocated = after.TotalAlloc - before.TotalAlloc
	if err != nil {
		r.Error = err.Error()
	}
	return r
}

// runLoop sends without a pause, so many at once.
func runLoop(concurrency, requests int, send func(context.Context) error) error {
	var started atomic.Int64
	return together(concurrency, func(ctx context.Context) error {
		for started.Add(1) <= int64(requests) {
			if err := send(ctx); err != nil {
				return err
			}
		}
		return nil
	})
}

// runBursts sends so many at once, and waits for all of them before the next burst.
func runBursts(size, requests int, send func(context.Context) error) error {
	for range requests / size {
		if err := together(size, send); err != nil {
			return err
		}
	}
	return nil
}

// together runs the function so many times at once, and returns the first error.
func together(n int, do func(context.Context) error) error {
	ctx, cancel := context.WithCancelCause(context.Background())
	defer cancel(nil)
	var all sync.WaitGroup
	for range n {
		all.Go(func() {
			if err := do(ctx); err != nil {
				cancel(err)
			}
		})
	}
	all.Wait()
	return context.Cause(ctx)
}

// cpuTime is what the process has used, in user and system mode.
func cpuTime() time.Duration {
	var usage syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &usage); err != nil {
		panic(err)
	}
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
}
