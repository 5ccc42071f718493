package main

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/inferloom/inferloom/gateway"
	"github.com/inferloom/inferloom/gateway/dashboard"
	"github.com/inferloom/inferloom/gateway/proxy"
	"github.com/inferloom/inferloom/internal/engine"
	"github.com/inferloom/inferloom/internal/enginesim"
	"github.com/inferloom/inferloom/kvcache"
	"github.com/inferloom/inferloom/kvcache/follow"
	"github.com/inferloom/inferloom/scheduling"
	"github.com/inferloom/inferloom/scheduling/enginemetrics"
)

// model is the name that the simulated engines serve.
const model = "sim-70b"

// fleetEngine is what each simulated engine is like: a dense 70B model in bf16 on four H100-class GPUs, tensor parallel.
// Modelled, not measured: 141 GB of weights at 80 % of 4 x 3.35 TB/s take 13 ms a step, launch and all-reduces 3 ms more;
// the KV of a token (80 layers, 8 KV heads of 128, 2 bytes: 327,680 B) takes 31 ns at that rate; 141 GFLOP for a prompt
// token at 40 % of 4 x 990 TFLOP/s, less a tenth for all-reduces, are 10,000 tokens/s; 90 % of 320 GB less weights and
// activations leave 131 GB for KV: 400,000 tokens.
func fleetEngine() engine.Options {
	return engine.Options{
		BlockTokens: 16, Blocks: 25_000,
		PrefillRate: 10_000, StepTime: 16 * time.Millisecond, StepTimePerKVToken: 31 * time.Nanosecond,
	}
}

const engineText = "dense 70B on 4 H100-class GPUs: prefill 10,000 tokens/s, decode step from 16 ms, KV cache 400,000 tokens"

// clusterOptions are what a cluster is made of.
type clusterOptions struct {
	engines   int
	timeScale float64
	seed      uint64
	profile   scheduling.Profile
	listener  net.Listener // the gateway's; nil means one on a free port of loopback
	logger    *slog.Logger
	index     *kvcache.Index // the profile's, to be kept in step with the engines' KV events; nil follows none
}

// cluster is simulated engines with a gateway in front, each behind HTTP.
type cluster struct {
	url     string // of the gateway
	pool    *scheduling.Pool
	engines map[string]*enginesim.Server // by endpoint ID
	proxy   *proxy.Proxy

	follower *follow.Follower // nil without an index

	servers []*http.Server
	cancel  context.CancelFunc
	running sync.WaitGroup
}

// startCluster starts one. It owns the listener from here on; stop ends everything.
func startCluster(o clusterOptions) (_ *cluster, err error) {
	ctx, cancel := context.WithCancel(context.Background())
	c := &cluster{engines: map[string]*enginesim.Server{}, cancel: cancel}
	defer func() {
		if err != nil {
			c.stop()
		}
	}()
	if o.listener == nil {
		if o.listener, err = listen("127.0.0.1:0"); err != nil {
			return nil, err
		}
	}
	endpoints := make([]scheduling.Endpoint, o.engines)
	for i := range endpoints {
		if endpoints[i], err = c.startEngine(ctx, fmt.Sprintf("engine-%d", i), o); err != nil {
			o.listener.Close()
			return nil, err
		}
	}
	handler, err := c.gateway(ctx, endpoints, o)
	if err != nil {
		o.listener.Close()
		return nil, err
	}
	c.url = "http://" + dialable(o.listener.Addr())
	c.serve(o.listener, handler)
	every := max(20*time.Millisecond, scaled(100*time.Millisecond, o.timeScale))
	scraper, err := enginemetrics.New(c.pool, enginemetrics.Options{MinInterval: every, MaxInterval: 10 * every, Seed: o.seed})
	if err != nil {
		return nil, err
	}
	c.running.Go(func() { _ = scraper.Run(ctx) }) // ends when stop cancels
	return c, nil
}

