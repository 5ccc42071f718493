package scheduling_test

import (
	"context"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/inferloom/inferloom/scheduling"
	"github.com/inferloom/inferloom/scheduling/condition"
	"github.com/inferloom/inferloom/scheduling/filter"
	"github.com/inferloom/inferloom/scheduling/picker"
	"github.com/inferloom/inferloom/scheduling/policy"
	"github.com/inferloom/inferloom/scheduling/prefix"
	"github.com/inferloom/inferloom/scheduling/scorer"
)

// when is a condition as a function.
type when func(c *scheduling.Cycle) bool

func (f when) Holds(c *scheduling.Cycle) bool { return f(c) }

// has says how much of the prompt endpoints have cached.
type has map[string]int32

func (h has) Produce(c *scheduling.Cycle) {
	c.Match.Known = true
	for _, slot := range c.Snapshot.Live() {
		c.Match.Cached[slot] = h[c.Endpoint(slot).ID]
	}
}

// beside scores endpoints by what the peer is.
type beside map[string]map[string]float64

func (b beside) Score(c *scheduling.Cycle, slots []scheduling.Slot, scores []float64) {
	peer := ""
	if c.Peer != nil {
		peer = c.Peer.ID
	}
	for i, slot := range slots {
		scores[i] = b[peer][c.Endpoint(slot).ID]
	}
}

func newStaged(t testing.TB, pool *scheduling.Pool, stages ...scheduling.Stage) *scheduling.Scheduler {
	t.Helper()
	s, err := scheduling.New(pool, scheduling.Options{Seed: 1, Stages: stages})
	require.NoError(t, err)
	return s
}

func TestStagesAreChecked(t *testing.T) {
	stage := func(name string, after ...string) scheduling.Stage {
		return scheduling.Stage{Name: name, After: after}
	}
	for want, o := range map[string]scheduling.Options{
		"stages[1].name: empty":                                         {Stages: []scheduling.Stage{stage("a"), stage("")}},
		`stages[1].name "a": given twice`:                               {Stages: []scheduling.Stage{stage("a"), stage("a")}},
		`stages[1].after[1] "x": no such stage`:                         {Stages: []scheduling.Stage{stage("a"), stage("b", "a", "x")}},
		`stages: "a" after "c" after "b" after "a": each waits for the`: {Stages: []scheduling.Stage{stage("a", "c"), stage("b", "a"), stage("c", "b"), stage("d", "b")}},
		`stages: "b" after "b": each waits for the next`:                {Stages: []scheduling.Stage{stage("a", "b"), stage("b", "b")}},
		"stages[0].when: the primary stage always runs":                 {Stages: []scheduling.Stage{{Name: "a", When: condition.Media{}}}},
		"stages[0].optional: the primary stage is not":                  {Stages: []scheduling.Stage{{Name: "a", Optional: true}}},
		"stages[1].takes 0x40: unknown phase":                           {Stages: []scheduling.Stage{stage("a"), {Name: "b", Takes: 64}}},
		"profile: not empty, though there are stages":                   {Stages: []scheduling.Stage{stage("a")}, Profile: policy.RoundRobin()},
		"stages[1].profile.filters[0] (filter.Overload): slack -1":      {Stages: []scheduling.Stage{stage("a"), {Name: "b", Profile: scheduling.Profile{Filters: []scheduling.Filter{filter.Overload{Slack: -1}}}}}},
		"stages[1].when (condition.Uncached): nonCachedTokens -1":       {Stages: []scheduling.Stage{stage("a"), {Name: "b", When: condition.Uncached{Tokens: -1}}}},
		"stages[1].when: nil":                                           {Stages: []scheduling.Stage{stage("a"), {Name: "b", When: (*condition.Media)(nil)}}},
	} {
		_, err := scheduling.New(newPool(t), o)
		require.ErrorContains(t, err, want)
	}
	_, err := scheduling.New(newPool(t), scheduling.Options{Stages: []scheduling.Stage{
		{Optional: true}, stage("b", "c"), stage("b", "x"),
	}})
	for _, want := range []string{"stages[0].name", "stages[0].optional", "stages[2].name", `after[0] "c"`, `after[0] "x"`} {
		require.ErrorContains(t, err, want, "all at once")
	}
}

