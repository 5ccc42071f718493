package follow

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/inferloom/inferloom/kvcache"
	"github.com/inferloom/inferloom/kvcache/events"
)

// memory is a network in memory, for time that does not pass by itself.
type memory struct {
	mu    *sync.Mutex
	conns map[string]chan net.Conn // by the address that is listened at
}

func newMemory() memory { return memory{new(sync.Mutex), map[string]chan net.Conn{}} }

func (m memory) listen(address string) net.Listener {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.conns[address] = make(chan net.Conn)
	return &memoryListener{m.conns[address], make(chan struct{}), sync.Once{}}
}

func (m memory) dial(ctx context.Context, _, address string) (net.Conn, error) {
	m.mu.Lock()
	conns := m.conns[address]
	m.mu.Unlock()
	a, b := newHalf(), newHalf()
	refused := time.NewTimer(time.Millisecond)
	defer refused.Stop()
	select {
	case conns <- &memoryConn{a, b}:
		return &memoryConn{b, a}, nil
	case <-refused.C:
		return nil, errors.New("nobody listens at " + address)
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

type memoryListener struct {
	conns  chan net.Conn
	closed chan struct{}
	once   sync.Once
}

func (l *memoryListener) Accept() (net.Conn, error) {
	select {
	case c := <-l.conns:
		return c, nil
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

func (l *memoryListener) Close() error { l.once.Do(func() { close(l.closed) }); return nil }
func (*memoryListener) Addr() net.Addr { return &net.TCPAddr{} }

// half is one direction of a connection: as TCP, and unlike net.Pipe, it takes bytes that nobody reads yet.
type half struct {
	mu      sync.Mutex
	changed *sync.Cond
	bytes   bytes.Buffer
	closed  bool
	expired bool
	timer   *time.Timer
}

func newHalf() *half {
	h := new(half)
	h.changed = sync.NewCond(&h.mu)
	return h
}

func (h *half) set(f func()) {
	h.mu.Lock()
	defer h.mu.Unlock()
	f()
	h.changed.Broadcast()
}

type memoryConn struct{ in, out *half }

func (c *memoryConn) Read(b []byte) (int, error) {
	h := c.in
	h.mu.Lock()
	defer h.mu.Unlock()
	for h.bytes.Len() == 0 && !h.closed && !h.expired {
		h.changed.Wait()
	}
	switch {
	case h.bytes.Len() > 0:
		return h.bytes.Read(b)
	case h.closed:
		return 0, io.EOF
	}
	return 0, os.ErrDeadlineExceeded
}

func (c *memoryConn) Write(b []byte) (n int, err error) {
	c.out.set(func() {
		if c.out.closed {
			err = net.ErrClosed
			return
		}
		n, err = c.out.bytes.Write(b)
	})
	return n, err
}

func (c *memoryConn) Close() error {
	for _, h := range []*half{c.in, c.out} {
		h.set(func() {
			h.closed = true
			if h.timer != nil {
				h.timer.Stop()
			}
		})
	}
	return nil
}

func (c *memoryConn) SetReadDeadline(t time.Time) error {
	h := c.in
	h.set(func() {
		if h.timer != nil {
			h.timer.Stop()
		}
		if h.expired = false; !t.IsZero() {
			h.timer = time.AfterFunc(time.Until(t), func() { h.set(func() { h.expired = true }) })
		}
	})
	return nil
}

func (c *memoryConn) SetDeadline(t time.Time) error  { return c.SetReadDeadline(t) }
func (*memoryConn) SetWriteDeadline(time.Time) error { return nil }
func (*memoryConn) LocalAddr() net.Addr              { return &net.TCPAddr{} }
func (*memoryConn) RemoteAddr() net.Addr             { return &net.TCPAddr{} }

// cache is what an engine has cached, and says.
type cache struct {
	*events.Publisher
	held map[int]int // blocks by prompt
}

const (
	prompts      = 20
	promptBlocks = 8
)

// step does one thing at random and publishes it.
func (c *cache) step(r *rand.Rand) {
	i := r.IntN(prompts)
	p, have := prompt(i, promptBlocks), c.held[i]
	var list []events.Event
	switch n := r.IntN(100); {
	case n == 0:
		clear(c.held)
		list = append(list, events.Event{Kind: events.Cleared, Group: -1})
	case n < 60 && have < promptBlocks:
		to := have + 1 + r.IntN(promptBlocks-have)
		list = append(list, stored(p[:to*blockTokens], have))
		c.held[i] = to
	case have > 0:
		list = append(list, removed(p, have-1))
		c.held[i]--
	}
	c.Publish(&events.Batch{Time: r.Float64(), Rank: -1, Events: list}) // no two batches are the same, as with real times
}

// A replica that begins with a peer's snapshot, while engines go on, comes to know what one does that was there from the start:
// engines with a replay endpoint and without, a snapshot that is behind what the replica has heard, and one that comes slowly.
func TestJoin(t *testing.T) {
	for seed := range uint64(6) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) { synctest.Test(t, func(t *testing.T) { testJoin(t, seed) }) })
	}
}

func testJoin(t *testing.T, seed uint64) {
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	defer running.Wait()
	defer cancel()
	network := newMemory()
	r := rand.New(rand.NewPCG(seed, 0))
	var caches []*cache
	var engines []Engine
	for id := range uint32(4) {
		c := &cache{events.NewPublisher(events.PublisherOptions{Queue: 1 << 20, Buffer: 1 << 20}), map[int]int{}}
		e := Engine{Name: fmt.Sprint(id), Pod: kvcache.Pod{ID: id, Generation: 1}, Endpoint: fmt.Sprintf("tcp://e%d:1", id), Model: "m"}
		live := network.listen(fmt.Sprintf("e%d:1", id))
		var replay net.Listener
		if id%2 == 1 {
			e.Replay = fmt.Sprintf("tcp://e%d:2", id)
			replay = network.listen(fmt.Sprintf("e%d:2", id))
		}
		running.Go(func() { _ = c.Serve(ctx, live, replay) })
		caches, engines = append(caches, c), append(engines, e)
	}
	begin := func(o Options) (*Follower, *kvcache.Index) {
		x, err := kvcache.New(kvcache.Options{MaxBytes: 1 << 20, MaxPods: 64})
		require.NoError(t, err)
		o.Index, o.Dial = x, network.dial
		f, err := New(o)
		require.NoError(t, err)
		running.Go(func() { _ = f.Run(ctx) })
		return f, x
	}
	first, x := begin(Options{})
	require.NoError(t, first.Set(engines))
	synctest.Wait()

	publishing, stop := context.WithCancel(ctx)
	var published sync.WaitGroup
	published.Go(func() { // all but the last engine, which is idle
		for publishing.Err() == nil {
			caches[r.IntN(len(caches)-1)].step(r)
			time.Sleep(time.Duration(r.IntN(3)) * time.Millisecond)
		}
	})
	caches[3].step(rand.New(rand.NewPCG(seed, 1)))
	time.Sleep(500 * time.Millisecond)

	early, err := first.snapshot()
	require.NoError(t, err)
	time.Sleep(50 * time.Millisecond)
	fetched := 0
	fetch := func(context.Context) (io.ReadCloser, error) {
		fetched++
		if fetched <= 2 { // the first tells only who there is
			return io.NopCloser(bytes.NewReader(early)), nil
		}
		b, err := first.snapshot()
		time.Sleep(20 * time.Millisecond)
		return io.NopCloser(bytes.NewReader(b)), err
	}
	second, y := begin(Options{Hold: true})
	require.NoError(t, second.Set(engines[:1]))
	synctest.Wait()
	require.NoError(t, second.Join(ctx, fetch, func(e Engine) (Engine, bool) {
		e.Pod.ID += 10
		return e, true
	}))
	require.Greater(t, fetched, 2, "the early one ends before what was heard by then")
	require.ErrorContains(t, second.Join(ctx, fetch, nil), "nothing is held")
	time.Sleep(500 * time.Millisecond)
	stop()
	published.Wait()
	time.Sleep(time.Second) // longer than any pause before a reconnection
	synctest.Wait()

	var ids []uint32
	for _, e := range second.Engines() {
		ids = append(ids, e.Pod.ID)
	}
	require.Equal(t, []uint32{0, 11, 12, 13}, ids)
	for i, c := range caches {
		for n := range prompts {
			p := prompt(n, promptBlocks)
			require.Equal(t, c.held[n], held(x, uint32(i), p), "engine %d prompt %d", i, n)
			require.Equal(t, c.held[n], held(y, ids[i], p), "engine %d prompt %d at the replica", i, n)
		}
		a, b := first.Health()[i], second.Health()[i]
		require.Equal(t, a.Cursor, b.Cursor)
		require.Equal(t, c.Published(), b.Cursor.Next)
		require.Zero(t, b.Clears)
	}
}

// The first message after a snapshot decides whether they belong together.
func TestFirstMessage(t *testing.T) {
	for _, tt := range []struct {
		name     string
		sequence uint64
		last     uint64 // XXH3 of the message's payload
		held     int
		cause    events.Cause
	}{
		{"the next", 5, 9, 3, 0},
		{"one that the snapshot covers", 3, 9, 2, 0},
		{"the last that it covers", 4, 7, 2, 0},
		{"the last, of another publisher", 4, 8, 1, events.Restart},
		{"a later one", 6, 9, 1, events.Gap},
	} {
		t.Run(tt.name, func(t *testing.T) {
			x, err := kvcache.New(kvcache.Options{})
			require.NoError(t, err)
			f, err := New(Options{Index: x})
			require.NoError(t, err)
			e := Engine{Name: "a", Endpoint: "tcp://h:1", Model: "m"}
			require.NoError(t, f.Add(e))
			p, other := prompt(1, 3), prompt(2, 1)
			x.ApplyBatch(e.Pod, 4, &events.Batch{Events: []events.Event{stored(p[:2*blockTokens], 0)}})
			d := f.feeds["a"]
			d.cursor, d.joined = events.Cursor{Next: 5, Last: 7}, true
			list := []events.Event{stored(p, 2), stored(other, 0)}
			d.Apply(&events.Message{Sequence: tt.sequence, Batch: &events.Batch{Rank: -1, Events: list}, Cursor: events.Cursor{Next: tt.sequence + 1, Last: tt.last}})
			if tt.held == 1 { // all that was known is forgotten
				require.Equal(t, []int{0, 1}, []int{held(x, 0, p), held(x, 0, other)})
			} else {
				require.Equal(t, []int{tt.held, tt.held - 2}, []int{held(x, 0, p), held(x, 0, other)})
			}
			require.Equal(t, tt.cause, f.Health()[0].Cause)
		})
	}
}

// Without a snapshot, what was held goes on; a bad one changes nothing.
func TestJoinFails(t *testing.T) {
	e := newEngine(t)
	e.publish(stored(prompt(1, 2), 0))
	f, x := follow(t, Options{Hold: true}, e.as(0, true))
	failed := errors.New("no peer")
	require.ErrorIs(t, f.Join(t.Context(), func(context.Context) (io.ReadCloser, error) { return nil, failed }, nil), failed)
	good, err := f.snapshot()
	require.NoError(t, err)
	for _, bad := range []string{"", "hello", magic, magic + "\xff\xff\xff\xff\xff\xff\xff\xff\x01", magic + "\x05[1,2]", magic + "\x7f[]", string(good[:len(good)-1])} {
		require.Error(t, f.Join(t.Context(), func(context.Context) (io.ReadCloser, error) {
			return io.NopCloser(bytes.NewReader([]byte(bad))), nil
		}, nil), "%q", bad)
	}
	require.Zero(t, held(x, 0, prompt(1, 2)))
	f.Release()
	f.Release()
	e.eventually(t, f, 0)
	require.Equal(t, 2, held(x, 0, prompt(1, 2)))
	later := newEngine(t) // one that comes later is not held
	later.publish(stored(prompt(1, 1), 0))
	require.NoError(t, f.Add(later.as(1, true)))
	later.eventually(t, f, 1)
}

func FuzzJoin(f *testing.F) {
	x, err := kvcache.New(kvcache.Options{MaxBytes: 1 << 20, MaxPods: 64})
	require.NoError(f, err)
	peer, err := New(Options{Index: x})
	require.NoError(f, err)
	require.NoError(f, peer.Set([]Engine{{Name: "a", Endpoint: "tcp://h:1", Model: "m"}}))
	x.ApplyBatch(kvcache.Pod{}, 0, &events.Batch{Events: []events.Event{stored(prompt(1, 3), 0)}})
	good, err := peer.snapshot()
	require.NoError(f, err)
	f.Add(good)
	f.Add([]byte(magic + "\x02[]"))
	f.Fuzz(func(t *testing.T, b []byte) {
		y, err := kvcache.New(kvcache.Options{MaxBytes: 1 << 20, MaxPods: 64})
		require.NoError(t, err)
		f, err := New(Options{Index: y, Hold: true})
		require.NoError(t, err)
		require.NoError(t, f.Set([]Engine{{Name: "a", Endpoint: "tcp://h:1", Replay: "tcp://h:2", Model: "m"}}))
		fetch := func(context.Context) (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(b)), nil }
		if f.Join(t.Context(), fetch, nil) != nil {
			require.Zero(t, held(y, 0, prompt(1, 3)))
			f.Release()
		}
	})
}
