package shadow_test

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/inferloom/inferloom/scheduling"
	"github.com/inferloom/inferloom/scheduling/condition"
	"github.com/inferloom/inferloom/scheduling/filter"
	"github.com/inferloom/inferloom/scheduling/picker"
	"github.com/inferloom/inferloom/scheduling/policy"
	"github.com/inferloom/inferloom/scheduling/prefix"
	"github.com/inferloom/inferloom/scheduling/scorer"
	"github.com/inferloom/inferloom/scheduling/shadow"
)

func newPool(t require.TestingT, n int) *scheduling.Pool {
	var list []scheduling.Endpoint
	for i := range n {
		list = append(list, scheduling.Endpoint{ID: fmt.Sprint("e", i), Address: fmt.Sprintf("10.0.0.%d:8000", i+1), Model: "m"})
	}
	now := time.Unix(1000, 0)
	pool, err := scheduling.NewPool(scheduling.PoolOptions{Endpoints: list, Now: func() time.Time { return now }})
	require.NoError(t, err)
	return pool
}

func newIndex(t require.TestingT) *prefix.Index {
	x, err := prefix.New(prefix.Options{MaxBytes: 1 << 20, MaxEndpoints: 64})
	require.NoError(t, err)
	return x
}

func newScheduler(t require.TestingT, pool *scheduling.Pool, o scheduling.Options) *scheduling.Scheduler {
	s, err := scheduling.New(pool, o)
	require.NoError(t, err)
	return s
}

func newShadow(t require.TestingT, o shadow.Options) *shadow.Shadow {
	s, err := shadow.New(o)
	require.NoError(t, err)
	return s
}

// stages are a decode and, for longer prompts, a prefill, of a profile each.
func stages(index *prefix.Index, p scheduling.Picker) []scheduling.Stage {
	profile := policy.Default(index)
	profile.Picker = p
	return []scheduling.Stage{
		{Name: "decode", Profile: profile},
		{Name: "prefill", Profile: profile, After: []string{"decode"}, When: condition.Uncached{Tokens: 100, Stage: "decode"}, Takes: scheduling.Prefill},
	}
}

// traffic picks, and ends what was picked, by a script of a seed. It returns the choices.
func traffic(t require.TestingT, s *scheduling.Scheduler, seed uint64) (choices []string) {
	rng := rand.New(rand.NewPCG(seed, 1))
	var held []scheduling.Decision
	for range 60 {
		text := fmt.Appendf(nil, "%0*d", 50+rng.IntN(2000), rng.IntN(20))
		d, err := s.Pick(context.Background(), &scheduling.Request{Model: "m", Session: fmt.Sprint(rng.IntN(9)), Prompt: scheduling.Prompt{Text: text}})
		require.NoError(t, err)
		for _, stage := range d.Stages() {
			if leg, ok := d.Stage(stage); ok {
				choices = append(choices, fmt.Sprint(stage, " ", leg.Endpoint.ID, " ", leg.CachedTokens, " ", leg.Score))
			}
		}
		held = append(held, d)
		switch rng.IntN(6) {
		case 0:
			d.Next()
		case 1:
			_ = s.Pool().Report(scheduling.State{Endpoint: d.Endpoint.ID, Values: []scheduling.Value{{Metric: scheduling.Waiting, Value: float64(rng.IntN(9))}}})
		case 2, 3:
			i := rng.IntN(len(held))
			held[i].Done()
		}
	}
	for i := range held {
		held[i].Done()
	}
	require.Zero(t, s.Pool().Total())
	return choices
}

