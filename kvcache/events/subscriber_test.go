package events

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/zeebo/xxh3"
	"go.uber.org/goleak"

	"github.com/inferloom/inferloom/kvcache/events/internal/zmtp"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// collector writes down what a sink is told: "3" for a live batch, "r3" for a replayed one, "lost restart 0".
type collector struct {
	mu   sync.Mutex
	log  []string
	wake chan struct{}
}

func newCollector() *collector { return &collector{wake: make(chan struct{}, 1)} }

func (c *collector) add(s string) {
	c.mu.Lock()
	c.log = append(c.log, s)
	c.mu.Unlock()
	select {
	case c.wake <- struct{}{}:
	default:
	}
}

func (c *collector) Apply(m *Message) {
	s := fmt.Sprint(m.Sequence)
	if m.Replayed {
		s = "r" + s
	}
	c.add(s)
}

func (c *collector) Lost(l Loss) { c.add(fmt.Sprintf("lost %v %d", l.Cause, l.Missed)) }

// expect waits until exactly this was told since the last call.
func (c *collector) expect(t *testing.T, want ...string) {
	t.Helper()
	limit := time.After(10 * time.Second)
	for {
		c.mu.Lock()
		if len(c.log) >= len(want) {
			assert.Equal(t, want, c.log)
			c.log = nil
			c.mu.Unlock()
			return
		}
		c.mu.Unlock()
		select {
		case <-c.wake:
		case <-limit:
			c.mu.Lock()
			defer c.mu.Unlock()
			require.Equal(t, want, c.log)
		}
	}
}

func listen(t *testing.T, address string) net.Listener {
	t.Helper()
	ln, err := net.Listen("tcp", address)
	require.NoError(t, err)
	return ln
}

// engine is a Publisher on two ports that can end and come back.
type engine struct {
	*Publisher
	live, replay string
	stop         func()
}

func start(t *testing.T, o PublisherOptions, live, replay string) *engine {
	t.Helper()
	e := &engine{Publisher: NewPublisher(o)}
	a, b := listen(t, live), listen(t, replay)
	e.live, e.replay = a.Addr().String(), b.Addr().String()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { defer close(done); _ = e.Serve(ctx, a, b) }()
	e.stop = func() { cancel(); <-done }
	t.Cleanup(e.stop)
	return e
}

func (e *engine) publish(hashes ...uint64) {
	for _, h := range hashes {
		e.Publish(&Batch{Rank: -1, Events: []Event{{Kind: Removed, Hashes: []uint64{h}, Group: -1}}})
	}
}

// drop publishes what no subscriber gets, as a full queue does.
func (e *engine) drop(hashes ...uint64) {
	e.mu.Lock()
	peers := e.peers
	e.peers = nil
	e.mu.Unlock()
	e.publish(hashes...)
	e.mu.Lock()
	e.peers = peers
	e.mu.Unlock()
}

func follow(t *testing.T, o Options) (*Subscriber, *collector) {
	t.Helper()
	c := newCollector()
	o.MinBackoff = time.Millisecond
	o.MaxBackoff = 10 * time.Millisecond
	s, err := NewSubscriber(o, c)
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { defer close(done); assert.ErrorIs(t, s.Run(ctx), context.Canceled) }()
	t.Cleanup(func() { cancel(); <-done })
	return s, c
}

func subscribed(t *testing.T, e *engine) {
	t.Helper()
	require.Eventually(t, func() bool { return e.Subscribers() == 1 }, 10*time.Second, time.Millisecond)
}

