package scorer_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/inferloom/inferloom/scheduling"
	"github.com/inferloom/inferloom/scheduling/scorer"
)

// A session stays where it is bound: a map of every session with the endpoint and the time of its last request says where.
func TestSessionBindingEqualsReference(t *testing.T) {
	type bound struct {
		id   string
		life int // how often the endpoint had come when it was bound
		used time.Time
	}
	rapid.Check(t, func(t *rapid.T) {
		const ttl = 10 * time.Second
		now := time.Unix(1000, 0)
		var list []scheduling.Endpoint
		for i := range 4 {
			list = append(list, scheduling.Endpoint{ID: fmt.Sprint(i), Address: fmt.Sprintf("10.0.0.%d:80", i+1)})
		}
		pool, err := scheduling.NewPool(scheduling.PoolOptions{Endpoints: list, Now: func() time.Time { return now }})
		require.NoError(t, err)
		binding := &scorer.SessionBinding{TTLSeconds: ttl.Seconds(), Headers: []string{"x", "y"}}
		hard, err := scheduling.New(pool, scheduling.Options{Profile: scheduling.Profile{Filters: []scheduling.Filter{binding}}})
		require.NoError(t, err)
		soft, err := scheduling.New(pool, scheduling.Options{Profile: scheduling.Profile{Scorers: []scheduling.Weighted{{Scorer: binding}}}})
		require.NoError(t, err)
		sessions, lives, gone := map[string]bound{}, map[string]int{}, map[string]bool{}
		for range rapid.IntRange(1, 60).Draw(t, "steps") {
			now = now.Add(time.Duration(rapid.SampledFrom([]int{0, 1, 1, 4, 11, 25}).Draw(t, "seconds")) * time.Second)
			if e := list[rapid.IntRange(0, 3).Draw(t, "who")]; e.ID != "0" && rapid.IntRange(0, 4).Draw(t, "flap") == 0 {
				if gone[e.ID] = !gone[e.ID]; gone[e.ID] {
					pool.Remove(e.ID)
				} else {
					lives[e.ID]++
					require.NoError(t, pool.Upsert(e))
				}
			}
			session := fmt.Sprint("s", rapid.IntRange(0, 5).Draw(t, "session"))
			s := []*scheduling.Scheduler{hard, soft}[rapid.IntRange(0, 1).Draw(t, "soft")]
			d, err := s.Pick(context.Background(), &scheduling.Request{Header: func(h string) string { return map[string]string{"y": session}[h] }})
			require.NoError(t, err)
			was, ok := sessions[session]
			if ok && now.Sub(was.used) <= ttl && !gone[was.id] && lives[was.id] == was.life {
				require.Equal(t, was.id, d.Endpoint.ID)
			}
			sessions[session] = bound{d.Endpoint.ID, lives[d.Endpoint.ID], now}
			d.Done()
		}
	})
}

func TestSessionBinding(t *testing.T) {
	pool := newPool(t, scheduling.Endpoint{ID: "a"}, scheduling.Endpoint{ID: "b"})
	binding := new(scorer.SessionBinding)
	bind := newScheduler(t, pool, scheduling.Profile{Filters: []scheduling.Filter{onlyID("b"), binding}})
	d, err := bind.Pick(context.Background(), &scheduling.Request{Session: "s"})
	require.NoError(t, err)
	d.Done()
	next := &scorer.SessionBinding{TTLSeconds: 5}
	next.Inherit(binding)
	s := newScheduler(t, pool, scheduling.Profile{Scorers: []scheduling.Weighted{{Scorer: next}}})
	require.Equal(t, map[string]float64{"a": 0, "b": 1}, explained(t, s, scheduling.Request{Session: "s"}))
	require.Equal(t, map[string]float64{"a": abstained, "b": abstained}, explained(t, s, scheduling.Request{Session: "other"}))
	require.Equal(t, map[string]float64{"a": abstained, "b": abstained}, explained(t, s, scheduling.Request{}))
	outvoted := newScheduler(t, pool, scheduling.Profile{Filters: []scheduling.Filter{onlyID("a")}, Scorers: []scheduling.Weighted{{Scorer: next}}})
	d, err = outvoted.Pick(context.Background(), &scheduling.Request{Session: "s"})
	require.NoError(t, err)
	d.Done()
	require.Equal(t, map[string]float64{"a": 0, "b": 1}, explained(t, s, scheduling.Request{Session: "s"}), "going elsewhere once does not move it")
	require.ErrorContains(t, (&scorer.SessionBinding{TTLSeconds: -1}).Validate(), "ttlSeconds -1")
}
