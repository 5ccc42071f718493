package scheduling_test

import (
	"context"
	"errors"
	"math"
	"math/rand/v2"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/inferloom/inferloom/scheduling"
	"github.com/stretchr/testify/require"
)

func endpoint(id string) scheduling.Endpoint {
	return scheduling.Endpoint{ID: id, Address: "10.0.0.1:8000", Model: "m"}
}

func newPool(t testing.TB, endpoints ...scheduling.Endpoint) *scheduling.Pool {
	t.Helper()
	pool, err := scheduling.NewPool(scheduling.PoolOptions{Endpoints: endpoints})
	require.NoError(t, err)
	return pool
}

func newScheduler(t testing.TB, pool *scheduling.Pool, p scheduling.Profile) *scheduling.Scheduler {
	t.Helper()
	s, err := scheduling.New(pool, scheduling.Options{Profile: p, Seed: 7})
	require.NoError(t, err)
	return s
}

func TestPoolNamesEveryProblem(t *testing.T) {
	_, err := scheduling.NewPool(scheduling.PoolOptions{MaxEndpoints: 2, Endpoints: []scheduling.Endpoint{
		{Address: "nowhere"}, {Address: ":80"}, {Address: "h:99999"}, {ID: "x", Address: "h:1", Rank: -1, BlockTokens: -2, CacheBlocks: -3, Role: 128},
		endpoint("a"), endpoint("a"), endpoint("b"), endpoint("c"),
	}})
	for _, want := range []string{
		`address "nowhere": want host:port`, `address ":80": empty host`, `port "99999" is not in 1..65535`,
		`endpoint "x": rank -1: negative`, "block tokens -2: negative", "cache blocks -3: negative", "role 0x80: unknown phase",
		`endpoint "a": given twice`, "3 endpoints: more than the pool's maximum of 2",
	} {
		require.ErrorContains(t, err, want)
	}
}

func TestSlotsAreStableAndReusedUnderANewGeneration(t *testing.T) {
	pool := newPool(t, endpoint("a"), endpoint("b"))
	b, _ := pool.Snapshot().Find("b")
	pool.Remove("a", "unknown")
	again, ok := pool.Snapshot().Find("b")
	require.True(t, ok)
	require.Equal(t, b, again)

	old := pool.Snapshot()
	require.NoError(t, pool.Upsert(endpoint("c")))
	c, _ := pool.Snapshot().Find("c")
	require.Zero(t, c, "the vacant slot is used first")
	require.Equal(t, uint32(2), pool.Snapshot().Generation(c))
	require.Nil(t, old.Endpoint(c), "a snapshot never changes")

	relabelled := endpoint("c")
	relabelled.Labels = map[string]string{"zone": "x"}
	require.NoError(t, pool.Upsert(relabelled))
	require.Equal(t, uint32(2), pool.Snapshot().Generation(c), "labels do not make another engine")
	moved := endpoint("c")
	moved.Address = "10.0.0.2:8000"
	require.NoError(t, pool.Upsert(moved))
	c, _ = pool.Snapshot().Find("c")
	require.Equal(t, uint32(3), pool.Snapshot().Generation(c), "another address does")
}

func TestSetMakesThePoolEqual(t *testing.T) {
	pool := newPool(t, endpoint("a"), endpoint("b"))
	require.NoError(t, pool.Set([]scheduling.Endpoint{endpoint("b"), endpoint("c")}))
	var ids []string
	for _, slot := range pool.Snapshot().Live() {
		ids = append(ids, pool.Snapshot().Endpoint(slot).ID)
	}
	require.ElementsMatch(t, []string{"b", "c"}, ids)
	require.Error(t, pool.Set([]scheduling.Endpoint{{Address: "bad"}}))
	require.Len(t, pool.Snapshot().Live(), 2, "an invalid set changes nothing")
}

func TestWatchSumsUpChanges(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		pool := newPool(t, endpoint("a"))
		ctx, cancel := context.WithCancel(context.Background())
		var seen []string
		var mu sync.Mutex
		done := make(chan struct{})
		go func() {
			defer close(done)
			for c := range pool.Watch(ctx) {
				mu.Lock()
				seen = append(seen, [...]string{"+", "~", "-"}[c.Kind]+c.Endpoint.ID)
				mu.Unlock()
			}
		}()
		step := func(want ...string) {
			t.Helper()
			synctest.Wait()
			mu.Lock()
			defer mu.Unlock()
			require.Equal(t, want, seen)
			seen = nil
		}
		step("+a")
		require.NoError(t, pool.Report(scheduling.State{Endpoint: "a", Values: []scheduling.Value{{scheduling.Waiting, 1}}}))
		step() // metrics are no change
		require.NoError(t, pool.Report(scheduling.State{Endpoint: "a", BlockTokens: 16}))
		step("~a")
		require.NoError(t, pool.Set([]scheduling.Endpoint{endpoint("b")}))
		step("-a", "+b")
		cancel()
		<-done
	})
}

