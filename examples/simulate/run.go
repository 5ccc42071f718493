package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/inferloom/inferloom/examples/internal/program"
	"github.com/inferloom/inferloom/internal/report"
)

var errInterrupted = errors.New("interrupted")

// run does what the command line says.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	c, err := parse(args, stderr)
	if err != nil {
		return err
	}
	if c.matrix != "" {
		return compareAll(ctx, &c, stdout, stderr)
	}
	began := time.Now()
	found, err := simulate(ctx, &c, stderr)
	if ctx.Err() != nil {
		return errInterrupted
	}
	if err != nil {
		return err
	}
	if c.json {
		err = found.writeJSON(stdout, began)
	} else {
		err = found.write(stdout)
	}
	if err != nil || c.report == "" {
		return err
	}
	page, err := found.page(began)
	if err != nil {
		return err
	}
	return page.WriteFile(c.report)
}

// simulate does all runs.
func simulate(ctx context.Context, c *config, stderr io.Writer) (*comparison, error) {
	l := &lab{config: c}
	coming := l.capacityRuns() + int64((1+len(c.sweep))*c.seeds*len(c.policies)) // before that is planned in detail
	stop := report.ShowProgress(stderr, "simulating", func() (float64, string) {
		done, planned := l.done.Load(), max(l.planned.Load(), coming)
		return float64(done) / float64(planned), fmt.Sprintf("%d of about %d runs", done, planned)
	})
	defer stop()
	found, err := l.compare(ctx)
	if err != nil || !c.tune {
		return found, err
	}
	share, err := found.shareOfDefault()
	if err != nil {
		return nil, err
	}
	found.tuned, err = l.tune(ctx, found.times, share)
	return found, err
}

// shareOfDefault is the load of the comparison as a share of what the default policy bears.
func (c *comparison) shareOfDefault() (float64, error) {
	for _, k := range c.contenders {
		if k.policy.Name != "default" {
			continue
		}
		if k.overloaded() && c.objective.latency {
			return 0, fmt.Errorf("-tune: the default policy is at %s of what it bears, where latency says nothing; use -load up to %g, or -objective good", report.Percent(k.load), latencyLimit)
		}
		return k.load, nil
	}
	return 0, program.UsageError{Err: errors.New("-tune needs the policy default among -policy, to begin with")}
}
