package main

import (
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/spf13/cobra"
)

// maxFile limits the input from a file or from standard input. The service accepts about 1 MB.
const maxFile = 16 << 20

// readFile returns the content of a file, or of standard input if the name is "-". It returns early after Ctrl-C.
func readFile(cmd *cobra.Command, name string) ([]byte, error) {
	r := cmd.InOrStdin()
	if name != "-" {
		file, err := os.Open(name)
		if err != nil {
			return nil, usageErrorf("--file: %v", err)
		}
		defer func() { _ = file.Close() }() // read only
		r = file
	}
	type result struct {
		data []byte
		err  error
	}
	done := make(chan result, 1)
	go func() { // because a read from a terminal may block forever
		data, err := io.ReadAll(io.LimitReader(r, maxFile+1))
		done <- result{data, err}
	}()
	select {
	case <-cmd.Context().Done():
		return nil, errors.New("interrupted before the end of the input")
	case read := <-done:
		switch {
		case read.err != nil:
			return nil, fmt.Errorf("reading the input: %w", read.err)
		case len(read.data) > maxFile:
			return nil, usageErrorf("the input is larger than 16 MiB; the service accepts about 1 MB")
		}
		return read.data, nil
	}
}