func (c *cluster) startEngine(ctx context.Context, id string, o clusterOptions) (scheduling.Endpoint, error) {
	options := enginesim.Options{
		Engine: fleetEngine(), Model: model, TimeScale: o.timeScale, Seed: o.seed, Logger: o.logger,
	}
	var labels map[string]string
	if o.index != nil {
		var err error
		if labels, err = c.publish(ctx, &options); err != nil {
			return scheduling.Endpoint{}, err
		}
	}
	sim, err := enginesim.New(options)
	if err != nil {
		return scheduling.Endpoint{}, err
	}
	l, err := listen("127.0.0.1:0")
	if err != nil {
		return scheduling.Endpoint{}, err
	}
	c.engines[id] = sim
	c.running.Go(func() { _ = sim.Run(ctx) }) // fails only if it ran before
	c.serve(l, sim)
	return scheduling.Endpoint{
		ID: id, Address: l.Addr().String(), Model: model, Labels: labels,
		BlockTokens: options.Engine.BlockTokens, CacheBlocks: options.Engine.Blocks,
	}, nil
}

// explainEvery is how many decisions there are to one that the dashboard explains.
const explainEvery = 20

// gateway assembles pool, scheduler, brain and proxy, with a page about them: this is all that it takes.
func (c *cluster) gateway(ctx context.Context, endpoints []scheduling.Endpoint, o clusterOptions) (http.Handler, error) {
	pool, err := scheduling.NewPool(scheduling.PoolOptions{Endpoints: endpoints})
	if err != nil {
		return nil, err
	}
	scheduler, err := scheduling.New(pool, scheduling.Options{Profile: o.profile, Seed: o.seed})
	if err != nil {
		return nil, err
	}
	live, err := dashboard.New(dashboard.Options{Pool: pool, Title: "quickstart, simulated engines"})
	if err != nil {
		return nil, err
	}
	mux := http.NewServeMux()
	options := gateway.BrainOptions{Scheduler: scheduler, Observer: live, ExplainEvery: explainEvery}
	if o.index != nil { // prompts and events must speak of the same tokens
		service, err := c.follow(ctx, o.index, pool)
		if err != nil {
			return nil, err
		}
		mux.Handle("/kv/", http.StripPrefix("/kv", service))
		options.Tokenizers = map[string]gateway.Tokenizer{model: enginesim.Pseudo{}}
		options.Observer = finder{live, c.follower}
	}
	brain, err := gateway.NewBrain(options)
	if err != nil {
		return nil, err
	}
	p, err := proxy.New(brain, proxy.Options{Models: brain.Models, Logger: o.logger})
	if err != nil {
		return nil, err
	}
	c.pool, c.proxy = pool, p
	mux.Handle("/", p)
	mux.Handle("/dashboard", live)
	mux.Handle("/dashboard/", live)
	return mux, nil
}

func (c *cluster) serve(l net.Listener, h http.Handler) {
	s := &http.Server{Handler: h, ReadHeaderTimeout: 10 * time.Second}
	c.servers = append(c.servers, s)
	c.running.Go(func() { _ = s.Serve(l) }) // ends with ErrServerClosed when stop closes it
}

// stop ends the cluster, requests under way included, and returns when nothing of it runs any more.
func (c *cluster) stop() {
	c.cancel()
	for _, s := range c.servers {
		_ = s.Close()
	}
	if c.proxy != nil {
		c.proxy.Close()
	}
	c.running.Wait()
}

func listen(addr string) (net.Listener, error) {
	l, err := net.Listen("tcp", addr)
	if err != nil {
		return nil, fmt.Errorf("gateway or engine: %w", err)
	}
	return l, nil
}

// dialable is a listener's address for clients on this machine.
func dialable(addr net.Addr) string {
	a, ok := addr.(*net.TCPAddr)
	if ok && a.IP.IsUnspecified() {
		return fmt.Sprintf("127.0.0.1:%d", a.Port)
	}
	return addr.String()
}

// scaled is a simulated duration in real time.
func scaled(d time.Duration, timeScale float64) time.Duration {
	return time.Duration(float64(d) / timeScale)
}
