package scheduling_test

import (
	"context"
	"encoding/json"
	"fmt"
	"math"
	"runtime"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/inferloom/inferloom/scheduling"
	"github.com/inferloom/inferloom/scheduling/picker"
	"github.com/inferloom/inferloom/scheduling/policy"
	"github.com/inferloom/inferloom/scheduling/prefix"
	"github.com/inferloom/inferloom/scheduling/scorer"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

func endpoints(n int) []scheduling.Endpoint {
	list := make([]scheduling.Endpoint, n)
	for i := range list {
		list[i] = scheduling.Endpoint{ID: fmt.Sprint("e", i), Address: fmt.Sprintf("10.0.0.%d:8000", i+1), Model: "m"}
	}
	return list
}

func newIndex(t testing.TB) *prefix.Index {
	t.Helper()
	x, err := prefix.New(prefix.Options{MaxBytes: 16 << 20})
	require.NoError(t, err)
	return x
}

// burst picks n times at once, from as many goroutines, and returns how many requests each endpoint got.
func burst(t *testing.T, s *scheduling.Scheduler, n int, request func(i int) *scheduling.Request) map[string]int {
	t.Helper()
	var start, done sync.WaitGroup
	start.Add(1)
	decisions := make([]scheduling.Decision, n)
	for i := range n {
		done.Go(func() {
			start.Wait()
			var err error
			if decisions[i], err = s.Pick(context.Background(), request(i)); err != nil {
				t.Error(err)
			}
		})
	}
	start.Done()
	done.Wait()
	got := map[string]int{}
	for i := range decisions {
		got[decisions[i].Endpoint.ID]++
		decisions[i].Done()
	}
	return got
}

func TestBurstSpreadsWithinOneOfEven(t *testing.T) {
	const n, m = 100, 7
	profiles := map[string]func() scheduling.Profile{
		"zero":    func() scheduling.Profile { return scheduling.Profile{} },
		"default": func() scheduling.Profile { return policy.Default(newIndex(t)) },
		"queue": func() scheduling.Profile {
			return scheduling.Profile{Scorers: []scheduling.Weighted{{Scorer: scorer.Queue{}}, {Scorer: scorer.KVUtilization{}}}}
		},
		"tokens": func() scheduling.Profile {
			return scheduling.Profile{Scorers: []scheduling.Weighted{{Scorer: scorer.InFlightTokens{}}}}
		},
	}
	for name, profile := range profiles {
		t.Run(name, func(t *testing.T) {
			pool := newPool(t, endpoints(m)...)
			for _, e := range endpoints(m) {
				require.NoError(t, pool.Report(scheduling.State{Endpoint: e.ID, Values: []scheduling.Value{
					{scheduling.Waiting, 0}, {scheduling.KVUsage, .25},
				}}))
			}
			s := newScheduler(t, pool, profile())
			for round := range 300 {
				defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1 + round%8))
				got := burst(t, s, n, func(i int) *scheduling.Request {
					return &scheduling.Request{Model: "m", Prompt: scheduling.Prompt{Text: fmt.Appendf(nil, "%d %0600d", round*n+i, 0)}}
				})
				for id, k := range got {
					require.InDelta(t, float64(n)/m, k, 1, "%s of %v in round %d", id, got, round)
				}
				require.Zero(t, pool.Total())
			}
		})
	}
}

// The bound is that of the default's filter.Overload: 16 + 1.25 times the mean. One more request may arrive while the holder is at it.
func TestAffinityYieldsToLoad(t *testing.T) {
	const n, m = 400, 8
	prompt := scheduling.Prompt{Text: fmt.Appendf(nil, "%04000d", 1)}
	for round := range 50 {
		pool := newPool(t, endpoints(m)...)
		s := newScheduler(t, pool, policy.Default(newIndex(t)))
		first, err := s.Pick(context.Background(), &scheduling.Request{Model: "m", Prompt: prompt})
		require.NoError(t, err)
		first.Done()

		few := burst(t, s, 8, func(int) *scheduling.Request { return &scheduling.Request{Model: "m", Prompt: prompt} })
		require.Equal(t, map[string]int{first.Endpoint.ID: 8}, few, "a few requests stay with the holder")

		got := burst(t, s, n, func(int) *scheduling.Request { return &scheduling.Request{Model: "m", Prompt: prompt} })
		bound := 16 + 1.25*n/m + 1
		require.GreaterOrEqual(t, float64(len(got)), n/bound, "the prefix spreads: round %d, %v", round, got)
		for id, k := range got {
			require.LessOrEqual(t, float64(k), bound, "%s of %v", id, got)
		}
	}
}

