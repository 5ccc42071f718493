package llmd_test

import (
	"context"
	"fmt"
	"math"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/inferloom/inferloom/scheduling"
	"github.com/inferloom/inferloom/scheduling/latency"
	"github.com/inferloom/inferloom/scheduling/latency/llmd"
)

// told is predictions by ID.
type told map[string]scheduling.Prediction

func (p told) Produce(c *scheduling.Cycle) {
	for _, slot := range c.Snapshot.Live() {
		prediction := p[c.Endpoint(slot).ID]
		prediction.Basis.Slot, prediction.Basis.Generation = slot, c.Snapshot.Generation(slot)
		c.Predictions()[slot] = prediction
	}
}

type cached map[string]int32

func (m cached) Produce(c *scheduling.Cycle) {
	c.Match.Known = true
	for _, slot := range c.Snapshot.Live() {
		c.Match.Cached[slot] = m[c.Endpoint(slot).ID]
	}
}

type filterFunc func(c *scheduling.Cycle, slots []scheduling.Slot) []scheduling.Slot

func (f filterFunc) Filter(c *scheduling.Cycle, slots []scheduling.Slot) []scheduling.Slot {
	return f(c, slots)
}

// only keeps one endpoint.
func only(id string) scheduling.Filter {
	return filterFunc(func(c *scheduling.Cycle, slots []scheduling.Slot) []scheduling.Slot {
		for _, slot := range slots {
			if c.Endpoint(slot).ID == id {
				return append(slots[:0], slot)
			}
		}
		return nil
	})
}

func newPool(t *testing.T, roles ...scheduling.Role) *scheduling.Pool {
	t.Helper()
	var list []scheduling.Endpoint
	for i, role := range roles {
		list = append(list, scheduling.Endpoint{ID: fmt.Sprint("e", i), Address: fmt.Sprintf("10.0.0.%d:80", i+1), Role: role})
	}
	pool, err := scheduling.NewPool(scheduling.PoolOptions{Endpoints: list})
	require.NoError(t, err)
	return pool
}

func inside(t *testing.T, pool *scheduling.Pool, producers []scheduling.Producer, r scheduling.Request, do func(c *scheduling.Cycle, slots []scheduling.Slot)) {
	t.Helper()
	s, err := scheduling.New(pool, scheduling.Options{Seed: 1, Profile: scheduling.Profile{
		Producers: producers,
		Filters: []scheduling.Filter{filterFunc(func(c *scheduling.Cycle, slots []scheduling.Slot) []scheduling.Slot {
			do(c, slots)
			return slots
		})},
	}})
	require.NoError(t, err)
	d, err := s.Pick(context.Background(), &r)
	require.NoError(t, err)
	d.Done()
}

// request has objectives of 1000 ms and 50 ms.
var request = scheduling.Request{TTFT: time.Second, TPOT: 50 * time.Millisecond, Prompt: scheduling.Prompt{Tokens: make([]uint32, 1000)}}

func ms(ttft, tpot float64) scheduling.Prediction {
	return scheduling.Prediction{TTFT: ttft / 1000, TPOT: tpot / 1000}
}

