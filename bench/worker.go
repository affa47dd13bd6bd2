package main

import (
	"context"
	"runtime"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// job is one measurement of a contender's process.
type job struct {
	URL         string // the endpoint
	Concurrency int    // concurrent sends
	Requests    int    // all sends
	Size        int    // bytes of one body
	Stream      bool   // the body is a stream
	Burst       bool   // the sends are made in bursts; one burst ends before the next begins
}

type result struct {
	CPU       time.Duration // user and system time of the process, for all requests
	Allocated uint64        // bytes, for all requests; 0 from JavaScript
}

// work is the main function of a contender's process.
func work(c contender) error {
	type key struct {
		url    string
		size   int
		stream bool
	}
	connected := map[key]func(context.Context) error{}
	return serveJobs(func(j job) (r result, err error) {
		k := key{j.URL, j.Size, j.Stream}
		if connected[k] == nil {
			if connected[k], err = c.connect(j.URL, newPayload(j.Size, j.Stream), nil); err != nil {
				return r, err
			}
		}
		return measure(j, connected[k])
	})
}

func measure(j job, send func(context.Context) error) (r result, err error) {
	run := runLoop
	if j.Burst {
		run = runBursts
	} else if err := runLoop(j.Concurrency, 20*j.Concurrency, send); err != nil { // opens all connections
		return r, err
	}
	runtime.GC()
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	start := cpuTime()
	err = run(j.Concurrency, j.Requests, send)
	r.CPU = cpuTime() - start
	runtime.ReadMemStats(&after)
	r.Allocated = after.TotalAlloc - before.TotalAlloc
	return r, err
}

// runLoop sends without a pause from a number of goroutines.
func runLoop(concurrency, requests int, send func(context.Context) error) error {
	var started atomic.Int64
	return runConcurrently(concurrency, func(ctx context.Context) error {
		for started.Add(1) <= int64(requests) {
			if err := send(ctx); err != nil {
				return err
			}
		}
		return nil
	})
}

// runBursts sends in bursts of size concurrent sends. It waits for all sends of a burst before the next burst.
func runBursts(size, requests int, send func(context.Context) error) error {
	for range requests / size {
		if err := runConcurrently(size, send); err != nil {
			return err
		}
	}
	return nil
}

// runConcurrently calls do in n goroutines and returns the first error. The first error cancels the context.
func runConcurrently(n int, do func(context.Context) error) error {
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

// cpuTime returns the user and system time that the process has used.
func cpuTime() time.Duration {
	var usage syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &usage); err != nil {
		panic(err)
	}
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
}