// The graph of the guide: decode first, then the pieces of the request that are worth sending elsewhere.
func disaggregated(index *prefix.Index) []scheduling.Stage {
	producers := []scheduling.Producer{&prefix.Producer{Index: index}}
	profile := func(phase scheduling.Role) scheduling.Profile {
		return scheduling.Profile{
			Producers: producers,
			Filters:   []scheduling.Filter{filter.Role{Phase: phase, Explicit: phase != scheduling.Decode}},
			Scorers:   []scheduling.Weighted{{Scorer: scorer.Prefix{}, Weight: 2}, {Scorer: scorer.InFlightTokens{}}, {Scorer: &scorer.Topology{}}},
			Picker:    picker.MaxScore{},
		}
	}
	return []scheduling.Stage{
		{Name: "decode", Profile: profile(scheduling.Decode)},
		{Name: "encode", Profile: profile(scheduling.Encode), After: []string{"decode"}, When: condition.Media{}, Takes: scheduling.Encode, Optional: true},
		{
			Name: "prefill", Profile: profile(scheduling.Prefill), After: []string{"decode"}, When: condition.Uncached{Tokens: 512, Stage: "decode"},
			Takes: scheduling.Prefill, Optional: true,
		},
	}
}

func roles() []scheduling.Endpoint {
	list := endpoints(9)
	for i := range list {
		list[i].Role = []scheduling.Role{scheduling.Decode, scheduling.Prefill, scheduling.Encode}[i%3]
	}
	return list
}

func TestStages(t *testing.T) {
	pool := newPool(t, roles()...)
	s := newStaged(t, pool, disaggregated(newIndex(t))...)
	pick := func(r *scheduling.Request) scheduling.Decision {
		t.Helper()
		r.Explain = true
		d, err := s.Pick(context.Background(), r)
		require.NoError(t, err)
		require.Equal(t, []string{"decode", "encode", "prefill"}, d.Stages())
		require.Equal(t, scheduling.Decode, d.Endpoint.Role)
		return d
	}
	long := scheduling.Prompt{Tokens: make([]uint32, 1600)}

	d := pick(&scheduling.Request{Prompt: scheduling.Prompt{Tokens: make([]uint32, 100)}})
	require.Equal(t, scheduling.Load{Requests: 1, PrefillTokens: 100, KVTokens: 100}, pool.InFlight(d.Slot()), "a short prompt is prefilled where it is decoded")
	_, ran := d.Stage("prefill")
	require.False(t, ran)
	require.Equal(t, []string{"encode", "prefill"}, d.Explanation.Skipped)
	d.Done()

	d = pick(&scheduling.Request{Prompt: long, Modality: scheduling.Image})
	prefill, ran := d.Stage("prefill")
	require.True(t, ran)
	encode, ran := d.Stage("encode")
	require.True(t, ran)
	require.Equal(t, scheduling.Prefill, prefill.Endpoint.Role)
	require.Equal(t, scheduling.Encode, encode.Endpoint.Role)
	require.Len(t, prefill.Fallbacks(), 2)
	require.Equal(t, scheduling.Load{Requests: 1, KVTokens: 1600}, pool.InFlight(d.Slot()))
	require.Equal(t, scheduling.Load{Requests: 1, PrefillTokens: 1600, KVTokens: 1600}, pool.InFlight(prefill.Slot()))
	require.Equal(t, scheduling.Load{Requests: 1}, pool.InFlight(encode.Slot()))
	require.Empty(t, d.Explanation.Skipped)
	require.Equal(t, "prefill", d.Explanation.Stages[1].Stage)
	require.Equal(t, prefill.Endpoint.ID, d.Explanation.Stages[1].Candidates[0].Endpoint)
	require.Equal(t, d.Explanation.Stages[1], prefill.Explanation)

	first := prefill.Slot()
	require.True(t, prefill.Next())
	require.Zero(t, pool.InFlight(first))
	require.Equal(t, 1600, pool.InFlight(prefill.Slot()).PrefillTokens)
	again, _ := d.Stage("prefill")
	require.Equal(t, prefill.Endpoint, again.Endpoint, "the whole knows where its stage has moved")
	require.Len(t, again.Fallbacks(), 1)
	require.True(t, d.Next())
	require.Equal(t, scheduling.Load{Requests: 1, KVTokens: 1600}, pool.InFlight(d.Slot()), "the prefill stays where it is")
	require.Equal(t, 1600, pool.InFlight(prefill.Slot()).PrefillTokens)

	d.FirstToken()
	require.Equal(t, scheduling.Load{Requests: 1, KVTokens: 1600}, pool.Total(), "what others took over is done")
	again, ran = d.Stage("prefill")
	require.True(t, ran)
	require.Equal(t, prefill.Endpoint, again.Endpoint)
	again.Done()
	require.False(t, prefill.Next(), "it has ended")
	require.Equal(t, 1, pool.Total().Requests)
	d.Done()
	require.Zero(t, pool.Total())
	_, ran = d.Stage("prefill")
	require.False(t, ran)
	require.False(t, d.Next())
	require.Zero(t, pool.Total())

	d = pick(&scheduling.Request{Prompt: long})
	require.GreaterOrEqual(t, d.CachedTokens, 1600, "the index knows of every stage's choice")
	_, ran = d.Stage("prefill")
	require.False(t, ran)
	d.Done()

	for _, id := range []string{"e1", "e4", "e7"} { // all that prefill
		pool.Remove(id)
	}
	d = pick(&scheduling.Request{Prompt: scheduling.Prompt{Text: make([]byte, 8000)}})
	require.Equal(t, 2000, pool.InFlight(d.Slot()).PrefillTokens, "an optional stage without endpoints leaves its work to the primary one")
	for d.Next() {
	}
	require.Zero(t, pool.Total())
}