// Every row is worked out by hand from the formulas. A combined headroom of h scores (int((1-h)·99)+2)/100.
func TestLatencyScorer(t *testing.T) {
	for _, row := range []struct {
		name   string
		scorer llmd.LatencyScorer
		told   [3]scheduling.Prediction
		busy   string // endpoints with a request in flight
		want   [3]float64
	}{
		// Headrooms 900/40, 500/40, 100/40: TTFT alone counts. 1, .5, 0 of the range.
		{"least headroom", llmd.LatencyScorer{}, [3]scheduling.Prediction{ms(100, 10), ms(500, 10), ms(900, 10)}, "012",
			[3]float64{.02, .51, 1.01}},
		{"most headroom", llmd.LatencyScorer{Strategy: llmd.Most}, [3]scheduling.Prediction{ms(100, 10), ms(500, 10), ms(900, 10)}, "012",
			[3]float64{1.01, .51, .02}},
		// Ranges 400..800 and 10..40: a .8·1+.2·0, b .8·0+.2·1, c .8·.5+.2·(1/3) = .4667
		{"both", llmd.LatencyScorer{}, [3]scheduling.Prediction{ms(200, 40), ms(600, 10), ms(400, 30)}, "012",
			[3]float64{.02 + .19, .02 + .79, .02 + .52}},
		{"weights", llmd.LatencyScorer{TTFTWeight: 1, TPOTWeight: 1}, [3]scheduling.Prediction{ms(200, 40), ms(600, 10), ms(400, 30)}, "012",
			[3]float64{.02 + .49, .02 + .49, .02 + .57}},
		{"equals", llmd.LatencyScorer{}, [3]scheduling.Prediction{ms(200, 40), ms(200, 40), ms(200, 40)}, "012", [3]float64{.51, .51, .51}},
		{"only those with headroom", llmd.LatencyScorer{}, [3]scheduling.Prediction{ms(2000, 10), ms(500, 60), ms(900, 10)}, "012",
			[3]float64{0, 0, .51}},
		{"short of TPOT is better than short of TTFT", llmd.LatencyScorer{}, [3]scheduling.Prediction{ms(2000, 10), ms(500, 60), ms(2000, 60)}, "012",
			[3]float64{0, .51, 0}},
		{"short of TTFT is better than of both", llmd.LatencyScorer{}, [3]scheduling.Prediction{ms(2000, 10), ms(3000, 60), ms(2000, 60)}, "012",
			[3]float64{.51, 0, 0}},
		// |h| 1000/10, 2000/10, 4000/10: the shortest.
		{"the least short", llmd.LatencyScorer{Strategy: llmd.Most}, [3]scheduling.Prediction{ms(2000, 60), ms(3000, 60), ms(5000, 60)}, "012",
			[3]float64{1.01, .02 + .66, .02}},
		{"idle ones first", llmd.LatencyScorer{}, [3]scheduling.Prediction{ms(500, 60), ms(3000, 60), ms(5000, 60)}, "0", [3]float64{0, 1.01, .02}},
		{"but not where there is headroom", llmd.LatencyScorer{}, [3]scheduling.Prediction{ms(500, 10), ms(3000, 60), ms(5000, 60)}, "0", [3]float64{.51, 0, 0}},
		{"buffer", llmd.LatencyScorer{SLO: llmd.SLO{BufferFactor: .5}}, [3]scheduling.Prediction{ms(100, 30), ms(100, 20), ms(100, 60)}, "012",
			[3]float64{0, .51, 0}},
		// kv 0, queue none of them longest, prefix 1/2 of the prompt at e1: (1+1)/3, (1+1+.5)/3
		{"nothing predicted", llmd.LatencyScorer{}, [3]scheduling.Prediction{}, "012", [3]float64{2. / 3, 2.5 / 3, 2. / 3}},
		{"nothing predicted of one", llmd.LatencyScorer{PrefixWeight: 1}, [3]scheduling.Prediction{ms(1, 1), {}, ms(1, 1)}, "012", [3]float64{0, .5, 0}},
	} {
		t.Run(row.name, func(t *testing.T) {
			pool := newPool(t, 0, 0, 0)
			for _, i := range row.busy {
				place, err := scheduling.New(pool, scheduling.Options{Profile: scheduling.Profile{Filters: []scheduling.Filter{only("e" + string(i))}}})
				require.NoError(t, err)
				_, err = place.Pick(context.Background(), &scheduling.Request{})
				require.NoError(t, err)
			}
			producers := []scheduling.Producer{told{"e0": row.told[0], "e1": row.told[1], "e2": row.told[2]}, cached{"e1": 500}}
			inside(t, pool, producers, request, func(c *scheduling.Cycle, slots []scheduling.Slot) {
				got := make([]float64, 3)
				row.scorer.Score(c, slots, got)
				require.InDeltaSlice(t, row.want[:], got, 1e-9, "%v", got)
			})
		})
	}
}