func TestReservationEndsExactlyOnce(t *testing.T) {
	pool := newPool(t, endpoint("a"))
	s := newScheduler(t, pool, scheduling.Profile{})
	req := &scheduling.Request{Model: "m", Prompt: scheduling.Prompt{Tokens: make([]uint32, 100)}}
	d, err := s.Pick(context.Background(), req)
	require.NoError(t, err)
	require.Equal(t, scheduling.Load{Requests: 1, PrefillTokens: 100, KVTokens: 100}, pool.InFlight(0))
	d.FirstToken()
	d.FirstToken()
	d.Tokens(5)
	require.Equal(t, scheduling.Load{Requests: 1, KVTokens: 105}, pool.InFlight(0))

	stale := d.Reservation
	d.Done()
	other, err := s.Pick(context.Background(), req) // likely reuses the account
	require.NoError(t, err)
	d.Done()
	stale.Done()
	stale.Tokens(7)
	stale.FirstToken()
	require.Equal(t, scheduling.Load{Requests: 1, PrefillTokens: 100, KVTokens: 100}, pool.InFlight(0))
	other.Done()
	require.Zero(t, pool.InFlight(0))
	scheduling.Reservation{}.Done()
}

func TestReplacedEndpointIsNotCharged(t *testing.T) {
	pool := newPool(t, endpoint("a"))
	s := newScheduler(t, pool, scheduling.Profile{})
	req := &scheduling.Request{Prompt: scheduling.Prompt{Text: []byte("hello")}}
	old, err := s.Pick(context.Background(), req)
	require.NoError(t, err)
	pool.Remove("a")
	require.NoError(t, pool.Upsert(endpoint("b")))
	require.Zero(t, pool.InFlight(0))
	d, err := s.Pick(context.Background(), req)
	require.NoError(t, err)
	old.FirstToken()
	old.Tokens(3)
	old.Done()
	require.Equal(t, scheduling.Load{Requests: 1, PrefillTokens: 2, KVTokens: 2}, pool.InFlight(0))
	d.Done()
}

// Whatever happens to requests and endpoints at the same time, the ledger ends at zero.
func TestLedgerReturnsToZero(t *testing.T) {
	ids := []string{"a", "b", "c", "d"}
	pool := newPool(t, endpoint("a"), endpoint("b"), endpoint("c"), endpoint("d"))
	s := newScheduler(t, pool, scheduling.Profile{})
	stop := make(chan struct{})
	var churn, work sync.WaitGroup
	churn.Go(func() {
		rng := rand.New(rand.NewPCG(1, 1))
		for {
			select {
			case <-stop:
				return
			default:
				id := ids[1+rng.IntN(3)]
				pool.Remove(id)
				_ = pool.Upsert(endpoint(id))
				_ = pool.Report(scheduling.State{Endpoint: id, Values: []scheduling.Value{{scheduling.Waiting, 1}}})
			}
		}
	})
	for g := range uint64(4) {
		work.Go(func() {
			rng := rand.New(rand.NewPCG(g, 2))
			for range 5000 {
				d, err := s.Pick(context.Background(), &scheduling.Request{Model: "m", Prompt: scheduling.Prompt{Tokens: make([]uint32, rng.IntN(500))}})
				if err != nil {
					t.Error(err)
					return
				}
				var each sync.WaitGroup
				reservation := d.Reservation
				each.Go(func() { reservation.FirstToken(); reservation.Tokens(3) })
				if rng.IntN(3) == 0 {
					d.Next()
				}
				d.Done()
				each.Wait()
				reservation.Done()
			}
		})
	}
	work.Wait()
	close(stop)
	churn.Wait()
	require.Zero(t, pool.Total())
}

func TestLedgerAtItsEnd(t *testing.T) {
	pool := newPool(t, endpoint("a"))
	s := newScheduler(t, pool, scheduling.Profile{})
	req := &scheduling.Request{Prompt: scheduling.Prompt{Chains: []scheduling.Chain{{BlockTokens: math.MaxInt32, Hashes: make([]uint64, 2)}}}}
	var open []scheduling.Decision
	for range 1<<16 - 1 {
		d, err := s.Pick(context.Background(), req)
		require.NoError(t, err)
		open = append(open, d)
	}
	require.Equal(t, 1<<16-1, pool.InFlight(0).Requests)
	require.Equal(t, math.MaxUint32, pool.InFlight(0).PrefillTokens)
	_, err := s.Pick(context.Background(), req)
	require.ErrorIs(t, err, scheduling.ErrNoEndpoint, "a full endpoint takes no more")
	for _, d := range open {
		d.Done()
	}
	require.Zero(t, pool.InFlight(0))
}

func TestReport(t *testing.T) {
	pool := newPool(t, endpoint("a"))
	at := time.Unix(100, 0)
	err := pool.Report(
		scheduling.State{Endpoint: "a", At: at, Values: []scheduling.Value{
			{scheduling.Waiting, 3}, {scheduling.Running, math.NaN()}, {scheduling.KVUsage, -1}, {200, 5},
		}},
		scheduling.State{Endpoint: "gone"},
	)
	require.ErrorIs(t, err, scheduling.ErrUnknownEndpoint)
	require.ErrorContains(t, err, `"gone"`)
	v, when, ok := pool.Snapshot().Observed(0, scheduling.Waiting)
	require.True(t, ok)
	require.InDelta(t, 3, v, 0)
	require.True(t, at.Equal(when))
	for _, m := range []scheduling.Metric{scheduling.Running, scheduling.KVUsage, 200} {
		_, _, ok := pool.Snapshot().Observed(0, m)
		require.False(t, ok, "%v was never validly read", m)
	}
	require.Equal(t, "kv_usage", scheduling.KVUsage.String())
}