func TestStageThatFailsLeavesNothing(t *testing.T) {
	pool := newPool(t, roles()...)
	learned := &learner{}
	s := newStaged(t, pool,
		scheduling.Stage{Name: "first", Profile: scheduling.Profile{Scorers: []scheduling.Weighted{{Scorer: learned}}}},
		scheduling.Stage{Name: "second", Profile: scheduling.Profile{Filters: []scheduling.Filter{keep{}}}},
	)
	_, err := s.Pick(context.Background(), &scheduling.Request{Model: "m", Prompt: scheduling.Prompt{Tokens: make([]uint32, 50)}})
	require.EqualError(t, err, `no endpoint available for model "m" in stage "second": scheduling_test.keep left none`)
	require.Zero(t, pool.Total())
	require.Empty(t, learned.chosen, "nobody is told of a choice that came to nothing")
}

func TestStagesOnOneEndpoint(t *testing.T) {
	pool := newPool(t, endpoints(1)...)
	s := newStaged(t, pool, scheduling.Stage{Name: "a"}, scheduling.Stage{Name: "b", Takes: scheduling.Prefill}, scheduling.Stage{Name: "c"})
	d, err := s.Pick(context.Background(), &scheduling.Request{Prompt: scheduling.Prompt{Tokens: make([]uint32, 50)}})
	require.NoError(t, err)
	require.Equal(t, scheduling.Load{Requests: 3, PrefillTokens: 50, KVTokens: 100}, pool.InFlight(0))
	d.Done()
	require.Zero(t, pool.Total())
}