func TestFollowWithReplay(t *testing.T) {
	e := start(t, PublisherOptions{Topic: "kv@10.0.0.7:8000@m@x"}, "127.0.0.1:0", "127.0.0.1:0")
	e.publish(1, 2, 3)
	s, c := follow(t, Options{Endpoint: "tcp://" + e.live, Replay: "tcp://" + e.replay, Topic: "kv@"})
	c.expect(t, "r0", "r1", "r2") // history comes first
	subscribed(t, e)
	e.publish(4)
	c.expect(t, "3")
	e.drop(5, 6) // a gap is filled, in order and once
	e.publish(7)
	c.expect(t, "r4", "r5", "r6")
	e.publish(8)
	c.expect(t, "7")
	require.Equal(t, Topic{"kv@10.0.0.7:8000@m@x", "10.0.0.7:8000", "m@x"}, s.message.Topic)
	h := s.Health()
	require.Equal(t, []uint64{8, 8, 6, 1, 0, 0}, []uint64{h.Batches, h.Events, h.Replayed, h.Duplicates, h.Gaps, h.Undecodable})

	// A new process on the same ports has already passed the numbers of the old one: the last batch tells them apart.
	e.stop()
	again := NewPublisher(PublisherOptions{Topic: "kv@p@m"})
	live, replay := e.live, e.replay
	e = &engine{Publisher: again}
	e.publish(11, 12, 13, 14, 15, 16, 17, 18, 19, 20)
	a, b := listen(t, live), listen(t, replay)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { defer close(done); _ = e.Serve(ctx, a, b) }()
	t.Cleanup(func() { cancel(); <-done })
	c.expect(t, "lost restart 0", "r0", "r1", "r2", "r3", "r4", "r5", "r6", "r7", "r8", "r9")
	subscribed(t, e)
	e.publish(21)
	c.expect(t, "10")
	require.Equal(t, uint64(1), s.Health().Restarts)
}

func TestFollowWithoutReplay(t *testing.T) {
	e := start(t, PublisherOptions{}, "127.0.0.1:0", "127.0.0.1:0")
	e.publish(1, 2, 3)
	s, c := follow(t, Options{Endpoint: "tcp://" + e.live, BlockTokens: 16})
	subscribed(t, e)
	e.publish(4)
	c.expect(t, "3")
	e.drop(5, 6)
	e.publish(7)
	c.expect(t, "lost gap 2", "6")
	e.PublishPayload([]byte{0x91})
	c.expect(t, "lost undecodable 1")
	e.Publish(&Batch{Rank: -1, Events: []Event{{Kind: Stored, BlockTokens: 32, Group: -1}}})
	c.expect(t, "8")
	problems := fmt.Sprint(s.Health().Problems())
	for _, want := range []string{"1 events have blocks of another size than 16 tokens, the last of 32", "1 messages are no batch", "1 gaps lost 2", "3 batches have a topic that names no pod"} {
		require.Contains(t, problems, want)
	}
	live, replay := e.live, e.replay
	e.stop()
	e = start(t, PublisherOptions{}, live, replay)
	subscribed(t, e)
	e.publish(1)
	c.expect(t, "lost restart 0", "0")
}

// A publisher's buffer no longer has all that was missed.
func TestEvictedHistory(t *testing.T) {
	e := start(t, PublisherOptions{Buffer: 2}, "127.0.0.1:0", "127.0.0.1:0")
	e.publish(1, 2, 3)
	_, c := follow(t, Options{Endpoint: "tcp://" + e.live, Replay: "tcp://" + e.replay})
	c.expect(t, "r1", "r2")
	subscribed(t, e)
	e.drop(4, 5, 6)
	e.publish(7)
	c.expect(t, "lost gap 2", "r5", "r6")
}

// scripted is a replay socket that answers each connection with the next script.
func scripted(t *testing.T, scripts ...[][][]byte) string {
	t.Helper()
	ln := listen(t, "127.0.0.1:0")
	done := make(chan struct{})
	go func() {
		defer close(done)
		for _, script := range scripts {
			nc, err := ln.Accept()
			if err != nil {
				return
			}
			c, err := zmtp.Handshake(nc, zmtp.Router, 1<<16, time.Now().Add(time.Second))
			if err == nil {
				_, err = c.Read()
			}
			for _, m := range script {
				if err == nil {
					err = c.Write(m...)
				}
			}
			nc.Close()
		}
	}()
	t.Cleanup(func() { ln.Close(); <-done })
	return ln.Addr().String()
}

