package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"net/url"
	"os"
	"strings"
	"time"

	"github.com/inferloom/inferloom/examples/internal/program"
	"github.com/inferloom/inferloom/examples/internal/traffic"
	"github.com/inferloom/inferloom/internal/report"
)

// config is what the flags say.
type config struct {
	traffic traffic.Options
	seed    uint64

	url, model, endpoint string
	keyEnv, key          string
	ignoreEOS            bool
	timeout              time.Duration

	duration, warmup, drain time.Duration
	requests                int
	concurrency             int
	slo                     slo

	json    bool
	report  string
	compare bool
	files   []string // what -compare is about
	args    []string
}

// slo is what a request must keep to be good; 0 is no bound.
type slo struct{ ttft, tpot time.Duration }

func parse(args []string, stderr io.Writer) (config, error) {
	c := config{traffic: traffic.Options{Kind: traffic.Single, Rate: 1, Pause: 1}, args: args}
	f := flag.NewFlagSet("loadtest", flag.ContinueOnError)
	f.SetOutput(io.Discard) // errors are printed once, by main
	f.StringVar(&c.url, "url", "http://127.0.0.1:8000", "address of the server, with or without /v1")
	f.StringVar(&c.model, "model", "", "model to ask for; if empty, the first that the server lists")
	f.StringVar(&c.endpoint, "endpoint", "chat", "chat or completions")
	f.StringVar(&c.keyEnv, "api-key-env", "OPENAI_API_KEY", "environment variable that has the API key, if there is one")
	f.BoolVar(&c.ignoreEOS, "ignore-eos", false, "ask for answers of exactly the workload's lengths (vLLM and SGLang understand it; others may refuse)")
	f.DurationVar(&c.timeout, "timeout", 5*time.Minute, "bound on each request, from when it is sent")
	c.traffic.Flags(f)
	f.Uint64Var(&c.seed, "seed", 1, "determines what is generated")
	f.DurationVar(&c.duration, "duration", 30*time.Second, "how long requests are sent, warm-up included")
	f.DurationVar(&c.warmup, "warmup", 0, "how long at the start requests are sent and not counted")
	f.DurationVar(&c.drain, "drain", time.Minute, "how long answers are waited for after the last request")
	f.IntVar(&c.requests, "requests", 0, "send at most so many; 0 is no bound")
	f.IntVar(&c.concurrency, "concurrency", 1024, "requests under way at once; further ones wait, which counts as latency")
	f.DurationVar(&c.slo.ttft, "ttft", time.Second, "bound on TTFT for goodput; 0 is none")
	f.DurationVar(&c.slo.tpot, "tpot", 50*time.Millisecond, "bound on TPOT for goodput; 0 is none")
	f.BoolVar(&c.json, "json", false, "print one JSON object on stdout, and everything else on stderr")
	f.StringVar(&c.report, "report", "", "write a page to this file")
	f.BoolVar(&c.compare, "compare", false, "compare two results of -json, given as arguments: the old one, then the new one")
	err := f.Parse(args)
	if errors.Is(err, flag.ErrHelp) {
		fmt.Fprintln(stderr, "Usage: loadtest [flags], or loadtest -compare [flags] old.json new.json")
		f.SetOutput(stderr)
		f.PrintDefaults()
		return c, err
	}
	if err == nil {
		c.files = f.Args()
		err = c.validate()
	}
	if err != nil {
		return c, program.UsageError{Err: err}
	}
	c.url = strings.TrimSuffix(strings.TrimRight(c.url, "/"), "/v1")
	c.key = os.Getenv(c.keyEnv)
	return c, nil
}

// validate reports every problem at once.
func (c config) validate() error {
	var errs []error
	bad := func(name string, value any, want string) {
		errs = append(errs, fmt.Errorf("-%s is %v, want %s", name, value, want))
	}
	if err := report.CheckPath(c.report); err != nil {
		bad("report", fmt.Sprintf("%q", c.report), fmt.Sprintf("a file in a folder that is there (%v)", err))
	}
	if c.compare {
		if len(c.files) != 2 {
			errs = append(errs, fmt.Errorf("-compare has %d files, want two: old.json new.json", len(c.files)))
		}
		return errors.Join(errs...)
	}
	if len(c.files) > 0 {
		errs = append(errs, fmt.Errorf("unexpected argument %q", c.files[0]))
	}
	c.traffic.Validate(bad)
	if u, err := url.Parse(c.url); err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
		bad("url", fmt.Sprintf("%q", c.url), "http://host:port or https://host")
	} else if u.RawQuery != "" || u.Fragment != "" || u.User != nil {
		bad("url", fmt.Sprintf("%q", u.Redacted()), "no user, query or fragment in it")
	}
	if c.endpoint != "chat" && c.endpoint != "completions" {
		bad("endpoint", fmt.Sprintf("%q", c.endpoint), "chat or completions")
	}
	above := func(name string, d, low time.Duration) {
		if d < low || d > 1000*time.Hour {
			bad(name, d, fmt.Sprintf("%v to 1000h", low))
		}
	}
	above("timeout", c.timeout, time.Millisecond)
	above("duration", c.duration, time.Millisecond)
	above("warmup", c.warmup, 0)
	above("drain", c.drain, 0)
	above("ttft", c.slo.ttft, 0)
	above("tpot", c.slo.tpot, 0)
	if c.warmup >= c.duration {
		bad("warmup", c.warmup, fmt.Sprintf("less than -duration, %v", c.duration))
	}
	if c.requests < 0 {
		bad("requests", c.requests, "0 or more")
	}
	if c.concurrency < 1 || c.concurrency > 60_000 {
		bad("concurrency", c.concurrency, "1 to 60000")
	}
	return errors.Join(errs...)
}
