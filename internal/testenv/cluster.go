package testenv

import (
	"bytes"
	"context"
	"log/slog"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/inferloom/inferloom/gateway"
	"github.com/inferloom/inferloom/gateway/proxy"
	"github.com/inferloom/inferloom/internal/engine"
	"github.com/inferloom/inferloom/internal/enginesim"
	"github.com/inferloom/inferloom/scheduling"
	"github.com/inferloom/inferloom/scheduling/policy"
	"github.com/inferloom/inferloom/scheduling/prefix"
	"github.com/stretchr/testify/require"
)

// Cluster is simulated engines behind a gateway with the default policy, all on loopback.
type Cluster struct {
	URL     string // of the gateway
	Pool    *scheduling.Pool
	Engines []*Engine
	Log     *Log
	Records *Records
}

// Engine is one simulated engine and the server that it listens on.
type Engine struct {
	*enginesim.Server
	HTTP *httptest.Server
	ID   string
}

// NewCluster starts a cluster that ends with the test. The engines serve the model "m" and the adapter "poet", fifty times
// as fast as modelled.
func NewCluster(t testing.TB, engines int, edit ...func(*proxy.Options)) *Cluster {
	return NewTokenCluster(t, engines, nil, edit...)
}

// Tokenizer is what a gateway and an engine make tokens with.
type Tokenizer interface {
	AppendChat(ctx context.Context, dst []uint32, body []byte) ([]uint32, error)
	AppendCompletion(ctx context.Context, dst []uint32, body []byte) ([]uint32, error)
}

// NewTokenCluster is NewCluster with real tokens: the gateway and the engines use the same tokenizer. nil means none.
func NewTokenCluster(t testing.TB, engines int, tokenizer Tokenizer, edit ...func(*proxy.Options)) *Cluster {
	t.Helper()
	var tokenizers map[string]gateway.Tokenizer
	if tokenizer != nil {
		tokenizers = map[string]gateway.Tokenizer{"m": tokenizer}
	}
	c := &Cluster{Log: new(Log), Records: new(Records)}
	var list []scheduling.Endpoint
	for i := range engines {
		sim, err := enginesim.New(enginesim.Options{
			Engine: engine.Options{Blocks: 4000}, Model: "m", Adapters: []string{"poet"}, TimeScale: 50, Seed: uint64(i),
			Tokenizer: tokenizer,
		})
		require.NoError(t, err)
		ctx, cancel := context.WithCancel(context.Background())
		var driver sync.WaitGroup
		driver.Go(func() { _ = sim.Run(ctx) })
		e := &Engine{Server: sim, HTTP: httptest.NewServer(sim)}
		e.ID = strings.TrimPrefix(e.HTTP.URL, "http://")
		t.Cleanup(func() {
			cancel()
			driver.Wait()
			e.HTTP.CloseClientConnections()
			e.HTTP.Close()
		})
		c.Engines = append(c.Engines, e)
		list = append(list, scheduling.Endpoint{Address: e.ID, Model: "m", Adapters: []string{"poet"}, BlockTokens: 16, CacheBlocks: 4000})
	}
	var err error
	c.Pool, err = scheduling.NewPool(scheduling.PoolOptions{Endpoints: list, Models: []string{"m"}})
	require.NoError(t, err)
	index, err := prefix.New(prefix.Options{})
	require.NoError(t, err)
	sched, err := scheduling.New(c.Pool, scheduling.Options{Profile: policy.Default(index)})
	require.NoError(t, err)
	brain, err := gateway.NewBrain(gateway.BrainOptions{Scheduler: sched, Tokenizers: tokenizers, Observer: c.Records})
	require.NoError(t, err)
	o := proxy.Options{Models: brain.Models, Logger: slog.New(slog.NewJSONHandler(c.Log, nil))}
	for _, f := range edit {
		f(&o)
	}
	p, err := proxy.New(brain, o)
	require.NoError(t, err)
	front := httptest.NewServer(p)
	c.URL = front.URL
	t.Cleanup(func() {
		front.Close()
		p.Close()
	})
	return c
}

// RequireIdle waits until nothing is in flight in the pool and in the engines.
func (c *Cluster) RequireIdle(t testing.TB) {
	t.Helper()
	require.Eventually(t, func() bool {
		for _, e := range c.Engines {
			if st := e.Stats(); st.Running+st.Waiting > 0 {
				return false
			}
		}
		return c.Pool.Total() == scheduling.Load{}
	}, 10*time.Second, 5*time.Millisecond, "the ledger and the engines are back at zero")
}

// Log keeps what is logged.
type Log struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *Log) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *Log) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// Records keeps what an Observer is told.
type Records struct {
	mu     sync.Mutex
	list   []gateway.Record
	others gateway.Observers
}

// Observe implements gateway.Observer.
func (r *Records) Observe(rec gateway.Record) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.others.Observe(rec)
	rec.Request = nil // not to be kept
	r.list = append(r.list, rec)
}

// Tell has another observer told of what ends from now on.
func (r *Records) Tell(other gateway.Observer) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.others = append(r.others, other)
}

// All returns the records so far.
func (r *Records) All() []gateway.Record {
	r.mu.Lock()
	defer r.mu.Unlock()
	return append([]gateway.Record(nil), r.list...)
}
