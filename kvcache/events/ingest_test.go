package events_test

import (
	"context"
	"encoding/binary"
	"fmt"
	"net"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/inferloom/inferloom/internal/cputime"
	"github.com/inferloom/inferloom/kvcache"
	"github.com/inferloom/inferloom/kvcache/events"
	"github.com/inferloom/inferloom/kvcache/events/internal/zmtp"
	"github.com/inferloom/inferloom/kvcache/follow"
)

// What the engine of BenchmarkIngest does: prompts of chainBlocks blocks of 16 tokens, stored block by block as they are generated, and
// evicted from the end, as vLLM does, while the next are stored.
const (
	chainBlocks = 32
	chains      = 64
)

// wire returns messages of that engine, one after another, with the places of their sequence numbers. They can be sent over and
// over: at the end nothing is held.
func wire(perMessage int) (messages []byte, sequences []int) {
	var list []events.Event
	block := func(chain, i int) (hash uint64) { return 0x9e3779b97f4a7c15 * uint64(chain*chainBlocks+i+1) }
	store := func(chain, i int) {
		e := events.Event{Kind: events.Stored, Medium: "GPU", BlockTokens: 16, Group: 0, Attention: events.FullAttention, Hashes: []uint64{block(chain, i)}}
		if i > 0 {
			e.Parent, e.HasParent = block(chain, i-1), true
		}
		for t := range 16 {
			e.Tokens = append(e.Tokens, uint32(((chain*chainBlocks+i)*16+t+1)*7919%128000))
		}
		list = append(list, e)
	}
	remove := func(chain, i int) {
		list = append(list, events.Event{Kind: events.Removed, Medium: "GPU", Group: 0, Hashes: []uint64{block(chain, i)}})
	}
	for chain := range chains + 1 {
		for i := range chainBlocks {
			if chain < chains {
				store(chain, i)
			}
			if chain > 0 {
				remove(chain-1, chainBlocks-1-i)
			}
		}
	}
	for len(list) > 0 {
		n := min(perMessage, len(list))
		payload := events.Append(nil, &events.Batch{Events: list[:n]}, events.Maps)
		list = list[n:]
		messages = append(messages, 1, 6, 'k', 'v', '@', 'p', '@', 'm', 1, 8)
		sequences = append(sequences, len(messages))
		messages = append(messages, make([]byte, 8)...)
		messages = binary.BigEndian.AppendUint64(append(messages, 2), uint64(len(payload)))
		messages = append(messages, payload...)
	}
	return messages, sequences
}

// last says when a message has been applied.
type last struct {
	sequence uint64
	arrived  chan struct{}
}

func (l *last) Apply(m *events.Message) {
	if m.Sequence == l.sequence {
		close(l.arrived)
	}
}

func (*last) Lost(events.Loss) {}

// BenchmarkIngest is all of the way from an engine's socket into the index, over loopback: connection, decoder, follower,
// kvcache.Index. The messages are made beforehand. An operation is a message; events/core-s are by the processor time of
// reader, index and sender together.
func BenchmarkIngest(b *testing.B) {
	for _, perMessage := range []int{1, 10} {
		b.Run(fmt.Sprintf("events=%d", perMessage), func(b *testing.B) {
			messages, sequences := wire(perMessage)
			ln, err := net.Listen("tcp", "127.0.0.1:0")
			require.NoError(b, err)
			defer ln.Close()
			index, err := kvcache.New(kvcache.Options{})
			require.NoError(b, err)
			last := &last{sequence: uint64(b.N) - 1, arrived: make(chan struct{})}
			f, err := follow.New(follow.Options{Index: index, Also: func(follow.Engine) events.Sink { return last }})
			require.NoError(b, err)
			require.NoError(b, f.Add(follow.Engine{Name: "p", Endpoint: "tcp://" + ln.Addr().String(), Model: "m"}))
			ctx, cancel := context.WithCancel(context.Background())
			done := make(chan struct{})
			go func() { defer close(done); _ = f.Run(ctx) }()
			defer func() { cancel(); <-done }()
			nc, err := ln.Accept()
			require.NoError(b, err)
			defer nc.Close()
			c, err := zmtp.Handshake(nc, zmtp.Pub, 1<<16, time.Now().Add(10*time.Second))
			require.NoError(b, err)
			_, err = c.Read() // the subscription
			require.NoError(b, err)

			b.ReportAllocs()
			b.ResetTimer()
			busy, _ := cputime.Used()
			for sent := 0; sent < b.N; {
				n := min(len(sequences), b.N-sent)
				end := len(messages)
				if n < len(sequences) {
					end = sequences[n] - 10 // where the next message begins
				}
				for i, at := range sequences[:n] {
					binary.BigEndian.PutUint64(messages[at:], uint64(sent+i))
				}
				_, err = nc.Write(messages[:end])
				require.NoError(b, err)
				sent += n
			}
			<-last.arrived
			used, measured := cputime.Used()
			b.StopTimer()
			h := f.Health()[0]
			require.Zero(b, h.Clears+h.Subscriber.Malformed)
			b.ReportMetric(float64(h.Subscriber.Events)/b.Elapsed().Seconds(), "events/s")
			if measured {
				b.ReportMetric(float64(h.Subscriber.Events)/(used-busy).Seconds(), "events/core-s")
			}
		})
	}
}
