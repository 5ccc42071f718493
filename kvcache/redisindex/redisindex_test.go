package redisindex

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
	"pgregory.net/rapid"

	"github.com/inferloom/inferloom/kvcache/events"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// server starts Redis or Valkey on a socket of its own and returns a client. Without either the test is passed over, unless
// REDIS_SERVER says that one must be there.
func server(t testing.TB) *redis.Client {
	t.Helper()
	program := os.Getenv("REDIS_SERVER")
	for _, name := range []string{"redis-server", "valkey-server"} {
		if path, err := exec.LookPath(name); program == "" && err == nil {
			program = path
		}
	}
	if program == "" {
		t.Skip("neither redis-server nor valkey-server is installed")
	}
	folder, err := os.MkdirTemp("", "redis") // a test's own folder can have a path too long for a socket
	require.NoError(t, err)
	t.Cleanup(func() { _ = os.RemoveAll(folder) })
	socket := filepath.Join(folder, "s")
	cmd := exec.Command(program, "--port", "0", "--unixsocket", socket, "--save", "", "--appendonly", "no", "--dir", folder)
	require.NoError(t, cmd.Start())
	t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	client := redis.NewClient(&redis.Options{Network: "unix", Addr: socket, MaxRetries: -1})
	t.Cleanup(func() { _ = client.Close() })
	require.Eventually(t, func() bool { return client.Ping(context.Background()).Err() == nil }, 10*time.Second, 5*time.Millisecond)
	return client
}

func apply(p *Pod, list ...events.Event) {
	p.Apply(&events.Message{Batch: &events.Batch{Events: list}})
}

func match(t require.TestingT, x *Index, hashes ...uint64) map[string]Holder {
	holders, err := x.Match(context.Background(), "m", hashes)
	require.NoError(t, err)
	all := map[string]Holder{}
	for _, h := range holders {
		all[h.Pod] = h
	}
	return all
}

func stored(tier events.Tier, hashes ...uint64) events.Event {
	return events.Event{Kind: events.Stored, Tier: tier, Hashes: hashes}
}

func removed(tier events.Tier, hashes ...uint64) events.Event {
	return events.Event{Kind: events.Removed, Tier: tier, Hashes: hashes}
}

func TestMatch(t *testing.T) {
	x, err := New(Options{Client: server(t)})
	require.NoError(t, err)
	a, err := x.Open(t.Context(), "m", "a")
	require.NoError(t, err)
	b, err := x.Open(t.Context(), "m", "b")
	require.NoError(t, err)
	other, err := x.Open(t.Context(), "other model", "a")
	require.NoError(t, err)

	chain := make([]uint64, 100)
	for i := range chain {
		chain[i] = uint64(i + 1)
	}
	apply(a, stored(events.GPU, chain[:40]...), stored(events.CPU, chain[30:60]...))
	apply(b, stored(events.Disk, chain...), stored(events.GPU, chain[1:]...))
	apply(other, stored(events.GPU, chain...))
	apply(b, events.Event{Kind: events.Stored, Tier: events.GPU, Hashes: chain[:1], Attention: events.Mamba})
	want := map[string]Holder{"a": {Pod: "a", Blocks: 60}, "b": {Pod: "b", Blocks: 100}}
	h := want["a"]
	h.Tiers[events.GPU] = 40
	want["a"] = h
	h = want["b"]
	h.Tiers[events.Disk] = 100
	want["b"] = h
	require.Empty(t, cmp.Diff(want, match(t, x, chain...)))
	require.Empty(t, match(t, x, 999))
	require.Empty(t, match(t, x))

	apply(a, removed(events.GPU, 11))
	apply(b, removed(events.GPU, 11), removed(events.Disk, 51))
	got := match(t, x, chain...)
	require.Equal(t, []int{10, 100, 50}, []int{got["a"].Blocks, got["b"].Blocks, got["b"].Tiers[events.Disk]}, "b has block 51 on its GPU still")

	apply(a, events.Event{Kind: events.Cleared}, stored(events.GPU, 1, 2))
	require.Equal(t, 2, match(t, x, chain...)["a"].Blocks)
	b.Lost(events.Loss{Cause: events.Gap})
	require.NotContains(t, match(t, x, chain...), "b")
	require.NoError(t, a.Close())
	require.Empty(t, match(t, x, chain...))
	_, err = x.Open(t.Context(), "m", "a")
	require.NoError(t, err)
	require.Empty(t, match(t, x, chain...), "a pod that comes back holds nothing")
	require.Equal(t, Health{Stored: 199, Removed: 2, PassedOver: 1, Restarts: 1}, b.Health())
}

