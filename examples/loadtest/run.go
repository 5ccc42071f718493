package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"time"

	"github.com/inferloom/inferloom/examples/internal/program"
	"github.com/inferloom/inferloom/internal/cputime"
	"github.com/inferloom/inferloom/internal/report"
)

// run does what the command line says.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	c, err := parse(args, stderr)
	if err != nil {
		return err
	}
	if c.compare {
		return runCompare(c, stdout)
	}
	r, err := measure(ctx, &c, stderr)
	if r == nil {
		return err
	}
	// A source that fails midway, such as a broken trace, still leaves figures.
	if writeErr := publish(c, r, stdout, stderr); writeErr != nil {
		return writeErr
	}
	return err
}

func publish(c config, r *result, stdout, stderr io.Writer) error {
	if c.json {
		for _, text := range r.warnings() {
			fmt.Fprintf(stderr, "! %s\n", text)
		}
		if err := r.writeJSON(stdout); err != nil {
			return err
		}
	} else if err := r.write(stdout); err != nil {
		return err
	}
	return r.page().WriteFile(c.report)
}

// measure runs the test. The result is nil if nothing was sent.
func measure(ctx context.Context, c *config, stderr io.Writer) (*result, error) {
	source, text, err := c.traffic.Source(c.seed)
	if err != nil {
		return nil, program.UsageError{Err: err}
	}
	cl := newClient(*c)
	if c.model == "" {
		if c.model, err = cl.firstModel(ctx); err != nil {
			return nil, fmt.Errorf("asking %s for its models (-model says which to use): %w", c.url, err)
		}
		cl.model = c.model
	}
	fmt.Fprintf(stderr, "%s, to %s at %s for %v\n", text, c.model, c.url, c.duration)

	d := newDriver(*c, cl)
	before, cpuKnown := cputime.Used()
	began := time.Now()
	stop := report.ShowProgress(stderr, "load", func() (float64, string) {
		sent, ended, at := d.sent.Load(), d.ended.Load(), time.Since(began)
		return at.Seconds() / c.duration.Seconds(), fmt.Sprintf("%.0f of %.0f s, %d sent, %d under way, %d failed",
			min(at, c.duration).Seconds(), c.duration.Seconds(), sent, sent-ended, d.failed.Load())
	})
	err = d.run(ctx, source)
	stop()
	took := time.Since(began)
	if len(d.outcomes) == 0 {
		if err == nil {
			err = fmt.Errorf("no request was due within %v", c.duration)
		}
		return nil, err
	}
	until := d.end()
	if until <= c.warmup {
		return nil, fmt.Errorf("nothing to count: the run ended within the warm-up of %v", c.warmup)
	}
	r := summarise(*c, d.outcomes, &d.gaps, until)
	r.Workload, r.Began, r.Command, r.Versions, r.Interrupted = text, began, c.args, report.Versions(), ctx.Err() != nil
	if after, _ := cputime.Used(); cpuKnown {
		used, events := (after - before).Seconds(), 0
		for i := range d.outcomes {
			events += d.outcomes[i].events
		}
		r.Client.CPU, r.Client.Cores = report.Number(used), report.Number(used/took.Seconds())
		r.Client.CPUPerEvent = report.Number(used / float64(events))
	} else {
		r.Client.CPU, r.Client.Cores, r.Client.CPUPerEvent = report.Number(unknown), report.Number(unknown), report.Number(unknown)
	}
	return r, err
}

func runCompare(c config, stdout io.Writer) error {
	old, err := readResult(c.files[0])
	if err != nil {
		return err
	}
	now, err := readResult(c.files[1])
	if err != nil {
		return err
	}
	both := compare(old, now)
	if c.json {
		if err := json.NewEncoder(stdout).Encode(map[string]any{"old": c.files[0], "new": c.files[1], "differences": both.rows(), "meaning": meaning}); err != nil {
			return err
		}
	} else if err := both.write(stdout); err != nil {
		return err
	}
	return both.page(c.args).WriteFile(c.report)
}
