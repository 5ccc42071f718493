// Command modelserver serves simulated inference engines over HTTP, each as a vLLM server would look to a
// client or a router: the OpenAI chat and text completions with streaming, /v1/models, /health and
// /metrics. There is no model behind it: answers are invented words and latencies come from a model
// of an engine with continuous batching, chunked prefill and a paged prefix cache.
//
//	go run ./examples/modelserver -addr 127.0.0.1:8000 -model sim-8b -engines 4
//
// starts four engines on ports 8000 to 8003. Then
//
//	curl -N 127.0.0.1:8000/v1/chat/completions \
//	  -d '{"model":"sim-8b","messages":[{"role":"user","content":"hello"}],"max_tokens":64,"stream":true}'
//
// streams an answer, and
//
//	curl 127.0.0.1:8000/sim/faults -d '{"status_rate":0.2,"slow_factor":3}'
//
// makes a fifth of the requests to that engine fail and the rest slow, until '{}' is posted. With
// -time-scale 10 everything takes a tenth of the time. With -kv-events 127.0.0.1:5557
// the engines publish their KV events over ZeroMQ as vLLM does, the first on that port; -kv-replay is where they replay them. Interrupt it to stop: requests under way get
// -grace to finish.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/inferloom/inferloom/internal/engine"
	"github.com/inferloom/inferloom/internal/enginesim"
	"github.com/inferloom/inferloom/kvcache/events"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, os.Args[1:], os.Stdout); err != nil && !errors.Is(err, flag.ErrHelp) {
		fmt.Fprintln(os.Stderr, "modelserver:", err)
		os.Exit(1)
	}
}

// config is what the flags say.
type config struct {
	addr    string
	events  string // "" publishes none
	replay  string
	engines int
	grace   time.Duration
	sim     enginesim.Options
}

func parse(args []string, out io.Writer) (config, error) {
	c := config{sim: enginesim.Options{Engine: engine.Options{}}}
	var adapters string
	var verbose bool
	f := flag.NewFlagSet("modelserver", flag.ContinueOnError)
	f.SetOutput(out)
	f.StringVar(&c.addr, "addr", "127.0.0.1:8000", "address of the first engine; the others take the ports after it")
	f.StringVar(&c.events, "kv-events", "", "address of the first engine's KV events; the others take the ports after it")
	f.StringVar(&c.replay, "kv-replay", "", "address of the first engine's replay of KV events; the others take the ports after it")
	f.IntVar(&c.engines, "engines", 1, "number of engines")
	f.DurationVar(&c.grace, "grace", 5*time.Second, "time that requests under way have to finish at the end")
	f.StringVar(&c.sim.Model, "model", "sim-8b", "name of the base model")
	f.StringVar(&adapters, "adapters", "", "names of LoRA adapters, comma separated")
	f.Float64Var(&c.sim.TimeScale, "time-scale", 1, "simulated seconds in a second")
	f.Uint64Var(&c.sim.Seed, "seed", 1, "determines the answers and the chances of faults")
	f.BoolVar(&verbose, "v", false, "log rejected requests")
	e := &c.sim.Engine
	f.IntVar(&e.BlockTokens, "block-tokens", 0, "tokens in a KV block (default 16)")
	f.IntVar(&e.Blocks, "blocks", 0, "KV capacity in blocks (default 27000)")
	f.IntVar(&e.MaxContextTokens, "max-context", 0, "longest prompt plus output, in tokens (default 131072)")
	f.IntVar(&e.MaxRunning, "max-running", 0, "largest running set (default 256)")
	f.IntVar(&e.MaxWaiting, "max-waiting", 0, "longest queue; beyond it requests get 429 (default no bound)")
	f.IntVar(&e.MaxBatchTokens, "max-batch-tokens", 0, "token budget of a step (default 8192)")
	f.Float64Var(&e.PrefillRate, "prefill-rate", 0, "prefill speed in tokens/s (default 25000)")
	f.DurationVar(&e.StepTime, "step-time", 0, "base time of a step (default 7.5ms)")
	f.IntVar(&e.MaxAdapters, "max-adapters", 0, "LoRA slots (default 4 with -adapters)")
	f.DurationVar(&e.AdapterLoad, "adapter-load", 0, "time to load an adapter (default 200ms)")
	f.DurationVar(&e.StartUp, "start-up", 0, "simulated time until an engine is ready")
	if err := f.Parse(args); err != nil {
		return c, err
	}
	if f.NArg() > 0 {
		return c, fmt.Errorf("unexpected argument %q", f.Arg(0))
	}
	if c.engines < 1 {
		return c, fmt.Errorf("-engines is %d, want at least 1", c.engines)
	}
	if c.replay != "" && c.events == "" {
		return c, errors.New("-kv-replay needs -kv-events")
	}
	if adapters != "" {
		c.sim.Adapters = strings.Split(adapters, ",")
	}
	if verbose {
		c.sim.Logger = slog.New(slog.NewTextHandler(out, &slog.HandlerOptions{Level: slog.LevelDebug}))
	}
	return c, nil
}

