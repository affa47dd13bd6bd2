package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"github.com/awps-go/webpubsub"
	"github.com/awps-go/webpubsub/internal/redact"
	"github.com/awps-go/webpubsub/wsclient"
)

// Exit codes.
const (
	exitOK     = 0
	exitFailed = 1
	exitUsage  = 2
)

// failure is the error of a command that ran. Cobra's own errors are not wrapped in a failure: they are usage errors.
type failure struct{ error }

func (f failure) Unwrap() error { return f.error }

// usageError is a usage error that a command found while it ran.
type usageError struct{ text string }

func (e *usageError) Error() string { return e.text }

func usageErrorf(format string, args ...any) error {
	return &usageError{fmt.Sprintf(format, args...)}
}

// errHelpShown is a usage error for which the help was already printed.
var errHelpShown = errors.New("help shown")

// action returns a RunE that wraps the errors of run in a failure.
func action(run func(cmd *cobra.Command, args []string) error) func(*cobra.Command, []string) error {
	return func(cmd *cobra.Command, args []string) error {
		if err := run(cmd, args); err != nil {
			return failure{err}
		}
		return nil
	}
}

// report prints an error on one line and returns the exit code.
func report(stderr io.Writer, cmd *cobra.Command, err error) int {
	switch {
	case err == nil:
		return exitOK
	case errors.Is(err, errHelpShown):
		return exitUsage
	case isUsageError(err):
		fmt.Fprintf(stderr, "webpubsub: %s (see %s --help)\n", errorLine(err), cmd.CommandPath())
		return exitUsage
	default:
		text := errorLine(err)
		if errors.Is(err, context.Canceled) { // by Ctrl-C
			text = strings.ReplaceAll(text, context.Canceled.Error(), "interrupted")
		}
		fmt.Fprintf(stderr, "webpubsub: %s\n", text)
		return exitFailed
	}
}

func isUsageError(err error) bool {
	var ran failure
	var usage *usageError
	return !errors.As(err, &ran) || errors.As(err, &usage) ||
		errors.Is(err, webpubsub.ErrInvalidArgument) || errors.Is(err, wsclient.ErrInvalidArgument)
}

// errorLine returns the text of an error on one line, without the package names at the start of our packages' errors.
// It hides secrets: usage errors quote arguments, such as the URL of a client with its token, and errors of net/http quote
// responses.
func errorLine(err error) string {
	text := " " + strings.Join(strings.Fields(redact.Text(err.Error())), " ")
	text = strings.NewReplacer(" webpubsub: ", " ", " wsclient: ", " ", " tunnel: ", " ").Replace(text)
	return printable(text[1:])
}
