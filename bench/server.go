package main

import (
	"bufio"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"sync/atomic"
)

// serverInfo is the line that the server's process prints when it is ready.
type serverInfo struct {
	HTTP, HTTPS string // URLs
	Certificate string // the certificate of HTTPS in PEM
}

// serve is the main function of the server's process. It answers every request with 202 until its standard input ends.
func serve() error {
	var connections atomic.Int64
	handler := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/connections" {
			fmt.Fprint(w, connections.Load())
			return
		}
		_, _ = io.Copy(io.Discard, r.Body)
		w.WriteHeader(http.StatusAccepted)
	})
	newServer := func() *httptest.Server {
		server := httptest.NewUnstartedServer(handler)
		server.Config.ErrorLog = log.New(io.Discard, "", 0)
		server.Config.ConnState = func(_ net.Conn, state http.ConnState) {
			if state == http.StateNew {
				connections.Add(1)
			}
		}
		return server
	}
	plain, secure := newServer(), newServer()
	plain.Start()
	secure.StartTLS()
	certificate := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: secure.Certificate().Raw})
	if err := json.NewEncoder(os.Stdout).Encode(serverInfo{plain.URL, secure.URL, string(certificate)}); err != nil {
		return err
	}
	_, err := io.Copy(io.Discard, os.Stdin)
	return err
}

// server is a running server process.
type server struct {
	serverInfo
	process *process
	root    string // the file with the certificate
}

func startServer(executable, directory string) (*server, error) {
	p, err := startProcess(exec.Command(executable, "-serve"))
	if err != nil {
		return nil, err
	}
	s := &server{process: p, root: directory + "/root.pem"}
	if err := p.read(&s.serverInfo); err != nil {
		return nil, err
	}
	return s, os.WriteFile(s.root, []byte(s.Certificate), 0o600)
}

// connections returns how many connections the server has accepted, without the connection of this query.
func (s *server) connections() (n int, err error) {
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := client.Get(s.HTTP + "/connections")
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	_, err = fmt.Fscan(resp.Body, &n)
	return n - 1, err
}

// process is a child process that reads jobs from its standard input and writes results to its standard output, as lines of
// JSON.
type process struct {
	command *exec.Cmd
	input   io.WriteCloser
	output  *bufio.Scanner
}

func startProcess(command *exec.Cmd) (*process, error) {
	command.Stderr = os.Stderr
	input, err := command.StdinPipe()
	if err != nil {
		return nil, err
	}
	output, err := command.StdoutPipe()
	if err != nil {
		return nil, err
	}
	return &process{command, input, bufio.NewScanner(output)}, command.Start()
}

// read reads one result. It returns the error of a job that failed.
func (p *process) read(result any) error {
	if !p.output.Scan() {
		return fmt.Errorf("%s ended: %w", p.command.Args, io.ErrUnexpectedEOF)
	}
	var failed failure
	if json.Unmarshal(p.output.Bytes(), &failed) == nil && failed.Error != "" {
		return errors.New(failed.Error)
	}
	return json.Unmarshal(p.output.Bytes(), result)
}

// do writes a job and reads its result.
func (p *process) do(job, result any) error {
	if err := json.NewEncoder(p.input).Encode(job); err != nil {
		return err
	}
	return p.read(result)
}

func (p *process) close() error {
	p.input.Close()
	return p.command.Wait()
}

// failure is the result of a job that failed.
type failure struct{ Error string }

// serveJobs is the loop of a child process. It does the jobs from the standard input until the input ends.
func serveJobs[J, R any](do func(J) (R, error)) error {
	in, out := json.NewDecoder(os.Stdin), json.NewEncoder(os.Stdout)
	for {
		var j J
		if err := in.Decode(&j); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return err
		}
		var answer any
		answer, err := do(j)
		if err != nil {
			answer = failure{err.Error()}
		}
		if err := out.Encode(answer); err != nil {
			return err
		}
	}
}