// Each stage's plugins learn under the match that its own producers made.
func TestStagesLearnUnderTheirOwnMatch(t *testing.T) {
	pool := newPool(t, endpoints(2)...)
	var learned []int32
	profile := func(h has) scheduling.Profile {
		return scheduling.Profile{
			Producers: []scheduling.Producer{h}, Filters: []scheduling.Filter{keep{"e0": true}},
			Picker: commits(func(c *scheduling.Cycle, slot scheduling.Slot) { learned = append(learned, c.Match.Cached[slot]) }),
		}
	}
	s := newStaged(t, pool, scheduling.Stage{Name: "a", Profile: profile(has{"e0": 16})}, scheduling.Stage{Name: "b", Profile: profile(has{"e0": 32})})
	d, err := s.Pick(context.Background(), &scheduling.Request{Prompt: scheduling.Prompt{Tokens: make([]uint32, 50)}})
	require.NoError(t, err)
	require.Equal(t, []int32{16, 32}, learned)
	b, _ := d.Stage("b")
	require.Equal(t, []int{16, 32}, []int{d.CachedTokens, b.CachedTokens})
	d.Done()
}

type commits func(*scheduling.Cycle, scheduling.Slot)

func (commits) Pick(_ *scheduling.Cycle, _ []scheduling.Slot, _ []float64, ranked []int) []int {
	return ranked
}
func (f commits) Commit(c *scheduling.Cycle, slot scheduling.Slot) { f(c, slot) }

// drawn is a random stage as the reference sees it.
type drawn struct {
	scheduling.Stage
	keeps    keep
	scores   beside
	fixed    fixed
	weight   float64
	needs    string // runs only if this stage did
	cached   has
	producer int
}

// reference is the ledger by endpoint as one would keep it by hand.
type reference map[string]scheduling.Load

func (r reference) add(id string, sign int, l scheduling.Load) {
	was := r[id]
	r[id] = scheduling.Load{
		Requests: was.Requests + sign*l.Requests, PrefillTokens: was.PrefillTokens + sign*l.PrefillTokens, KVTokens: was.KVTokens + sign*l.KVTokens,
	}
}

