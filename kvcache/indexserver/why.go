package indexserver

import (
	"cmp"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"

	"github.com/inferloom/inferloom/kvcache"
	"github.com/inferloom/inferloom/kvcache/blockhash"
	"github.com/inferloom/inferloom/kvcache/follow"
)

// A reason says why an engine cannot use more of a prompt.
type reason struct {
	Code   string `json:"code"`
	Detail string `json:"detail"`
}

// The codes of reasons.
const (
	whyHit        = "hit"          // all of it can be used
	whyShort      = "short_prompt" // it has no whole block
	whyUnheard    = "no_events"
	whyBlockSize  = "block_size"
	whyTopic      = "topic"
	whyAdapter    = "adapter"
	whySalt       = "salt"
	whyTokens     = "tokens"
	whyItems      = "items"
	whyGuess      = "guess"       // some of what is usable is only guessed
	whyTier       = "tier"        // some of what is usable is not on the GPU
	whyGone       = "gone"        // it was there, and was evicted or cleared
	whyGroups     = "cache_group" // the blocks are there, but a sliding window or state is not
	whyElsewhere  = "elsewhere"   // other engines hold it, this one does not
	whyNeverSeen  = "never_stored"
	whyHash       = "hash"        // the hashes of the request are not the engine's
	whyHashScheme = "hash_scheme" // which known algorithm the engine's hashes are of
)

type explanation struct {
	Instance string         `json:"instance_id"`
	Tenant   string         `json:"tenant_id"`
	Rank     int            `json:"dp_rank"`
	Block    int            `json:"block_size"`
	Blocks   int            `json:"prompt_blocks"`
	Usable   int            `json:"usable_blocks"`
	Tiers    map[string]int `json:"tiers"`
	Reasons  []reason       `json:"reasons"`
	Problems []string       `json:"problems,omitempty"`
}

func (e *explanation) because(code, format string, args ...any) {
	e.Reasons = append(e.Reasons, reason{code, fmt.Sprintf(format, args...)})
}

// why explains what engines hold of a prompt. It takes what /query takes, and compares hashes as well if there are some.
func (s *Server) why(w http.ResponseWriter, r *http.Request) {
	var q query
	if !decode(w, r, s.o.MaxBodyBytes, &q) {
		return
	}
	errs := q.check()
	if len(q.Tokens) == 0 {
		errs = append(errs, errors.New("token_ids: missing"))
	}
	if len(errs) > 0 {
		fail(w, http.StatusBadRequest, errors.Join(errs...))
		return
	}
	out := []explanation{}
	var others []string
	for _, h := range s.o.Follower.Health() {
		k := workerOf(h.Engine)
		if k.Store {
			continue
		}
		if k.Model != q.model() || k.tenant != q.tenant() || q.Instance != "" && k.instance != string(q.Instance) || q.Rank != nil && k.Rank != q.rank() {
			others = append(others, fmt.Sprintf("%s: model %q, tenant %q, instance %q, rank %d", k.Name, k.Model, k.tenant, k.instance, k.Rank))
			continue
		}
		out = append(out, s.explain(&q, &h, k))
	}
	body := map[string]any{"engines": out}
	if len(out) == 0 {
		body["not_asked"] = others // nobody fits: this is who there is
	}
	answer(w, http.StatusOK, body)
}

func (s *Server) explain(q *query, h *follow.Health, k worker) explanation {
	seen := h.Subscriber.BlockTokens
	e := explanation{
		Instance: k.instance, Tenant: k.tenant, Rank: k.Rank, Block: cmp.Or(k.BlockTokens, seen, q.BlockSize),
		Tiers: map[string]int{}, Reasons: []reason{}, Problems: h.Problems(),
	}
	if h.Subscriber.Batches == 0 && h.Cursor.Next == 0 {
		e.because(whyUnheard, "no event has arrived from %s", k.Endpoint)
		return e
	}
	if seen > 0 && seen != e.Block {
		e.because(whyBlockSize, "the engine's blocks are of %d tokens, it is registered with %d: nothing can match", seen, e.Block)
	}
	if q.BlockSize > 0 && q.BlockSize != e.Block {
		e.because(whyBlockSize, "the request is about blocks of %d tokens, the engine's are of %d: /query passes it over", q.BlockSize, e.Block)
	}
	if m := h.Topic.Model; m != "" && m != k.Model {
		e.because(whyTopic, "the engine's topic %q says that it serves %q: it is registered for %q", h.Topic.Name, m, k.Model)
	}
	if e.Block == 0 || len(q.Tokens) < e.Block {
		e.because(whyShort, "the prompt has %d tokens, a block %d: only whole blocks are shared", len(q.Tokens), e.Block)
		return e
	}
	space := q.space(e.Block)
	chain := space.Append(nil, q.Tokens, nil)
	e.Blocks = len(chain)
	blocks := s.o.Index.Inspect(k.Pod, chain, nil)
	gap := s.matched(&e, k.Pod, chain)
	s.behind(&e, q, k, blocks, gap)
	hashes(&e, q, blocks, k)
	return e
}

