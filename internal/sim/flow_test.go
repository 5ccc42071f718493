package sim

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/inferloom/inferloom/internal/stats"
	"github.com/inferloom/inferloom/internal/workload"
	"github.com/inferloom/inferloom/scheduling"
	"github.com/inferloom/inferloom/scheduling/flow"
	"github.com/stretchr/testify/require"
)

var flowLab = flag.Bool("flowlab", false, "run the flow control experiments of docs/benchmarks.md at full length (minutes)")

// stream is requests of one kind, each a session of its own with a prompt that nobody shares.
type stream struct {
	tenant        string
	priority      int
	rate          float64 // requests a second
	input, output float64 // mean tokens, log-normal
	spread        float64 // of the logarithm
}

// streams merges streams into one source.
func streams(seed uint64, kinds ...stream) workload.Source {
	return func(yield func(workload.Request, error) bool) {
		random := rand.New(rand.NewPCG(seed, 9))
		length := func(mean, spread float64) int {
			return max(1, int(mean*math.Exp(spread*random.NormFloat64()-spread*spread/2)))
		}
		next := make([]time.Duration, len(kinds))
		gap := func(i int) time.Duration {
			return time.Duration(random.ExpFloat64() / kinds[i].rate * float64(time.Second))
		}
		for i := range kinds {
			next[i] = gap(i)
		}
		for number := 0; ; number++ {
			first := 0
			for i := range next {
				if next[i] < next[first] {
					first = i
				}
			}
			s := &kinds[first]
			w := single(number, next[first], length(s.input, s.spread), length(s.output, s.spread))
			w.Tenant, w.Priority = s.tenant, s.priority
			next[first] += gap(first)
			if !yield(w, nil) {
				return
			}
		}
	}
}

// TestFairSharesOfAFleet holds tenants with weights 1, 2 and 4 that all ask for more than there is to their shares.
func TestFairSharesOfAFleet(t *testing.T) {
	long(t)
	weights := map[string]float64{"one": 1, "two": 2, "four": 4}
	limits := map[string]flow.Tenant{}
	for tenant, weight := range weights {
		limits[tenant] = flow.Tenant{Weight: weight}
	}
	const until = 3 * time.Minute
	served, most := map[string]float64{}, map[string]float64{}
	least, widest := map[[2]string]float64{}, map[[2]string]float64{}
	_, err := Run(context.Background(), Config{
		Seed: 1, Policy: MustPolicy("least-request"), Fleet: []Group{{Count: 4, Engine: small}}, Duration: until, Drain: time.Nanosecond,
		Workload: streams(1, stream{"one", 0, 20, 500, 100, .8}, stream{"two", 0, 20, 2000, 300, .8}, stream{"four", 0, 20, 1000, 600, .8}),
		Flow: func(Env) (flow.Options, error) {
			return flow.Options{Gate: &flow.Gate{Limits: flow.Limits{MaxRequests: 24}}, Tenants: limits, TTL: -1, MaxRequests: 1 << 20,
				MaxBytes: 1 << 40, Cost: flow.Cost{Prompt: 1, Output: 2}}, nil
		},
	}, Observer{Outcome: func(o *Outcome) {
		if o.Class != Completed || o.Finished < 20*time.Second {
			return
		}
		cost := float64(o.PromptTokens + 2*o.OutputTokens)
		served[o.Tenant] += cost / weights[o.Tenant]
		most[o.Tenant] = max(most[o.Tenant], cost/weights[o.Tenant])
		for f := range weights {
			for g := range weights {
				d := served[f] - served[g]
				least[[2]string{f, g}], widest[[2]string{f, g}] = min(least[[2]string{f, g}], d), max(widest[[2]string{f, g}], d)
			}
		}
	}})
	require.NoError(t, err)
	sum, squares := 0.0, 0.0
	for tenant, w := range served {
		t.Logf("%s: %.0f tokens of cost for its weight, the largest request %.0f", tenant, w, most[tenant])
		sum += w
		squares += w * w
	}
	jain := sum * sum / (float64(len(served)) * squares)
	t.Logf("Jain index %.5f", jain)
	require.Greater(t, jain, .99)
	for pair := range widest {
		f, g := pair[0], pair[1]
		if f >= g {
			continue
		}
		// What is delivered lags what was charged by what is in flight: D requests beside the one that the bound is about.
		const inFlight = 4 * 24
		gap, bound := widest[pair]-least[pair], (inFlight+1)*(most[f]+most[g])
		t.Logf("gap between %s and %s: %.0f, bound %.0f", f, g, gap, bound)
		require.Less(t, gap, bound)
	}
}

