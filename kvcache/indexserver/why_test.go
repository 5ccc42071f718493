package indexserver

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/inferloom/inferloom/kvcache/blockhash"
	"github.com/inferloom/inferloom/kvcache/events"
)

// Each reason why a prompt is not found is told from the others.
func TestWhy(t *testing.T) {
	e, other, quiet, wrong := newEngine(t, "kv@10.0.0.7:8000@m"), newEngine(t, ""), newEngine(t, ""), newEngine(t, "kv@10.0.0.8:8000@another")
	bos := append([]uint32{128000}, prompt(1, 4)...)[:4*size]
	e.store(t, events.GPU, blockhash.Prompt{Tokens: bos}, 0, 4)
	salted := blockhash.Prompt{Tokens: prompt(2, 2), Salt: "secret"}
	e.store(t, events.GPU, salted, 0, 2)
	lora := blockhash.Prompt{Tokens: prompt(3, 2), Adapter: "sql"}
	e.store(t, events.GPU, lora, 0, 2)
	gone := blockhash.Prompt{Tokens: prompt(4, 4)}
	e.store(t, events.GPU, gone, 0, 4)
	e.remove(t, events.GPU, gone, 2, 3)
	slow := blockhash.Prompt{Tokens: prompt(5, 2)}
	e.store(t, events.GPU, slow, 0, 1)
	e.store(t, events.CPU, slow, 1, 2)
	theirs := blockhash.Prompt{Tokens: prompt(6, 2)}
	other.store(t, events.GPU, theirs, 0, 2)
	wrong.store(t, events.GPU, theirs, 0, 1)

	s := serve(t)
	for name, engine := range map[string]*engine{"e": e, "other": other, "quiet": quiet, "wrong": wrong} {
		blocks := size
		if name == "wrong" {
			blocks = 64
		}
		status, body := s.post("/register", M{"endpoint": engine.live, "replay_endpoint": engine.replay, "modelname": "m", "instance_id": name, "block_size": blocks})
		require.Equal(t, 200, status, body)
	}
	s.settle(e, other, wrong)
	ask := func(q M) explanation {
		if q["instance_id"] == nil {
			q["instance_id"] = "e"
		}
		q["model"] = "m"
		status, body := s.post("/debug/why", q)
		require.Equal(t, 200, status, body)
		var out struct{ Engines []explanation }
		require.NoError(t, json.Unmarshal([]byte(body), &out))
		require.Len(t, out.Engines, 1, body)
		return out.Engines[0]
	}
	shifted := prompt(1, 4)
	late := append([]uint32(nil), bos...)
	late[20] = 99
	for _, tt := range []struct {
		name   string
		q      M
		usable int
		code   string
		detail string
	}{
		{"all of it", M{"token_ids": bos}, 4, whyHit, "all 4 whole blocks"},
		{"hash scheme", M{"token_ids": bos}, 4, whyHashScheme, "vLLM's sha256_cbor with the seed vllm-none-hash"},
		{"no beginning of sequence", M{"token_ids": shifted}, 0, whyTokens, "but for a first token, 128000"},
		{"one beginning too many", M{"token_ids": append([]uint32{7}, bos...)}, 0, whyTokens, "without its first token, 7"},
		{"another token", M{"token_ids": append([]uint32{bos[0], bos[1], bos[2], 77}, bos[4:]...)}, 0, whyTokens, "begins with the same 3 tokens; then it has [10002 10003 10004 10005], and this one [77 "},
		{"another token later", M{"token_ids": late}, 1, whyNeverSeen, "stored block 1 (tokens 16 to 31)"},
		{"salt", M{"token_ids": salted.Tokens}, 0, whySalt, "a cache salt of 6 bytes, the request has none"},
		{"another salt", M{"token_ids": salted.Tokens, "cache_salt": "secret"[:5] + "s"}, 0, whySalt, "another of the same length"},
		{"adapter", M{"token_ids": lora.Tokens}, 0, whyAdapter, `for adapter "sql", the request is for ""`},
		{"evicted", M{"token_ids": gone.Tokens}, 2, whyGone, "block 2 is not held, though later ones of the prompt are"},
		{"tier", M{"token_ids": slow.Tokens}, 2, whyTier, "of 2 usable blocks 1 are on the GPU"},
		{"elsewhere", M{"token_ids": theirs.Tokens}, 0, whyElsewhere, "block 0 is known"},
		{"too short", M{"token_ids": bos[:size-1]}, 0, whyShort, "the prompt has 15 tokens, a block 16"},
		{"block size of the request", M{"token_ids": bos, "block_size": 32}, 4, whyBlockSize, "blocks of 32 tokens, the engine's are of 16"},
		{"block size of the engine", M{"token_ids": prompt(6, 8), "instance_id": "wrong"}, 0, whyBlockSize, "blocks are of 16 tokens, it is registered with 64"},
		{"topic", M{"token_ids": prompt(6, 8), "instance_id": "wrong"}, 0, whyTopic, `serves "another"`},
		{"unheard", M{"token_ids": bos, "instance_id": "quiet"}, 0, whyUnheard, "no event has arrived"},
		{"hash", M{"token_ids": bos, "seq_hashes": []uint64{hashes64Of(t, blockhash.Prompt{Tokens: bos})[0], 5}}, 4, whyHash, "block 1 is 5 in the request"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got := ask(tt.q)
			require.Equal(t, tt.usable, got.Usable, "%+v", got)
			var codes, details []string
			for _, r := range got.Reasons {
				codes = append(codes, r.Code)
				if r.Code == tt.code {
					details = append(details, r.Detail)
				}
			}
			require.Contains(t, codes, tt.code, "%+v", got)
			require.Contains(t, strings.Join(details, "\n"), tt.detail)
			require.NotContains(t, strings.Join(details, "\n"), "secret", "salts are secrets")
		})
	}
	require.NotEmpty(t, ask(M{"token_ids": bos, "instance_id": "wrong"}).Problems)
	_, body := s.post("/debug/why", M{"model": "x", "token_ids": bos})
	require.Contains(t, body, `e|default|0: model \"m\", tenant \"default\"`)
}
