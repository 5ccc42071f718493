package enginesim

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"

	"github.com/zeebo/xxh3"
)

// tokenBytes is the length of a pseudo-token. A prompt is a byte string of a multiple of it.
const tokenBytes = 4

// appendText appends a piece of text that starts at a new token, padded to whole tokens.
func appendText(prompt []byte, text string) []byte {
	prompt = append(prompt, text...)
	for len(prompt)%tokenBytes != 0 {
		prompt = append(prompt, 0)
	}
	return prompt
}

func appendTokens(prompt []byte, ids []uint32) []byte {
	for _, id := range ids {
		prompt = binary.LittleEndian.AppendUint32(prompt, id)
	}
	return prompt
}

func appendMessage(prompt []byte, role, content string) []byte {
	prompt = appendText(prompt, "<|"+role+"|>")
	prompt = appendText(prompt, content)
	return appendText(prompt, "<|end|>")
}

// The words of answers: four bytes each, the last being a space or, at the very end, a full stop.
var syllables = [...]string{
	"ba", "be", "bo", "da", "de", "do", "fa", "fi", "ga", "go", "ka", "ki", "la", "li", "lo", "ma",
	"me", "mo", "na", "ne", "no", "pa", "pi", "ra", "re", "ri", "sa", "so", "ta", "te", "to", "vi",
}

const codas = "lmnrstkx"

// appendAnswer appends n tokens of text that depend on the prompt and the seed only.
func appendAnswer(prompt []byte, n int, seed uint64) []byte {
	state := xxh3.HashSeed(prompt, seed)
	for range n {
		state = state*6364136223846793005 + 1442695040888963407
		bits := state >> 33
		prompt = append(prompt, syllables[bits%32]...)
		prompt = append(prompt, codas[bits>>5%8], ' ')
	}
	prompt[len(prompt)-1] = '.'
	return prompt
}

// blockHashes returns the chained hashes of the full blocks of a token string.
func blockHashes(tokens []byte, blockTokens int, seed uint64) []uint64 {
	size := blockTokens * tokenBytes
	hashes := make([]uint64, 0, len(tokens)/size)
	h := seed
	for ; len(tokens) >= size; tokens = tokens[size:] {
		h = max(1, xxh3.HashSeed(tokens[:size], h)) // the engine takes 0 for "no hash"
		hashes = append(hashes, h)
	}
	return hashes
}

// namespace is the seed of a chain: prompts of different models, adapters or salts share no block.
func namespace(model, adapter, salt string) uint64 {
	return xxh3.HashString(model + "\x00" + adapter + "\x00" + salt)
}

// Pseudo makes the pseudo-tokens of prompts as a Server without a Tokenizer does, for a router that is to know what it caches. It
// is a gateway.Tokenizer.
type Pseudo struct{}

// AppendChat appends the ids of the prompt of a request to /v1/chat/completions.
func (Pseudo) AppendChat(_ context.Context, dst []uint32, body []byte) ([]uint32, error) {
	var b chatBody
	if err := json.Unmarshal(body, &b); err != nil {
		return nil, err
	}
	prompt, bad := b.render()
	if bad != nil {
		return nil, errors.New(bad.message)
	}
	return appendIDs(dst, prompt), nil
}

// AppendCompletion appends the ids of the prompt of a request to /v1/completions.
func (Pseudo) AppendCompletion(_ context.Context, dst []uint32, body []byte) ([]uint32, error) {
	var b textBody
	if err := json.Unmarshal(body, &b); err != nil {
		return nil, err
	}
	prompt, err := promptTokens(b.Prompt)
	if err != nil {
		return nil, err
	}
	return appendIDs(dst, prompt), nil
}

func appendIDs(dst []uint32, prompt []byte) []uint32 {
	for at := 0; at < len(prompt); at += tokenBytes {
		dst = append(dst, binary.LittleEndian.Uint32(prompt[at:]))
	}
	return dst
}