// Older engines' replays have no topic; one that loses messages or breaks off is asked again from where it stopped.
func TestReplayForms(t *testing.T) {
	payload := func(h uint64) []byte {
		return Append(nil, &Batch{Rank: -1, Events: []Event{{Kind: Removed, Hashes: []uint64{h}}}}, Arrays)
	}
	old := func(n uint64) [][]byte { return [][]byte{{}, binary.BigEndian.AppendUint64(nil, n), payload(n)} }
	end := [][]byte{{}, binary.BigEndian.AppendUint64(nil, endOfReplay), {}}
	replay := scripted(t, [][][]byte{old(0), old(1), old(3)}, [][][]byte{old(1), old(2)}, [][][]byte{old(2), old(3), end})
	e := start(t, PublisherOptions{}, "127.0.0.1:0", "127.0.0.1:0")
	s, c := follow(t, Options{Endpoint: "tcp://" + e.live, Replay: "tcp://" + replay})
	c.expect(t, "r0", "r1", "r2", "r3")
	require.Zero(t, s.Health().ReplayFailures)

	// A replay that lost its last messages but not its end is noticed by the live message that asked for it.
	replay = scripted(t, [][][]byte{end}, [][][]byte{old(0), old(1), end}, [][][]byte{old(1), old(2), end})
	e = start(t, PublisherOptions{}, "127.0.0.1:0", "127.0.0.1:0")
	_, c = follow(t, Options{Endpoint: "tcp://" + e.live, Replay: "tcp://" + replay})
	subscribed(t, e)
	e.PublishPayload(payload(0))
	c.expect(t, "0")
	e.drop(1, 2)
	e.PublishPayload(payload(3))
	c.expect(t, "r1", "r2", "3")
}

func TestListener(t *testing.T) {
	ln := listen(t, "127.0.0.1:0")
	c := newCollector()
	topics := make(chan Topic, 1)
	l := Listener{Topic: "kv", Accept: func(topic Topic, _ net.Addr) Sink { topics <- topic; return c }}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error)
	go func() { done <- l.Serve(ctx, ln) }()
	nc, err := net.Dial("tcp", ln.Addr().String())
	require.NoError(t, err)
	pub, err := zmtp.Handshake(nc, zmtp.Pub, 1<<16, time.Now().Add(10*time.Second))
	require.NoError(t, err)
	parts, err := pub.Read()
	require.NoError(t, err)
	prefix, add, ok := zmtp.Subscription(parts)
	require.True(t, ok && add && string(prefix) == "kv")
	for _, n := range []uint64{0, 1, 4, 2} {
		require.NoError(t, pub.Write([]byte("kv@p@m"), binary.BigEndian.AppendUint64(nil, n), Append(nil, &Batch{}, Maps)))
	}
	c.expect(t, "0", "1", "lost gap 2", "4", "lost restart 0", "2")
	require.Equal(t, "p", (<-topics).Pod)
	require.NoError(t, nc.Close())
	c.expect(t, "lost disconnected 0")
	cancel()
	require.ErrorIs(t, <-done, context.Canceled)
	require.Error(t, new(Listener).Serve(context.Background(), ln))
}

func TestOptions(t *testing.T) {
	_, err := NewSubscriber(Options{Endpoint: "ipc://x", Replay: "tcp://*:1", BlockTokens: -1, MaxMessageBytes: -1, MinBackoff: time.Hour, MaxBackoff: time.Minute, ReplayTimeout: -1}, newCollector())
	for _, field := range []string{`Endpoint: "ipc://x"`, `Replay: "tcp://*:1"`, "BlockTokens: -1", "MaxMessageBytes: -1", "MinBackoff, MaxBackoff: 1h0m0s to 1m0s", "ReplayTimeout: -1ns"} {
		require.ErrorContains(t, err, field)
	}
	_, err = NewSubscriber(Options{Endpoint: "tcp://[::1]:5557"}, nil)
	require.ErrorContains(t, err, "sink")
	at, err := RankEndpoint("tcp://10.0.0.1:5557", 3)
	require.NoError(t, err)
	require.Equal(t, "tcp://10.0.0.1:5560", at)
	_, err = RankEndpoint("tcp://10.0.0.1:65535", 1)
	require.Error(t, err)
}

