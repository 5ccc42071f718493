package scheduling

import "time"

// BytesPerToken is the length of a token that is assumed of text whose tokens are not known.
const BytesPerToken = 4

// Request is what the scheduler knows of one inference request. It is read, never kept or changed, by Pick; but a
// Decision refers to it until Next and Done have been called for the last time.
type Request struct {
	// Model is the base model. Empty means that every endpoint will do.
	Model string
	// Adapter is the LoRA adapter on top of the model, if any.
	Adapter string
	// Prompt is what prefix affinity and token accounting go by.
	Prompt Prompt
	// Modality is what the prompt has beside text, and Media the pieces, so that endpoints are found that have encoded them
	// before.
	Modality Modality
	Media    []Media
	// MaxTokens bounds the output, in tokens; 0 means unknown.
	MaxTokens int
	// Priority orders requests where they wait: higher is sooner.
	Priority int
	// Tenant is who pays, for fairness and quotas.
	Tenant string
	// Session ties requests that belong together, for session affinity.
	Session string
	// Pinned is the ID of the endpoint that a client asks to come back to, if any; see SessionTokens.
	Pinned string
	// Peer is the endpoint that the request's KV cache comes from or goes to, if that is settled: for the prefill of a
	// request, say, the one that will decode it.
	Peer *Endpoint
	// TTFT and TPOT are the latency objectives; 0 means none.
	TTFT, TPOT time.Duration
	// Header looks up a request header; nil means that there are none.
	Header func(name string) string
	// Explain asks for Decision.Explanation. It costs allocations.
	Explain bool
}

// Modality is a set of kinds of input; zero is text alone.
type Modality uint8

// The kinds of input beside text.
const (
	Image Modality = 1 << iota
	Audio
	Video
)

// Media is an image, a sound or a film.
type Media struct {
	// Hash is of its content.
	Hash uint64
	// Size is how much it counts, in any unit that is the same for all: tokens, say.
	Size int32
}

// Prompt is the text or the tokens of a prompt; tokens win where both are given.
type Prompt struct {
	// Text is the prompt as text, in whatever form is stable from one turn of a conversation to the next.
	Text []byte
	// Tokens are the ids that the model's engine makes of the prompt, exactly. What is only estimated is no id and belongs
	// into Text: the two are hashed apart, so one index can hold both and neither is taken for the other.
	Tokens []uint32
	// Salt separates prompts that must not share a cache although they read the same.
	Salt string
	// Chains are block hashes that the caller has already, one chain a block size. They must come from one hash scheme
	// for all requests that a scheduler sees.
	Chains []Chain
}

// Chain is the prefix-chained hashes of a prompt's full blocks: hash i stands for blocks 0 to i.
type Chain struct {
	BlockTokens int
	Hashes      []uint64
}

// Len returns the prompt's length in tokens: exact where tokens are known, else estimated from the text, else from the
// longest chain.
func (p *Prompt) Len() int {
	if len(p.Tokens) > 0 {
		return len(p.Tokens)
	}
	if len(p.Text) > 0 {
		return (len(p.Text) + BytesPerToken - 1) / BytesPerToken
	}
	tokens := 0
	for i := range p.Chains {
		tokens = max(tokens, p.Chains[i].BlockTokens*len(p.Chains[i].Hashes))
	}
	return tokens
}
