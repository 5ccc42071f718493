//go:build e2e

package events

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/inferloom/inferloom/kvcache"
	"github.com/inferloom/inferloom/kvcache/follow"
	"github.com/inferloom/inferloom/kvcache/indexserver"
)

// TestIndex holds kvcache.Index against vLLM with its default hash, which nobody else can compute: what the index, fed by the events
// alone, predicts for a prompt is what the engine then finds in its cache. The cache holds 64 blocks, so most are evicted again.
func TestIndex(t *testing.T) {
	engine, _, port, replay := startVLLM(t, "sha256")
	const block = 32
	index, err := kvcache.New(kvcache.Options{})
	require.NoError(t, err)
	pod := kvcache.Pod{ID: 3, Generation: 1}
	f, err := follow.New(follow.Options{Index: index})
	require.NoError(t, err)
	require.NoError(t, f.Add(follow.Engine{
		Name: "vllm", Pod: pod, Endpoint: fmt.Sprintf("tcp://127.0.0.1:%d", port), Replay: fmt.Sprintf("tcp://127.0.0.1:%d", replay),
		Model: "m", BlockTokens: block,
	}))
	begin := func() {
		ctx, cancel := context.WithCancel(context.Background())
		done := make(chan struct{})
		go func() { defer close(done); _ = f.Run(ctx) }()
		t.Cleanup(func() { cancel(); <-done })
	}
	held := func(tokens []uint32, salt, lora string) int {
		space := kvcache.Space{Model: "m", Adapter: lora, Salt: salt, BlockTokens: block}
		var m kvcache.Matches
		index.Match(space.Append(nil, tokens, nil), block, []uint64{1 << pod.ID}, &m)
		return int(m.Blocks[pod.ID])
	}
	service, err := indexserver.New(indexserver.Options{Index: index, Follower: f})
	require.NoError(t, err)
	// asked is what the service says that the engine holds, in tokens.
	asked := func(tokens []uint32, salt, lora string) int {
		t.Helper()
		body, err := json.Marshal(map[string]any{"model": "m", "block_size": block, "token_ids": tokens, "cache_salt": salt, "lora_name": lora})
		require.NoError(t, err)
		w := httptest.NewRecorder()
		service.ServeHTTP(w, httptest.NewRequest("POST", "/query", bytes.NewReader(body)))
		var answer map[string]map[string]struct {
			Longest int `json:"longest_matched"`
		}
		require.NoError(t, json.Unmarshal(w.Body.Bytes(), &answer), w.Body)
		return answer["default"]["vllm"].Longest
	}
	served, hits, tokensHit, missed := 0, 0, 0, 0
	serve := func(tokens []uint32, salt, lora string) []uint32 {
		t.Helper()
		line, err := json.Marshal(map[string]any{"tokens": tokens, "salt": salt, "adapter": lora != "", "generate": 10})
		require.NoError(t, err)
		predicted := min(held(tokens, salt, lora), (len(tokens)-1)/block) * block // vLLM computes at least one token
		require.Equal(t, held(tokens, salt, lora)*block, asked(tokens, salt, lora))
		var answer struct {
			Cached int
			Tokens []uint32
		}
		require.NoError(t, json.Unmarshal([]byte(engine.ask(string(line))), &answer))
		if served > 0 || answer.Cached > 0 {
			assert.Equal(t, answer.Cached, predicted, "prompt of %d tokens, salt %q, adapter %q", len(tokens), salt, lora)
		}
		f.Found("vllm", predicted, answer.Cached)
		served++
		if predicted > 0 {
			hits++
		} else {
			missed++
		}
		tokensHit += predicted
		return append(append([]uint32(nil), tokens...), answer.Tokens...)
	}
	// settle waits until the whole blocks of a prompt with its answer are known, save the last token, which has no KV yet. Events are in
	// order, so what was evicted for them is known as well.
	settle := func(whole []uint32, salt, lora string) {
		t.Helper()
		want := (len(whole) - 1) / block
		for deadline := time.Now().Add(20 * time.Second); held(whole[:len(whole)-1], salt, lora) != want; time.Sleep(5 * time.Millisecond) {
			require.True(t, time.Now().Before(deadline), "%d of %d blocks are known; %v", held(whole, salt, lora), want, f.Health()[0].Problems())
		}
	}

	prompts := makePrompts()
	first := serve(prompts[0], "", "")
	begin() // what was cached before comes from the replay
	settle(first, "", "")
	for _, of := range []struct{ salt, lora string }{{"", ""}, {"tenant-a", ""}, {"", "sql"}, {"tenant-a", "sql"}, {"", ""}} {
		for _, p := range prompts {
			settle(serve(p, of.salt, of.lora), of.salt, of.lora)
		}
	}
	conversation := prompts[2]
	for range 3 {
		answer := serve(conversation, "tenant-b", "sql")
		settle(answer, "tenant-b", "sql")
		conversation = append(answer, 7, 8, 9, 10, 11)
	}
	stats := index.Stats()
	h := f.Health()[0]
	t.Logf("%d prompts, %d with hits of %d tokens, %d without; predicted %d tokens, found %d, more than predicted %d times, less %d times; "+
		"%d batches of %d events, %d replayed; index %+v", served, hits, tokensHit, missed, h.Hits.Predicted, h.Hits.Found, h.Hits.Under, h.Hits.Over,
		h.Subscriber.Batches, h.Subscriber.Events, h.Subscriber.Replayed, stats)
	require.Positive(t, hits)
	require.Positive(t, missed)
	require.Equal(t, h.Hits.Predicted, h.Hits.Found)
	require.Empty(t, h.Problems())
	require.Equal(t, []uint64{0, 0}, []uint64{h.Subscriber.Unknown, h.Subscriber.UnknownFields})

	require.Equal(t, `{"reset": true}`, engine.ask(`{"reset": true}`))
	engine.ask(`{"tokens": [1, 2, 3], "generate": 1}`) // vLLM tells with its next step
	for deadline := time.Now().Add(20 * time.Second); held(conversation, "tenant-b", "sql") > 0; time.Sleep(5 * time.Millisecond) {
		require.True(t, time.Now().Before(deadline), "the cache was emptied, and the index was not")
	}
}
