package scheduling_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/stretchr/testify/require"

	"github.com/inferloom/inferloom/scheduling"
	"github.com/inferloom/inferloom/scheduling/condition"
	"github.com/inferloom/inferloom/scheduling/filter"
	"github.com/inferloom/inferloom/scheduling/picker"
	"github.com/inferloom/inferloom/scheduling/policy"
	"github.com/inferloom/inferloom/scheduling/scorer"
)

// chose is an observer as a function.
type chose func(m *scheduling.Moment)

func (f chose) Chose(m *scheduling.Moment) { f(m) }

// randomProfile has filters and a picker that draw, and scorers that read every part of a moment.
func randomProfile(t testing.TB, p scheduling.Picker) scheduling.Profile {
	profile := policy.Default(newIndex(t))
	profile.Filters = append(profile.Filters, filter.PrefixAffinity{Explore: .3})
	profile.Scorers = append(profile.Scorers, scheduling.Weighted{Scorer: scorer.Dynamo{}}, scheduling.Weighted{Scorer: scorer.PrefixHash{}},
		scheduling.Weighted{Scorer: scorer.Linear{Metric: scheduling.InFlightKVTokens}})
	profile.Picker = p
	return profile
}

// Whatever happens at the same time, a plan that is asked for a moment of its own gives its own choice.
func TestAPlanAgreesWithItself(t *testing.T) {
	for _, p := range []scheduling.Picker{
		nil, picker.MaxScore{}, picker.Random{}, picker.WeightedRandom{}, picker.Softmax{Temperature: .2}, picker.PowerOfTwo{},
	} {
		t.Run(fmt.Sprintf("%T", p), func(t *testing.T) {
			pool := newPool(t, endpoints(12)...)
			s := newScheduler(t, pool, randomProfile(t, p))
			var moments atomic.Int64
			s.Observe(1, chose(func(m *scheduling.Moment) {
				moments.Add(1)
				v, err := s.Weigh(m, scheduling.WeighOptions{})
				if err != nil || v.Choice != m.Choice || v.Score != m.Score || !v.Kept || v.KeptScore != m.Score {
					t.Errorf("%+v, %v instead of %+v with %v", v, err, m.Choice, m.Score)
				}
			}))
			var hosts sync.WaitGroup
			for host := range 4 {
				hosts.Go(func() {
					rng := rand.New(rand.NewPCG(uint64(host), 1))
					var held []scheduling.Decision
					for range 150 {
						text := fmt.Appendf(nil, "%0*d", 10+rng.IntN(4000), rng.IntN(30))
						d, err := s.Pick(context.Background(), &scheduling.Request{Model: "m", Prompt: scheduling.Prompt{Text: text}})
						if err != nil {
							t.Error(err)
							return
						}
						held = append(held, d)
						if len(held) > 20 {
							held[0].Done()
							held = held[1:]
						}
						if rng.IntN(20) == 0 {
							_ = pool.Report(scheduling.State{Endpoint: d.Endpoint.ID, Values: []scheduling.Value{
								{scheduling.Waiting, float64(rng.IntN(9))}, {scheduling.KVUsage, rng.Float64()},
							}})
						}
					}
					for i := range held {
						held[i].Done()
					}
				})
			}
			hosts.Wait()
			require.EqualValues(t, 600, moments.Load())
			require.Zero(t, pool.Total())
		})
	}
}

func TestAStagedPlanAgreesWithItself(t *testing.T) {
	pool := newPool(t, roles()...)
	s := newStaged(t, pool, disaggregated(newIndex(t))...)
	stages := map[string]int{}
	s.Observe(1, chose(func(m *scheduling.Moment) {
		stages[m.Stage]++
		v, err := s.Weigh(m, scheduling.WeighOptions{Explain: true})
		require.NoError(t, err)
		require.Equal(t, m.Choice, v.Choice)
		require.Equal(t, m.Stage, v.Explanation.Stage)
		if m.Stage != "decode" {
			require.Equal(t, "decode", m.Earlier[0].Stage)
		}
		_, err = s.Weigh(&scheduling.Moment{Stage: "other"}, scheduling.WeighOptions{})
		require.ErrorIs(t, err, scheduling.ErrUnknownStage)
	}))
	for i := range 200 {
		r := &scheduling.Request{Model: "m", Prompt: scheduling.Prompt{Text: fmt.Appendf(nil, "%d %0*d", i, 100*i, 0)}}
		if i%3 == 0 {
			r.Modality = scheduling.Image
		}
		d, err := s.Pick(context.Background(), r)
		require.NoError(t, err)
		if i%2 == 0 {
			d.Done()
		}
	}
	require.Equal(t, 200, stages["decode"])
	require.Equal(t, 67, stages["encode"])
	require.Positive(t, stages["prefill"])
}

