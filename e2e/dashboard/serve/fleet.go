package main

import (
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"strings"
	"sync/atomic"
	"time"

	"github.com/inferloom/inferloom/gateway"
	"github.com/inferloom/inferloom/gateway/api"
	"github.com/inferloom/inferloom/gateway/dashboard"
	"github.com/inferloom/inferloom/scheduling"
	"github.com/inferloom/inferloom/scheduling/filter"
	"github.com/inferloom/inferloom/scheduling/flow"
	"github.com/inferloom/inferloom/scheduling/policy"
	"github.com/inferloom/inferloom/scheduling/prefix"
)

// Names as a hostile client or a careless operator might choose them. A page that wrote them as markup would run them.
const (
	hostileModel    = `<img src=x onerror="window.pwned=1">`
	hostileEndpoint = `vllm-7 <img src=x onerror="window.pwned=2">`
	model           = "qwen3-32b"
)

// engines are n endpoints: the last has a hostile name, the one before never reports, and the one before that takes
// only prefill, which the profile's filter removes.
func engines(n int) []scheduling.Endpoint {
	all := make([]scheduling.Endpoint, n)
	for i := range all {
		all[i] = scheduling.Endpoint{
			ID: fmt.Sprintf("vllm-%d", i), Address: fmt.Sprintf("10.4.%d.%d:8000", i/200, i%200+11), Model: model,
			Adapters: []string{"sql", "support-tone"}, BlockTokens: 16, CacheBlocks: 12000,
		}
	}
	all[n-1].ID = hostileEndpoint
	all[n-3].Role = scheduling.Prefill
	return all
}

// fleet is a gateway with everything behind and before it made up.
type fleet struct {
	pool      *scheduling.Pool
	brain     *gateway.Brain
	dashboard *dashboard.Dashboard
	endpoints []scheduling.Endpoint
	rate      float64 // requests a second on average
	behind    atomic.Int64
	began     time.Time
	unknown   string // a model that nobody serves
	tenant    string
	prompts   [24]string
}

func newFleet(size int, rate float64, plain bool) (*fleet, error) {
	f := &fleet{endpoints: engines(size), rate: rate, unknown: hostileModel, tenant: hostileModel, began: time.Now()}
	if plain {
		f.endpoints[size-1].ID, f.unknown, f.tenant = fmt.Sprintf("vllm-%d", size-1), "qwen4-32b", "mobile-app"
	}
	for i := range f.prompts {
		f.prompts[i] = fmt.Sprintf("You are assistant %d. ", i) + strings.Repeat("Answer from the handbook only. ", 60+20*i)
	}
	f.behind.Store(int64(6 * time.Minute))
	var err error
	if f.pool, err = scheduling.NewPool(scheduling.PoolOptions{Endpoints: f.endpoints, Models: []string{"llama-70b"}}); err != nil {
		return nil, err
	}
	index, err := prefix.New(prefix.Options{})
	if err != nil {
		return nil, err
	}
	profile := policy.Default(index)
	gate := &flow.Gate{Limits: flow.Limits{MaxRequests: 2}}
	profile.Filters = []scheduling.Filter{filter.Role{Phase: scheduling.Decode}, gate}
	sched, err := scheduling.New(f.pool, scheduling.Options{Profile: profile})
	if err != nil {
		return nil, err
	}
	controller, err := flow.New(sched, flow.Options{
		Gate: gate, Tenants: map[string]flow.Tenant{"research": {Weight: 2}, "nightly-batch": {MaxInFlight: 6}}, RefuseLate: true, MaxRequests: 40,
	})
	if err != nil {
		return nil, err
	}
	if f.dashboard, err = dashboard.New(dashboard.Options{Pool: f.pool, Flow: controller, Title: "made-up fleet", Now: f.now}); err != nil {
		return nil, err
	}
	f.brain, err = gateway.NewBrain(gateway.BrainOptions{
		Scheduler: sched, Flow: controller, Dialect: gateway.LLMD{Objectives: map[string]int{"batch": -1}}, Observer: f.dashboard, ExplainEvery: 4, Now: f.now,
	})
	return f, err
}

// now is the time, or a time gone by while the past is made up.
func (f *fleet) now() time.Time { return time.Now().Add(-time.Duration(f.behind.Load())) }

// rateAt is the load at a time: a slow wave, as of a day in minutes.
func (f *fleet) rateAt(t time.Time) float64 {
	phase := t.Sub(f.began).Seconds()
	return f.rate * (1 + 0.45*math.Sin(phase/38) + 0.15*math.Sin(phase/9))
}

// past makes up records of the time that has gone by, and then lets the clock run with everybody's.
func (f *fleet) past(d time.Duration) {
	var gap time.Duration
	for left := d; left > 0; left -= gap {
		f.behind.Store(int64(left))
		e := f.endpoints[rand.IntN(len(f.endpoints))]
		if !e.Role.Takes(scheduling.Decode) {
			continue
		}
		r := gateway.Record{Model: model, Endpoint: e.ID, Attempts: 1}
		f.finish(&r, 200+rand.IntN(1800))
		f.dashboard.Observe(r)
		gap = time.Duration(rand.ExpFloat64() / f.rateAt(f.now()) * float64(time.Second))
	}
	f.behind.Store(0)
}