// matched fills in what the engine can use, and returns the first block that it does not have.
func (s *Server) matched(e *explanation, p kvcache.Pod, chain []uint64) (gap int) {
	var m kvcache.Matches
	among := make([]uint64, p.ID/64+1)
	among[p.ID/64] |= 1 << (p.ID % 64)
	s.o.Index.Match(chain, e.Block, among, &m)
	e.Usable = int(m.Blocks[p.ID])
	for t := range kvcache.Tier(kvcache.Tiers) {
		if n := int(m.Tiers[t][p.ID]); n > 0 {
			e.Tiers[t.String()] = n
		}
	}
	if n := e.Tiers[kvcache.Guessed.String()]; n > 0 {
		e.because(whyGuess, "%d of the usable blocks are guessed: the engine was sent them, and has not said that it stored them", n)
	}
	if e.Usable > 0 && e.Tiers[kvcache.GPU.String()] < e.Usable {
		e.because(whyTier, "of %d usable blocks %d are on the GPU", e.Usable, e.Tiers[kvcache.GPU.String()])
	}
	return int(m.Gap[p.ID])
}

// behind says why the prompt cannot be used behind what can.
func (s *Server) behind(e *explanation, q *query, k worker, blocks []kvcache.Block, gap int) {
	switch {
	case e.Usable == e.Blocks:
		e.because(whyHit, "all %d whole blocks can be used", e.Blocks)
		return
	case gap > e.Usable:
		e.because(whyGroups, "%d blocks are held for full attention, but only %d can be continued from by the model's other cache groups", gap, e.Usable)
		return
	}
	at := blocks[gap]
	later := slices.ContainsFunc(blocks[gap:], func(b kvcache.Block) bool { return b.Held != 0 })
	switch {
	case later:
		e.because(whyGone, "block %d is not held, though later ones of the prompt are: it was evicted", gap)
	case at.Known && at.HasEngine:
		e.because(whyElsewhere, "block %d is known, and this engine does not hold it: it has evicted it, or another engine stored it", gap)
	case at.Known:
		e.because(whyElsewhere, "block %d is known from other engines: this one has not stored it, or has evicted it", gap)
	case gap > 0:
		e.because(whyNeverSeen, "no engine is known to have stored block %d (tokens %d to %d) after the blocks before it", gap, gap*e.Block, (gap+1)*e.Block-1)
	default:
		beginning(e, q, s.o.Follower.Roots(k.Name))
	}
}

// beginning compares a prompt whose first block nobody has with the prompts that the engine has stored.
func beginning(e *explanation, q *query, roots []follow.Root) {
	if len(roots) == 0 {
		e.because(whyNeverSeen, "no beginning of a prompt has been stored since the engine is followed, or its events tell no tokens")
		return
	}
	nearest, common := -1, -1
	for i, r := range roots {
		n := 0
		for n < len(r.Tokens) && n < len(q.Tokens) && r.Tokens[n] == q.Tokens[n] {
			n++
		}
		same := r.Adapter == q.Adapter && r.Salt == q.salt()
		if n > common || n == common && same {
			nearest, common = i, n
		}
	}
	if common < 4 {
		for _, r := range roots {
			if detail := shifted(r.Tokens, q.Tokens); detail != "" {
				e.because(whyTokens, "%s", detail)
				return
			}
		}
	}
	r := &roots[nearest]
	if common < min(r.BlockTokens, len(r.Tokens)) {
		e.because(whyTokens, "of %d prompts that it stored lately, the nearest begins with the same %d tokens; then it has %s, and this one %s",
			len(roots), common, excerpt(r.Tokens, common), excerpt(q.Tokens, common))
		return
	}
	explained := false
	because := func(code, format string, args ...any) { e.because(code, format, args...); explained = true }
	if r.BlockTokens != e.Block {
		because(whyBlockSize, "it stored the same tokens in blocks of %d", r.BlockTokens)
	}
	if r.Adapter != q.Adapter {
		because(whyAdapter, "it stored the same tokens for adapter %q, the request is for %q", r.Adapter, q.Adapter)
	}
	if r.Salt != q.salt() {
		because(whySalt, "it stored the same tokens under a cache salt of %d bytes, the request has %s", len(r.Salt), saltText(q.salt(), r.Salt))
	}
	if r.Items {
		because(whyItems, "it stored the same tokens with images or other items, which the request does not tell")
	}
	if !explained {
		e.because(whyGone, "it stored the same tokens, and has evicted or cleared them since")
	}
}

