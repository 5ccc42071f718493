package peers

import (
	"maps"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
)

// queue is the flow control of one replica, as a fluid: tenants that always have something waiting are served by start-time
// fair queueing, at the rate that the replica's share of the fleet allows.
type queue struct {
	mu      sync.Mutex
	weights map[string]float64
	served  map[string]int64   // here
	tags    map[string]float64 // service by weight, that of other replicas included
	share   float64
	used    float64
	highest float64 // share that there ever was
}

func newQueue(weights map[string]float64) *queue {
	q := &queue{weights: weights, served: map[string]int64{}, tags: map[string]float64{}}
	for name := range weights {
		q.tags[name] = 0
	}
	return q
}

func (q *queue) Tenants(dst []Tenant) []Tenant {
	q.mu.Lock()
	defer q.mu.Unlock()
	for name, weight := range q.weights {
		dst = append(dst, Tenant{Name: name, Weight: weight, Served: q.served[name], Queued: 1000})
	}
	return dst
}

func (q *queue) ServedElsewhere(tenant string, cost int64) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.tags[tenant] += float64(cost) / q.weights[tenant]
}

func (q *queue) Used() float64 {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.used
}

func (q *queue) SetShare(share float64) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.share = share
	q.highest = max(q.highest, share)
}

func (q *queue) shareNow() float64 {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.share
}

// serve gives what waits so much service of the fleet's.
func (q *queue) serve(fleet float64) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.used = q.share
	for range int(fleet * q.share) {
		least := ""
		for name, tag := range q.tags {
			if least == "" || tag < q.tags[least] || tag == q.tags[least] && name < least {
				least = name
			}
		}
		q.served[least]++
		q.tags[least] += 1 / q.weights[least]
	}
}

func (q *queue) totals() map[string]int64 {
	q.mu.Lock()
	defer q.mu.Unlock()
	return maps.Clone(q.served)
}

// All of tenant x's requests enter at one of three replicas, y's at all of them. The shares of the whole are those of the
// weights within 5 %.
func TestWeightsHoldAcrossReplicas(t *testing.T) {
	for name, weights := range map[string]map[string]float64{
		"equal": {"x": 1, "y": 1}, "three to one": {"x": 3, "y": 1}, "one to three": {"x": 1, "y": 3},
	} {
		t.Run(name, func(t *testing.T) {
			queues := []*queue{newQueue(weights), newQueue(map[string]float64{"y": weights["y"]}), newQueue(map[string]float64{"y": weights["y"]})}
			o := func(i int) Options { return Options{Fairness: queues[i], Capacity: queues[i], Replicas: 3} }
			a := start(t, "a", o(0))
			start(t, "b", o(1), a)
			start(t, "c", o(2), a)
			sum := func() (x, y float64) {
				for _, q := range queues {
					x += float64(q.totals()["x"])
					y += float64(q.totals()["y"])
				}
				return x, y
			}
			const fleet = 3000 // units of service each step
			step := func() {
				for _, q := range queues {
					q.serve(fleet)
				}
			}
			entitled := weights["x"] / (weights["x"] + weights["y"])
			want := entitled + (1-entitled)/3
			eventually(t, "a has borrowed what belongs there", func() bool {
				step()
				share := queues[0].shareNow()
				return share > want-.03 && share < want+.03
			})
			x0, y0 := sum()
			eventually(t, "much more was served", func() bool {
				step()
				x, y := sum()
				return x+y-x0-y0 > 150*fleet*.9
			})
			x1, y1 := sum()
			got := (x1 - x0) / (x1 - x0 + y1 - y0)
			t.Logf("tenant x got %.2f %% of the service, entitled to %.2f %%", 100*got, 100*entitled)
			require.InEpsilon(t, entitled, got, .05)
		})
	}
}

// In a partition a replica falls back to what it owns, and has what it borrowed again when the partition is over.
func TestPartitionLeavesOwnedShares(t *testing.T) {
	weights := map[string]float64{"x": 1}
	busy, idle := newQueue(weights), newQueue(map[string]float64{})
	a := start(t, "a", Options{Fairness: busy, Capacity: busy})
	b := start(t, "b", Options{Fairness: idle, Capacity: idle}, a)
	eventually(t, "a borrows nearly all", func() bool {
		busy.serve(100)
		return busy.shareNow() > .9 && len(b.Members()) == 1
	})
	require.Less(t, idle.shareNow(), .1)
	a.wire.block(b)
	b.wire.block(a)
	for _, q := range []*queue{busy, idle} {
		eventually(t, "each has what it owns", func() bool { return q.shareNow() == .5 })
	}
	a.wire.block()
	b.wire.block()
	eventually(t, "a borrows again", func() bool { return busy.shareNow() > .9 })
	b.Close()
	eventually(t, "all is a's", func() bool { return busy.shareNow() == 1 })
	require.InDelta(t, 1, a.Share(), 1e-9)
}