func TestHeadroomTier(t *testing.T) {
	inside(t, newPool(t, 0, 0, scheduling.Prefill), []scheduling.Producer{told{"e0": ms(100, 60), "e1": ms(1000, 50), "e2": ms(10, 90)}}, request,
		func(c *scheduling.Cycle, slots []scheduling.Slot) {
			ids := func(f llmd.HeadroomTier) (ids string) {
				for _, slot := range f.Filter(c, append([]scheduling.Slot(nil), slots...)) {
					ids += c.Endpoint(slot).ID
				}
				return ids
			}
			require.Equal(t, "e1e2", ids(llmd.HeadroomTier{ExploreNegative: -1}), "none is headroom enough, and nobody decodes on e2")
			require.Equal(t, "e0", ids(llmd.HeadroomTier{ExploreNegative: 1}))
			require.Equal(t, "e2", ids(llmd.HeadroomTier{SLO: llmd.SLO{BufferFactor: .5}, ExploreNegative: -1}))
			n := 0
			for range 10_000 {
				if ids(llmd.HeadroomTier{}) == "e0" {
					n++
				}
			}
			require.InDelta(t, 100, n, 50, "one in a hundred explores")
		})
}

func TestAdmitter(t *testing.T) {
	shed := request
	shed.Priority = -1
	late, good := told{"e0": ms(2000, 10), "e1": ms(100, 60)}, told{"e0": ms(2000, 10), "e1": ms(100, 10)}
	busy := map[string][2]float64{"e0": {1, .5}, "e1": {1, .5}} // running, KV usage
	for _, row := range []struct {
		name    string
		told    told
		states  map[string][2]float64
		request scheduling.Request
		left    int
	}{
		{"nobody would meet them", late, busy, shed, 0},
		{"somebody would", good, busy, shed, 2},
		{"not sheddable", late, busy, request, 2},
		{"no objectives", late, busy, scheduling.Request{Priority: -1}, 2},
		{"one is idle", late, map[string][2]float64{"e0": {1, .5}, "e1": {0, .5}}, shed, 2},
		{"one is cold", late, map[string][2]float64{"e0": {1, .5}, "e1": {1, .019}}, shed, 2},
		{"one has no prediction", told{"e0": ms(2000, 10)}, busy, shed, 2},
	} {
		t.Run(row.name, func(t *testing.T) {
			pool := newPool(t, 0, 0)
			for id, v := range row.states {
				require.NoError(t, pool.Report(scheduling.State{Endpoint: id, Values: []scheduling.Value{
					{Metric: scheduling.Running, Value: v[0]}, {Metric: scheduling.KVUsage, Value: v[1]},
				}}))
			}
			inside(t, pool, []scheduling.Producer{row.told}, row.request, func(c *scheduling.Cycle, slots []scheduling.Slot) {
				require.Len(t, llmd.Admitter{}.Filter(c, append([]scheduling.Slot(nil), slots...)), row.left)
			})
		})
	}
	require.ErrorIs(t, llmd.Admitter{}.Refusal(), latency.ErrObjectives)
}

