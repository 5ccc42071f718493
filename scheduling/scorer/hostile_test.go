package scorer_test

import (
	"context"
	"encoding/json"
	"fmt"
	"math"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/inferloom/inferloom/scheduling"
)

// Whatever engines, labels and requests say, every scorer gives every candidate a number from 0 to 1 or abstains, and what
// cannot be known from good metrics is abstained from.
func TestHostileInput(t *testing.T) {
	number := rapid.SampledFrom([]float64{0, 1, .5, 3, -1, 1e308, 5e-324, math.MaxFloat64, math.NaN(), math.Inf(1), math.Inf(-1)})
	text := rapid.SampledFrom([]string{"", "0", "-1", "NaN", "1e309", "0x10", "5-1", "0-99999999999999", "1-1", "a"})
	rapid.Check(t, func(t *rapid.T) {
		now := time.Unix(1000, 0)
		n := rapid.IntRange(1, 9).Draw(t, "endpoints")
		list := make([]scheduling.Endpoint, n)
		for i := range list {
			list[i] = scheduling.Endpoint{ID: fmt.Sprint("e", i), Address: fmt.Sprintf("10.0.0.%d:80", i+1), Model: "m", Adapters: []string{"a"}}
			list[i].Labels = map[string]string{}
			for _, label := range []string{"speed", "rack", "context", "topology.kubernetes.io/rack", "topology.kubernetes.io/region"} {
				if rapid.Bool().Draw(t, "labelled") {
					list[i].Labels[label] = text.Draw(t, label)
				}
			}
		}
		pool, err := scheduling.NewPool(scheduling.PoolOptions{Endpoints: list, Now: func() time.Time { return now }})
		require.NoError(t, err)
		for _, e := range list {
			st := scheduling.State{Endpoint: e.ID, At: now.Add(-time.Duration(rapid.IntRange(0, 10).Draw(t, "age")) * time.Second)}
			for m := range scheduling.Custom(1) {
				if rapid.Bool().Draw(t, "reported") {
					st.Values = append(st.Values, scheduling.Value{Metric: m, Value: number.Draw(t, "value")})
				}
			}
			if rapid.Bool().Draw(t, "adapters") {
				st.Adapters = &scheduling.AdapterState{Active: []string{text.Draw(t, "active"), "a"}, Waiting: []string{"a", "a"}, Max: rapid.IntRange(-1, 2).Draw(t, "max")}
			}
			require.NoError(t, pool.Report(st))
		}
		request := scheduling.Request{
			Model: "m", Adapter: rapid.SampledFrom([]string{"", "a"}).Draw(t, "adapter"), Session: text.Draw(t, "session"), Tenant: text.Draw(t, "tenant"),
			Pinned: rapid.SampledFrom([]string{"", "e0", "e99"}).Draw(t, "pinned"), Explain: true,
		}
		request.Prompt.Tokens = make([]uint32, rapid.SampledFrom([]int{0, 1, 100, 100_000}).Draw(t, "tokens"))
		if rapid.Bool().Draw(t, "header") {
			request.Header = func(string) string { return "a" }
		}
		if rapid.Bool().Draw(t, "peer") {
			request.Peer = &list[0]
		}
		var producers []scheduling.Producer
		if rapid.Bool().Draw(t, "match") {
			producers = []scheduling.Producer{cached{nothing: rapid.Bool().Draw(t, "nothing")}}
		}
		for _, s := range all() {
			sched, err := scheduling.New(pool, scheduling.Options{Profile: scheduling.Profile{Producers: producers, Scorers: []scheduling.Weighted{{Scorer: s}}}})
			require.NoError(t, err)
			for range 2 {
				d, err := sched.Pick(context.Background(), &request)
				require.NoError(t, err, name(s))
				require.True(t, d.Score >= 0 && d.Score <= 1, "%s: %v", name(s), d.Score)
				require.NotNil(t, pool.Snapshot().Endpoint(d.Slot()), name(s))
				require.Len(t, d.Explanation.Candidates, n, name(s))
				_, err = json.Marshal(d.Explanation)
				require.NoError(t, err, name(s))
				d.Done()
			}
		}
		require.Zero(t, pool.Total())
	})
}

func TestScorersDoNotAllocate(t *testing.T) {
	pool, request := busy(t, 100)
	for _, s := range all() {
		within(t, pool, request, cached{}, func(c *scheduling.Cycle, slots []scheduling.Slot, scores []float64) {
			require.Zero(t, testing.AllocsPerRun(100, func() {
				s.Score(c, slots, scores)
				if committer, ok := s.(scheduling.Committer); ok {
					committer.Commit(c, slots[0])
				}
			}), name(s))
		})
	}
}
