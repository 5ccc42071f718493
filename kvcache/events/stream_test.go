package events

import (
	"context"
	"encoding/binary"
	"fmt"
	"net"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

// ledger is what a sink believes: the blocks of the current publisher, in order.
type ledger struct {
	have []uint64
	gaps int
}

func (l *ledger) Apply(m *Message) {
	for i := range m.Batch.Events {
		l.have = append(l.have, m.Batch.Events[i].Hashes...)
	}
}

func (l *ledger) Lost(loss Loss) {
	if loss.Cause == Restart {
		l.have = nil
	} else {
		l.gaps++
	}
}

// Whatever is lost on the way, however often the connection or the publisher is replaced: as soon as one more batch arrives, the
// sink has had every batch of the current publisher once and in order, if its buffer holds them; without a replay it has had
// those that arrived, and was told of the gaps.
func TestNothingIsLostOrDoubled(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(context.Background())
	var all sync.WaitGroup
	var mu sync.Mutex
	var p *Publisher
	all.Go(func() {
		_ = accept(ctx, &all, ln, func(ctx context.Context, nc net.Conn) {
			mu.Lock()
			current := p
			mu.Unlock()
			current.replay(ctx, nc)
		})
	})
	t.Cleanup(func() { cancel(); all.Wait() })
	rapid.Check(t, func(t *rapid.T) {
		replay := rapid.Bool().Draw(t, "replay")
		o := Options{Endpoint: "tcp://127.0.0.1:1"}
		if replay {
			o.Replay = "tcp://" + ln.Addr().String()
		}
		sink := &ledger{}
		s, err := NewSubscriber(o, sink)
		require.NoError(t, err)
		var published, arrived []uint64
		next := uint64(1)
		replace := func() {
			mu.Lock()
			defer mu.Unlock()
			p = NewPublisher(PublisherOptions{})
			published = nil
		}
		reconnect := func() {
			s.connected()
			s.catchUp(ctx, 0)
		}
		publish := func(deliver bool) {
			payload := Append(nil, &Batch{Rank: -1, Events: []Event{{Kind: Removed, Hashes: []uint64{next}, Group: -1}}}, Maps)
			published = append(published, next)
			p.PublishPayload(payload)
			if deliver {
				arrived = append(arrived, next)
				sequence := binary.BigEndian.AppendUint64(nil, uint64(len(published)-1))
				require.NoError(t, s.receive(ctx, [][]byte{{}, sequence, payload}))
			}
			next++
		}
		replace()
		reconnect()
		for range rapid.IntRange(1, 30).Draw(t, "steps") {
			switch rapid.SampledFrom([]string{"deliver", "deliver", "deliver", "drop", "reconnect", "restart"}).Draw(t, "step") {
			case "deliver":
				publish(true)
			case "drop":
				publish(false)
			case "reconnect":
				reconnect()
			case "restart":
				if replay { // without one, some restarts cannot be told: see the package's caveats
					replace()
					for range rapid.IntRange(0, 30).Draw(t, "before") {
						publish(false)
					}
					reconnect()
				}
			}
		}
		publish(true)
		if replay {
			require.Equal(t, fmt.Sprint(published), fmt.Sprint(sink.have))
			require.Zero(t, sink.gaps)
			return
		}
		require.Equal(t, arrived, sink.have)
		gaps := 0
		for i := 1; i < len(arrived); i++ {
			if arrived[i] != arrived[i-1]+1 {
				gaps++
			}
		}
		require.Equal(t, gaps, sink.gaps)
	})
}
