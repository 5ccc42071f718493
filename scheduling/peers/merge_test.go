package peers

import (
	"math/rand/v2"
	"testing"
	"time"

	"github.com/hashicorp/memberlist"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/inferloom/inferloom/scheduling"
)

// heard makes a replica without a network that knows of one other.
func heard(t require.TestingT) (*Peers, *peer) {
	pool, err := scheduling.NewPool(scheduling.PoolOptions{Endpoints: fleet})
	require.NoError(t, err)
	o := Options{Name: "me", Pool: pool, MaxTenants: 3}.withDefaults()
	p := &Peers{o: o, wake: make(chan struct{}, 1), peers: map[string]*peer{}, leases: newLedger()}
	q := newPeer("other")
	q.member = true
	p.peers["other"] = q
	return p, q
}

// The latest word counts, in whatever order and however often messages come.
func TestMergingIsCommutativeAndIdempotent(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		random := rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "seed"), 1))
		var messages [][]byte
		last := map[uint64]loadRecord{}
		served := uint64(0)
		var lease float64
		n := rapid.IntRange(1, 20).Draw(t, "messages")
		for i := range n {
			data := (&header{"other", 7, uint64(i + 1)}).append(nil)
			r := loadRecord{hashOf(fleet[random.IntN(2)].ID), random.Uint64N(9), random.Uint64N(9), random.Uint64N(9)}
			last[r.endpoint] = r
			served += random.Uint64N(100)
			lease = random.Float64()
			data = r.append(data)
			data = (&tenantRecord{5, served, uint64(i), 1}).append(data)
			messages = append(messages, (&leaseRecord{hashOf("me"), lease, 60_000}).append(data))
		}
		for range 2 {
			messages = append(messages, messages[random.IntN(n)])
		}
		random.Shuffle(len(messages), func(i, j int) { messages[i], messages[j] = messages[j], messages[i] })
		p, q := heard(t)
		for _, m := range messages {
			p.hear(m)
		}
		got := map[uint64]loadRecord{}
		for endpoint, l := range q.loads {
			got[endpoint] = l.record
		}
		require.Equal(t, last, got)
		require.Equal(t, served, q.tenants[5].record.served)
		require.Equal(t, lease, p.leases.in(time.Now()))
		require.Zero(t, p.Stats().Refused)

		want := scheduling.Load{}
		for _, l := range last {
			want.Requests += int(l.requests)
		}
		p.sum(time.Now())
		require.Equal(t, want.Requests, p.o.Pool.Remote(0).Requests+p.o.Pool.Remote(1).Requests)
		p.sum(time.Now().Add(time.Hour))
		require.Zero(t, p.o.Pool.Remote(0).Requests+p.o.Pool.Remote(1).Requests, "it has not been heard for long")
	})
}

// What makes no sense, or comes from nobody known or an earlier life, changes nothing; memory is bounded.
func TestHearsOnlyPeers(t *testing.T) {
	p, q := heard(t)
	load := func(origin string, incarnation, sequence, requests uint64) []byte {
		return (&loadRecord{hashOf("e0"), requests, 0, 0}).append((&header{origin, incarnation, sequence}).append(nil))
	}
	p.hear(load("other", 7, 5, 1))
	p.hear(load("stranger", 7, 6, 2))
	p.hear(load("other", 6, 9, 3)) // of an earlier life
	p.hear([]byte{9})
	p.hear(append(load("other", 7, 7, 4), 1)) // cut off behind what is good
	require.Equal(t, uint64(4), q.loads[hashOf("e0")].record.requests)
	require.Equal(t, Stats{5, 4}, p.Stats())
	p.hear(load("other", 8, 1, 9)) // it has begun again
	require.Equal(t, uint64(9), q.loads[hashOf("e0")].record.requests)
	for i := range uint64(10_000) {
		data := (&header{"other", 8, i + 2}).append(nil)
		data = (&loadRecord{i, 1, 0, 0}).append(data)
		p.hear((&tenantRecord{i, 1, 1, 1}).append(data))
	}
	require.LessOrEqual(t, len(q.tenants), 3)
	require.LessOrEqual(t, len(q.loads), 2*p.o.Pool.MaxEndpoints())
	p.hear(appendLeave((&header{"other", 8, 20_000}).append(nil)))
	require.Len(t, p.peers, 1, "memberlist still has it")
	delegate{p}.NotifyLeave(nodeNamed("other"))
	require.Empty(t, p.peers)
}

func nodeNamed(name string) *memberlist.Node { return &memberlist.Node{Name: name} }