func TestWeighAnotherPlan(t *testing.T) {
	pool := newPool(t, endpoints(3)...)
	other := newScheduler(t, pool, scheduling.Profile{
		Filters: []scheduling.Filter{keep{"e1": true, "e2": true}},
		Scorers: []scheduling.Weighted{{Scorer: fixed{"e0": 1, "e1": .2, "e2": .8}}},
	})
	none := newScheduler(t, pool, scheduling.Profile{Filters: []scheduling.Filter{keep{}}})
	var verdicts []scheduling.Verdict
	s := newScheduler(t, pool, scheduling.Profile{Scorers: []scheduling.Weighted{{Scorer: fixed{"e0": .9, "e1": .7, "e2": .5}}}})
	s.Observe(1, chose(func(m *scheduling.Moment) {
		v, err := other.Weigh(m, scheduling.WeighOptions{})
		require.NoError(t, err)
		verdicts = append(verdicts, v)
		_, err = none.Weigh(m, scheduling.WeighOptions{Explain: true})
		var pick *scheduling.PickError
		require.ErrorAs(t, err, &pick)
		require.Len(t, pick.Explanation.Removed, len(m.Eligible))
		require.Equal(t, []float64{.9, .7, .5}[3-len(m.Eligible):], m.Scores)
		require.Equal(t, m.Eligible, m.Candidates)
	}))
	d, err := s.Pick(context.Background(), &scheduling.Request{})
	require.NoError(t, err)
	require.Equal(t, "e0", d.Endpoint.ID)
	require.Equal(t, "e2", verdicts[0].Choice.Endpoint.ID)
	require.InDelta(t, .8, verdicts[0].Score, 0)
	require.False(t, verdicts[0].Kept)
	pool.Remove("e0")
	_, err = s.Pick(context.Background(), &scheduling.Request{})
	require.NoError(t, err)
	require.True(t, verdicts[1].Kept)
	require.InDelta(t, .2, verdicts[1].KeptScore, 0)
	require.Equal(t, 1, pool.Total().Requests, "weighing reserves nothing")
}

func TestWeighSkipsWhatWouldNotRun(t *testing.T) {
	pool := newPool(t, endpoints(3)...)
	sometimes := newStaged(t, pool, scheduling.Stage{Name: "decode"}, scheduling.Stage{Name: "prefill", When: condition.Media{}})
	nowhere := newStaged(t, pool, scheduling.Stage{Name: "decode"},
		scheduling.Stage{Name: "prefill", Optional: true, Profile: scheduling.Profile{Filters: []scheduling.Filter{keep{}}}})
	told := 0
	s := newStaged(t, pool, scheduling.Stage{Name: "decode"}, scheduling.Stage{Name: "prefill"})
	s.Observe(1, chose(func(m *scheduling.Moment) {
		told++
		for _, other := range []*scheduling.Scheduler{sometimes, nowhere} {
			v, err := other.Weigh(m, scheduling.WeighOptions{})
			require.NoError(t, err)
			require.Equal(t, m.Stage == "prefill", v.Skipped)
		}
	}))
	_, err := s.Pick(context.Background(), &scheduling.Request{})
	require.NoError(t, err)
	require.Equal(t, 2, told)
}

func TestObserveEvery(t *testing.T) {
	told := 0
	s := newScheduler(t, newPool(t, endpoints(2)...), scheduling.Profile{})
	s.Observe(4, chose(func(*scheduling.Moment) { told++ }))
	for i := range 80 {
		if i == 40 {
			s.Observe(0)
		}
		_, err := s.Preview(context.Background(), &scheduling.Request{})
		require.NoError(t, err)
		d, err := s.Pick(context.Background(), &scheduling.Request{})
		require.NoError(t, err)
		d.Done()
	}
	require.Equal(t, 10, told, "of the first 40 picks, and no preview")

	s.Observe(1, chose(func(*scheduling.Moment) { told++ }))
	_, err := s.Pick(context.Background(), &scheduling.Request{Model: "unknown"})
	require.ErrorIs(t, err, scheduling.ErrUnknownModel)
	s.Observe(0)
	d, err := s.Pick(context.Background(), &scheduling.Request{})
	require.NoError(t, err)
	d.Done()
	require.Equal(t, 10, told, "neither a pick that failed nor what follows it")
}

