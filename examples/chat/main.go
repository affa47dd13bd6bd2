// Command chat is a chat: a complete application on Azure Web PubSub, with a web page.
//
//	go run ./examples/chat
//
// runs it on the emulator. The README explains how it works and how to run it on the real service.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/awps-go/webpubsub"
	"github.com/awps-go/webpubsub/emulator"
	"github.com/awps-go/webpubsub/tunnel"
)

func main() {
	addr := flag.String("addr", "127.0.0.1:8080", "the `ADDRESS` of the page and the event handler")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	c := config{addr: *addr, connectionString: os.Getenv("WEBPUBSUB_CONNECTION_STRING"), tunnel: os.Getenv("WEBPUBSUB_TUNNEL") != ""}
	err := run(ctx, c, slog.Default(), func(url string) {
		fmt.Println("The chat is open at", url)
		switch {
		case c.connectionString == "": // the emulator reaches the event handler in any case
		case c.tunnel:
			fmt.Println("Its event handler's URL template is tunnel:///eventhandler/{event}")
		default:
			fmt.Println("The service must be able to reach its event handler at", url+"eventhandler/{event}")
		}
	})
	if err != nil {
		fmt.Fprintln(os.Stderr, "chat:", err)
		os.Exit(1)
	}
}

// config holds the configuration from the command line and the environment.
type config struct {
	addr             string
	connectionString string // of the service; empty runs an emulator, which calls the event handler in process
	tunnel           bool   // receive the service's events through a tunnel, which needs no public endpoint
}

// How long a client may take to send a request, and how long a connection may be idle. Only a test changes them.
var readTimeout, idleTimeout = 30 * time.Second, 2 * time.Minute

// run serves the chat until ctx ends. started is called with the URL of the page.
func run(ctx context.Context, c config, log *slog.Logger, started func(url string)) error {
	connectionString := c.connectionString
	var service *emulator.Server
	if connectionString == "" {
		var err error
		if service, err = emulator.Start(&emulator.Options{Logger: log}); err != nil {
			return err
		}
		defer service.Close()
		connectionString = service.ConnectionString()
	}
	client, err := webpubsub.NewClientFromConnectionString(connectionString, hubName, nil)
	if err != nil {
		return err
	}
	sessions := newSessions(client, log)
	events, err := NewChat(client, sessions, log).Handler(connectionString)
	if err != nil {
		return err
	}
	if service != nil {
		err := service.SetHubSettings(hubName, emulator.HubSettings{EventHandlers: []emulator.EventHandler{{
			Handler:          events,
			SystemEvents:     []string{"connect", "connected", "disconnected"},
			UserEventPattern: "*",
		}}})
		if err != nil {
			return err
		}
	}

	listener, err := net.Listen("tcp", c.addr)
	if err != nil {
		return err
	}
	server := &http.Server{
		Handler: newServer(sessions, events),
		// Clients may send a request very slowly, or not at all.
		ReadHeaderTimeout: 10 * time.Second,
		ReadTimeout:       readTimeout,
		WriteTimeout:      2 * time.Minute, // longer than the service waits for the response to an event
		IdleTimeout:       idleTimeout,
	}
	ctx, cancel := context.WithCancel(ctx)
	tunnelEnded := make(chan error, 1)
	if c.tunnel && service == nil {
		go func() {
			defer cancel() // the chat cannot run without events
			tunnelEnded <- tunnel.Serve(ctx, connectionString, hubName, server.Handler, &tunnel.Options{Logger: log})
		}()
	} else {
		tunnelEnded <- nil
	}
	stopped := make(chan struct{})
	context.AfterFunc(ctx, func() {
		defer close(stopped)
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		_ = server.Shutdown(ctx)
	})
	url := "http://" + listener.Addr().String() + "/"
	started(url)
	err = server.Serve(listener) // returns before the requests in progress have ended
	cancel()
	<-stopped
	if tunnelErr := <-tunnelEnded; tunnelErr != nil {
		return tunnelErr
	}
	if !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}
