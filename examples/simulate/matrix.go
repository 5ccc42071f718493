package main

import (
	"context"
	"fmt"
	"io"
	"sync/atomic"

	"github.com/inferloom/inferloom/internal/matrix"
	"github.com/inferloom/inferloom/internal/report"
)

// heldOutSeeds is where the seeds of a held-out matrix begin.
const heldOutSeeds = 10_000

// compareAll runs the matrix, or what its store does not have of it, and writes its tables as Markdown.
func compareAll(ctx context.Context, c *config, stdout, stderr io.Writer) error {
	o := matrix.Options{Policies: c.policies, Loads: c.sweep, Seeds: c.seeds, Requests: c.requests, Store: c.matrix}
	var err error
	if o.Scenarios, err = matrix.Scenarios(c.traces, c.heldOut); err != nil {
		return err
	}
	if c.heldOut {
		o.FirstSeed = heldOutSeeds
	}
	var done, of atomic.Int64
	o.Progress = func(ended, planned int) { done.Store(int64(ended)); of.Store(int64(planned)) }
	stop := report.ShowProgress(stderr, "simulating", func() (float64, string) {
		d, n := done.Load(), max(of.Load(), 1)
		return float64(d) / float64(n), fmt.Sprintf("%d of %d runs", d, n)
	})
	table, err := matrix.Run(ctx, o)
	stop()
	if ctx.Err() != nil {
		return errInterrupted
	}
	if err != nil {
		return err
	}
	return table.WriteMarkdown(stdout)
}
