package blockhash

import "strings"

// Scheme hashes prompts as one engine or router does. Schemes are immutable and safe for concurrent use.
type Scheme interface {
	// Append appends the hashes of the prompt's whole blocks from where the state is, and moves the state on.
	Append(dst []uint64, s *State, p *Prompt) []uint64
}

// Prompt is what a chain of hashes depends on.
type Prompt struct {
	Tokens      []uint32
	BlockTokens int

	Model       string // only llm-d's keys contain it
	Adapter     string // name of the LoRA adapter
	AdapterPath string // where the engine loads it from; only vLLM's tagged keys contain it
	Salt        string // cache salt
	Items       []Item // multimodal items in order of their offsets
}

// Item is a multimodal item whose placeholders are the Tokens tokens from Offset on.
type Item struct {
	ID             string
	Offset, Tokens int
}

// State is how far a prompt is hashed; the zero value is its beginning. A copy kept from an earlier turn continues a prompt that
// begins with the same blocks, under the same scheme, adapter, salt and items.
type State struct {
	Blocks int
	parent [32]byte
}

// next returns the tokens of the next whole block and its first token's position, or nil.
func (s *State) next(p *Prompt) (block []uint32, at int) {
	at = s.Blocks * p.BlockTokens
	if p.BlockTokens <= 0 || at+p.BlockTokens > len(p.Tokens) {
		return nil, at
	}
	return p.Tokens[at : at+p.BlockTokens], at
}

// items returns the items with a placeholder in the block that starts at a position.
func (p *Prompt) items(at int) []Item {
	first := 0
	for first < len(p.Items) && p.Items[first].Offset+p.Items[first].Tokens <= at {
		first++
	}
	last := first
	for last < len(p.Items) && p.Items[last].Offset < at+p.BlockTokens {
		last++
	}
	return p.Items[first:last]
}

// appendJSON appends a string as serde_json and other plain writers do, without HTML escapes.
func appendJSON(dst []byte, s string) []byte {
	const digits = "0123456789abcdef"
	dst = append(dst, '"')
	for i := range len(s) {
		c := s[i]
		switch {
		case c == '"' || c == '\\':
			dst = append(dst, '\\', c)
		case c < 0x20:
			if at := strings.IndexByte("\b\f\n\r\t", c); at >= 0 {
				dst = append(dst, '\\', "bfnrt"[at])
			} else {
				dst = append(dst, '\\', 'u', '0', '0', digits[c>>4], digits[c&15])
			}
		default:
			dst = append(dst, c)
		}
	}
	return append(dst, '"')
}
