package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/inferloom/inferloom/examples/internal/program"
	"github.com/inferloom/inferloom/examples/internal/traffic"
	"github.com/inferloom/inferloom/internal/engine"
	"github.com/inferloom/inferloom/internal/report"
	"github.com/inferloom/inferloom/internal/sim"
)

// config is what the flags say.
type config struct {
	traffic   traffic.Options
	policies  []sim.Policy
	baseline  string
	endpoints int
	engine    engine.Options
	seeds     int
	load      float64 // times the capacity of the weakest policy; 0 is the traffic's own rate
	sweep     []float64
	tune      bool
	objective objective
	tries     int

	duration, warmup time.Duration
	requests         int
	slo              sim.SLO
	scrape           time.Duration

	json   bool
	report string
	args   []string

	matrix, traces string // the store of a matrix, and the folder of its traces
	heldOut        bool
}

// raw are flags that are read after parsing.
type raw struct{ policies, sweep, objective string }

func parse(args []string, stderr io.Writer) (config, error) {
	c := config{args: args, traffic: traffic.Options{Kind: traffic.Chats, Rate: 1, Pause: 0.2}}
	var r raw
	f := flag.NewFlagSet("simulate", flag.ContinueOnError)
	f.SetOutput(io.Discard) // errors are printed once, by main
	c.traffic.Flags(f)
	f.StringVar(&r.policies, "policy", "default,round-robin,least-request,session-hash", "policies to compare, of: "+strings.Join(policyNames(), ", "))
	f.StringVar(&c.baseline, "baseline", "", "the policy that the others are compared with; if empty, round-robin or else the first")
	f.IntVar(&c.endpoints, "endpoints", 4, "number of engines")
	f.IntVar(&c.engine.BlockTokens, "block-tokens", 128, "tokens in a KV block; fewer take longer to simulate")
	kv := f.Int("kv-tokens", 432_000, "KV cache of an engine, in tokens")
	f.Float64Var(&c.engine.PrefillRate, "prefill-rate", 0, "prefill speed of an engine in tokens/s; 0 is 25,000, an 8B model on an H100-class GPU")
	f.DurationVar(&c.engine.StepTime, "step-time", 0, "base time of a step; 0 is 7.5ms")
	f.IntVar(&c.seeds, "seeds", 10, "runs of each policy; under 10 intervals are wide")
	f.Float64Var(&c.load, "load", 0, "load as a share of what the weakest policy can bear; 0 is 0.8, or the given rate with -trace, -rate or -scale")
	f.StringVar(&r.sweep, "sweep", "", "also simulate these loads, as shares of what the weakest policy can bear, such as 0.5,0.8,1,1.2")
	f.BoolVar(&c.tune, "tune", false, "search the default policy's weights for the objective")
	f.StringVar(&r.objective, "objective", "ttft-p95", "what -tune improves: "+strings.Join(objectiveNames(), ", "))
	f.IntVar(&c.tries, "tries", 24, "combinations of weights that -tune begins with")
	f.DurationVar(&c.duration, "duration", 10*time.Minute, "simulated time in which requests arrive, warm-up included; 0 is all of a trace")
	f.DurationVar(&c.warmup, "warmup", 2*time.Minute, "simulated time at the start that is not measured")
	f.IntVar(&c.requests, "requests", 0, "at most so many requests a run; 0 is no bound")
	f.DurationVar(&c.slo.TTFT, "ttft", 2*time.Second, "bound on TTFT for goodput; 0 is none")
	f.DurationVar(&c.slo.TPOT, "tpot", 50*time.Millisecond, "bound on TPOT for goodput; 0 is none")
	f.DurationVar(&c.scrape, "scrape", 200*time.Millisecond, "interval at which engines' metrics are read")
	f.BoolVar(&c.json, "json", false, "print one JSON object on stdout, and everything else on stderr")
	f.StringVar(&c.report, "report", "", "write a page to this file")
	f.StringVar(&c.matrix, "matrix", "", "instead of one workload, compare -policy (the first with each other) on all workloads of docs/policies.md at\n-sweep times the capacity of the fleet, and print Markdown. Runs are kept in this file, and those that it has are not\nrun again. Of the other flags only -seeds, -requests (a run) and -traces count")
	f.StringVar(&c.traces, "traces", "", "with -matrix, the folder of mooncake_conversation.jsonl and azure_llm_2023_code.csv; if empty they are left out")
	f.BoolVar(&c.heldOut, "held-out", false, "with -matrix, use other seeds and other parameters of the generated workloads, which nothing was tuned on")
	err := f.Parse(args)
	if errors.Is(err, flag.ErrHelp) {
		fmt.Fprintln(stderr, "Usage: simulate [flags]")
		f.SetOutput(stderr)
		f.PrintDefaults()
		return c, err
	}
	if err == nil {
		if c.engine.BlockTokens > 0 {
			c.engine.Blocks = *kv / c.engine.BlockTokens
		}
		own := c.traffic.Trace != ""
		f.Visit(func(set *flag.Flag) { own = own || set.Name == "rate" || set.Name == "scale" })
		err = c.validate(r, f.Args())
		if c.load == 0 && !own {
			c.load = 0.8
		}
	}
	if err != nil {
		return c, program.UsageError{Err: err}
	}
	return c, nil
}