// A preview is what the next pick chooses, and leaves no trace.
func TestPreviewHasNoEffect(t *testing.T) {
	pool := newPool(t, roles()...)
	index := newIndex(t)
	s := newStaged(t, pool, disaggregated(index)...)
	r := &scheduling.Request{Model: "m", Modality: scheduling.Image, Prompt: scheduling.Prompt{Text: make([]byte, 40_000)}}
	held := func() [3]int { st := index.Stats(); return [3]int{st.Blocks, st.Guesses, st.Runs} }
	for range 5 {
		before := held()
		d, err := s.Preview(context.Background(), r)
		require.NoError(t, err)
		require.Equal(t, []string{"decode", "encode", "prefill"}, d.Stages())
		prefill, ran := d.Stage("prefill")
		require.True(t, ran)
		require.Equal(t, scheduling.Prefill, prefill.Endpoint.Role)
		d.FirstToken()
		d.Tokens(100)
		require.Zero(t, pool.Total())
		require.Equal(t, before, held())
		require.NotEmpty(t, d.Fallbacks())
		require.False(t, d.Next())
		require.Zero(t, pool.Total())
		require.Equal(t, before, held())
	}
	d, err := s.Pick(context.Background(), r)
	require.NoError(t, err)
	require.Equal(t, 3, pool.Total().Requests)
	d.Done()
	require.Zero(t, pool.Total())
}

// What an observer is told is what the plugins saw.
func TestAMomentIsWhatThePluginsSaw(t *testing.T) {
	pool := newPool(t, endpoints(4)...)
	var seen []scheduling.Load
	look := scorerFunc(func(c *scheduling.Cycle, slots []scheduling.Slot, scores []float64) {
		seen = seen[:0]
		for i, slot := range slots {
			seen = append(seen, scheduling.Load{Requests: c.Requests(slot), PrefillTokens: c.PrefillTokens(slot), KVTokens: c.KVTokens(slot)})
			scores[i] = c.Float64()
		}
	})
	told := 0
	s := newScheduler(t, pool, scheduling.Profile{
		Producers: []scheduling.Producer{has{"e2": 64}}, Scorers: []scheduling.Weighted{{Scorer: look}},
	})
	s.Observe(1, chose(func(m *scheduling.Moment) {
		told++
		require.Empty(t, cmp.Diff(seen, m.InFlight))
		require.Equal(t, []int32{0, 0, 64, 0}, m.Match.Cached)
		require.Equal(t, slices.Max(m.Scores), m.Score)
		require.Equal(t, 250, m.PromptTokens)
		if told > 30 {
			require.Equal(t, 30, m.Reported[0]+m.Reported[1]+m.Reported[2]+m.Reported[3])
		}
	}))
	for i := range 50 {
		if i == 30 {
			for slot := range 4 {
				require.NoError(t, pool.Report(scheduling.State{Endpoint: fmt.Sprint("e", slot), Values: []scheduling.Value{{scheduling.Waiting, 1}}}))
			}
		}
		_, err := s.Pick(context.Background(), &scheduling.Request{Model: "m", Prompt: scheduling.Prompt{Text: make([]byte, 1000)}})
		require.NoError(t, err)
	}
	require.Equal(t, 50, told)
}

type scorerFunc func(c *scheduling.Cycle, slots []scheduling.Slot, scores []float64)

func (f scorerFunc) Score(c *scheduling.Cycle, slots []scheduling.Slot, scores []float64) {
	f(c, slots, scores)
}

func TestPlace(t *testing.T) {
	pool := newPool(t, roles()...)
	for _, s := range []*scheduling.Scheduler{newScheduler(t, pool, policy.Default(newIndex(t))), newStaged(t, pool, disaggregated(newIndex(t))...)} {
		r := &scheduling.Request{Model: "m", Prompt: scheduling.Prompt{Text: make([]byte, 4000)}}
		d, err := s.Place(r, "e3")
		require.NoError(t, err)
		require.Equal(t, "e3", d.Endpoint.ID)
		require.Equal(t, scheduling.Load{Requests: 1, PrefillTokens: 1000, KVTokens: 1000}, pool.InFlight(d.Slot()))
		require.Empty(t, d.Fallbacks())
		again, err := s.Place(r, "e3")
		require.NoError(t, err)
		require.Equal(t, 992, again.CachedTokens, "the index has learned it")
		again.Done()
		require.False(t, d.Next())
		require.Zero(t, pool.Total())
		_, err = s.Place(r, "nowhere")
		require.ErrorIs(t, err, scheduling.ErrUnknownEndpoint)
		require.ErrorContains(t, err, `"nowhere"`)
	}
}