func TestModels(t *testing.T) {
	lora := endpoint("b")
	lora.Adapters = []string{"poet"}
	pool, err := scheduling.NewPool(scheduling.PoolOptions{Endpoints: []scheduling.Endpoint{endpoint("a"), lora}, Models: []string{"cold"}})
	require.NoError(t, err)
	require.Equal(t, []string{"cold", "m", "poet"}, pool.Snapshot().Models())
	model, adapter, ok := pool.Snapshot().Resolve("poet")
	require.Equal(t, []any{"m", "poet", true}, []any{model, adapter, ok})
	_, _, ok = pool.Snapshot().Resolve("x")
	require.False(t, ok)

	s := newScheduler(t, pool, scheduling.Profile{})
	pick := func(model, adapter string) (string, error) {
		d, err := s.Pick(context.Background(), &scheduling.Request{Model: model, Adapter: adapter})
		if err != nil {
			return "", err
		}
		defer d.Done()
		return d.Endpoint.ID, nil
	}
	id, err := pick("m", "poet")
	require.NoError(t, err)
	require.Equal(t, "b", id)
	_, err = pick("cold", "")
	require.ErrorIs(t, err, scheduling.ErrNoEndpoint)
	_, err = pick("x", "")
	require.ErrorIs(t, err, scheduling.ErrUnknownModel)
	require.EqualError(t, err, `unknown model for model "x"`)
	_, err = pick("m", "y")
	require.ErrorIs(t, err, scheduling.ErrUnknownModel)

	require.NoError(t, pool.Upsert(scheduling.Endpoint{ID: "any", Address: "h:1"}))
	for _, name := range []string{"x", "cold"} {
		id, err = pick(name, "")
		require.NoError(t, err)
		require.Equal(t, "any", id, "an endpoint without a model serves every one")
	}
	var pickErr *scheduling.PickError
	require.False(t, errors.As(err, &pickErr))
}

func TestReportedGeometryOutlastsDiscovery(t *testing.T) {
	e := scheduling.Endpoint{ID: "a", Address: "h:1"}
	pool, err := scheduling.NewPool(scheduling.PoolOptions{Endpoints: []scheduling.Endpoint{e}})
	require.NoError(t, err)
	require.NoError(t, pool.Report(scheduling.State{Endpoint: "a", BlockTokens: 16, CacheBlocks: 100}))
	layout := pool.Snapshot().Layout()
	require.NoError(t, pool.Set([]scheduling.Endpoint{e}))
	require.Equal(t, layout, pool.Snapshot().Layout(), "nothing is new")
	e.BlockTokens = 32
	require.NoError(t, pool.Upsert(e))
	require.Equal(t, 32, pool.Snapshot().Endpoint(0).BlockTokens, "what is said counts")
	e.Address = "h:2"
	e.BlockTokens = 0
	require.NoError(t, pool.Upsert(e))
	slot, _ := pool.Snapshot().Find("a")
	require.Zero(t, pool.Snapshot().Endpoint(slot).BlockTokens, "another engine has its own")
}

func TestSnapshotsDoNotChange(t *testing.T) {
	pool, err := scheduling.NewPool(scheduling.PoolOptions{Endpoints: []scheduling.Endpoint{{ID: "a", Address: "h:1"}, {ID: "b", Address: "h:2"}}})
	require.NoError(t, err)
	report := func(v float64) *scheduling.Snapshot {
		require.NoError(t, pool.Report(scheduling.State{
			Endpoint: "a", Values: []scheduling.Value{{scheduling.Waiting, v}, {scheduling.Custom(7), v}}, Adapters: &scheduling.AdapterState{Active: []string{"x"}, Max: int(v)}, CacheBlocks: int(v),
		}))
		return pool.Snapshot()
	}
	value := func(s *scheduling.Snapshot, m scheduling.Metric) float64 {
		v, _, ok := s.Observed(0, m)
		require.True(t, ok)
		return v
	}
	first := report(1)
	second := report(2)
	require.NoError(t, pool.Report(scheduling.State{Endpoint: "b", Values: []scheduling.Value{{scheduling.Running, 3}}}))
	for v, s := range map[float64]*scheduling.Snapshot{1: first, 2: second} {
		require.Equal(t, v, value(s, scheduling.Waiting))
		require.Equal(t, v, value(s, scheduling.Custom(7)))
		require.Equal(t, int(v), s.Endpoint(0).CacheBlocks)
		_, _, ok := s.Observed(1, scheduling.Running)
		require.False(t, ok)
	}
	require.Panics(t, func() { scheduling.Custom(scheduling.CustomMetrics) })
}