func policyNames() []string {
	var names []string
	for _, p := range sim.Policies() {
		names = append(names, p.Name)
	}
	return names
}

// validate reads what is still text and reports every problem at once.
func (c *config) validate(r raw, rest []string) error {
	var errs []error
	bad := func(name string, value any, want string) {
		errs = append(errs, fmt.Errorf("-%s is %v, want %s", name, value, want))
	}
	if len(rest) > 0 {
		errs = append(errs, fmt.Errorf("unexpected argument %q", rest[0]))
	}
	c.traffic.Validate(bad)
	c.readPolicies(r.policies, bad)
	if r.sweep != "" {
		for part := range strings.SplitSeq(r.sweep, ",") {
			v, err := strconv.ParseFloat(strings.TrimSpace(part), 64)
			if err != nil || !(v > 0 && v <= 100) {
				bad("sweep", fmt.Sprintf("%q", r.sweep), "numbers above 0 and up to 100, comma separated")
				break
			}
			c.sweep = append(c.sweep, v)
		}
		slices.Sort(c.sweep)
		c.sweep = slices.Compact(c.sweep)
	}
	var err error
	if c.objective, err = findObjective(r.objective); err != nil {
		bad("objective", fmt.Sprintf("%q", r.objective), "one of "+strings.Join(objectiveNames(), ", "))
	}
	between := func(name string, v, low, high int) {
		if v < low || v > high {
			bad(name, v, fmt.Sprintf("%d to %d", low, high))
		}
	}
	between("endpoints", c.endpoints, 1, 65_536)
	between("seeds", c.seeds, 1, 1000)
	between("tries", c.tries, 2, 10_000)
	between("block-tokens", c.engine.BlockTokens, 1, 1<<20)
	between("requests", c.requests, 0, math.MaxInt32)
	if c.engine.BlockTokens > 0 && c.engine.Blocks < 1 {
		errs = append(errs, errors.New("-kv-tokens is less than -block-tokens, want room for a block"))
	}
	if !(c.load >= 0 && c.load <= 100) {
		bad("load", c.load, "0 to 100")
	}
	if c.engine.PrefillRate < 0 || math.IsNaN(c.engine.PrefillRate) || math.IsInf(c.engine.PrefillRate, 0) {
		bad("prefill-rate", c.engine.PrefillRate, "a finite number from 0 up")
	}
	for _, d := range []struct {
		name string
		v    time.Duration
	}{{"step-time", c.engine.StepTime}, {"duration", c.duration}, {"warmup", c.warmup}, {"ttft", c.slo.TTFT}, {"tpot", c.slo.TPOT}} {
		if d.v < 0 || d.v > 1000*time.Hour {
			bad(d.name, d.v, "0 to 1000h")
		}
	}
	if c.scrape < time.Millisecond {
		bad("scrape", c.scrape, "1ms or more")
	}
	if c.duration == 0 && c.traffic.Trace == "" && c.requests == 0 {
		bad("duration", c.duration, "more than 0 without -trace and -requests: generated requests have no end")
	}
	if c.duration > 0 && c.warmup >= c.duration {
		bad("warmup", c.warmup, fmt.Sprintf("less than -duration, %v", c.duration))
	}
	if c.matrix == "" && (c.traces != "" || c.heldOut) {
		errs = append(errs, errors.New("-traces and -held-out are for -matrix"))
	}
	if err := report.CheckPath(c.report); err != nil {
		bad("report", fmt.Sprintf("%q", c.report), fmt.Sprintf("a file in a folder that is there (%v)", err))
	}
	return errors.Join(errs...)
}

func (c *config) readPolicies(list string, bad func(name string, value any, want string)) {
	seen := map[string]bool{}
	for name := range strings.SplitSeq(list, ",") {
		name = strings.TrimSpace(name)
		p, err := sim.FindPolicy(name)
		switch {
		case err != nil:
			bad("policy", fmt.Sprintf("%q", name), "one of "+strings.Join(policyNames(), ", "))
		case seen[name]:
			bad("policy", fmt.Sprintf("%q", name), "each once")
		default:
			c.policies = append(c.policies, p)
		}
		seen[name] = true
	}
	switch {
	case c.baseline != "" && !seen[c.baseline]:
		bad("baseline", fmt.Sprintf("%q", c.baseline), "one of -policy")
	case c.baseline == "" && seen["round-robin"]:
		c.baseline = "round-robin"
	case c.baseline == "" && len(c.policies) > 0:
		c.baseline = c.policies[0].Name
	}
}