func TestPrefixAffinityFollowsAConversation(t *testing.T) {
	pool := newPool(t, endpoints(8)...)
	s := newScheduler(t, pool, policy.Default(newIndex(t)))
	home := map[int]string{}
	for turn := range 5 {
		for conversation := range 40 {
			text := fmt.Appendf(nil, "%04000d", conversation)
			for i := range turn {
				text = fmt.Appendf(text, "%0800d", conversation*100+i)
			}
			d, err := s.Pick(context.Background(), &scheduling.Request{Model: "m", Prompt: scheduling.Prompt{Text: text}})
			require.NoError(t, err)
			if turn == 0 {
				home[conversation] = d.Endpoint.ID
				require.Zero(t, d.CachedTokens/16*16-d.CachedTokens)
			} else {
				require.Equal(t, home[conversation], d.Endpoint.ID)
				require.GreaterOrEqual(t, d.CachedTokens, (4000+800*(turn-1))/4-16)
			}
			d.Done()
		}
	}
}

// An endpoint that forgets (its slot has a new generation) has nothing cached.
func TestReplacedEndpointHasNoPrefix(t *testing.T) {
	pool := newPool(t, endpoints(1)...)
	index := newIndex(t)
	s := newScheduler(t, pool, policy.Default(index))
	req := &scheduling.Request{Prompt: scheduling.Prompt{Text: make([]byte, 4096)}}
	pick := func() int {
		d, err := s.Pick(context.Background(), req)
		require.NoError(t, err)
		d.Done()
		return d.CachedTokens
	}
	require.Equal(t, 0, pick())
	require.Equal(t, 1024, pick())
	moved := endpoints(1)[0]
	moved.Address = "10.9.9.9:1"
	require.NoError(t, pool.Upsert(moved))
	require.Equal(t, 0, pick())
	require.Equal(t, 1024, pick())
	require.NoError(t, pool.Report(scheduling.State{Endpoint: "e0", CacheBlocks: 10, BlockTokens: 32}))
	require.Equal(t, 0, pick(), "other block size, other hashes")
	require.Equal(t, 320, pick(), "no more than the cache holds")
}

// naive is the whole decision as one would explain it, without batches, memory reuse or shortcuts: the weighted mean per
// endpoint, an abstaining scorer counting as the mean of what it gave the others.
func naive(values []map[string]float64, weights []float64, ids []string) map[string]float64 {
	totals, sum := map[string]float64{}, 0.0
	for i, scores := range values {
		var known []float64
		for _, id := range ids {
			if v := scores[id]; !math.IsNaN(v) && !math.IsInf(v, 0) {
				known = append(known, min(max(v, 0), 1))
			}
		}
		if len(known) == 0 {
			continue
		}
		mean := 0.0
		for _, v := range known {
			mean += v / float64(len(known))
		}
		sum += weights[i]
		for _, id := range ids {
			v := scores[id]
			if math.IsNaN(v) || math.IsInf(v, 0) {
				v = mean
			}
			totals[id] += weights[i] * min(max(v, 0), 1)
		}
	}
	for id := range totals {
		totals[id] /= sum
	}
	return totals
}

type fixed map[string]float64

func (f fixed) Score(c *scheduling.Cycle, slots []scheduling.Slot, scores []float64) {
	for i, slot := range slots {
		scores[i] = f[c.Endpoint(slot).ID]
	}
}

type keep map[string]bool

func (k keep) Filter(c *scheduling.Cycle, slots []scheduling.Slot) []scheduling.Slot {
	return slices.DeleteFunc(slots, func(s scheduling.Slot) bool { return !k[c.Endpoint(s).ID] })
}

func TestDecisionEqualsReference(t *testing.T) {
	score := rapid.OneOf(rapid.Float64Range(0, 1), rapid.SampledFrom([]float64{0, 1, .5, -3, 7, math.NaN(), math.Inf(1), math.Inf(-1)}))
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.IntRange(1, 12).Draw(t, "endpoints")
		pool, err := scheduling.NewPool(scheduling.PoolOptions{Endpoints: endpoints(n)})
		require.NoError(t, err)
		kept, ids := keep{}, []string{}
		for _, e := range endpoints(n) {
			if kept[e.ID] = rapid.Bool().Draw(t, "kept"); kept[e.ID] {
				ids = append(ids, e.ID)
			}
		}
		profile := scheduling.Profile{Filters: []scheduling.Filter{kept}}
		var values []map[string]float64
		var weights []float64
		for range rapid.IntRange(0, 4).Draw(t, "scorers") {
			f := fixed{}
			for _, e := range endpoints(n) {
				f[e.ID] = score.Draw(t, "score")
			}
			w := rapid.Float64Range(.1, 5).Draw(t, "weight")
			values, weights = append(values, f), append(weights, w)
			profile.Scorers = append(profile.Scorers, scheduling.Weighted{Scorer: f, Weight: w})
		}
		s, err := scheduling.New(pool, scheduling.Options{Profile: profile})
		require.NoError(t, err)
		d, err := s.Pick(context.Background(), &scheduling.Request{Explain: true})
		if len(ids) == 0 {
			require.ErrorIs(t, err, scheduling.ErrNoEndpoint)
			require.ErrorContains(t, err, "scheduling_test.keep left none")
			return
		}
		require.NoError(t, err)
		want := naive(values, weights, ids)
		best := 0.0
		for _, id := range ids {
			best = max(best, want[id])
		}
		require.Contains(t, ids, d.Endpoint.ID)
		require.InDelta(t, best, want[d.Endpoint.ID], 1e-9)
		require.InDelta(t, best, d.Score, 1e-9)
		require.Len(t, d.Explanation.Removed, n-len(ids))
		require.Len(t, d.Explanation.Candidates, len(ids))
		last := math.Inf(1)
		for i, c := range d.Explanation.Candidates {
			require.InDelta(t, want[c.Endpoint], c.Total, 1e-9)
			require.LessOrEqual(t, c.Total, last+1e-9)
			last = c.Total
			if i < scheduling.MaxRanked {
				require.Equal(t, i+1, c.Rank)
			}
		}
		_, err = json.Marshal(d.Explanation)
		require.NoError(t, err, "no NaN gets out")
		d.Done()
		require.Zero(t, pool.Total())
	})
}

