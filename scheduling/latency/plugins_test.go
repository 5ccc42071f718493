package latency_test

import (
	"context"
	"math"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/inferloom/inferloom/scheduling"
	"github.com/inferloom/inferloom/scheduling/latency"
	"github.com/inferloom/inferloom/scheduling/scorer"
)

// told is predictions by ID.
type told map[string]scheduling.Prediction

func (p told) Produce(c *scheduling.Cycle) {
	for _, slot := range c.Snapshot.Live() {
		c.Predictions()[slot] = p[c.Endpoint(slot).ID]
	}
}

func ids(c *scheduling.Cycle, slots []scheduling.Slot) (ids []string) {
	for _, slot := range slots {
		ids = append(ids, c.Endpoint(slot).ID)
	}
	return ids
}

var three = told{
	"e0": {TTFT: .5, TPOT: .01, Meets: .9},
	"e1": {TTFT: 1, TPOT: .02, Meets: .88},
	"e2": {TTFT: 3, TPOT: .01, Meets: .6},
}

func lost() told {
	p := told{}
	for id, v := range three {
		v.Meets /= 10
		p[id] = v
	}
	return p
}

func TestScorers(t *testing.T) {
	unknown := math.NaN()
	free := scheduling.Request{}
	for _, row := range []struct {
		name    string
		scorer  scheduling.Scorer
		told    told
		request scheduling.Request
		want    [4]float64
	}{
		{"the best chance", latency.Meets{}, three, objectives, [4]float64{.9, .88, .6, unknown}},
		{"where a lost one harms least", latency.Meets{}, lost(), objectives, [4]float64{.91, .912, .94, unknown}},
		{"lost is a matter of opinion", latency.Meets{Hopeless: .01}, lost(), objectives, [4]float64{.09, .088, .06, unknown}},
		// .5 + 199·.01 = 2.49, 1 + 199·.02 = 4.98, 3 + 1.99 = 4.99
		{"the soonest, without objectives", latency.Meets{}, three, free, [4]float64{1 / 3.49, 1 / 5.98, 1 / 5.99, unknown}},
		{"the soonest", latency.Seconds{OutputTokens: 101, HalfAt: 2}, three, objectives, [4]float64{2 / 3.5, 2. / 5, 2. / 6, unknown}},
		{"the first token", latency.Seconds{}, three, scheduling.Request{MaxTokens: 1}, [4]float64{1 / 1.5, .5, .25, unknown}},
		{"nothing predicted", latency.Meets{}, nil, objectives, [4]float64{unknown, unknown, unknown, unknown}},
		// The fourth is taken for the mean of the others: 1.5 and 200·.04/3
		{"as costs", scorer.Cost{Terms: []scorer.Term{latency.TTFT(), latency.Decoding(201)}}, three, free,
			[4]float64{1 / 3.5, 1. / 6, 1. / 6, 1 / (2.5 + 8./3)}},
	} {
		t.Run(row.name, func(t *testing.T) {
			inside(t, newPool(t, fleet(4)...), row.told, row.request, func(c *scheduling.Cycle, slots []scheduling.Slot) {
				var got [4]float64
				row.scorer.Score(c, slots, got[:])
				for i := range got {
					if math.IsNaN(row.want[i]) {
						require.True(t, math.IsNaN(got[i]), "%v", got)
					} else {
						require.InDelta(t, row.want[i], got[i], 1e-9, "%v", got)
					}
				}
			})
		})
	}
}

func TestFilters(t *testing.T) {
	free := scheduling.Request{}
	shed := objectives
	shed.Priority = -1
	known := fleet(3)
	for _, row := range []struct {
		name    string
		filter  scheduling.Filter
		told    told
		request scheduling.Request
		fleet   []scheduling.Endpoint
		want    []string
	}{
		{"nearly the best chance", latency.Chance{}, three, objectives, known, []string{"e0", "e1"}},
		{"a wide share", latency.Chance{Share: .5}, three, objectives, known, []string{"e0", "e1", "e2"}},
		{"what is not known stays", latency.Chance{}, three, objectives, fleet(4), []string{"e0", "e1", "e3"}},
		{"lost ones go together", latency.Chance{}, lost(), objectives, known, []string{"e2"}},
		{"no objectives", latency.Chance{}, three, free, known, []string{"e0", "e1", "e2"}},
		{"nothing predicted", latency.Chance{}, nil, objectives, known, []string{"e0", "e1", "e2"}},
		{"admitted", latency.Admit{}, three, objectives, known, []string{"e0", "e1", "e2"}},
		{"refused", latency.Admit{}, lost(), objectives, known, nil},
		{"refused below another bound", latency.Admit{Least: .95}, three, objectives, known, nil},
		{"one is not known", latency.Admit{}, lost(), objectives, fleet(4), []string{"e0", "e1", "e2", "e3"}},
		{"not sheddable", latency.Admit{OnlySheddable: true}, lost(), objectives, known, []string{"e0", "e1", "e2"}},
		{"sheddable", latency.Admit{OnlySheddable: true}, lost(), shed, known, nil},
		{"nothing to refuse for", latency.Admit{}, lost(), free, known, []string{"e0", "e1", "e2"}},
	} {
		t.Run(row.name, func(t *testing.T) {
			inside(t, newPool(t, row.fleet...), row.told, row.request, func(c *scheduling.Cycle, slots []scheduling.Slot) {
				require.Equal(t, row.want, ids(c, row.filter.Filter(c, append([]scheduling.Slot(nil), slots...))))
			})
		})
	}
}

