package sim

import (
	"fmt"
	"strings"
	"time"

	"github.com/inferloom/inferloom/scheduling"
	"github.com/inferloom/inferloom/scheduling/latency"
	"github.com/inferloom/inferloom/scheduling/latency/llmd"
	"github.com/inferloom/inferloom/scheduling/picker"
	"github.com/inferloom/inferloom/scheduling/policy"
	"github.com/inferloom/inferloom/scheduling/prefix"
	"github.com/inferloom/inferloom/scheduling/scorer"
)

// Policy is a way to choose endpoints, by name.
type Policy struct {
	Name string
	// Doc says in one line what it does.
	Doc string
	// New makes the profile for one run; it must not share state with that of another.
	New func(Env) (scheduling.Profile, error)
}

// Learner is a producer of a profile that is told how long requests took: the time from the pick to the first token, and the mean
// time between tokens of an answer that completed.
type Learner interface {
	ObserveTTFT(p *scheduling.Prediction, took time.Duration)
	ObserveTPOT(p *scheduling.Prediction, took time.Duration)
}

// Ender is a producer that is told when a request leaves the endpoint that a prediction is of.
type Ender interface {
	Ended(r *scheduling.Request, p *scheduling.Prediction)
}

// Env is what a policy, a gate or an autoscaler is made for.
type Env struct {
	// Pool is the pool of the run; it has the initial endpoints.
	Pool *scheduling.Pool
	// MaxEndpoints is how many it can hold, CacheBlocks and CacheTokens what all their caches hold together.
	MaxEndpoints, CacheBlocks, CacheTokens int
	// Seed is Config.Seed.
	Seed uint64
	// Now is the clock of the pool.
	Now func() time.Time

	run *run
}

// NewIndex makes a prefix index with room for what the whole fleet can cache.
func (e Env) NewIndex() (*prefix.Index, error) {
	const (
		blockBytes   = 10
		promptBytes  = 900  // of a prompt's own stretch, on a large fleet
		promptTokens = 4000 // that a prompt does not share, if they are short
	)
	return prefix.New(prefix.Options{
		MaxBytes:     max(prefix.DefaultMaxBytes, blockBytes*e.CacheBlocks+promptBytes*(e.CacheTokens/promptTokens)),
		MaxEndpoints: e.MaxEndpoints,
	})
}

// Policies lists the built-in policies: the module's default first, then baselines and other projects' policies to compare it
// with.
func Policies() []Policy {
	fixed := func(profile func() scheduling.Profile) func(Env) (scheduling.Profile, error) {
		return func(Env) (scheduling.Profile, error) { return profile(), nil }
	}
	indexed := func(name, doc string, profile func(*prefix.Index) scheduling.Profile) Policy {
		p := ProfilePolicy(name, profile)
		p.Doc = doc
		return p
	}
	return []Policy{
		{"default", "the module's default: the least cost in tokens of prefill, counting what is ahead, what is not cached and what is in flight", func(e Env) (scheduling.Profile, error) {
			index, err := e.NewIndex()
			return policy.Default(index), err
		}},
		{"round-robin", "endpoints in turn", fixed(policy.RoundRobin)},
		{"random", "any endpoint, all equally likely", fixed(func() scheduling.Profile {
			return scheduling.Profile{Picker: picker.WeightedRandom{}}
		})},
		{"least-request", "the fewest requests in flight", fixed(policy.LeastRequests)},
		{"power-of-two", "of two endpoints drawn at random the one with fewer requests in flight", fixed(func() scheduling.Profile {
			return scheduling.Profile{Picker: picker.PowerOfTwo{}}
		})},
		{"session-hash", "the endpoint that the session hashes to (rendezvous)", fixed(func() scheduling.Profile {
			return scheduling.Profile{Scorers: []scheduling.Weighted{{Scorer: scorer.Session{}}}}
		})},
		indexed("llm-d", "llm-d's default: a short queue, a free KV cache, and the cached prefix", policy.LLMD),
		indexed("llm-d-token-load", "llm-d's newer default: the cached prefix, then the fewest prompt tokens to prefill", policy.LLMDTokenLoad),
		indexed("dynamo", "NVIDIA Dynamo's KV router: the fewest blocks to prefill and in use", func(x *prefix.Index) scheduling.Profile {
			return policy.Dynamo(x, 0)
		}),
		indexed("sglang-cache-aware", "SGLang's cache_aware: the cached prefix while requests are balanced, else the fewest", policy.SGLangCacheAware),
		{"sglang-prefix-hash", "SGLang's prefix_hash: the prompt's first 256 tokens, within a bound on load", fixed(policy.SGLangPrefixHash)},
		indexed("aibrix-prefix-cache", "AIBrix' prefix-cache: the cached prefix within a deviation of the mean load", policy.AIBrixPrefixCache),
		{"production-stack-session", "the vLLM production stack's session: a hash ring", fixed(policy.ProductionStackSession)},
		indexed("production-stack-prefix", "the vLLM production stack's prefixaware: the longest prefix, whatever the load", policy.ProductionStackPrefix),
		predictive("objectives", "the default among endpoints with nearly the best chance to meet the SLO; refuses what would more likely miss it",
			func(x *prefix.Index, m *latency.Model) scheduling.Profile { return policy.Objectives(x, m) }),
		predictive("llm-d-predicted-latency", "llm-d's predicted latency with our predictor: headroom to the SLO, the least first",
			func(x *prefix.Index, m *latency.Model) scheduling.Profile {
				return policy.LLMDPredictedLatency(x, m, llmd.NewRunning())
			}),
		{"oracle", "the soonest first token, foretold from the engines' true caches and queues and all answers' lengths", newOracle},
	}
}

// predictive is a policy that goes by predicted latency.
func predictive(name, doc string, profile func(*prefix.Index, *latency.Model) scheduling.Profile) Policy {
	return Policy{name, doc, func(e Env) (scheduling.Profile, error) {
		index, err := e.NewIndex()
		if err != nil {
			return scheduling.Profile{}, err
		}
		model, err := latency.New(latency.Options{MaxEndpoints: e.MaxEndpoints, Now: e.Now})
		if err != nil {
			return scheduling.Profile{}, err
		}
		return profile(index, model), nil
	}}
}

// FindPolicy returns a built-in policy by its name, or an error that lists all.
func FindPolicy(name string) (Policy, error) {
	var names []string
	for _, p := range Policies() {
		if p.Name == name {
			return p, nil
		}
		names = append(names, p.Name)
	}
	return Policy{}, fmt.Errorf("policy %q is unknown, want one of %s", name, strings.Join(names, ", "))
}

// MustPolicy is FindPolicy for names in code; it panics if there is none.
func MustPolicy(name string) Policy {
	p, err := FindPolicy(name)
	if err != nil {
		panic(err)
	}
	return p
}

// ProfilePolicy is a policy that plugs a profile together on an index of its own.
func ProfilePolicy(name string, profile func(*prefix.Index) scheduling.Profile) Policy {
	return Policy{Name: name, New: func(e Env) (scheduling.Profile, error) {
		index, err := e.NewIndex()
		if err != nil {
			return scheduling.Profile{}, err
		}
		return profile(index), nil
	}}
}
