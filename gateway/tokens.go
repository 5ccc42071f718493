package gateway

import (
	"context"
	"fmt"
	"sync"

	"github.com/inferloom/inferloom/gateway/api"
)

// Tokenizer knows the token ids that the engines of one model make of prompts: a tokenizer and a chat template in this
// process (kvcache/token/chat), or an engine that is asked. It is safe for concurrent use.
//
// Ids are the engine's, every one of them, or there is an error: who can only guess returns one. The request is then
// estimated, which is text and no ids, and text is hashed apart from ids; so the two never meet in an index.
type Tokenizer interface {
	// AppendChat appends the ids of the prompt that body asks for, a request to /v1/chat/completions, to dst. The adapter
	// that it may name as its model is of no account.
	AppendChat(ctx context.Context, dst []uint32, body []byte) ([]uint32, error)
	// AppendCompletion is AppendChat for /v1/completions with a prompt that is one text.
	AppendCompletion(ctx context.Context, dst []uint32, body []byte) ([]uint32, error)
}

// PromptKind says how the tokens of a prompt were known when its request was placed.
type PromptKind uint8

const (
	PromptEstimated PromptKind = iota // from its length, at scheduling.BytesPerToken
	PromptTokenized                   // the model's Tokenizer said it
	PromptGiven                       // the client sent ids
)

// String returns the kind's name, for logs and metrics.
func (k PromptKind) String() string {
	switch k {
	case PromptEstimated:
		return "estimated"
	case PromptTokenized:
		return "tokenized"
	case PromptGiven:
		return "given"
	}
	return fmt.Sprintf("PromptKind(%d)", uint8(k))
}

// keepTokens is how many ids a buffer may hold to be kept for another request.
const keepTokens = 1 << 20

// tokenBuffers are for the ids of prompts, from the decision to the end of the request.
type tokenBuffers struct{ pool sync.Pool }

func (b *tokenBuffers) get() []uint32 {
	if p, ok := b.pool.Get().(*[]uint32); ok {
		return (*p)[:0]
	}
	return nil
}

func (b *tokenBuffers) put(ids []uint32) {
	if n := cap(ids); n > 0 && n <= keepTokens {
		b.pool.Put(&ids)
	}
}

// prompt fills in what is known of a request's prompt, and says in the record how.
func (b *Brain) prompt(ctx context.Context, l *lease, r *api.Request) {
	p := &l.request.Prompt
	p.Salt = r.CacheSalt
	if r.HasTokenIDs() {
		l.record.PromptKind = PromptGiven
		p.Tokens = r.AppendTokenIDs(b.buffers.get())
		return
	}
	if t := b.o.Tokenizers[l.request.Model]; t != nil {
		start := b.o.Now()
		ids, err := tokenize(ctx, t, b.buffers.get(), r)
		l.record.Tokenize = b.o.Now().Sub(start)
		if err == nil && len(ids) > 0 {
			l.record.PromptKind = PromptTokenized
			p.Tokens = ids
			return
		}
		b.buffers.put(ids)
		l.record.TokenizeErr = err
	}
	if tools := r.Tools.Of(r.Body); len(tools) > 0 {
		p.Salt += "\x00" + string(tools) // chat templates put the tools before the messages
	}
	p.Text = r.PromptBytes()
}

func tokenize(ctx context.Context, t Tokenizer, dst []uint32, r *api.Request) ([]uint32, error) {
	switch {
	case r.Kind == api.Chat:
		return t.AppendChat(ctx, dst, r.Body)
	case r.PromptForm == api.TextPrompt:
		return t.AppendCompletion(ctx, dst, r.Body)
	}
	return nil, fmt.Errorf("a %s of several prompts has no tokens of its own", r.Kind)
}