// Against a naive model, under random events of three pods.
func TestAgainstModel(t *testing.T) {
	client := server(t)
	rapid.Check(t, func(t *rapid.T) {
		require.NoError(t, client.FlushAll(context.Background()).Err())
		x, err := New(Options{Client: client, Prefix: "x"})
		require.NoError(t, err)
		names := []string{"a", "b", "c"}
		pods := map[string]*Pod{}
		held := map[string]map[[2]uint64]bool{} // by pod: tier and hash
		for _, n := range names {
			pods[n], err = x.Open(context.Background(), "m", n)
			require.NoError(t, err)
			held[n] = map[[2]uint64]bool{}
		}
		chain := []uint64{1, 2, 3, 4, 5, 6}
		for range rapid.IntRange(1, 20).Draw(t, "steps") {
			n := rapid.SampledFrom(names).Draw(t, "pod")
			tier := rapid.SampledFrom([]events.Tier{events.GPU, events.CPU}).Draw(t, "tier")
			from := rapid.IntRange(0, 5).Draw(t, "from")
			hashes := chain[from:rapid.IntRange(from+1, 6).Draw(t, "to")]
			switch rapid.SampledFrom([]string{"store", "store", "remove", "clear", "lose", "reopen"}).Draw(t, "step") {
			case "store":
				apply(pods[n], stored(tier, hashes...))
				for _, h := range hashes {
					held[n][[2]uint64{uint64(tier), h}] = true
				}
			case "remove":
				apply(pods[n], removed(tier, hashes...))
				for _, h := range hashes {
					delete(held[n], [2]uint64{uint64(tier), h})
				}
			case "clear":
				apply(pods[n], events.Event{Kind: events.Cleared})
				clear(held[n])
			case "lose":
				pods[n].Lost(events.Loss{})
				clear(held[n])
			case "reopen":
				require.NoError(t, x.Remove(context.Background(), "m", n))
				late := pods[n]
				pods[n], err = x.Open(context.Background(), "m", n)
				require.NoError(t, err)
				apply(late, stored(events.Disk, 1)) // of the generation before
				clear(held[n])
			}
		}
		want := map[string]Holder{}
		for _, n := range names {
			h := Holder{Pod: n}
			for i, hash := range chain {
				any := false
				for _, tier := range []events.Tier{events.GPU, events.CPU} {
					if held[n][[2]uint64{uint64(tier), hash}] {
						any = true
						if h.Tiers[tier] == i {
							h.Tiers[tier]++
						}
					}
				}
				if !any {
					break
				}
				h.Blocks++
			}
			if h.Blocks > 0 {
				want[n] = h
			}
		}
		require.Empty(t, cmp.Diff(want, match(t, x, chain...)))
	})
}

// While Redis is away nothing is applied, and afterwards the pod starts over.
func TestOutage(t *testing.T) {
	client := server(t)
	away := outage{}
	client.AddHook(&away)
	x, err := New(Options{Client: client})
	require.NoError(t, err)
	p, err := x.Open(t.Context(), "m", "a")
	require.NoError(t, err)
	apply(p, stored(events.GPU, 1, 2, 3))
	away.on = true
	apply(p, removed(events.GPU, 1))
	apply(p, removed(events.GPU, 2))
	_, err = x.Match(t.Context(), "m", []uint64{1})
	require.Error(t, err)
	away.on = false
	apply(p, stored(events.GPU, 3, 4))
	require.Empty(t, match(t, x, 1, 2, 3))
	require.Equal(t, 2, match(t, x, 3, 4)["a"].Blocks)
	h := p.Health()
	require.Equal(t, []uint64{2, 1}, []uint64{h.Failures, h.Restarts})
	require.Error(t, h.LastError)
}

// outage fails all commands while it is on.
type outage struct{ on bool }

var errAway = errors.New("away")

func (o *outage) DialHook(next redis.DialHook) redis.DialHook { return next }

func (o *outage) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		if o.on {
			cmd.SetErr(errAway)
			return errAway
		}
		return next(ctx, cmd)
	}
}

func (o *outage) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		if o.on {
			return errAway
		}
		return next(ctx, cmds)
	}
}

func TestOptions(t *testing.T) {
	_, err := New(Options{TTL: time.Millisecond, Timeout: -1})
	for _, want := range []string{"Client: nil", "TTL: 1ms", "Timeout: -1ns"} {
		require.ErrorContains(t, err, want)
	}
	client := redis.NewClient(&redis.Options{})
	defer client.Close()
	x, err := New(Options{Client: client})
	require.NoError(t, err)
	_, err = x.Open(t.Context(), "", "a\n")
	require.ErrorContains(t, err, `model: ""`)
	require.ErrorContains(t, err, `pod: "a\n"`)
}

func BenchmarkMatch(b *testing.B) {
	x, err := New(Options{Client: server(b)})
	require.NoError(b, err)
	chain := make([]uint64, 512)
	for i := range chain {
		chain[i] = uint64(i+1) * 0x9e3779b97f4a7c15
	}
	for i := range 64 {
		p, err := x.Open(b.Context(), "m", "10.0.0."+string(rune('0'+i))+":8000")
		require.NoError(b, err)
		for part := range slices.Chunk(chain, 32) {
			apply(p, stored(events.GPU, part...))
		}
		require.NoError(b, p.Health().LastError)
		if i != 0 && i != 63 {
			continue
		}
		b.Run(map[int]string{0: "blocks=512/pods=1", 63: "blocks=512/pods=64"}[i], func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				holders, err := x.Match(b.Context(), "m", chain)
				if err != nil || len(holders) != i+1 || holders[0].Blocks != 512 {
					b.Fatal(err, len(holders))
				}
			}
		})
	}
}

func BenchmarkStore(b *testing.B) {
	x, err := New(Options{Client: server(b)})
	require.NoError(b, err)
	p, err := x.Open(b.Context(), "m", "a")
	require.NoError(b, err)
	hashes := make([]uint64, 32)
	next := uint64(0)
	b.ReportAllocs()
	for b.Loop() {
		for i := range hashes {
			next++
			hashes[i] = next
		}
		apply(p, stored(events.GPU, hashes...))
	}
	b.ReportMetric(b.Elapsed().Seconds()*1e9/float64(b.N)/32, "ns/block")
	require.NoError(b, p.Health().LastError)
}
