// Package traffic has the flags by which programs are told what requests to send: a trace, or what to generate.
package traffic

import (
	"errors"
	"flag"
	"fmt"
	"math"
	"os"
	"strings"

	"github.com/inferloom/inferloom/internal/workload"
)

// Options say what requests there are. Flags sets them.
type Options struct {
	// Trace is a file, or a folder of ServeGen; where it is empty, Kind is generated.
	Trace string
	Kind  string
	// Rate is of generated requests, a second; Scale multiplies the rate of either.
	Rate, Scale float64
	// CV is the coefficient of variation of the gaps between generated arrivals: 1 is a Poisson process.
	CV float64
	// Input and Output are mean lengths in tokens, 0 the kind's own; Spread is their coefficient of variation.
	Input, Output int
	Spread        float64
	// Turns is the mean number of turns of a chat, Pause stretches the time between them.
	Turns, Pause float64
	// Adapters are LoRA adapters that are asked for by Zipf's law.
	Adapters string
}

// The kinds that are generated.
const (
	Chats  = "chats"
	Single = "single"
)

// Flags declares the flags; what is set in o are the defaults.
func (o *Options) Flags(f *flag.FlagSet) {
	f.StringVar(&o.Trace, "trace", "", "replay a trace: Mooncake, Azure, BurstGPT, ServeGen or what a gateway recorded; the format is found from its content")
	f.StringVar(&o.Kind, "workload", o.Kind, "without a trace: \"chats\" with several turns behind shared system prompts, as in the Mooncake conversation\ntrace, or \"single\" requests that share nothing")
	f.Float64Var(&o.Rate, "rate", o.Rate, "generated requests a second")
	f.Float64Var(&o.Scale, "scale", 1, "times the rate of the trace or the workload")
	f.Float64Var(&o.CV, "burst", 1, "coefficient of variation of the gaps between generated arrivals: 1 is Poisson, more is bursty")
	f.IntVar(&o.Input, "input", o.Input, "mean tokens of a generated prompt (of a chat's first); 0 is the workload's own, 1024 for single")
	f.IntVar(&o.Output, "output", o.Output, "mean tokens of a generated answer; 0 is the workload's own, 128 for single")
	f.Float64Var(&o.Spread, "spread", 0, "coefficient of variation of -input and -output, log-normal; 0 is none")
	f.Float64Var(&o.Turns, "turns", 0, "mean turns of a chat; 0 is as in the Mooncake trace (1.6)")
	f.Float64Var(&o.Pause, "pause", o.Pause, "times the pauses between the turns of a chat, whose median is two minutes")
	f.StringVar(&o.Adapters, "adapters", "", "LoRA adapters that generated requests ask for, by Zipf's law, comma separated")
}

// Validate calls bad for each option that is out of range.
func (o *Options) Validate(bad func(flag string, value any, want string)) {
	positive := func(name string, v float64) {
		if !(v > 0) || math.IsInf(v, 0) {
			bad(name, v, "a finite number above 0")
		}
	}
	if o.Kind != Chats && o.Kind != Single {
		bad("workload", fmt.Sprintf("%q", o.Kind), "chats or single")
	}
	if o.Rate < 1e-6 || !(o.Rate <= 1e6) {
		bad("rate", o.Rate, "1e-06 to 1e+06")
	}
	positive("scale", o.Scale)
	if !(o.CV > 0 && o.CV <= 50) {
		bad("burst", o.CV, "above 0, at most 50")
	}
	if o.Input < 0 || o.Input > 1<<27 {
		bad("input", o.Input, "0 to 134217728")
	}
	if o.Output < 0 || o.Output > 1<<27 {
		bad("output", o.Output, "0 to 134217728")
	}
	if !(o.Spread >= 0 && o.Spread <= 50) {
		bad("spread", o.Spread, "0 to 50")
	}
	if o.Turns != 0 && !(o.Turns >= 1 && o.Turns <= 1000) {
		bad("turns", o.Turns, "1 to 1000, or 0")
	}
	positive("pause", o.Pause)
	if o.Trace != "" {
		if _, err := os.Stat(o.Trace); err != nil {
			bad("trace", fmt.Sprintf("%q", o.Trace), "a file that can be read ("+cause(err)+")")
		}
	}
}

func cause(err error) string {
	if p := new(os.PathError); errors.As(err, &p) {
		return p.Err.Error()
	}
	return err.Error()
}

// At returns the options of so many times the rate. Generated requests come at another rate, with the same pauses between the
// turns of a chat; a trace is compressed in time.
func (o Options) At(load float64) Options {
	if o.Trace != "" {
		o.Scale *= load
	} else {
		o.Rate *= load
	}
	return o
}

// Source returns the requests, and what they are in words. A trace is opened anew by each iteration, so that it can be
// iterated as often as is needed; seed has no effect on one.
func (o *Options) Source(seed uint64) (workload.Source, string, error) {
	source, text, err := o.unscaled(seed)
	if err != nil {
		return nil, "", err
	}
	if o.Scale != 1 {
		text += fmt.Sprintf(", at %.3g times that rate", o.Scale)
	}
	source, err = workload.Scale(source, o.Scale)
	return source, text, err
}

func (o *Options) unscaled(seed uint64) (workload.Source, string, error) {
	if o.Trace != "" {
		source, format, err := workload.Open(o.Trace)
		return source, fmt.Sprintf("the trace %s (%s)", o.Trace, format), err
	}
	c := workload.ChatOptions{
		Seed: seed, RequestsPerSecond: o.Rate, Arrivals: workload.Arrivals{CV: o.CV}, Turns: o.Turns, PauseScale: o.Pause,
		Input: o.lengths(o.Input), Output: o.lengths(o.Output),
	}
	if o.Adapters != "" {
		c.Adapters = strings.Split(o.Adapters, ",")
	}
	text := fmt.Sprintf("generated chats like those of %s, %.3g/s", workload.ChatsSource, o.Rate)
	if o.Kind == Single {
		c.Turns = 1
		if o.Input == 0 {
			c.Input = workload.Lengths{Mean: 1024, CV: o.Spread}
		}
		if o.Output == 0 {
			c.Output = workload.Lengths{Mean: 128, CV: o.Spread}
		}
		text = fmt.Sprintf("generated single requests of %.0f and %.0f tokens, %.3g/s", c.Input.Mean, c.Output.Mean, o.Rate)
	}
	if o.CV != 1 {
		text += fmt.Sprintf(" in bursts (coefficient of variation %g)", o.CV)
	}
	source, err := workload.Chats(c)
	return source, text, err
}

func (o *Options) lengths(mean int) workload.Lengths {
	if mean == 0 {
		return workload.Lengths{}
	}
	return workload.Lengths{Mean: float64(mean), CV: o.Spread}
}