// The strictest objective in flight bounds what others may do there, until it has ended.
func TestRunning(t *testing.T) {
	pool := newPool(t, 0)
	running := llmd.NewRunning()
	predictions := told{"e0": ms(100, 30)}
	s, err := scheduling.New(pool, scheduling.Options{Profile: scheduling.Profile{Producers: []scheduling.Producer{predictions, running}}})
	require.NoError(t, err)
	tier := llmd.LatencyScorer{SLO: llmd.SLO{Running: running}}
	headroom := func() (positive bool) {
		inside(t, pool, []scheduling.Producer{predictions}, request, func(c *scheduling.Cycle, slots []scheduling.Slot) {
			f := llmd.Admitter{SLO: tier.SLO}
			c.Request = &scheduling.Request{TTFT: request.TTFT, TPOT: request.TPOT, Priority: -1}
			positive = len(f.Filter(c, append([]scheduling.Slot(nil), slots...))) > 0
			c.Request = &request
		})
		return positive
	}
	require.True(t, headroom())
	strict := scheduling.Request{TPOT: 20 * time.Millisecond}
	a, err := s.Pick(context.Background(), &strict)
	require.NoError(t, err)
	b, err := s.Pick(context.Background(), &strict)
	require.NoError(t, err)
	require.False(t, headroom())
	running.Ended(&strict, &a.Predicted)
	require.False(t, headroom())
	running.Ended(&strict, &b.Predicted)
	require.True(t, headroom())
	running.Ended(&strict, &b.Predicted) // once too often
	_, err = s.Pick(context.Background(), &strict)
	require.NoError(t, err)
	require.False(t, headroom())
	pool.Remove("e0")
	require.NoError(t, pool.Upsert(scheduling.Endpoint{ID: "e0", Address: "10.0.0.9:80"}))
	require.True(t, headroom(), "another endpoint in the slot")
	running.Ended(&strict, &a.Predicted)
}

func TestObjectives(t *testing.T) {
	for _, row := range []struct {
		name       string
		header     map[string]string
		ttft, tpot time.Duration
	}{
		{"both", map[string]string{"X-Llm-D-Slo-Ttft-Ms": "250", "X-Llm-D-Slo-Tpot-Ms": "12.5"}, 250 * time.Millisecond, 12500 * time.Microsecond},
		{"older names", map[string]string{"X-Slo-Ttft-Ms": "1", "X-Slo-Tpot-Ms": "2"}, time.Millisecond, 2 * time.Millisecond},
		{"the newer name wins", map[string]string{"X-Llm-D-Slo-Ttft-Ms": "3", "X-Slo-Ttft-Ms": "1"}, 3 * time.Millisecond, 0},
		{"nonsense", map[string]string{"X-Llm-D-Slo-Ttft-Ms": "soon", "X-Llm-D-Slo-Tpot-Ms": "-1"}, 0, 0},
		{"not finite", map[string]string{"X-Llm-D-Slo-Ttft-Ms": "NaN", "X-Llm-D-Slo-Tpot-Ms": "+Inf"}, 0, 0},
		{"too large", map[string]string{"X-Llm-D-Slo-Ttft-Ms": "1e300"}, 0, 0},
		{"none", nil, 0, 0},
	} {
		t.Run(row.name, func(t *testing.T) {
			ttft, tpot := llmd.Objectives(func(name string) string { return row.header[name] })
			require.Equal(t, row.ttft, ttft)
			require.Equal(t, row.tpot, tpot)
		})
	}
}

func FuzzObjectives(f *testing.F) {
	f.Add("250", "1e3")
	f.Fuzz(func(t *testing.T, a, b string) {
		ttft, tpot := llmd.Objectives(func(name string) string {
			if name == llmd.TTFTHeader {
				return a
			}
			return b
		})
		require.True(t, ttft >= 0 && tpot >= 0)
	})
}

func TestParametersAreChecked(t *testing.T) {
	for _, v := range []scheduling.Validator{
		llmd.HeadroomTier{ExploreNegative: 2}, llmd.HeadroomTier{SLO: llmd.SLO{BufferFactor: -1}}, llmd.LatencyScorer{TTFTWeight: math.NaN()},
		llmd.LatencyScorer{Strategy: "none"}, llmd.LatencyScorer{QueueWeight: -1}, llmd.Admitter{SLO: llmd.SLO{BufferFactor: math.Inf(1)}},
	} {
		require.Error(t, v.Validate(), "%#v", v)
	}
	for _, v := range []scheduling.Validator{llmd.HeadroomTier{ExploreNegative: -1}, llmd.LatencyScorer{Strategy: llmd.Most}, llmd.Admitter{}} {
		require.NoError(t, v.Validate(), "%#v", v)
	}
}