// saltText does not print salts: they are secrets of tenants.
func saltText(salt, other string) string {
	switch {
	case salt == "":
		return "none"
	case len(salt) == len(other):
		return "another of the same length"
	}
	return fmt.Sprintf("one of %d", len(salt))
}

func excerpt(tokens []uint32, at int) string {
	if at >= len(tokens) {
		return "ended"
	}
	return fmt.Sprint(tokens[at:min(at+4, len(tokens))])
}

// shifted recognises a first token that one of two prompts lacks: most often the tokenizer's beginning of sequence.
func shifted(stored, asked []uint32) string {
	const enough = 4
	agree := func(a, b []uint32) bool {
		n := min(len(a), len(b))
		return n >= enough && slices.Equal(a[:n], b[:n])
	}
	switch {
	case len(stored) > 0 && agree(stored[1:], asked):
		return fmt.Sprintf("it stored a prompt that is this one but for a first token, %d: is the beginning-of-sequence token missing?", stored[0])
	case len(asked) > 0 && agree(stored, asked[1:]):
		return fmt.Sprintf("it stored a prompt that is this one without its first token, %d: is there a beginning-of-sequence token too many?", asked[0])
	}
	return ""
}

// hashes says what the engine calls the prompt's blocks, and whether the request's hashes are the same.
func hashes(e *explanation, q *query, blocks []kvcache.Block, k worker) {
	known := 0
	for known < len(blocks) && blocks[known].HasEngine {
		known++
	}
	given := slices.Concat(q.Rolling, q.Older, q.Local)
	for i := range min(len(given), known) {
		if given[i] != blocks[i].Engine {
			e.because(whyHash, "block %d is %d in the request, and the engine calls it %d: algorithm or seed differ", i, given[i], blocks[i].Engine)
			break
		}
	}
	if known == 0 {
		return
	}
	prompt := blockhash.Prompt{Tokens: q.Tokens, BlockTokens: e.Block, Model: k.Model, Adapter: q.Adapter, Salt: q.salt()}
	for _, c := range candidates() {
		var state blockhash.State
		if got := c.scheme.Append(nil, &state, &prompt); len(got) > 0 && got[0] == blocks[0].Engine {
			e.because(whyHashScheme, "the engine's hashes are %s", c.name)
			return
		}
	}
	e.because(whyHashScheme, "the engine's hashes are of no algorithm and seed that this knows without being told; /query does not need to")
}

type candidate struct {
	name   string
	scheme blockhash.Scheme
}

// candidates are the schemes that need nothing to be known of an engine.
func candidates() []candidate {
	out := []candidate{{"SGLang's", blockhash.SGLang{}}, {"Dynamo's and Mooncake's (XXH3-64, seed 1337)", blockhash.Dynamo{Seed: blockhash.DynamoSeed, ChainSeed: blockhash.DynamoChainSeed}}}
	for _, o := range []blockhash.VLLMOptions{
		{Algorithm: "sha256_cbor"}, {Algorithm: "sha256_cbor", Tagged: true},
		{Algorithm: "sha256_cbor", Seed: "0"}, {Algorithm: "sha256_cbor", Seed: "0", Tagged: true},
		{Algorithm: "xxhash_cbor", Seed: "0"}, {Algorithm: "xxhash_cbor", Seed: "0", Tagged: true},
	} {
		if v, err := blockhash.NewVLLM(o); err == nil {
			seed := cmp.Or(o.Seed, blockhash.DefaultVLLMSeed)
			out = append(out, candidate{"vLLM's " + strings.TrimSpace(o.Algorithm) + " with the seed " + seed, v})
		}
	}
	return out
}