// mixed is interactive requests and a batch beside them.
func mixed(seed uint64, load float64) workload.Source {
	return streams(seed, stream{"chat", 0, 4 * load, 1500, 150, .7}, stream{"batch", -1, 14 * load, 1500, 250, .7})
}

// TestBatchBesideInteractive overloads a fleet with a batch for a while and lets it drain: the interactive requests must not
// feel it, and the batch must be done in the end.
func TestBatchBesideInteractive(t *testing.T) {
	long(t)
	if !*flowLab {
		t.Skip("takes minutes: -flowlab")
	}
	base := Config{
		Seed: 3, Policy: MustPolicy("default"), Fleet: []Group{{Count: 8, Engine: small}}, Duration: 10 * time.Minute, Drain: 10 * time.Minute,
		WarmUp: 30 * time.Second,
	}
	capacity, err := FindCapacity(context.Background(), base, func(load float64) (workload.Source, error) { return mixed(3, load), nil }, CapacityOptions{})
	require.NoError(t, err)
	t.Logf("the fleet bears %.2f times the load, %.1f requests/s", capacity.Load, capacity.Completed)
	load := 1.3 * capacity.Load
	play := func(name string, edit func(*Config)) (ttft time.Duration, done float64) {
		c := base
		c.Workload = mixed(3, load)
		edit(&c)
		var waits stats.Histogram
		batch, completed := 0, 0
		result, err := Run(context.Background(), c, Observer{Outcome: func(o *Outcome) {
			if o.Priority < 0 {
				batch++
				if o.Class == Completed {
					completed++
				}
			} else if d, ok := o.TTFT(); ok && o.Measured {
				waits.Add(d, 1)
			}
		}})
		require.NoError(t, err)
		ttft, done = waits.Quantile(.95), ratio(float64(completed), float64(batch))
		t.Logf("%-40s interactive TTFT p50 %4d ms, p95 %5d ms; batch %5.1f %% done, %d refused", name, waits.Quantile(.5).Milliseconds(), ttft.Milliseconds(), 100*done, result.All.Ended[Refused])
		return ttft, done
	}
	unloaded, _ := play("interactive alone", func(c *Config) {
		c.Workload = streams(3, stream{"chat", 0, 4 * load, 1500, 150, .7})
	})
	play("no flow control", func(*Config) {})
	play("llm-d's policy set", llmdSet("fcfs", time.Minute))
	ttft, done := play("flow control", func(c *Config) { c.Flow = protective })
	t.Logf("%.2f times unloaded", float64(ttft)/float64(unloaded))
	require.Less(t, float64(ttft), 1.2*float64(unloaded))
	require.Greater(t, done, .95)
}

// protective keeps what is below priority 0 out of the way of the rest.
func protective(Env) (flow.Options, error) {
	return flow.Options{
		Gate: &flow.Gate{Limits: flow.Limits{MaxPrefillTokens: 8192}, Adaptive: &flow.Adaptive{}, Ceilings: []flow.Ceiling{{Below: 0, Share: .75}}},
		TTL:  -1, MaxRequests: 1 << 20, MaxBytes: 1 << 40,
	}, nil
}

