package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"math"
	"net"
	"time"

	"github.com/inferloom/inferloom/examples/internal/program"
)

// config is what the flags say.
type config struct {
	json      bool
	duration  time.Duration
	trace     string
	engines   int
	seed      uint64
	timeScale float64
	kvEvents  bool
	serve     bool
	addr      string
}

func parse(args []string, stderr io.Writer) (config, error) {
	var c config
	f := flag.NewFlagSet("quickstart", flag.ContinueOnError)
	f.SetOutput(io.Discard) // errors are printed once, by main
	f.BoolVar(&c.json, "json", false, "print one JSON object on stdout, and everything else on stderr")
	f.DurationVar(&c.duration, "duration", 15*time.Second, "bound on the run of each policy, in real time; 0 with -serve compares nothing")
	f.StringVar(&c.trace, "trace", "", "replay a trace in the Mooncake format, at its own rate, instead of generated chats")
	f.IntVar(&c.engines, "engines", 8, "number of simulated engines; the rate of generated chats grows with it")
	f.Uint64Var(&c.seed, "seed", 1, "determines the generated chats and the answers")
	f.Float64Var(&c.timeScale, "timescale", 20, "simulated seconds in a real one")
	f.BoolVar(&c.kvEvents, "kv-events", false, "compare as well with a gateway that knows from the engines' KV events what they hold")
	f.BoolVar(&c.serve, "serve", false, "go on serving the prefix-aware gateway after the comparison, until interrupted")
	f.StringVar(&c.addr, "addr", ":8080", "address of the gateway with -serve")
	err := f.Parse(args)
	if errors.Is(err, flag.ErrHelp) {
		fmt.Fprintln(stderr, "Usage: quickstart [flags]")
		f.SetOutput(stderr)
		f.PrintDefaults()
		return c, err
	}
	if err == nil {
		err = c.validate(f.Args())
	}
	if err != nil {
		return c, program.UsageError{Err: err}
	}
	return c, nil
}

// validate reports every problem at once.
func (c config) validate(rest []string) error {
	var errs []error
	bad := func(name string, value any, want string) {
		errs = append(errs, fmt.Errorf("-%s is %v, want %s", name, value, want))
	}
	if len(rest) > 0 {
		errs = append(errs, fmt.Errorf("unexpected argument %q", rest[0]))
	}
	if c.duration < 0 {
		bad("duration", c.duration, "0 or more")
	}
	if c.duration == 0 && !c.serve {
		bad("duration", c.duration, "more than 0 without -serve")
	}
	if c.engines < 1 || c.engines > 256 {
		bad("engines", c.engines, "1 to 256")
	}
	if !(c.timeScale > 0) || c.timeScale > 1000 || math.IsNaN(c.timeScale) {
		bad("timescale", c.timeScale, "above 0, at most 1000")
	}
	if _, _, err := net.SplitHostPort(c.addr); err != nil {
		bad("addr", fmt.Sprintf("%q", c.addr), "host:port")
	}
	return errors.Join(errs...)
}
