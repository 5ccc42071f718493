package events

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"
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