// With shadows on, live decisions are what they are without, whatever the plans are.
func TestAShadowChangesNothing(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		seed, endpoints := rapid.Uint64Range(1, 1000).Draw(t, "seed"), rapid.IntRange(1, 9).Draw(t, "endpoints")
		pick := rapid.SampledFrom([]scheduling.Picker{nil, picker.Random{}, picker.Softmax{Temperature: .3}}).Draw(t, "picker")
		staged, every := rapid.Bool().Draw(t, "staged"), rapid.IntRange(1, 3).Draw(t, "every")
		live := func() (*scheduling.Scheduler, *prefix.Index) {
			index := newIndex(t)
			o := scheduling.Options{Seed: seed, Profile: policy.Default(index)}
			o.Profile.Picker = pick
			if staged {
				o.Profile, o.Stages = scheduling.Profile{}, stages(index, pick)
			}
			return newScheduler(t, newPool(t, endpoints), o), index
		}
		alone, _ := live()
		want := traffic(t, alone, seed)

		beside, index := live()
		pool := beside.Pool()
		var shadows []scheduling.Observer
		for _, o := range []scheduling.Options{
			{Profile: policy.LLMD(index)}, {Profile: policy.RoundRobin()}, {Profile: policy.AIBrixPrefixCache(newIndex(t))},
			{Profile: policy.Dynamo(index, .5)}, {Stages: stages(index, nil)},
			{Profile: scheduling.Profile{Scorers: []scheduling.Weighted{{Scorer: &scorer.ColdLRU{}}, {Scorer: &scorer.TenantSpread{}}}}},
		} {
			shadows = append(shadows, newShadow(t, shadow.Options{Scheduler: newScheduler(t, pool, o), Every: every, Produce: len(shadows)%2 == 0}))
		}
		beside.Observe(every, shadows...)
		require.Equal(t, want, traffic(t, beside, seed))
	})
}

func TestAShadowOfTheSamePlanAgrees(t *testing.T) {
	index := newIndex(t)
	pool := newPool(t, 5)
	for _, o := range []scheduling.Options{{Stages: stages(index, picker.Random{})}, {Profile: policy.Dynamo(index, 1)}} {
		live := newScheduler(t, pool, o)
		s := newShadow(t, shadow.Options{Scheduler: newScheduler(t, pool, o)})
		live.Observe(1, s)
		choices := len(traffic(t, live, 1))
		require.Equal(t, shadow.Stats{Agreed: uint64(choices)}, s.Stats())
	}
}

// observer keeps what it was told.
type observer []string

func (o *observer) Compared(c shadow.Comparison) {
	*o = append(*o, fmt.Sprintf("%s %s: %v, regret %.2g, cached %+d", c.Shadow, c.Moment.Stage, c.Outcome, c.Regret, c.CachedTokens))
}

type fixed map[string]float64

func (f fixed) Score(c *scheduling.Cycle, slots []scheduling.Slot, scores []float64) {
	for i, slot := range slots {
		scores[i] = f[c.Endpoint(slot).ID]
	}
}

type has map[string]int32

func (h has) Produce(c *scheduling.Cycle) {
	c.Match.Known = true
	for _, slot := range c.Snapshot.Live() {
		c.Match.Cached[slot] = h[c.Endpoint(slot).ID]
	}
}

type only string

func (o only) Filter(c *scheduling.Cycle, slots []scheduling.Slot) []scheduling.Slot {
	for i, slot := range slots {
		if c.Endpoint(slot).ID == string(o) {
			slots[0] = slots[i]
			return slots[:1]
		}
	}
	return nil
}

type panics struct{}

func (panics) Filter(*scheduling.Cycle, []scheduling.Slot) []scheduling.Slot { panic("not ready") }