func TestStaleAndMissingMetricsAbstain(t *testing.T) {
	now := time.Unix(1000, 0)
	pool, err := scheduling.NewPool(scheduling.PoolOptions{Endpoints: endpoints(3), Now: func() time.Time { return now }})
	require.NoError(t, err)
	s, err := scheduling.New(pool, scheduling.Options{MaxMetricAge: 2 * time.Second, Profile: scheduling.Profile{
		Scorers: []scheduling.Weighted{{Scorer: scorer.Queue{}}},
	}})
	require.NoError(t, err)
	report := func(id string, waiting float64) {
		require.NoError(t, pool.Report(scheduling.State{Endpoint: id, Values: []scheduling.Value{{scheduling.Waiting, waiting}}}))
	}
	scores := func() map[string]scheduling.Score {
		d, err := s.Pick(context.Background(), &scheduling.Request{Explain: true})
		require.NoError(t, err)
		defer d.Done()
		all := map[string]scheduling.Score{}
		for _, c := range d.Explanation.Candidates {
			all[c.Endpoint] = c.Scores[0]
		}
		return all
	}
	report("e0", 0)
	report("e1", 8)
	got := scores()
	require.InDelta(t, 1, got["e0"].Score, 0)
	require.InDelta(t, .5, got["e1"].Score, 0)
	require.True(t, got["e2"].Abstained, "never reported")
	now = now.Add(2 * time.Second)
	report("e1", 8)
	got = scores()
	require.True(t, got["e0"].Abstained, "stale")
	require.False(t, got["e1"].Abstained)
}

func TestFallbacks(t *testing.T) {
	pool := newPool(t, endpoints(6)...)
	s := newScheduler(t, pool, scheduling.Profile{Scorers: []scheduling.Weighted{{Scorer: fixed{"e0": .9, "e1": .8, "e2": .7, "e3": .6, "e4": .5}}}})
	d, err := s.Pick(context.Background(), &scheduling.Request{})
	require.NoError(t, err)
	require.Equal(t, "e0", d.Endpoint.ID)
	require.Len(t, d.Fallbacks(), 3)
	pool.Remove("e1")
	require.True(t, d.Next())
	require.Equal(t, "e2", d.Endpoint.ID, "e1 has left")
	require.Equal(t, 1, pool.InFlight(d.Slot()).Requests)
	require.Equal(t, 1, pool.Total().Requests)
	require.True(t, d.Next())
	require.Equal(t, "e3", d.Endpoint.ID)
	require.False(t, d.Next())
	require.False(t, d.Next())
	require.Empty(t, d.Fallbacks())
	require.Zero(t, pool.Total())
	d.Done()
}

func TestPickIsRepeatableForASeed(t *testing.T) {
	run := func() (ids []string) {
		pool := newPool(t, endpoints(5)...)
		s := newScheduler(t, pool, scheduling.Profile{Picker: picker.WeightedRandom{}, Scorers: []scheduling.Weighted{{Scorer: scorer.InFlightRequests{}}}})
		for range 200 {
			d, err := s.Pick(context.Background(), &scheduling.Request{})
			require.NoError(t, err)
			ids = append(ids, d.Endpoint.ID)
		}
		return ids
	}
	require.Equal(t, run(), run())
}

func TestPickEndsWithItsContext(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	_, err := newScheduler(t, newPool(t, endpoints(1)...), scheduling.Profile{}).Pick(ctx, &scheduling.Request{})
	require.ErrorIs(t, err, context.Canceled)
}

func TestOptionsAreChecked(t *testing.T) {
	_, err := scheduling.New(nil, scheduling.Options{MaxMetricAge: -1, Profile: scheduling.Profile{
		Producers: []scheduling.Producer{nil}, Filters: []scheduling.Filter{nil},
		Scorers: []scheduling.Weighted{{}, {Scorer: scorer.Queue{}, Weight: math.NaN()}},
	}})
	for _, want := range []string{"pool: nil", "max metric age -1ns", "producers[0]: nil", "filters[0]: nil", "scorers[0]: nil", "scorers[1].weight NaN"} {
		require.ErrorContains(t, err, want)
	}
}