// The whole decision of random stages on random pools is checked against this: stages in order of what they come after; the
// endpoints that the filter keeps; the highest weighted mean, and of those with it one with the fewest requests in flight and
// then tokens to prefill; and a ledger kept by hand.
func TestStagedDecisionEqualsReference(t *testing.T) {
	const prompt = 1000
	rapid.Check(t, func(t *rapid.T) {
		list := endpoints(rapid.IntRange(1, 6).Draw(t, "endpoints"))
		pool, err := scheduling.NewPool(scheduling.PoolOptions{Endpoints: list})
		require.NoError(t, err)
		caches := []has{{}, {}}
		for _, h := range caches {
			for _, e := range list {
				h[e.ID] = int32(rapid.SampledFrom([]int{0, 16, 512, 1000}).Draw(t, "cached"))
			}
		}
		producers := []*has{&caches[0], &caches[1]}
		names := []string{"encode", "x", "prefill", "decode"}[:rapid.IntRange(1, 4).Draw(t, "stages")]
		names = rapid.Permutation(names).Draw(t, "names")
		rank := rapid.Permutation(slices.Clone(names)).Draw(t, "order") // After goes back in this, so there is no circle
		stages := map[string]*drawn{}
		var options []scheduling.Stage
		for i, name := range names {
			st := &drawn{keeps: keep{}, scores: beside{}, fixed: fixed{}, producer: rapid.IntRange(0, 1).Draw(t, "producer")}
			st.Name, st.cached = name, caches[st.producer]
			for _, earlier := range rank[:slices.Index(rank, name)] {
				if rapid.Bool().Draw(t, "after") {
					st.After = append(st.After, earlier)
				}
			}
			st.After = rapid.Permutation(st.After).Draw(t, "afters")
			if i > 0 {
				st.Optional = rapid.Bool().Draw(t, "optional")
				st.Takes = scheduling.Role(rapid.IntRange(0, 7).Draw(t, "takes"))
				if len(st.After) > 0 && rapid.Bool().Draw(t, "conditional") {
					needs := rapid.SampledFrom(st.After).Draw(t, "needs")
					st.needs = needs
					st.When = when(func(c *scheduling.Cycle) bool { _, ran := c.Chosen(needs); return ran })
				}
			}
			for _, e := range list {
				st.keeps[e.ID] = rapid.IntRange(0, 3).Draw(t, "kept") > 0
				st.fixed[e.ID] = rapid.SampledFrom([]float64{0, .5, 1, math.NaN()}).Draw(t, "score")
			}
			for _, peer := range append([]scheduling.Endpoint{{}}, list...) {
				st.scores[peer.ID] = map[string]float64{}
				for _, e := range list {
					st.scores[peer.ID][e.ID] = rapid.SampledFrom([]float64{0, .25, 1, math.NaN()}).Draw(t, "beside")
				}
			}
			st.weight = rapid.Float64Range(.1, 5).Draw(t, "weight")
			st.Profile = scheduling.Profile{
				Producers: []scheduling.Producer{producers[st.producer]}, Filters: []scheduling.Filter{st.keeps},
				Scorers: []scheduling.Weighted{{Scorer: st.scores}, {Scorer: st.fixed, Weight: st.weight}},
			}
			stages[name] = st
			options = append(options, st.Stage)
		}
		s, err := scheduling.New(pool, scheduling.Options{Stages: options})
		require.NoError(t, err)

		var ids []string
		for _, e := range list {
			ids = append(ids, e.ID)
		}
		ledger := reference{}
		check := func() {
			t.Helper()
			for slot, id := range ids {
				require.Equal(t, ledger[id], pool.InFlight(scheduling.Slot(slot)), id)
			}
		}
		for range rapid.IntRange(1, 5).Draw(t, "requests") {
			d, err := s.Pick(context.Background(), &scheduling.Request{Prompt: scheduling.Prompt{Tokens: someTokens[:prompt]}})
			chosen, order, before := map[string]string{}, []string{}, ledger.clone()
			failed := ""
			for len(order) < len(names) && failed == "" {
				name := names[slices.IndexFunc(names, func(n string) bool {
					return !slices.Contains(order, n) && !slices.ContainsFunc(stages[n].After, func(a string) bool { return !slices.Contains(order, a) })
				})]
				order = append(order, name)
				st := stages[name]
				if _, ran := chosen[st.needs]; st.needs != "" && !ran {
					continue
				}
				kept := slices.DeleteFunc(slices.Clone(ids), func(id string) bool { return !st.keeps[id] })
				if len(kept) == 0 {
					if !st.Optional {
						failed = name
					}
					continue
				}
				peer := ""
				for _, a := range st.After {
					if id, ran := chosen[a]; ran {
						peer = id
						break
					}
				}
				totals := naive([]map[string]float64{st.scores[peer], st.fixed}, []float64{1, st.weight}, kept)
				best := slices.MaxFunc(kept, func(a, b string) int {
					if math.Abs(totals[a]-totals[b]) > 1e-9 {
						return compare(totals[a], totals[b])
					}
					if ledger[a].Requests != ledger[b].Requests {
						return ledger[b].Requests - ledger[a].Requests
					}
					return ledger[b].PrefillTokens - ledger[a].PrefillTokens
				})
				if err != nil {
					chosen[name] = best
					continue // what it was does not matter: the pick must fail, and does not depend on it
				}
				got, ran := d.Stage(name)
				require.True(t, ran, name)
				id := got.Endpoint.ID
				require.Contains(t, kept, id)
				require.InDelta(t, totals[best], got.Score, 1e-9, name)
				require.InDelta(t, totals[best], totals[id], 1e-9, name)
				require.Equal(t, ledger[best].Requests, ledger[id].Requests, name)
				require.Equal(t, ledger[best].PrefillTokens, ledger[id].PrefillTokens, name)
				require.EqualValues(t, st.cached[id], got.CachedTokens, name)
				chosen[name] = id
				uncached := prompt - int(st.cached[id])
				charge := scheduling.Load{Requests: 1}
				if name == names[0] || st.Takes&(scheduling.Prefill|scheduling.Decode) != 0 {
					charge.KVTokens = prompt
				}
				if st.Takes&scheduling.Prefill != 0 || name == names[0] && !prefilled(chosen, stages) {
					charge.PrefillTokens = uncached
				}
				ledger.add(id, 1, charge)
			}
			if failed != "" {
				var problem *scheduling.PickError
				require.ErrorAs(t, err, &problem)
				require.Equal(t, failed, problem.Stage)
				ledger = before
				check()
				continue
			}
			require.NoError(t, err)
			require.Equal(t, order, d.Stages())
			for _, name := range names {
				_, ran := d.Stage(name)
				_, want := chosen[name]
				require.Equal(t, want, ran, name)
			}
			primary := chosen[names[0]]
			if prefilled(chosen, stages) { // elsewhere, even if that is chosen later
				was := ledger[primary]
				was.PrefillTokens = pool.InFlight(scheduling.Slot(slices.Index(ids, primary))).PrefillTokens
				others := before[primary].PrefillTokens
				for name, id := range chosen {
					if id == primary && stages[name].Takes&scheduling.Prefill != 0 && name != names[0] {
						others += prompt - int(stages[name].cached[id])
					}
				}
				require.Equal(t, others, was.PrefillTokens)
				ledger[primary] = was
			}
			check()
			switch rapid.IntRange(0, 2).Draw(t, "end") {
			case 0:
				d.Done()
				ledger = before
			case 1: // every stage by itself, the primary one last
				for _, name := range names[1:] {
					if leg, ran := d.Stage(name); ran {
						leg.Done()
					}
				}
				require.Equal(t, pool.InFlight(d.Slot()).Requests, before[primary].Requests+1)
				d.Done()
				ledger = before
			}
			check()
		}
	})
}

