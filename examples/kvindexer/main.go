// Command kvindexer knows which engine holds which KV blocks, and tells routers over HTTP, in the APIs of Mooncake's conductor and
// Dynamo's standalone indexer:
//
//	go run ./examples/modelserver -engines 2 -kv-events 127.0.0.1:5557 -kv-replay 127.0.0.1:5657
//	go run ./examples/kvindexer -engine name=a,events=tcp://127.0.0.1:5557,replay=tcp://127.0.0.1:5657,model=sim-8b,block=16 \
//	  -engine name=b,events=tcp://127.0.0.1:5558,replay=tcp://127.0.0.1:5658,model=sim-8b,block=16
//	curl 127.0.0.1:13333/query -d '{"model":"sim-8b","block_size":16,"token_ids":[...]}'
//
// Engines can also come by POST /register, and with -accept they can connect by themselves: one whose topic is kv@POD@MODEL is then
// the instance POD, whether or not an -engine name=POD,model=MODEL,block=N has said so before. -admin moves what operators use, registration included, to an address of its own.
//
// -peers names replicas: what they know is loaded at the start, with their engines, and events follow without a gap. -file keeps the
// index over restarts in the same way. -redis writes what engines tell from then on to Redis or Valkey as well, for routers that read
// it there (package redisindex says for which engines that works); what comes from peers or a file is not written.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/inferloom/inferloom/examples/internal/program"
	"github.com/inferloom/inferloom/kvcache"
	"github.com/inferloom/inferloom/kvcache/events"
	"github.com/inferloom/inferloom/kvcache/follow"
	"github.com/inferloom/inferloom/kvcache/indexserver"
)

func main() { program.Main("kvindexer", run) }

// run serves until the context ends.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) (err error) {
	c, err := parse(args, stderr)
	if err != nil {
		return err
	}
	logger := slog.New(slog.NewTextHandler(stderr, nil))
	index, err := kvcache.New(kvcache.Options{MaxBytes: c.maxBytes, MaxPods: c.maxEngines})
	if err != nil {
		return err
	}
	o := follow.Options{Index: index, KeepOnGap: c.keepOnGap, Hold: true, Logger: logger}
	if c.redis != "" {
		shared, err := openRedis(ctx, c.redis)
		if err != nil {
			return err
		}
		defer shared.close()
		o.Also = func(e follow.Engine) events.Sink { return shared.sink(e, logger) }
	}
	follower, err := follow.New(o)
	if err != nil {
		return err
	}
	server, err := indexserver.New(indexserver.Options{
		Index: index, Follower: follower, Register: c.register, MaxEngines: c.maxEngines, Logger: logger,
	})
	if err != nil {
		return err
	}
	for _, e := range c.engines {
		e, _ = server.Adopt(e)
		if err := follower.Add(e); err != nil {
			return program.UsageError{Err: err}
		}
	}

	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var all sync.WaitGroup
	defer all.Wait()
	type site struct {
		address string
		handler http.Handler
	}
	sites := []site{{c.listen, server}}
	if c.admin != "" {
		sites = []site{{c.listen, server.Queries()}, {c.admin, server.Admin()}}
	}
	all.Go(func() { _ = follower.Run(ctx) }) // ends with the context
	begin(ctx, &c, follower, server, logger)
	for _, s := range sites {
		l, err := net.Listen("tcp", s.address)
		if err != nil {
			cancel(nil)
			return err
		}
		fmt.Fprintf(stdout, "serving on http://%s\n", l.Addr())
		all.Go(func() {
			if err := serve(ctx, l, s.handler); err != nil {
				cancel(err)
			}
		})
	}
	if c.accept != "" {
		l, err := net.Listen("tcp", c.accept)
		if err != nil {
			cancel(nil)
			return err
		}
		fmt.Fprintf(stdout, "accepting engines on tcp://%s\n", l.Addr())
		all.Go(func() {
			find := func(t events.Topic, _ net.Addr) string { return welcome(t, follower, server, logger) }
			if err := follower.Serve(ctx, l, find); ctx.Err() == nil {
				cancel(err)
			}
		})
	}
	keep(ctx, &c, follower, logger)
	all.Wait()
	if err := context.Cause(ctx); !errors.Is(err, context.Canceled) {
		return err
	}
	fmt.Fprintln(stdout, "stopped")
	return nil
}

// begin loads what peers know, or else the file, or else begins with nothing.
func begin(ctx context.Context, c *config, f *follow.Follower, s *indexserver.Server, logger *slog.Logger) {
	defer f.Release()
	defer s.Share()
	if len(c.peers) > 0 {
		err := f.Join(ctx, indexserver.Fetch(&http.Client{Timeout: time.Minute}, c.peers...), s.Adopt)
		if err == nil {
			return
		}
		logger.Warn("no peer gave a snapshot", "error", err)
	}
	if c.file != "" {
		if err := f.Join(ctx, openFile(c.file), s.Adopt); err != nil {
			logger.Warn("the index begins with nothing", "error", err)
		}
	}
}

// welcome returns the name of an engine that connects, and follows it from then on if nobody has said so before.
func welcome(t events.Topic, f *follow.Follower, s *indexserver.Server, logger *slog.Logger) string {
	if t.Pod == "" || t.Model == "" {
		return "" // nobody could tell whose events they are
	}
	name := indexserver.EngineName(t.Pod, "default", 0)
	if slices.ContainsFunc(f.Engines(), func(e follow.Engine) bool { return e.Name == name }) {
		return name
	}
	e, ok := s.Adopt(follow.Engine{Name: name, Model: t.Model, Connects: true})
	if !ok {
		return ""
	}
	if err := f.Add(e); err != nil {
		logger.Warn("an engine that connects is not followed", "topic", t.Name, "error", err)
	}
	return name
}

func serve(ctx context.Context, l net.Listener, h http.Handler) error {
	s := &http.Server{Handler: h, ReadHeaderTimeout: 10 * time.Second, ReadTimeout: time.Minute}
	stop := context.AfterFunc(ctx, func() {
		grace, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
		defer cancel()
		if s.Shutdown(grace) != nil {
			_ = s.Close()
		}
	})
	defer stop()
	if err := s.Serve(l); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}
