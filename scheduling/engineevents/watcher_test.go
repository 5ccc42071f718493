package engineevents

import (
	"context"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/inferloom/inferloom/kvcache"
	"github.com/inferloom/inferloom/kvcache/follow"
	"github.com/inferloom/inferloom/scheduling"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestFollowsThePool(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		pool, err := scheduling.NewPool(scheduling.PoolOptions{})
		require.NoError(t, err)
		index, err := kvcache.New(kvcache.Options{})
		require.NoError(t, err)
		f, err := follow.New(follow.Options{Index: index})
		require.NoError(t, err)
		w, err := New(Options{Pool: pool, Follower: f, Port: 5557, ReplayPort: 5600, Engine: func(e *scheduling.Endpoint, into *follow.Engine) bool {
			into.Topic = "kv@"
			return e.Labels["kv"] != "off"
		}})
		require.NoError(t, err)
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- w.Run(ctx) }()
		synctest.Wait()
		require.Empty(t, f.Engines())

		endpoints := []scheduling.Endpoint{
			{Address: "10.0.0.1:8000", Model: "m", BlockTokens: 16},
			{Address: "10.0.0.2:8000", Model: "m", Rank: 3},
			{ID: "elsewhere", Address: "10.0.0.3:8000", Model: "m", Labels: map[string]string{EventsLabel: "tcp://10.9.9.9:1", ReplayLabel: "tcp://10.9.9.9:2"}},
			{Address: "10.0.0.4:8000", Model: "m", Labels: map[string]string{"kv": "off"}},
			{Address: "10.0.0.5:8000"}, // serves any model: its events say nothing about which
		}
		require.NoError(t, pool.Set(endpoints))
		synctest.Wait()
		slot := func(id string) kvcache.Pod {
			s := pool.Snapshot()
			at, ok := s.Find(id)
			require.True(t, ok)
			return kvcache.Pod{ID: at, Generation: s.Generation(at)}
		}
		want := []follow.Engine{
			{Name: "10.0.0.1:8000", Pod: slot("10.0.0.1:8000"), Endpoint: "tcp://10.0.0.1:5557", Replay: "tcp://10.0.0.1:5600", Topic: "kv@", Model: "m", BlockTokens: 16, Capacity: 32768},
			{Name: "10.0.0.2:8000#3", Pod: slot("10.0.0.2:8000#3"), Endpoint: "tcp://10.0.0.2:5560", Replay: "tcp://10.0.0.2:5603", Topic: "kv@", Rank: 3, Model: "m", Capacity: 32768},
			{Name: "elsewhere", Pod: slot("elsewhere"), Endpoint: "tcp://10.9.9.9:1", Replay: "tcp://10.9.9.9:2", Topic: "kv@", Model: "m", Capacity: 32768},
		}
		require.Equal(t, want, f.Engines())

		require.NoError(t, pool.Report(scheduling.State{Endpoint: "10.0.0.2:8000#3", BlockTokens: 32, CacheBlocks: 100}))
		synctest.Wait()
		require.Equal(t, want, f.Engines(), "a geometry that is reported is no reason to begin anew")

		pool.Remove("10.0.0.1:8000")
		require.NoError(t, pool.Upsert(endpoints[0])) // back at once, as another
		synctest.Wait()
		want[0].Pod = slot("10.0.0.1:8000")
		require.Equal(t, want, f.Engines())
		require.NoError(t, pool.Set(nil))
		synctest.Wait()
		require.Empty(t, f.Engines())
		cancel()
		require.ErrorIs(t, <-done, context.Canceled)
	})
}

func TestInvalid(t *testing.T) {
	_, err := New(Options{Port: -1, ReplayPort: 70000})
	for _, want := range []string{"Pool: nil", "Follower: nil", "Port: -1", "ReplayPort: 70000"} {
		require.ErrorContains(t, err, want)
	}
}
