package prefix_test

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/inferloom/inferloom/kvcache"
	"github.com/inferloom/inferloom/kvcache/events"
	"github.com/inferloom/inferloom/scheduling"
	"github.com/inferloom/inferloom/scheduling/prefix"
)

// matched is a scorer that keeps what a pick was told.
type matched struct{ cached []int32 }

func (m *matched) Score(c *scheduling.Cycle, _ []scheduling.Slot, _ []float64) {
	m.cached = append(m.cached[:0], c.Match.Cached...)
}

// What was routed is believed until an event about it, or time, settles it; what engines say counts in the tier where it is.
func TestEventsSettleGuesses(t *testing.T) {
	pool, err := scheduling.NewPool(scheduling.PoolOptions{Endpoints: []scheduling.Endpoint{
		{ID: "a", Address: "10.0.0.1:80", Model: "m", BlockTokens: 4}, {ID: "b", Address: "10.0.0.2:80", Model: "m", BlockTokens: 4},
	}})
	require.NoError(t, err)
	now := time.Unix(0, 0)
	index, err := kvcache.New(kvcache.Options{MaxBytes: 8 << 20, GuessFor: 2 * time.Second, Now: func() time.Time { return now }})
	require.NoError(t, err)
	costs := &kvcache.Costs{Prefill: time.Millisecond, KVBytes: 1000}
	costs.From[kvcache.CPU] = kvcache.Link{BytesPerSecond: 2_000_000} // half a prefill
	seen := &matched{}
	s, err := scheduling.New(pool, scheduling.Options{Profile: scheduling.Profile{
		Producers: []scheduling.Producer{&prefix.Producer{Index: index, Costs: costs}},
		Filters:   []scheduling.Filter{only("a")},
		Scorers:   []scheduling.Weighted{{Scorer: seen, Weight: 1}},
	}})
	require.NoError(t, err)
	tokens := []uint32{1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12}
	pick := func(want ...int32) {
		t.Helper()
		d, err := s.Pick(context.Background(), &scheduling.Request{Model: "m", Prompt: scheduling.Prompt{Tokens: tokens}})
		require.NoError(t, err)
		d.Done()
		require.Equal(t, want, seen.cached)
	}
	pick(0, 0)
	pick(12, 0) // as the first pick sent it there
	snap := pool.Snapshot()
	b := kvcache.Pod{ID: 1, Generation: snap.Generation(1)}
	stored := events.Event{Kind: events.Stored, Tier: events.CPU, Group: -1, BlockTokens: 4, Hashes: []uint64{7, 8}, Tokens: tokens[:8]}
	index.Apply(b, &stored)
	pick(12, 4)
	a := kvcache.Pod{ID: 0, Generation: snap.Generation(0)}
	index.Apply(a, &events.Event{Kind: events.Stored, Tier: events.GPU, Group: -1, BlockTokens: 4, Hashes: []uint64{7, 8, 9}, Tokens: tokens})
	index.Apply(a, &events.Event{Kind: events.Removed, Tier: events.GPU, Group: -1, Hashes: []uint64{9}})
	pick(8, 4)
	now = now.Add(3 * time.Second)
	index.Expire()
	pick(8, 4)
	require.NoError(t, pool.Upsert(scheduling.Endpoint{ID: "b", Address: "10.9.9.9:80", Model: "m", BlockTokens: 4}))
	pick(12, 0) // a was sent it again; b is another engine

	_, err = scheduling.New(pool, scheduling.Options{Profile: scheduling.Profile{Producers: []scheduling.Producer{
		&prefix.Producer{Costs: &kvcache.Costs{}},
	}}})
	require.ErrorContains(t, err, "index: nil")
	require.ErrorContains(t, err, "costs: prefill 0s")
}