func TestWhatIsCounted(t *testing.T) {
	pool := newPool(t, 3)
	cached := has{"e0": 64, "e1": 16, "e2": 80}
	scored := func(f fixed) scheduling.Profile {
		return scheduling.Profile{Producers: []scheduling.Producer{cached}, Scorers: []scheduling.Weighted{{Scorer: f}}}
	}
	liveOptions := scheduling.Options{Stages: []scheduling.Stage{
		{Name: "decode", Profile: scored(fixed{"e0": 1})}, {Name: "prefill", Profile: scored(fixed{"e0": 1})},
	}}
	for _, row := range []struct {
		name            string
		decode, prefill scheduling.Profile
		never           bool
		want            shadow.Stats
		says            []string
	}{
		{"the same", scored(fixed{"e0": .3}), scored(fixed{"e0": .2}), false, shadow.Stats{Agreed: 2},
			[]string{"x decode: agreed, regret 0, cached +0", "x prefill: agreed, regret 0, cached +0"}},
		{"others", scored(fixed{"e0": .25, "e1": .75}), scored(fixed{"e2": 1}), false,
			shadow.Stats{Disagreed: 2, Regret: 1.5, CachedLost: 48, CachedGained: 16},
			[]string{"x decode: disagreed, regret 0.5, cached -48", "x prefill: disagreed, regret 1, cached +16"}},
		{"the live choice is removed", scheduling.Profile{Filters: []scheduling.Filter{only("e2")}}, scored(nil), true,
			shadow.Stats{Disagreed: 1, Removed: 1, CachedGained: 16, Skipped: 1},
			[]string{"x decode: disagreed, regret 0, cached +16", "x prefill: skipped, regret 0, cached +0"}},
		{"nobody is left, and a panic", scheduling.Profile{Filters: []scheduling.Filter{only("")}}, scheduling.Profile{Filters: []scheduling.Filter{panics{}}}, false,
			shadow.Stats{Failed: 2}, []string{"x decode: failed, regret 0, cached +0", "x prefill: failed, regret 0, cached +0"}},
	} {
		t.Run(row.name, func(t *testing.T) {
			o := scheduling.Options{Stages: []scheduling.Stage{{Name: "decode", Profile: row.decode}, {Name: "prefill", Profile: row.prefill}}}
			if row.never {
				o.Stages[1].When = condition.Media{}
			}
			var told observer
			s := newShadow(t, shadow.Options{Name: "x", Scheduler: newScheduler(t, pool, o), Observer: &told})
			live := newScheduler(t, pool, liveOptions)
			live.Observe(1, s)
			d, err := live.Pick(context.Background(), &scheduling.Request{})
			require.NoError(t, err)
			d.Done()
			row.want.Shadow = "x"
			require.Equal(t, row.want, s.Stats())
			require.EqualValues(t, 2, s.Stats().Compared())
			require.Equal(t, row.says, []string(told))
			b, err := json.Marshal(s.Stats())
			require.NoError(t, err)
			var back shadow.Stats
			require.NoError(t, json.Unmarshal(b, &back))
			require.Equal(t, s.Stats(), back)
		})
	}
	s := newShadow(t, shadow.Options{Scheduler: newScheduler(t, pool, scheduling.Options{Stages: []scheduling.Stage{{Name: "other", Profile: scheduling.Profile{Filters: []scheduling.Filter{filter.Overload{}}}}}})})
	live := newScheduler(t, pool, liveOptions)
	live.Observe(1, s)
	d, err := live.Pick(context.Background(), &scheduling.Request{})
	require.NoError(t, err)
	d.Done()
	require.Equal(t, shadow.Stats{Unknown: 2}, s.Stats())
}

// Where two stages take turns, one choice in two is not always that of the same stage.
func TestEveryStageIsSampled(t *testing.T) {
	pool := newPool(t, 3)
	o := scheduling.Options{Stages: []scheduling.Stage{{Name: "decode"}, {Name: "prefill"}}}
	for _, every := range []int{2, 3, 4, 10} {
		byStage := map[string]int{}
		s := newShadow(t, shadow.Options{Every: every, Scheduler: newScheduler(t, pool, o), Observer: compared(func(c shadow.Comparison) { byStage[c.Moment.Stage]++ })})
		live := newScheduler(t, pool, o)
		live.Observe(1, s)
		for range 1000 {
			d, err := live.Pick(context.Background(), &scheduling.Request{})
			require.NoError(t, err)
			d.Done()
		}
		require.InDelta(t, 1000/every, byStage["decode"], 30)
		require.InDelta(t, 1000/every, byStage["prefill"], 30)
	}
}

type compared func(c shadow.Comparison)

func (f compared) Compared(c shadow.Comparison) { f(c) }

func TestOptionsAreChecked(t *testing.T) {
	_, err := shadow.New(shadow.Options{Every: -1})
	require.ErrorContains(t, err, "scheduler: nil")
	require.ErrorContains(t, err, "every -1: negative")
}

func TestOutcomesHaveNames(t *testing.T) {
	require.Equal(t, "unknown", shadow.Unknown.String())
	require.Equal(t, "outcome(9)", shadow.Outcome(9).String())
}