// finish makes up how a request went.
func (f *fleet) finish(r *gateway.Record, prompt int) {
	load := f.rateAt(f.now()) / f.rate
	r.TTFT = time.Duration((45 + 60*load*load*rand.ExpFloat64()) * float64(time.Millisecond))
	output := 20 + rand.IntN(180)
	r.Total = r.TTFT + time.Duration(output)*9*time.Millisecond
	r.Usage = api.Usage{
		PromptTokens: prompt, CachedTokens: prompt * rand.IntN(90) / 100 / 16 * 16, CompletionTokens: output,
		Known: api.PromptCount | api.CachedCount | api.CompletionCount,
	}
	switch p := rand.Float64(); {
	case p < 0.004*load*load:
		r.Err = &gateway.EngineError{Endpoint: r.Endpoint, Err: errors.New("read tcp 10.4.0.2:51234: connection reset by peer")}
	case p < 0.012:
		r.Err = fmt.Errorf("%w: context canceled", gateway.ErrClientGone)
	case p < 0.022:
		r.Endpoint, r.TTFT, r.Usage = "", 0, api.Usage{}
		r.Err = &gateway.Rejection{Status: 503, Reason: gateway.ReasonNoEndpoint, Message: "no endpoint can serve the model at the moment"}
	}
}

// live sends requests through the brain and reports of the engines to the pool.
func (f *fleet) live(ctx context.Context) {
	reports := time.NewTicker(time.Second)
	defer reports.Stop()
	f.report()
	for {
		gap := time.NewTimer(time.Duration(rand.ExpFloat64() / f.rateAt(f.now()) * float64(time.Second)))
		select {
		case <-ctx.Done():
			gap.Stop()
			return
		case <-reports.C:
			gap.Stop()
			f.report()
		case <-gap.C:
			go f.request(ctx)
		}
	}
}

// report leaves the last endpoint but one out, and lets the second one's report grow old.
func (f *fleet) report() {
	var states []scheduling.State
	for i, e := range f.endpoints {
		if i == len(f.endpoints)-2 {
			continue
		}
		at := time.Now().Add(-time.Duration(rand.IntN(900)) * time.Millisecond)
		if i == 1 {
			at = time.Now().Add(-12 * time.Second)
		}
		slot, _ := f.pool.Snapshot().Find(e.ID)
		running := float64(f.pool.InFlight(slot).Requests)
		states = append(states, scheduling.State{Endpoint: e.ID, At: at, Values: []scheduling.Value{
			{Metric: scheduling.Waiting, Value: float64(rand.IntN(3))},
			{Metric: scheduling.Running, Value: running},
			{Metric: scheduling.KVUsage, Value: min(0.25+running*0.06+float64(i%5)*0.13, 0.97)},
		}})
	}
	if err := f.pool.Report(states...); err != nil {
		panic(err) // the endpoints are the pool's own
	}
}

func (f *fleet) request(ctx context.Context) {
	name := model
	switch p := rand.Float64(); {
	case p < 0.02:
		name = f.unknown
	case p < 0.03:
		name = "llama-70b"
	case p < 0.2:
		name = "sql"
	}
	prompt := f.prompts[min(rand.IntN(len(f.prompts)), rand.IntN(len(f.prompts)))] + fmt.Sprintf(" Question %d?", rand.IntN(1e6))
	r, err := api.ParseRequest(api.Chat, fmt.Appendf(nil, `{"model":%q,"stream":true,"messages":[{"role":"user","content":%q}]}`, name, prompt))
	if err != nil {
		panic(err) // it is ours
	}
	tenant, objective := []string{"support", "support", "research", f.tenant}[rand.IntN(4)], ""
	if rand.IntN(4) == 0 {
		tenant, objective = "nightly-batch", "batch"
	}
	r.Header = func(header string) string {
		switch header {
		case "X-Llm-D-Inference-Fairness-Id":
			return tenant
		case "X-Llm-D-Inference-Objective":
			return objective
		}
		return ""
	}
	route, err := f.brain.Route(ctx, r)
	if err != nil {
		return
	}
	var how gateway.Record
	for how.Endpoint == "" { // what the gateway rejects is its own affair here
		how = gateway.Record{Endpoint: route.Target().ID}
		f.finish(&how, len(prompt)/4)
	}
	if rand.IntN(60) == 0 && !route.Next(&gateway.EngineError{Endpoint: how.Endpoint, Status: 503}) {
		route.End(&gateway.EngineError{Endpoint: how.Endpoint, Status: 503})
		return
	}
	time.Sleep(how.TTFT)
	route.FirstByte()
	time.Sleep(how.Total - how.TTFT)
	route.Usage(how.Usage)
	route.End(how.Err)
}