func prefilled(chosen map[string]string, stages map[string]*drawn) bool {
	for name := range chosen {
		if stages[name].Takes&scheduling.Prefill != 0 {
			return true
		}
	}
	return false
}

func (r reference) clone() reference {
	c := reference{}
	for id, l := range r {
		c[id] = l
	}
	return c
}

func compare(a, b float64) int {
	if a < b {
		return -1
	}
	return 1
}

var someTokens = make([]uint32, 4000)

// Whatever happens to staged requests, endpoints and plans at the same time, the ledger ends at zero.
func TestStagedLedgerReturnsToZero(t *testing.T) {
	list := roles()
	pool := newPool(t, list...)
	index := newIndex(t)
	s := newStaged(t, pool, disaggregated(index)...)
	stop := make(chan struct{})
	var churn, work sync.WaitGroup
	churn.Go(func() {
		rng := rand.New(rand.NewPCG(1, 1))
		for round := 0; ; round++ {
			select {
			case <-stop:
				return
			default:
				e := list[3+rng.IntN(6)]
				pool.Remove(e.ID)
				_ = pool.Upsert(e)
				options := scheduling.Options{Stages: disaggregated(index)}
				if round%2 == 0 {
					options.Stages[1].Optional = false
				}
				if err := s.Swap(options); err != nil {
					t.Error(err)
				}
			}
		}
	})
	for g := range uint64(4) {
		work.Go(func() {
			rng := rand.New(rand.NewPCG(g, 2))
			for i := range 1500 {
				r := &scheduling.Request{Model: "m", Prompt: scheduling.Prompt{Tokens: someTokens[:rng.IntN(2000)], Salt: fmt.Sprint(g, i%7)}}
				if rng.IntN(2) == 0 {
					r.Modality = scheduling.Image
				}
				d, err := s.Pick(context.Background(), r)
				if err != nil {
					t.Error(err)
					return
				}
				var each sync.WaitGroup
				whole := d.Reservation
				each.Go(func() { whole.FirstToken(); whole.Tokens(3) })
				prefill, ran := d.Stage("prefill")
				each.Go(func() {
					if ran && prefill.Next() && i%2 == 0 {
						prefill.Done()
					}
				})
				if rng.IntN(3) == 0 {
					d.Next()
				}
				if rng.IntN(2) == 0 {
					d.Done()
				}
				each.Wait()
				whole.Done()
			}
		})
	}
	work.Wait()
	close(stop)
	churn.Wait()
	require.Zero(t, pool.Total())
}