// run serves until ctx is done.
func run(ctx context.Context, args []string, out io.Writer) error {
	c, err := parse(args, out)
	if err != nil {
		return err
	}
	listeners, err := c.listen()
	if err != nil {
		return err
	}
	servers := make([]*server, len(listeners.http))
	for i, l := range listeners.http {
		s, o := &server{listener: l}, c.sim
		if listeners.events != nil {
			o.Events = events.NewPublisher(events.PublisherOptions{Topic: "kv@" + l.Addr().String() + "@" + o.Model})
			s.publisher, s.events = o.Events, listeners.events[i]
		}
		if listeners.replay != nil {
			s.replay = listeners.replay[i]
		}
		if s.sim, err = enginesim.New(o); err != nil {
			listeners.close()
			return err
		}
		s.http = &http.Server{Handler: s.sim, ReadHeaderTimeout: 10 * time.Second}
		servers[i] = s
	}

	fmt.Fprintf(out, "SIMULATOR: no model is loaded, answers are invented, latencies are modelled (time scale %g)\n", c.sim.TimeScale)
	for i, s := range servers {
		fmt.Fprintf(out, "engine %d serves %s on http://%s/v1\n", i, c.sim.Model, s.listener.Addr())
		if s.events != nil {
			fmt.Fprintf(out, "engine %d publishes KV events on tcp://%s\n", i, s.events.Addr())
		}
		if s.replay != nil {
			fmt.Fprintf(out, "engine %d replays KV events on tcp://%s\n", i, s.replay.Addr())
		}
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var all sync.WaitGroup
	for _, s := range servers {
		all.Go(func() {
			if err := s.serve(ctx, c.grace); err != nil {
				cancel(err) // one that cannot serve ends the others
			}
		})
	}
	all.Wait()
	if err := context.Cause(ctx); !errors.Is(err, context.Canceled) {
		return err
	}
	fmt.Fprintln(out, "stopped")
	return nil
}

// server is one engine with its listeners.
type server struct {
	sim            *enginesim.Server
	http           *http.Server
	listener       net.Listener
	publisher      *events.Publisher // nil publishes no KV events
	events, replay net.Listener
}

// serve returns when ctx is done and what was under way has ended, or its grace has.
func (s *server) serve(ctx context.Context, grace time.Duration) error {
	engineCtx, stopEngine := context.WithCancel(context.WithoutCancel(ctx))
	var running sync.WaitGroup
	running.Go(func() { _ = s.sim.Run(engineCtx) }) // fails only if called twice
	failed := make(chan error, 2)
	running.Go(func() { failed <- s.http.Serve(s.listener) })
	if s.publisher != nil {
		running.Go(func() {
			if err := s.publisher.Serve(engineCtx, s.events, s.replay); engineCtx.Err() == nil {
				failed <- err
			}
		})
	}

	var err error
	select {
	case err = <-failed:
	case <-ctx.Done():
		graceCtx, cancel := context.WithTimeout(context.WithoutCancel(ctx), grace)
		if s.http.Shutdown(graceCtx) != nil {
			_ = s.http.Close()
		}
		cancel()
	}
	stopEngine()
	running.Wait()
	return err
}

// listeners are those of all engines, in order; events and replay are nil where they are not wanted.
type listeners struct{ http, events, replay []net.Listener }

func (l *listeners) close() {
	closeAll(l.http)
	closeAll(l.events)
	closeAll(l.replay)
}

func (c config) listen() (l listeners, err error) {
	for _, kind := range []struct {
		flag, addr string
		to         *[]net.Listener
	}{{"-addr", c.addr, &l.http}, {"-kv-events", c.events, &l.events}, {"-kv-replay", c.replay, &l.replay}} {
		if kind.addr == "" && kind.flag != "-addr" {
			continue
		}
		if *kind.to, err = listen(kind.addr, c.engines); err != nil {
			l.close()
			return l, fmt.Errorf("%s: %w", kind.flag, err)
		}
	}
	return l, nil
}

// listen opens n consecutive ports from the address on, or any n if its port is 0.
func listen(addr string, n int) ([]net.Listener, error) {
	host, portText, err := net.SplitHostPort(addr)
	if err != nil {
		return nil, err
	}
	port, err := strconv.Atoi(portText)
	if err != nil || port < 0 || port > 65535 {
		return nil, fmt.Errorf("port is %q, want a number up to 65535", portText)
	}
	var listeners []net.Listener
	for i := range n {
		p := port
		if port != 0 {
			p += i
		}
		l, err := net.Listen("tcp", net.JoinHostPort(host, strconv.Itoa(p)))
		if err != nil {
			closeAll(listeners)
			return nil, fmt.Errorf("engine %d: %w", i, err)
		}
		listeners = append(listeners, l)
	}
	return listeners, nil
}

func closeAll(listeners []net.Listener) {
	for _, l := range listeners {
		_ = l.Close()
	}
}
