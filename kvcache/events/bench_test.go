package events

import (
	"context"
	"encoding/binary"
	"fmt"
	"net"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/inferloom/inferloom/kvcache/events/internal/zmtp"
)

// event returns a BlockStored with full 64-bit hashes and tokens of a vocabulary of 128,000, whose ids are mostly 3 or 5 bytes.
func event(blocks, blockTokens int) Event {
	e := Event{Kind: Stored, Medium: "GPU", BlockTokens: blockTokens, Parent: 1 << 63, HasParent: true, Group: 0, Attention: FullAttention}
	for i := range blocks {
		e.Hashes = append(e.Hashes, 0x9e3779b97f4a7c15*uint64(i+1))
	}
	for i := range blocks * blockTokens {
		e.Tokens = append(e.Tokens, uint32(uint64(i+1)*7919%128000))
	}
	return e
}

func TestDecodeDoesNotAllocate(t *testing.T) {
	salted := event(4, 16)
	salted.Adapter, salted.Extras = "sql", []Extra{{Kind: AdapterName, Value: "sql"}, {Kind: Salt, Value: "tenant"}}
	cleared := Event{Kind: Cleared, Group: -1}
	removed := Event{Kind: Removed, Hashes: []uint64{1, 2}, Digests: [][]byte{[]byte("0123456789abcdef"), nil}, Group: 3}
	for _, form := range []Form{Maps, Arrays} {
		payload := Append(nil, &Batch{Events: []Event{event(16, 16), salted, removed, cleared}, Rank: 1}, form)
		var d Decoder
		var b Batch
		require.NoError(t, d.Decode(payload, &b))
		require.Len(t, b.Events, 4)
		require.Zero(t, testing.AllocsPerRun(100, func() { _ = d.Decode(payload, &b) }))
	}
}

func benchmarkDecode(b *testing.B, payload []byte) {
	var d Decoder
	var batch Batch
	require.NoError(b, d.Decode(payload, &batch))
	blocks := 0
	for i := range batch.Events {
		blocks += len(batch.Events[i].Hashes)
	}
	events := len(batch.Events)
	b.ReportAllocs()
	b.SetBytes(int64(len(payload)))
	for b.Loop() {
		if d.Decode(payload, &batch) != nil {
			b.Fatal("not decoded")
		}
	}
	seconds := b.Elapsed().Seconds()
	b.ReportMetric(float64(b.N)*float64(blocks)/seconds, "blocks/s")
	b.ReportMetric(seconds*1e9/float64(b.N)/float64(events), "ns/event")
}

func BenchmarkDecode(b *testing.B) {
	for _, shape := range []struct{ blocks, blockTokens int }{{1, 64}, {16, 16}, {64, 16}} {
		for _, form := range []Form{Maps, Arrays} {
			name := fmt.Sprintf("blocks=%d", shape.blocks)
			if form == Arrays {
				name += "/arrays"
			}
			payload := Append(nil, &Batch{Events: []Event{event(shape.blocks, shape.blockTokens)}}, form)
			b.Run(name, func(b *testing.B) { benchmarkDecode(b, payload) })
		}
	}
	batch := Batch{}
	for range 100 {
		batch.Events = append(batch.Events, event(1, 64))
	}
	payload := Append(nil, &batch, Maps)
	b.Run("events=100", func(b *testing.B) { benchmarkDecode(b, payload) })
}

func BenchmarkAppend(b *testing.B) {
	batch := Batch{Events: []Event{event(16, 16)}}
	var dst []byte
	b.ReportAllocs()
	for b.Loop() {
		dst = Append(dst[:0], &batch, Maps)
	}
}

// counter is a sink that says when it has seen enough.
type counter struct {
	events, want int
	done         chan struct{}
}

func (c *counter) Apply(m *Message) {
	c.events += len(m.Batch.Events)
	if c.want > 0 && c.events >= c.want {
		close(c.done)
		c.want = 0
	}
}

func (c *counter) Lost(Loss) {}

// BenchmarkReceive reads batches that are on their way already from a loopback connection, decodes them and hands them to a sink.
func BenchmarkReceive(b *testing.B) {
	for _, perBatch := range []int{1, 10} {
		b.Run(fmt.Sprintf("events=%d", perBatch), func(b *testing.B) {
			batch := Batch{}
			for range perBatch {
				batch.Events = append(batch.Events, event(1, 16))
			}
			payload := Append(nil, &batch, Maps)
			ln, err := net.Listen("tcp", "127.0.0.1:0")
			require.NoError(b, err)
			sink := &counter{want: b.N * perBatch, done: make(chan struct{})}
			ctx, cancel := context.WithCancel(context.Background())
			served := make(chan struct{})
			go func() {
				defer close(served)
				l := Listener{Accept: func(Topic, net.Addr) Sink { return sink }}
				_ = l.Serve(ctx, ln)
			}()
			nc, err := net.Dial("tcp", ln.Addr().String())
			require.NoError(b, err)
			c, err := zmtp.Handshake(nc, zmtp.Pub, 1<<16, time.Now().Add(10*time.Second))
			require.NoError(b, err)
			_, err = c.Read() // the subscription
			require.NoError(b, err)
			// Messages are made beforehand, many to a write, so that the reader is what is measured.
			const many = 256
			var wire []byte
			var sequences []int
			for range many {
				wire = append(wire, 1, 6, 'k', 'v', '@', 'p', '@', 'm', 1, 8)
				sequences = append(sequences, len(wire))
				wire = append(wire, make([]byte, 8)...)
				wire = binary.BigEndian.AppendUint64(append(wire, 2), uint64(len(payload)))
				wire = append(wire, payload...)
			}
			size := len(wire) / many
			b.ReportAllocs()
			b.SetBytes(int64(size))
			b.ResetTimer()
			for n := 0; n < b.N; n += many {
				for i, at := range sequences {
					binary.BigEndian.PutUint64(wire[at:], uint64(n+i))
				}
				_, err = nc.Write(wire[:min(many, b.N-n)*size])
				require.NoError(b, err)
			}
			<-sink.done
			b.StopTimer()
			b.ReportMetric(float64(b.N*perBatch)/b.Elapsed().Seconds(), "events/s")
			cancel()
			nc.Close()
			<-served
		})
	}
}
