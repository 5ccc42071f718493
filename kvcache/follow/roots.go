package follow

import (
	"slices"

	"github.com/inferloom/inferloom/kvcache/events"
)

// What is remembered of the beginnings of prompts: enough to say where another prompt differs, and little of each.
const (
	rootsKept  = 32
	rootTokens = 256
)

// Root is the beginning of a prompt that an engine has stored.
type Root struct {
	Tokens        []uint32 // at most 256
	BlockTokens   int
	Adapter, Salt string
	Items         bool // it has multimodal items or other content beside the tokens
}

// roots are the latest different ones of an engine.
type roots struct {
	kept []Root
	next int
}

func (r *roots) note(b *events.Batch) {
	for i := range b.Events {
		e := &b.Events[i]
		if e.Kind != events.Stored || e.HasParent || !e.Dense() {
			continue
		}
		tokens := e.Tokens[:min(len(e.Tokens), rootTokens)]
		same := func(k Root) bool {
			n := min(len(k.Tokens), len(tokens))
			return k.Adapter == e.Adapter && k.Salt == e.Salt && k.BlockTokens == e.BlockTokens && slices.Equal(k.Tokens[:n], tokens[:n])
		}
		if slices.ContainsFunc(r.kept, same) {
			continue
		}
		if len(r.kept) < rootsKept {
			r.kept = append(r.kept, Root{})
		}
		k := &r.kept[r.next%rootsKept]
		r.next++
		*k = Root{Tokens: append(k.Tokens[:0], tokens...), BlockTokens: e.BlockTokens, Adapter: e.Adapter, Salt: e.Salt}
		for _, x := range e.Extras {
			k.Items = k.Items || x.Kind == events.Item || x.Kind == events.Embeddings || x.Kind == events.Text
		}
	}
}

func (r *roots) clear() { r.kept, r.next = nil, 0 }

// Roots returns the beginnings of prompts that an engine has stored lately, as copies.
func (f *Follower) Roots(engine string) []Root {
	f.mu.Lock()
	d := f.feeds[engine]
	f.mu.Unlock()
	if d == nil {
		return nil
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	out := slices.Clone(d.roots.kept)
	for i := range out {
		out[i].Tokens = slices.Clone(out[i].Tokens)
	}
	return out
}