func TestRefusalSaysWhy(t *testing.T) {
	s, err := scheduling.New(newPool(t, fleet(3)...), scheduling.Options{Profile: scheduling.Profile{
		Producers: []scheduling.Producer{lost()}, Filters: []scheduling.Filter{latency.Admit{}},
	}})
	require.NoError(t, err)
	_, err = s.Pick(context.Background(), &objectives)
	require.ErrorIs(t, err, latency.ErrObjectives)
	require.NotErrorIs(t, err, scheduling.ErrNoEndpoint)
	require.EqualError(t, err, `no endpoint would meet the latency objectives for model "": latency.Admit left none`)
}

func TestParametersAreChecked(t *testing.T) {
	for _, v := range []scheduling.Validator{
		&latency.Producer{}, latency.Meets{Hopeless: 2}, latency.Meets{OutputTokens: -1}, latency.Seconds{HalfAt: math.Inf(1)},
		latency.Seconds{OutputTokens: -1}, latency.Admit{Least: math.NaN()}, latency.Chance{Share: -1}, latency.Chance{Hopeless: 7},
	} {
		require.Error(t, v.Validate(), "%#v", v)
	}
	for _, v := range []scheduling.Validator{latency.Meets{}, latency.Seconds{}, latency.Admit{}, latency.Chance{}} {
		require.NoError(t, v.Validate(), "%#v", v)
	}
	_, err := latency.New(latency.Options{Quantile: 7, Memory: -1, HalfLife: -1, MaxClasses: -1, MaxEndpoints: -1})
	for _, field := range []string{"quantile 7", "memory -1", "half life", "max classes", "max endpoints"} {
		require.ErrorContains(t, err, field)
	}
}

// Whatever engines report, predictions are finite, positive, and a pick works.
func TestHostileMetrics(t *testing.T) {
	number := rapid.SampledFrom([]float64{0, .5, 1, 1e9, 1e308, -1, math.NaN(), math.Inf(1)})
	rapid.Check(t, func(rt *rapid.T) {
		now := time.Unix(1000, 0)
		list := fleet(rapid.IntRange(1, 4).Draw(rt, "endpoints"))
		for i := range list {
			list[i].CacheBlocks = rapid.SampledFrom([]int{0, 1, 100, math.MaxInt32}).Draw(rt, "blocks")
		}
		pool, err := scheduling.NewPool(scheduling.PoolOptions{Endpoints: list, Now: func() time.Time { return now }})
		require.NoError(rt, err)
		for _, e := range list {
			st := scheduling.State{Endpoint: e.ID, At: now.Add(-time.Duration(rapid.IntRange(0, 10).Draw(rt, "age")) * time.Second)}
			for _, m := range []scheduling.Metric{scheduling.Waiting, scheduling.Running, scheduling.KVUsage} {
				if rapid.Bool().Draw(rt, "said") {
					st.Values = append(st.Values, scheduling.Value{Metric: m, Value: number.Draw(rt, "value")})
				}
			}
			require.NoError(rt, pool.Report(st))
		}
		model := newModel(t, latency.Options{Now: func() time.Time { return now }})
		s, err := scheduling.New(pool, scheduling.Options{Profile: scheduling.Profile{
			Producers: []scheduling.Producer{&latency.Producer{Model: model}},
			Filters:   []scheduling.Filter{latency.Chance{}}, Scorers: []scheduling.Weighted{{Scorer: latency.Meets{}}},
		}})
		require.NoError(rt, err)
		r := objectives
		r.Prompt.Tokens = make([]uint32, rapid.SampledFrom([]int{0, 1, 100_000}).Draw(rt, "tokens"))
		for range 3 {
			d, err := s.Pick(context.Background(), &r)
			require.NoError(rt, err)
			p := d.Predicted
			require.True(rt, p.TTFT > 0 && p.TTFT < 1e12 && p.TPOT > 0 && p.TPOT < 1e12 && p.Meets >= 0 && p.Meets <= 1, "%+v", p)
			model.ObserveTTFT(&p, time.Duration(rapid.Int64().Draw(rt, "took")))
		}
	})
}
