package policy_test

import (
	"context"
	"fmt"
	"math"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/inferloom/inferloom/scheduling"
	"github.com/inferloom/inferloom/scheduling/policy"
	"github.com/inferloom/inferloom/scheduling/prefix"
)

// engine is one endpoint as the published formulas see it.
type engine struct {
	id                string
	waiting, kv       float64
	cached            int // tokens
	requests, prefill int // requests, and tokens that are not prefilled
	tokens            int // of KV memory
}

type match map[string]int

func (m match) Produce(c *scheduling.Cycle) {
	c.Match.Known = true
	for _, slot := range c.Snapshot.Live() {
		c.Match.Cached[slot] = int32(m[c.Endpoint(slot).ID])
	}
}

type only string

func (id only) Filter(c *scheduling.Cycle, slots []scheduling.Slot) []scheduling.Slot {
	return slices.DeleteFunc(slots, func(s scheduling.Slot) bool { return c.Endpoint(s).ID != string(id) })
}

// lowest returns the engines for which cost is least.
func lowest(engines []engine, cost func(engine) float64) (best []engine) {
	least := math.Inf(1)
	for _, e := range engines {
		least = min(least, cost(e))
	}
	for _, e := range engines {
		if cost(e) <= least+1e-9 {
			best = append(best, e)
		}
	}
	return best
}

var someTokens = make([]uint32, 300_000)

func requests(e engine) float64 { return float64(e.requests) }

// references are the policies as one would explain them: who may be chosen for a prompt.
var references = map[string]struct {
	profile func(*prefix.Index) scheduling.Profile
	choose  func(engines []engine, prompt int) []engine
}{
	"llm-d": {policy.LLMD, func(engines []engine, prompt int) []engine {
		shortest, longest := math.Inf(1), 0.0
		for _, e := range engines {
			shortest, longest = min(shortest, e.waiting), max(longest, e.waiting)
		}
		return lowest(engines, func(e engine) float64 {
			queue := 1.0
			if longest > shortest {
				queue = (longest - e.waiting) / (longest - shortest)
			}
			return -(2*queue + 2*(1-e.kv) + 3*float64(e.cached)/float64(prompt))
		})
	}},
	"llm-d token load": {policy.LLMDTokenLoad, func(engines []engine, prompt int) []engine {
		var sticky, others []engine
		for _, e := range engines {
			if float64(e.cached)/float64(prompt) >= .8 {
				sticky = append(sticky, e)
			} else {
				others = append(others, e)
			}
		}
		ttft := func(engines []engine) float64 {
			least := math.Inf(1)
			for _, e := range engines {
				least = min(least, float64(e.prefill)/15928*1000)
			}
			return least
		}
		if len(sticky) > 0 && ttft(sticky)-ttft(others) <= 18000 {
			engines = sticky
		}
		return lowest(engines, func(e engine) float64 { return min(float64(e.prefill+prompt-e.cached), 4194304) })
	}},
	"Dynamo": {func(x *prefix.Index) scheduling.Profile { return policy.Dynamo(x, 0) }, func(engines []engine, prompt int) []engine {
		return lowest(engines, func(e engine) float64 {
			active, incoming, overlap := float64(e.prefill)/16, float64(prompt)/16, float64(e.cached)/16
			return max(0, active+incoming-overlap) + float64(e.tokens)/16
		})
	}},
	"SGLang cache_aware": {policy.SGLangCacheAware, func(engines []engine, prompt int) []engine {
		fewest := lowest(engines, requests)
		most := lowest(engines, func(e engine) float64 { return -requests(e) })[0].requests
		if least := fewest[0].requests; most-least > 64 && float64(most) > 1.5*float64(least) {
			return fewest
		}
		matched := lowest(engines, func(e engine) float64 { return -float64(e.cached) })
		if float64(matched[0].cached)/float64(prompt) > .3 {
			return lowest(matched, requests)
		}
		return fewest
	}},
	"AIBrix prefix-cache": {policy.AIBrixPrefixCache, func(engines []engine, _ int) []engine {
		fewest := lowest(engines, requests)
		most := lowest(engines, func(e engine) float64 { return -requests(e) })[0].requests
		if most-fewest[0].requests > 8 {
			return fewest
		}
		mean, variance := 0.0, 0.0
		for _, e := range engines {
			mean += requests(e) / float64(len(engines))
		}
		for _, e := range engines {
			variance += (requests(e) - mean) * (requests(e) - mean) / float64(len(engines))
		}
		sorted := slices.Clone(engines)
		slices.SortFunc(sorted, func(a, b engine) int {
			if a.cached != b.cached {
				return b.cached - a.cached
			}
			return a.requests - b.requests
		})
		for _, first := range sorted {
			if first.cached > 0 && requests(first) <= mean+math.Sqrt(variance)+1e-9 {
				var same []engine
				for _, e := range engines {
					if e.cached == first.cached && e.requests == first.requests {
						same = append(same, e)
					}
				}
				return same
			}
		}
		return fewest
	}},
	"production stack prefixaware": {policy.ProductionStackPrefix, func(engines []engine, _ int) []engine {
		return lowest(engines, func(e engine) float64 { return -float64(e.cached) })
	}},
}

