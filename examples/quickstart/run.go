package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net"
	"runtime"
	"slices"
	"time"

	"github.com/inferloom/inferloom/examples/internal/program"
	"github.com/inferloom/inferloom/internal/cputime"
	"github.com/inferloom/inferloom/internal/report"
	"github.com/inferloom/inferloom/internal/workload"
	"github.com/inferloom/inferloom/kvcache"
	"github.com/inferloom/inferloom/scheduling"
	"github.com/inferloom/inferloom/scheduling/policy"
	"github.com/inferloom/inferloom/scheduling/prefix"
)

var errInterrupted = errors.New("interrupted")

// run does what the command line says.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	c, err := parse(args, stderr)
	if err != nil {
		return err
	}
	b := &bench{config: c, notes: stdout, stderr: stderr}
	if c.json {
		b.notes = stderr
	}
	b.logger = slog.New(slog.NewTextHandler(stderr, &slog.HandlerOptions{Level: slog.LevelWarn}))
	if c.serve {
		// Before the comparison, so that an address that is taken is not found out after it.
		if b.listener, err = listen(c.addr); err != nil {
			return program.UsageError{Err: fmt.Errorf("-addr is %q: %w", c.addr, err)}
		}
		defer b.listener.Close()
	}
	fmt.Fprintf(b.notes, "%d SIMULATED engines (%s)\nbehind one gateway on loopback, all in this process. All times are simulated; %g simulated seconds take a real one.\n",
		c.engines, engineText, c.timeScale)
	results, kept, err := b.compare(ctx)
	if kept != nil {
		defer kept.stop()
	}
	if err != nil {
		return err
	}
	if c.json {
		err = writeJSON(stdout, results)
	} else if len(results) > 0 {
		err = writeTable(stdout, results)
	}
	if err != nil || kept == nil {
		return err
	}
	kept.invite(b.notes)
	<-ctx.Done()
	return nil
}

// bench is one invocation.
type bench struct {
	config
	notes, stderr io.Writer
	logger        *slog.Logger
	listener      net.Listener // with -serve
}

// contender is a policy in the comparison.
type contender struct {
	name    string
	profile scheduling.Profile
	index   *kvcache.Index // of engines' KV events, for a policy that goes by these
}

func (c config) contenders() ([]contender, error) {
	index, err := prefix.New(prefix.Options{})
	if err != nil {
		return nil, err
	}
	all := []contender{
		{name: "round-robin", profile: policy.RoundRobin()},
		{name: "prefix-aware", profile: policy.Default(index)},
	}
	if c.kvEvents {
		exact, err := kvcache.New(kvcache.Options{GuessFor: time.Minute})
		if err != nil {
			return nil, err
		}
		all = append(all, contender{"prefix-exact", policy.Default(exact), exact})
	}
	return all, nil
}

// compare runs the workload under each policy. With -serve the cluster of the last one is left running and returned.
func (b *bench) compare(ctx context.Context) (results []result, kept *cluster, err error) {
	all, err := b.contenders()
	if err != nil {
		return nil, nil, err
	}
	var plan []workload.Request
	if b.duration > 0 {
		if plan, err = b.plan(); err != nil {
			return nil, nil, err
		}
	} else {
		all = all[len(all)-1:]
	}
	for i, p := range all {
		o := clusterOptions{engines: b.engines, timeScale: b.timeScale, seed: b.seed, profile: p.profile, index: p.index, logger: b.logger}
		keep := b.serve && i == len(all)-1
		if keep {
			o.listener = b.listener
		}
		c, err := startCluster(o)
		if err != nil {
			return nil, nil, err
		}
		if len(plan) > 0 {
			results = append(results, b.measure(ctx, p.name, c, plan))
			if c.follower != nil {
				fmt.Fprintf(b.notes, "%s: %s\n", p.name, c.foundText())
			}
			if ctx.Err() != nil {
				c.stop()
				return nil, nil, errInterrupted
			}
		}
		if keep {
			return results, c, nil
		}
		c.stop()
		runtime.GC() // or the next policy pays for this one's garbage
	}
	return results, nil, nil
}

// measure drives the plan through a cluster.
func (b *bench) measure(ctx context.Context, name string, c *cluster, plan []workload.Request) result {
	bounded, cancel := context.WithTimeout(ctx, b.duration)
	defer cancel()
	d := newDriver(c.url, b.timeScale)
	before, measured := cputime.Used()
	began := time.Now()
	stop := report.ShowProgress(b.stderr, name, func() (float64, string) {
		sent, ended, failed := d.progress.sent.Load(), d.progress.ended.Load(), d.progress.failed.Load()
		return float64(ended) / float64(len(plan)), fmt.Sprintf("%d of %d done, %d under way, %d failed, %.0f of %.0f s",
			ended, len(plan), max(0, sent-ended), failed, time.Since(began).Seconds(), b.duration.Seconds())
	})
	outcomes := d.run(bounded, plan)
	stop()
	r := summarise(name, outcomes, float64(b.engines)*fleetEngine().PrefillRate)
	if ctx.Err() != nil {
		return r // interrupted: nobody will look at it
	}
	for _, cause := range slices.Sorted(maps.Keys(r.causes)) {
		fmt.Fprintf(b.stderr, "%s: %d requests failed: %s\n", name, r.causes[cause], cause)
	}
	if after, _ := cputime.Used(); measured {
		b.noteCPU(name, (after-before).Seconds()/time.Since(began).Seconds())
	}
	return r
}

// noteCPU says how busy this process was: simulated times are true only while it keeps up.
func (b *bench) noteCPU(name string, cores float64) {
	available := runtime.GOMAXPROCS(0)
	fmt.Fprintf(b.notes, "%s: engines, gateway and clients together used %.2f of %d cores", name, cores, available)
	if cores > 0.8*float64(available) {
		fmt.Fprint(b.notes, ": TOO BUSY, times are inflated; try a smaller -timescale")
	}
	fmt.Fprintln(b.notes)
}

// invite tells what a gateway that goes on running is good for.
func (c *cluster) invite(w io.Writer) {
	fmt.Fprintf(w, "\nthe prefix-aware gateway goes on until interrupted; look at %s/dashboard, or try\n\n"+
		"  curl -N %s/v1/chat/completions -H 'Content-Type: application/json' \\\n"+
		"    -d '{\"model\":%q,\"messages\":[{\"role\":\"user\",\"content\":\"Hello\"}],\"max_tokens\":64,\"stream\":true}'\n\n",
		c.url, c.url, model)
}
