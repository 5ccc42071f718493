package follow

import (
	"context"
	"fmt"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/inferloom/inferloom/kvcache"
	"github.com/inferloom/inferloom/kvcache/events"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const blockTokens = 4

// engine is a publisher on loopback. It keeps its addresses when its listeners change: nobody waits for a port to become free.
type engine struct {
	t            testing.TB
	live, replay string // what Engines say
	stop         func()

	mu        sync.Mutex
	publisher *events.Publisher
	at        map[string]string // where these addresses are now; empty while nobody listens
}

func newEngine(t testing.TB) *engine {
	e := &engine{t: t, publisher: newPublisher()}
	e.start()
	e.live, e.replay = e.at["live"], e.at["replay"]
	t.Cleanup(func() { e.stop() })
	return e
}

func newPublisher() *events.Publisher {
	return events.NewPublisher(events.PublisherOptions{Topic: "kv@pod@m"})
}

func (e *engine) start() {
	e.t.Helper()
	live, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(e.t, err)
	replay, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(e.t, err)
	e.mu.Lock()
	defer e.mu.Unlock()
	e.at = map[string]string{"live": live.Addr().String(), "replay": replay.Addr().String()}
	e.at[e.live], e.at[e.replay] = e.at["live"], e.at["replay"]
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	p := e.publisher
	go func() { defer close(done); _ = p.Serve(ctx, live, replay) }()
	e.stop = sync.OnceFunc(func() { cancel(); <-done })
}

func (e *engine) dial(ctx context.Context, network, address string) (net.Conn, error) {
	e.mu.Lock()
	to, ok := e.at[address]
	e.mu.Unlock()
	if !ok {
		to = address
	}
	return new(net.Dialer).DialContext(ctx, network, to)
}

// restart replaces the publisher by a new one.
func (e *engine) restart() {
	e.stop()
	e.publisher = newPublisher()
	e.start()
}

// lose publishes a batch that no subscriber gets.
func (e *engine) lose(list ...events.Event) {
	e.stop()
	e.publish(list...)
	e.start()
}

// prompt returns n blocks of token ids that depend on the seed; prompts of one seed share their beginnings.
func prompt(seed, n int) []uint32 {
	tokens := make([]uint32, n*blockTokens)
	for i := range tokens {
		tokens[i] = uint32(seed*1000 + i)
	}
	return tokens
}

// hashOf is the engines' hash of the last block of a prompt.
func hashOf(tokens []uint32) uint64 {
	h := uint64(14695981039346656037)
	for _, t := range tokens {
		h = (h ^ uint64(t)) * 1099511628211
	}
	return h
}

func stored(tokens []uint32, from int) events.Event {
	e := events.Event{Kind: events.Stored, Tier: events.GPU, BlockTokens: blockTokens, Group: -1, Tokens: tokens[from*blockTokens:]}
	if from > 0 {
		e.HasParent, e.Parent = true, hashOf(tokens[:from*blockTokens])
	}
	for i := from + 1; i*blockTokens <= len(tokens); i++ {
		e.Hashes = append(e.Hashes, hashOf(tokens[:i*blockTokens]))
	}
	return e
}

func removed(tokens []uint32, block int) events.Event {
	return events.Event{Kind: events.Removed, Tier: events.GPU, Group: -1, Hashes: []uint64{hashOf(tokens[:(block+1)*blockTokens])}}
}

func (e *engine) publish(list ...events.Event) {
	e.publisher.Publish(&events.Batch{Time: float64(time.Now().UnixNano()) / 1e9, Rank: -1, Events: list})
}

func (e *engine) subscribed(t testing.TB, n int) {
	t.Helper()
	require.Eventually(t, func() bool { return e.publisher.Subscribers() == n }, 10*time.Second, time.Millisecond)
}

// follow runs a follower until the test ends.
func follow(t testing.TB, o Options, engines ...Engine) (*Follower, *kvcache.Index) {
	t.Helper()
	var err error
	if o.Index == nil {
		o.Index, err = kvcache.New(kvcache.Options{})
		require.NoError(t, err)
	}
	o.MinBackoff, o.MaxBackoff = time.Millisecond, 10*time.Millisecond
	f, err := New(o)
	require.NoError(t, err)
	require.NoError(t, f.Set(engines))
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { defer close(done); assert.ErrorIs(t, f.Run(ctx), context.Canceled) }()
	t.Cleanup(func() { cancel(); <-done })
	return f, o.Index
}

func (e *engine) as(id uint32, replay bool) Engine {
	s := Engine{Name: fmt.Sprintf("engine-%d", id), Pod: kvcache.Pod{ID: id, Generation: 1}, Endpoint: "tcp://" + e.live, Model: "m", BlockTokens: blockTokens}
	if replay {
		s.Replay = "tcp://" + e.replay
	}
	return s
}

// held returns how many blocks of a prompt a pod can use.
func held(x *kvcache.Index, id uint32, tokens []uint32, edit ...func(*kvcache.Space)) int {
	space := kvcache.Space{Model: "m", BlockTokens: blockTokens}
	for _, f := range edit {
		f(&space)
	}
	among := make([]uint64, id/64+1)
	among[id/64] |= 1 << (id % 64)
	var m kvcache.Matches
	x.Match(space.Append(nil, tokens, nil), blockTokens, among, &m)
	return int(m.Blocks[id])
}

// eventually waits until a follower has applied all that an engine has published.
func (e *engine) eventually(t testing.TB, f *Follower, id uint32) {
	t.Helper()
	name := fmt.Sprintf("engine-%d", id)
	require.Eventually(t, func() bool {
		for _, h := range f.Health() {
			if h.Engine.Name == name && h.Cursor.Next == e.publisher.Published() {
				return true
			}
		}
		return false
	}, 10*time.Second, time.Millisecond, "%s", name)
}

func TestFollows(t *testing.T) {
	a, b := newEngine(t), newEngine(t)
	long := prompt(1, 6)
	a.publish(stored(long[:3*blockTokens], 0)) // before anyone listens
	b.publish(stored(long, 0))
	f, x := follow(t, Options{}, a.as(0, true), b.as(1, false))
	a.eventually(t, f, 0)
	b.subscribed(t, 1)
	b.publish(stored(prompt(2, 2), 0))
	b.eventually(t, f, 1)
	require.Equal(t, 3, held(x, 0, long))
	require.Zero(t, held(x, 1, long), "what was stored before is not known without a replay")
	require.Equal(t, 2, held(x, 1, prompt(2, 2)))

	a.publish(stored(long, 3), removed(long, 1))
	a.eventually(t, f, 0)
	require.Equal(t, 1, held(x, 0, long))
	a.publish(stored(long[:2*blockTokens], 1))
	a.eventually(t, f, 0)
	require.Equal(t, 6, held(x, 0, long))

	health := f.Health()
	require.Len(t, health, 2)
	require.Empty(t, health[0].Problems())
	require.WithinDuration(t, time.Now(), health[0].LastEvent, time.Minute)
	require.Less(t, health[0].Lag.Abs(), time.Minute)
	require.Contains(t, strings.Join(health[1].Problems(), "\n"), "events were first seen at batch 1")

	// A removed engine leaves at once, and its late events change nothing.
	require.True(t, f.Remove("engine-0"))
	require.False(t, f.Remove("engine-0"))
	require.Zero(t, held(x, 0, long))
	a.publish(stored(long, 0))
	a.subscribed(t, 0)
	require.Zero(t, held(x, 0, long))

	// The same address in another generation is another engine, with all its history.
	again := a.as(0, true)
	again.Pod.Generation = 2
	require.NoError(t, f.Add(again))
	require.NoError(t, f.Add(again))
	a.eventually(t, f, 0)
	require.Equal(t, 6, held(x, 0, long))

	// So is one whose addresses change, though it keeps its place: the events of the old ones no longer count.
	b.publish(stored(prompt(3, 1), 0))
	moved := b.as(0, true)
	moved.Name, moved.Pod = again.Name, again.Pod
	require.NoError(t, f.Set([]Engine{moved}))
	require.Eventually(t, func() bool { return held(x, 0, prompt(3, 1)) == 1 }, 10*time.Second, time.Millisecond)
	a.publish(stored(prompt(4, 1), 0))
	a.subscribed(t, 0)
	require.Equal(t, []int{6, 0}, []int{held(x, 0, long), held(x, 0, prompt(4, 1))}, "b's replay has the long prompt as well")
	require.NoError(t, f.Set(nil))
	require.Zero(t, held(x, 0, long))
	a.subscribed(t, 0)
	b.subscribed(t, 0)
}

func TestLosses(t *testing.T) {
	long := prompt(1, 4)
	for _, tt := range []struct {
		name   string
		replay bool
		keep   bool
		lose   bool // a batch, or the publisher
		want   int  // blocks held afterwards, of a removal and another prompt's store
		cause  events.Cause
	}{
		{name: "a gap that a replay fills", replay: true, lose: true, want: 2},
		{name: "a gap", lose: true, want: 0, cause: events.Gap},
		{name: "a gap, kept", keep: true, lose: true, want: 4, cause: events.Gap},
		{name: "restart", replay: true, cause: events.Restart},
		{name: "restart without a replay", cause: events.Restart},
		{name: "restart, kept", keep: true, cause: events.Restart},
	} {
		t.Run(tt.name, func(t *testing.T) {
			e := newEngine(t)
			f, x := follow(t, Options{KeepOnGap: tt.keep, Dial: e.dial}, e.as(0, tt.replay))
			e.subscribed(t, 1)
			e.publish(stored(long, 0))
			e.eventually(t, f, 0)
			require.Equal(t, 4, held(x, 0, long))
			if tt.lose {
				e.lose(removed(long, 2))
			} else {
				e.restart()
			}
			e.subscribed(t, 1)
			e.publish(stored(prompt(2, 2), 0))
			require.Eventually(t, func() bool { return held(x, 0, prompt(2, 2)) == 2 }, 10*time.Second, time.Millisecond,
				"what comes next is applied as ever")
			require.Equal(t, tt.want, held(x, 0, long))
			h := f.Health()[0]
			require.Equal(t, tt.cause, h.Cause)
			require.Equal(t, tt.keep && tt.lose, !h.Degraded.IsZero())
			if tt.keep && tt.lose {
				require.Contains(t, strings.Join(h.Problems(), "\n"), "some of what is claimed may be gone")
				e.publish(events.Event{Kind: events.Cleared})
				e.eventually(t, f, 0)
				require.Zero(t, held(x, 0, long))
				require.Zero(t, f.Health()[0].Degraded)
			}
		})
	}
}

func TestAdapterAndSalt(t *testing.T) {
	e := newEngine(t)
	s := e.as(0, true)
	s.Adapter, s.Salt = "sql", "w8a8"
	f, x := follow(t, Options{}, s)
	own := stored(prompt(2, 2), 0)
	own.Adapter, own.Salt = "legal", "tenant"
	e.publish(stored(prompt(1, 2), 0), own)
	e.eventually(t, f, 0)
	require.Zero(t, held(x, 0, prompt(1, 2)))
	require.Equal(t, 2, held(x, 0, prompt(1, 2), func(s *kvcache.Space) { s.Adapter, s.Salt = "sql", "w8a8" }))
	require.Equal(t, 2, held(x, 0, prompt(2, 2), func(s *kvcache.Space) { s.Adapter, s.Salt = "legal", "tenant" }))
}

func TestRoots(t *testing.T) {
	e := newEngine(t)
	f, _ := follow(t, Options{}, e.as(0, true))
	for i := range 40 {
		e.publish(stored(prompt(i, 2), 0), stored(prompt(i, 3), 2))
	}
	e.publish(stored(prompt(39, 100), 0), stored(prompt(50, 100), 0))
	e.eventually(t, f, 0)
	roots := f.Roots("engine-0")
	require.Len(t, roots, rootsKept)
	longest := 0
	for _, r := range roots {
		longest = max(longest, len(r.Tokens))
		require.Equal(t, blockTokens, r.BlockTokens)
	}
	require.Equal(t, rootTokens, longest)
	e.publish(events.Event{Kind: events.Cleared})
	e.eventually(t, f, 0)
	require.NotEmpty(t, f.Roots("engine-0"), "they say how prompts look, not what is held")
	require.Nil(t, f.Roots("nobody"))
}

func TestHits(t *testing.T) {
	f, _ := follow(t, Options{}, newEngine(t).as(0, true))
	for range suspicious {
		f.Found("engine-0", 0, 128)
	}
	h := f.Health()[0]
	require.Equal(t, Hits{Requests: 20, Found: 2560, Under: 20, Misses: 20}, h.Hits)
	require.Contains(t, strings.Join(h.Problems(), "\n"), "for the last 20 requests nothing was predicted")
	f.Found("nobody", 0, 0)
	f.Found("engine-0", -1, 0)
	for range suspicious {
		f.Found("engine-0", 256, 128)
	}
	problems := f.Health()[0]
	require.Contains(t, strings.Join(problems.Problems(), "\n"), "of 40 requests, 20 found less")
}

func TestInvalid(t *testing.T) {
	_, err := New(Options{})
	require.ErrorContains(t, err, "Index")
	x, err := kvcache.New(kvcache.Options{})
	require.NoError(t, err)
	_, err = New(Options{Index: x, MinBackoff: -1})
	require.ErrorContains(t, err, "MinBackoff")
	f, err := New(Options{Index: x})
	require.NoError(t, err)
	good := Engine{Name: "a", Endpoint: "tcp://127.0.0.1:5557", Model: "m"}
	require.NoError(t, f.Set([]Engine{good}))
	err = f.Set([]Engine{{Name: "b", Endpoint: "http://x", Rank: -1}, {Name: "c"}, {Name: "c"}})
	for _, want := range []string{`engine "b": Model is empty`, "Rank: -1 is negative", `kv events: Endpoint: "http://x"`, `engine "c": given twice`} {
		require.ErrorContains(t, err, want)
	}
	require.Equal(t, []Engine{good}, f.Engines(), "nothing has changed")
	require.Error(t, f.Add(Engine{Name: "a"}))
	other := good
	other.Name = "b"
	require.ErrorContains(t, f.Add(other), `engine "b": pod 0 is the place of "a"`)
	require.ErrorContains(t, f.Set([]Engine{good, other}), `engine "b": pod 0 is the place of "a"`)
	require.Equal(t, []Engine{good}, f.Engines())
	at, err := good.ForRank(2)
	require.NoError(t, err)
	require.Equal(t, "tcp://127.0.0.1:5559", at.Endpoint)
	_, err = good.ForRank(1 << 16)
	require.Error(t, err)
}