func TestPeersEqualTheirFormulas(t *testing.T) {
	for name, reference := range references {
		t.Run(name, func(t *testing.T) {
			rapid.Check(t, func(t *rapid.T) {
				n := rapid.IntRange(1, 8).Draw(t, "endpoints")
				prompt := rapid.SampledFrom([]int{100, 1600, 5000}).Draw(t, "prompt")
				engines := make([]engine, n)
				list := make([]scheduling.Endpoint, n)
				for i := range engines {
					engines[i] = engine{
						id: fmt.Sprint("e", i), waiting: float64(rapid.IntRange(0, 5).Draw(t, "waiting")), kv: float64(rapid.IntRange(0, 4).Draw(t, "kv")) / 4,
						cached: min(prompt, 16*rapid.IntRange(0, 1).Draw(t, "has")*rapid.IntRange(0, prompt/16).Draw(t, "cached")),
					}
					list[i] = scheduling.Endpoint{ID: engines[i].id, Address: fmt.Sprintf("10.0.0.%d:80", i+1)}
				}
				pool, err := scheduling.NewPool(scheduling.PoolOptions{Endpoints: list})
				require.NoError(t, err)
				for i := range engines {
					e := &engines[i]
					place, err := scheduling.New(pool, scheduling.Options{Profile: scheduling.Profile{Filters: []scheduling.Filter{only(e.id)}}})
					require.NoError(t, err)
					for range rapid.SampledFrom([]int{0, 0, 1, 2, 5, 9, 70}).Draw(t, "requests") {
						size := rapid.SampledFrom([]int{160, 1000, 300_000}).Draw(t, "size")
						d, err := place.Pick(context.Background(), &scheduling.Request{Prompt: scheduling.Prompt{Tokens: someTokens[:size]}})
						require.NoError(t, err)
						e.requests++
						e.prefill += size
						e.tokens += size
						if rapid.Bool().Draw(t, "prefilled") {
							d.FirstToken()
							e.prefill -= size
						}
					}
					require.NoError(t, pool.Report(scheduling.State{Endpoint: e.id, Values: []scheduling.Value{
						{Metric: scheduling.Waiting, Value: e.waiting}, {Metric: scheduling.KVUsage, Value: e.kv},
					}}))
				}
				m := match{}
				for _, e := range engines {
					m[e.id] = e.cached
				}
				profile := reference.profile(nil)
				profile.Producers = []scheduling.Producer{m}
				s, err := scheduling.New(pool, scheduling.Options{Profile: profile})
				require.NoError(t, err)
				want := reference.choose(engines, prompt)
				d, err := s.Pick(context.Background(), &scheduling.Request{Prompt: scheduling.Prompt{Tokens: make([]uint32, prompt)}})
				require.NoError(t, err)
				var ids []string
				for _, e := range want {
					ids = append(ids, e.id)
				}
				require.Contains(t, ids, d.Endpoint.ID, "%+v", engines)
			})
		})
	}
}

// At a temperature T, Dynamo chooses with probabilities in proportion to exp(-(cost-min)/(max-min)/T).
func TestDynamoTemperature(t *testing.T) {
	const n, prompt, temperature = 6000, 1600, .5
	pool, err := scheduling.NewPool(scheduling.PoolOptions{Endpoints: []scheduling.Endpoint{
		{ID: "all", Address: "10.0.0.1:80"}, {ID: "half", Address: "10.0.0.2:80"}, {ID: "none", Address: "10.0.0.3:80"},
	}})
	require.NoError(t, err)
	profile := policy.Dynamo(nil, temperature)
	profile.Producers = []scheduling.Producer{match{"all": 1600, "half": 800}} // costs 0, 50 and 100 blocks
	s, err := scheduling.New(pool, scheduling.Options{Profile: profile, Seed: 1})
	require.NoError(t, err)
	got := map[string]int{}
	for range n {
		d, err := s.Pick(context.Background(), &scheduling.Request{Prompt: scheduling.Prompt{Tokens: make([]uint32, prompt)}})
		require.NoError(t, err)
		got[d.Endpoint.ID]++
		d.Done()
	}
	sum := 1 + math.Exp(-.5/temperature) + math.Exp(-1/temperature)
	require.InDelta(t, n/sum, got["all"], .03*n)
	require.InDelta(t, n*math.Exp(-.5/temperature)/sum, got["half"], .03*n)
	require.InDelta(t, n*math.Exp(-1/temperature)/sum, got["none"], .03*n)
}

// The policies that hash keep a session, or a prompt's beginning, in one place.
func TestPeersThatHash(t *testing.T) {
	var list []scheduling.Endpoint
	for i := range 20 {
		list = append(list, scheduling.Endpoint{Address: fmt.Sprintf("10.0.0.%d:80", i+1)})
	}
	for name, profile := range map[string]scheduling.Profile{
		"production stack session": policy.ProductionStackSession(), "SGLang prefix_hash": policy.SGLangPrefixHash(),
	} {
		pool, err := scheduling.NewPool(scheduling.PoolOptions{Endpoints: list})
		require.NoError(t, err)
		s, err := scheduling.New(pool, scheduling.Options{Profile: profile})
		require.NoError(t, err)
		homes := map[string]bool{}
		for i := range 50 {
			for turn := range 3 {
				tokens := make([]uint32, 256+100*turn)
				tokens[0] = uint32(i)
				d, err := s.Pick(context.Background(), &scheduling.Request{Session: fmt.Sprint(i), Prompt: scheduling.Prompt{Tokens: tokens}})
				require.NoError(t, err)
				homes[fmt.Sprint(i, d.Endpoint.ID)] = true
				d.Done()
			}
		}
		require.Len(t, homes, 50, "%s: one home each", name)
	}
}
