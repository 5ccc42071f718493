// Package program is what the example programs' main functions have in common.
package program

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"
)

// UsageError is a mistake in the command line, or in a file that it names.
type UsageError struct{ Err error }

func (e UsageError) Error() string { return e.Err.Error() }
func (e UsageError) Unwrap() error { return e.Err }

// Main runs a program until it returns, and exits as Exit does. An interrupt ends its context; a second one ends the process
// at once. A program that does not heed its context calls Exit alone.
func Main(name string, run func(ctx context.Context, args []string, stdout, stderr io.Writer) error) {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop)
	Exit(name, run(ctx, os.Args[1:], os.Stdout, os.Stderr))
}

// Exit ends the process: with status 2 for a UsageError and 1 for other errors, which it prints.
func Exit(name string, err error) { os.Exit(status(name, err, os.Stderr)) }

// status says what went wrong, and what the process is to return.
func status(name string, err error, stderr io.Writer) int {
	if err == nil || errors.Is(err, flag.ErrHelp) {
		return 0
	}
	fmt.Fprintf(stderr, "%s: %v\n", name, err)
	if errors.As(err, new(UsageError)) {
		return 2
	}
	return 1
}
