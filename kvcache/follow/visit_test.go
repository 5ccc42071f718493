package follow

import (
	"bytes"
	"context"
	"encoding/binary"
	"io"
	"net"
	"os"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/inferloom/inferloom/kvcache"
	"github.com/inferloom/inferloom/kvcache/events"
)

// caller is an engine that connects by itself: just enough of ZMTP to publish.
type caller struct {
	t    *testing.T
	conn net.Conn
	next uint64
}

func (l *lobby) call() *caller {
	l.t.Helper()
	conn, err := net.Dial("tcp", l.address)
	require.NoError(l.t, err)
	l.t.Cleanup(func() { conn.Close() })
	greeting := make([]byte, 64)
	greeting[0], greeting[9], greeting[10] = 0xff, 0x7f, 3
	copy(greeting[12:], "NULL")
	_, err = conn.Write(append(greeting, "\x04\x19\x05READY\x0bSocket-Type\x00\x00\x00\x03PUB"...))
	require.NoError(l.t, err)
	_, err = io.ReadFull(conn, make([]byte, 64+27+3)) // greeting, READY, and the empty subscription
	require.NoError(l.t, err)
	return &caller{t: l.t, conn: conn}
}

func (c *caller) say(list ...events.Event) {
	c.t.Helper()
	payload := events.Append(nil, &events.Batch{Time: float64(c.next), Rank: -1, Events: list}, events.Maps)
	message := append([]byte{1, 7}, "kv@e0@m"...)
	message = binary.BigEndian.AppendUint64(append(message, 1, 8), c.next)
	message = binary.BigEndian.AppendUint64(append(message, 2), uint64(len(payload)))
	_, err := c.conn.Write(append(message, payload...))
	require.NoError(c.t, err)
	c.next++
}

// lobby is where engines connect to.
type lobby struct {
	t       *testing.T
	f       *Follower
	x       *kvcache.Index
	address string
}

func newLobby(t *testing.T, o Options) *lobby {
	t.Helper()
	f, x := follow(t, o, Engine{Name: "engine-0", Pod: kvcache.Pod{Generation: 1}, Connects: true, Model: "m", BlockTokens: blockTokens})
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() {
		done <- f.Serve(ctx, ln, func(topic events.Topic, _ net.Addr) string { return "engine-" + topic.Pod[1:] })
	}()
	t.Cleanup(func() { cancel(); <-done })
	return &lobby{t, f, x, ln.Addr().String()}
}

func (l *lobby) holds(tokens []uint32, blocks int) {
	l.t.Helper()
	require.Eventually(l.t, func() bool { return held(l.x, 0, tokens) == blocks }, 10*time.Second, time.Millisecond)
}

func TestEnginesThatConnect(t *testing.T) {
	l := newLobby(t, Options{})
	a := l.call()
	a.say(stored(prompt(1, 3), 0))
	a.say(removed(prompt(1, 3), 2))
	l.holds(prompt(1, 3), 2)
	h := l.f.Health()[0]
	require.Equal(t, []uint64{1, 2, 2}, []uint64{h.Subscriber.Connections, h.Subscriber.Batches, h.Subscriber.Events})
	require.True(t, h.Ready())
	require.Empty(t, h.Problems())

	a.next++ // a batch that is lost
	a.say(stored(prompt(2, 1), 0))
	l.holds(prompt(2, 1), 1)
	require.Zero(t, held(l.x, 0, prompt(1, 3)))

	b := l.call() // it is back before its old connection has ended
	b.say(stored(prompt(3, 1), 0))
	l.holds(prompt(3, 1), 1)
	require.Zero(t, held(l.x, 0, prompt(2, 1)))
	a.say(stored(prompt(4, 1), 0))
	require.NoError(t, a.conn.Close())
	b.say(stored(prompt(5, 1), 0))
	l.holds(prompt(5, 1), 1)
	require.Equal(t, []int{1, 0}, []int{held(l.x, 0, prompt(3, 1)), held(l.x, 0, prompt(4, 1))}, "the old one no longer counts")
	require.NoError(t, b.conn.Close())
	l.holds(prompt(3, 1), 0)
	require.False(t, l.f.Health()[0].Subscriber.Connected)

	require.True(t, l.f.Remove("engine-0"))
	stranger := l.call()
	stranger.say(stored(prompt(6, 1), 0))
	require.NoError(t, stranger.conn.SetReadDeadline(time.Now().Add(10*time.Second)))
	_, err := stranger.conn.Read(make([]byte, 1))
	require.Error(t, err)
	require.NotErrorIs(t, err, os.ErrDeadlineExceeded, "its connection is closed")
	require.ErrorContains(t, l.f.Add(Engine{Name: "a", Model: "m", Connects: true, Endpoint: "tcp://h:1"}), `Connects: it has the endpoints "tcp://h:1"`)
}

// What connected before a snapshot goes on behind it; who connects later does so only with the very next batch.
func TestConnectedJoin(t *testing.T) {
	peer := newLobby(t, Options{})
	speaks := peer.call()
	for i := range 3 {
		speaks.say(stored(prompt(i, 2), 0))
	}
	peer.holds(prompt(2, 2), 2)
	snapshot, err := peer.f.snapshot()
	require.NoError(t, err)
	fetch := func(context.Context) (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(snapshot)), nil }

	for _, tt := range []struct {
		name  string
		early bool
		next  uint64
		held  int
	}{
		{"before, with batches that the snapshot has", true, 1, 2},
		{"before, at the next", true, 3, 2},
		{"later, at the next", false, 3, 2},
		{"later, from the beginning", false, 0, 0},
		{"later, with a gap", false, 5, 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			l := newLobby(t, Options{Hold: true})
			var c *caller
			say := func() {
				c = l.call()
				for c.next = tt.next; c.next < 3; {
					c.say(stored(prompt(int(c.next), 2), 0)) // what the peer has heard
				}
				c.say(stored(prompt(9, 1), 0))
			}
			if tt.early {
				say()
			}
			require.NoError(t, l.f.Join(t.Context(), fetch, nil))
			if !tt.early {
				if tt.next == 0 {
					c = l.call()
					c.say(stored(prompt(9, 1), 0))
				} else {
					say()
				}
			}
			l.holds(prompt(9, 1), 1)
			require.Equal(t, tt.held, held(l.x, 0, prompt(0, 2)))
		})
	}
}
