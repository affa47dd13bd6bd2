package main

import (
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/spf13/cobra"
)

// maxFile bounds what is read of a file or of standard input. The service accepts about 1 MB and answers 413 above it.
const maxFile = 16 << 20

// readFile returns the content of the file that --file names; - is standard input. It returns early when Ctrl-C comes.
func readFile(cmd *cobra.Command, name string) ([]byte, error) {
	r := cmd.InOrStdin()
	if name != "-" {
		file, err := os.Open(name)
		if err != nil {
			return nil, usageErrorf("--file: %v", err)
		}
		defer func() { _ = file.Close() }() // it was only read
		r = file
	}
	type result struct {
		data []byte
		err  error
	}
	done := make(chan result, 1)
	go func() { // which a terminal may hold up for ever
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
			return nil, usageErrorf("the input has more than 16 MiB, and the service accepts about 1 MB")
		}
		return read.data, nil
	}
}