func TestNobodyThere(t *testing.T) {
	dialled := make(chan struct{}, 100)
	s, err := NewSubscriber(Options{Endpoint: "tcp://127.0.0.1:1", MinBackoff: time.Millisecond, MaxBackoff: time.Millisecond,
		Dial: func(context.Context, string, string) (net.Conn, error) {
			dialled <- struct{}{}
			return nil, errors.New("refused")
		}}, newCollector())
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error)
	go func() { done <- s.Run(ctx) }()
	for range 3 {
		<-dialled
	}
	require.Contains(t, fmt.Sprint(s.Health().Problems()), "refused")
	cancel()
	require.ErrorIs(t, <-done, context.Canceled)
}

// From a cursor, a subscriber goes on without a gap and without doing anything twice, and sees if the publisher is another one.
func TestResume(t *testing.T) {
	e := start(t, PublisherOptions{}, "127.0.0.1:0", "127.0.0.1:0")
	e.publish(1, 2, 3)
	o := Options{Endpoint: "tcp://" + e.live, Replay: "tcp://" + e.replay, MinBackoff: time.Millisecond}
	run := func(s *Subscriber) (stop func()) {
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() { defer close(done); _ = s.Run(ctx) }()
		return func() { cancel(); <-done }
	}
	var cursor Cursor
	first := newCollector()
	s, err := NewSubscriber(o, tee{first, func(m *Message) { cursor = m.Cursor }})
	require.NoError(t, err)
	stop := run(s)
	first.expect(t, "r0", "r1", "r2")
	stop()
	require.Equal(t, uint64(3), cursor.Next)

	e.publish(4, 5)
	c := newCollector()
	s, err = NewSubscriber(o, c)
	require.NoError(t, err)
	s.Resume(cursor)
	stop = run(s)
	c.expect(t, "r3", "r4")
	stop()

	c = newCollector()
	s, err = NewSubscriber(o, c)
	require.NoError(t, err)
	s.Resume(Cursor{Next: 3, Last: cursor.Last + 1})
	stop = run(s)
	c.expect(t, "lost restart 0", "r0", "r1", "r2", "r3", "r4")
	stop()
}

// tee looks at messages before a collector does.
type tee struct {
	*collector
	look func(*Message)
}

func (s tee) Apply(m *Message) {
	s.look(m)
	s.collector.Apply(m)
}

// Without a replay, a sink that waits for somebody else's cursor passes over what that covers.
func TestResumeFromSink(t *testing.T) {
	for _, tt := range []struct {
		name string
		last uint64 // hash of the last payload covered; 0: the right one
		want []string
	}{
		{"same publisher", 0, []string{"0", "3", "4"}},
		{"another one", 1, []string{"0", "lost restart 0", "2", "3", "4"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var s *Subscriber
			c := newCollector()
			payload := func(n uint64) []byte {
				return Append(nil, &Batch{Rank: -1, Events: []Event{{Kind: Removed, Hashes: []uint64{n}, Group: -1}}}, Maps)
			}
			last := tt.last
			if last == 0 {
				last = xxh3.Hash(payload(2))
			}
			s, err := NewSubscriber(Options{Endpoint: "tcp://127.0.0.1:1"}, tee{c, func(m *Message) {
				if m.Sequence == 0 {
					s.Resume(Cursor{Next: 3, Last: last})
				}
			}})
			require.NoError(t, err)
			s.connected()
			for n := range uint64(5) {
				require.NoError(t, s.receive(t.Context(), [][]byte{nil, binary.BigEndian.AppendUint64(nil, n), payload(n)}))
			}
			c.expect(t, tt.want...)
			s.connected() // numbers below the cursor are another publisher's, once the connection is
			s.Resume(Cursor{Next: 9})
			s.connected()
			require.NoError(t, s.receive(t.Context(), [][]byte{nil, make([]byte, 8), payload(0)}))
			c.expect(t, "lost restart 0", "0")
		})
	}
}
