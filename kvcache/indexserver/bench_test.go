package indexserver

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http/httptest"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/inferloom/inferloom/kvcache"
	"github.com/inferloom/inferloom/kvcache/events"
	"github.com/inferloom/inferloom/kvcache/follow"
)

// BenchmarkQuery is one request for a prompt of 8,192 tokens, of which each engine holds another part, without the network.
func BenchmarkQuery(b *testing.B) {
	tokens := prompt(1, 512)
	for _, engines := range []int{1, 64} {
		index, err := kvcache.New(kvcache.Options{})
		require.NoError(b, err)
		f, err := follow.New(follow.Options{Index: index})
		require.NoError(b, err)
		for i := range engines {
			e := follow.Engine{
				Name: EngineName(fmt.Sprint("engine-", i), defaultTenant, 0), Pod: kvcache.Pod{ID: uint32(i), Generation: 1},
				Endpoint: "tcp://127.0.0.1:1", Model: "m", BlockTokens: size,
			}
			require.NoError(b, f.Add(e))
			held := 512 * (i + 1) / engines
			ev := events.Event{Kind: events.Stored, Tier: events.GPU, BlockTokens: size, Group: -1, Tokens: tokens[:held*size]}
			for j := range held {
				ev.Hashes = append(ev.Hashes, uint64(j+1)*0x9e3779b97f4a7c15)
			}
			index.Apply(e.Pod, &ev)
		}
		s, err := New(Options{Index: index, Follower: f})
		require.NoError(b, err)
		body, err := json.Marshal(M{"model": "m", "block_size": size, "token_ids": tokens})
		require.NoError(b, err)
		b.Run(fmt.Sprintf("blocks=512/engines=%d", engines), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				w := httptest.NewRecorder()
				s.ServeHTTP(w, httptest.NewRequest("POST", "/query", bytes.NewReader(body)))
				if w.Code != 200 {
					b.Fatal(w.Body)
				}
			}
		})
	}
}
