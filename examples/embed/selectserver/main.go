// Command selectserver runs our scheduler as a service for hosts that are not written in Go: they register workers, ask where a
// request should go, and say when its first token came and when it ended. docs/embedding.md has the API.
//
//	go run ./examples/embed/selectserver
//	curl -d '{"id":"w0","address":"10.0.0.1:8000","model":"llama"}' 127.0.0.1:8092/workers
//	curl -d '{"model":"llama","prompt":{"text":"Hello"}}' 127.0.0.1:8092/select_and_reserve
//
// With -config it goes by a YAML file, llm-d's or ours, and follows its changes. With -shadow it compares another one with it on
// the same requests, at /shadow, and with -record it writes every choice down for examples/replay.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"sync"
	"time"

	"github.com/inferloom/inferloom/examples/internal/program"
	"github.com/inferloom/inferloom/scheduling"
	"github.com/inferloom/inferloom/scheduling/config"
	"github.com/inferloom/inferloom/scheduling/enginemetrics"
	"github.com/inferloom/inferloom/scheduling/replay"
	"github.com/inferloom/inferloom/scheduling/selectserver"
	"github.com/inferloom/inferloom/scheduling/shadow"
)

func main() { program.Main("selectserver", run) }

type flags struct {
	listen, config, preset, shadow, record string
	lease                                  time.Duration
	scrape                                 bool
}

func run(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	var f flags
	set := flag.NewFlagSet("selectserver", flag.ContinueOnError)
	set.SetOutput(stderr)
	set.StringVar(&f.listen, "listen", "127.0.0.1:8092", "`address` to listen on; whoever reaches it can do everything")
	set.StringVar(&f.config, "config", "", "a YAML `file` with the scheduler's profile or stages, followed while it runs")
	set.StringVar(&f.preset, "preset", "default", fmt.Sprintf("the profile where there is no -config: one of %q", config.Presets()))
	set.StringVar(&f.shadow, "shadow", "", "a YAML `file` with another one to compare with it")
	set.StringVar(&f.record, "record", "", "a `file` to write every choice to, for examples/replay")
	set.DurationVar(&f.lease, "lease", selectserver.DefaultLease, "how long a reservation is kept of which nothing is heard")
	set.BoolVar(&f.scrape, "scrape", false, "read the workers' /metrics")
	if err := set.Parse(args); err != nil {
		return program.UsageError{Err: err}
	}
	if set.NArg() > 0 {
		return program.UsageError{Err: fmt.Errorf("argument %q: want flags only", set.Arg(0))}
	}
	return serve(ctx, f, stdout, stderr)
}

func serve(ctx context.Context, f flags, stdout, stderr io.Writer) (err error) {
	plan, err := program.LoadPlan(f.config, f.preset)
	if err != nil {
		return program.UsageError{Err: err}
	}
	pool, err := scheduling.NewPool(scheduling.PoolOptions{})
	if err != nil {
		return err
	}
	sched, err := scheduling.New(pool, plan.Options)
	if err != nil {
		return err
	}
	server, err := selectserver.New(selectserver.Options{Scheduler: sched, Lease: f.lease})
	if err != nil {
		return program.UsageError{Err: err}
	}
	mux := http.NewServeMux()
	mux.Handle("/", server)

	// What observes choices.
	var observers []scheduling.Observer
	if f.shadow != "" {
		s, err := newShadow(pool, f.shadow)
		if err != nil {
			return program.UsageError{Err: err}
		}
		observers = append(observers, s)
		mux.HandleFunc("GET /shadow", func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "application/json")
			_ = json.NewEncoder(w).Encode(s.Stats())
		})
	}
	if f.record != "" {
		file, err := os.Create(f.record)
		if err != nil {
			return err
		}
		recorder, err := replay.NewRecorder(file, replay.RecorderOptions{})
		if err != nil {
			return err
		}
		observers = append(observers, recorder)
		// It is the first to be deferred and so the last to run: no pick is under way then.
		defer func() { err = errors.Join(err, recorder.Close(), file.Close()) }()
	}
	sched.Observe(1, observers...)

	listener, err := net.Listen("tcp", f.listen)
	if err != nil {
		return err
	}
	fmt.Fprintf(stdout, "listening on http://%s\n", listener.Addr())

	// What runs beside, until the program ends.
	ctx, stop := context.WithCancel(ctx)
	var beside sync.WaitGroup
	defer beside.Wait()
	defer stop()
	beside.Go(func() { server.Run(ctx) })
	if f.config != "" {
		log := slog.New(slog.NewTextHandler(stderr, nil))
		beside.Go(func() { _ = config.Follow(ctx, sched, plan, config.FollowOptions{Path: f.config, Log: log}) })
	}
	if f.scrape {
		scraper, err := enginemetrics.New(pool, enginemetrics.Options{})
		if err != nil {
			return err
		}
		beside.Go(func() { _ = scraper.Run(ctx) })
	}
	web := &http.Server{Handler: mux, ReadHeaderTimeout: 10 * time.Second}
	beside.Go(func() {
		<-ctx.Done()
		grace, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		if web.Shutdown(grace) != nil {
			web.Close()
		}
	})
	if err := web.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

func newShadow(pool *scheduling.Pool, path string) (*shadow.Shadow, error) {
	plan, err := program.LoadPlan(path, "")
	if err != nil {
		return nil, err
	}
	candidate, err := scheduling.New(pool, plan.Options)
	if err != nil {
		return nil, err
	}
	return shadow.New(shadow.Options{Name: path, Scheduler: candidate})
}