// TestGoodputUnderOverload compares answers within the objectives at 1.3 times what the fleet bears.
func TestGoodputUnderOverload(t *testing.T) {
	long(t)
	if !*flowLab {
		t.Skip("takes minutes: -flowlab")
	}
	source := func(load float64) (workload.Source, error) {
		return streams(5, stream{"a", 0, 8 * load, 1500, 200, .7}, stream{"b", 0, 8 * load, 1500, 200, .7}), nil
	}
	base := Config{
		Seed: 5, Policy: MustPolicy("default"), Fleet: []Group{{Count: 8, Engine: small}}, Duration: 5 * time.Minute, WarmUp: 30 * time.Second,
		SLO: SLO{TTFT: 2 * time.Second, TPOT: 50 * time.Millisecond},
	}
	capacity, err := FindCapacity(context.Background(), base, source, CapacityOptions{})
	require.NoError(t, err)
	play := func(name string, edit func(*Config)) float64 {
		c := base
		c.Workload, _ = source(1.3 * capacity.Load)
		edit(&c)
		result, err := Run(context.Background(), c)
		require.NoError(t, err)
		t.Logf("%-40s goodput %.2f/s of %.2f/s offered; %d refused; TTFT p95 %v, TPOT p95 %v", name, result.Goodput(),
			float64(result.Measured.Arrived)/result.Window.Seconds(), result.Measured.Ended[Refused],
			result.TTFT.Quantile(.95).Round(time.Millisecond), result.TPOT.Quantile(.95).Round(time.Millisecond))
		return result.Goodput()
	}
	play("no flow control", func(*Config) {})
	best := 0.0
	for _, ttl := range []time.Duration{time.Minute, base.SLO.TTFT, base.SLO.TTFT / 2} {
		for _, fairness := range []string{"fcfs", "round-robin"} {
			best = max(best, play(fmt.Sprintf("llm-d: %s, TTL %v", fairness, ttl), llmdSet(fairness, ttl)))
		}
	}
	ours := play("flow control", func(c *Config) {
		c.Flow = func(Env) (flow.Options, error) {
			return flow.Options{
				Gate: &flow.Gate{Limits: flow.Limits{MaxPrefillTokens: 16384}, Adaptive: &flow.Adaptive{}}, RefuseLate: true, MaxRequests: 1 << 20,
			}, nil
		}
	})
	require.Greater(t, ours, 1.3*best)
}

// llmdSet is what llm-d does by default where flow control is on: its default profile behind one queue, or a queue for each tenant
// in turn, whose gate is open while the mean over endpoints of max(waiting/5, KV usage/0.8) is below 1, where a missing or stale
// reading counts as 1. Its dispatcher looks once a millisecond and lets one request go. What waits for the TTL, by default a
// minute, is refused.
func llmdSet(fairness string, ttl time.Duration) func(*Config) {
	return func(c *Config) {
		c.Policy = MustPolicy("llm-d")
		c.Scrape.Interval = 50 * time.Millisecond
		c.Gate = func(e Env) (Gate, error) {
			return &saturationGate{pool: e.Pool, ttl: ttl, inTurn: fairness == "round-robin"}, nil
		}
	}
}

type saturationGate struct {
	pool   *scheduling.Pool
	ttl    time.Duration
	inTurn bool
	queue  []queued
	last   string // the tenant that was served last
	tick   time.Duration
}

type queued struct {
	at       time.Duration
	priority int
	tenant   string
	grant    func(error)
}

var errTTL = errors.New("ttl")

func (g *saturationGate) Acquire(now time.Duration, r *scheduling.Request, grant func(error)) {
	g.queue = append(g.queue, queued{now, r.Priority, r.Tenant, grant})
}

func (*saturationGate) Release(time.Duration, *scheduling.Request) {}

func (g *saturationGate) NextChange() (time.Duration, bool) {
	if len(g.queue) == 0 {
		return 0, false
	}
	return g.tick, true
}

func (g *saturationGate) Advance(now time.Duration) {
	g.tick = now + time.Millisecond
	for len(g.queue) > 0 && now-g.queue[0].at >= g.ttl {
		first := g.queue[0]
		g.queue = g.queue[1:]
		first.grant(errTTL)
	}
	if len(g.queue) == 0 || g.saturation(now) >= 1 {
		return
	}
	best := 0
	for i := range g.queue {
		a, b := &g.queue[i], &g.queue[best]
		if a.priority > b.priority || a.priority == b.priority && g.inTurn && b.tenant == g.last && a.tenant != g.last {
			best = i
		}
	}
	q := g.queue[best]
	g.queue = slices.Delete(g.queue, best, best+1)
	g.last = q.tenant
	q.grant(nil)
}

func (g *saturationGate) saturation(now time.Duration) float64 {
	s := g.pool.Snapshot()
	sum, n := 0.0, 0
	for slot := range scheduling.Slot(s.Len()) {
		if s.Endpoint(slot) == nil {
			continue
		}
		n++
		waiting, at, ok := s.Observed(slot, scheduling.Waiting)
		kv, _, _ := s.Observed(slot, scheduling.KVUsage)
		if !ok || epoch.Add(now).Sub(at) > 200*time.Millisecond {
			sum++
			continue
		}
		sum += max(waiting/5, kv/.8)
	}
	return ratio(sum, float64(n))
}
