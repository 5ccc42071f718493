package kvcache

import (
	"github.com/zeebo/xxh3"

	"github.com/inferloom/inferloom/kvcache/blockhash"
)

// Space is what separates caches: two prompts can share blocks only if they agree in all of it. The request hashes of
// different spaces never meet, so one index holds any number of them.
type Space struct {
	Model, Adapter string
	// Revision tells apart adapters that were loaded under the same name.
	Revision string
	// Salt is the request's cache salt.
	Salt string
	// Scheme is another way to hash whose numbers the caller brings; empty is Append's.
	Scheme      string
	BlockTokens int
}

// Start is the hash that chains of the space begin at.
func (s *Space) Start() uint64 {
	h := blockhash.Start(s.Model, s.Adapter, s.Salt, s.BlockTokens)
	if s.Revision != "" || s.Scheme != "" {
		h = xxh3.HashStringSeed(s.Revision, h)
		h = xxh3.HashStringSeed(s.Scheme, h+1)
	}
	return h
}

// Append appends the request hashes of a prompt's whole blocks. Items are its multimodal items in order of their offsets:
// each counts in every block that has a placeholder of it. Without them the hashes are those of blockhash.AppendTokens.
func (s *Space) Append(dst []uint64, tokens []uint32, items []blockhash.Item) []uint64 {
	if len(items) == 0 {
		return blockhash.AppendTokens(dst, s.Start(), tokens, s.BlockTokens)
	}
	from := len(dst)
	dst = blockhash.AppendContents(dst, tokens, s.BlockTokens)
	for i := range dst[from:] {
		at := i * s.BlockTokens
		for _, item := range items {
			if item.Offset < at+s.BlockTokens && item.Offset+item.Tokens > at {
				dst[from+i] = foldItem(dst[from+i], item.ID, int64(item.Offset-at))
			}
		}
	}
	blockhash.Chain(dst[from:], s.Start())
	return dst
}

// foldItem adds a multimodal item, with where it starts relative to the block, to the hash of a block's content.
func foldItem(content uint64, id string, offset int64) uint64 {
	return xxh3.HashStringSeed(id, content+uint64(offset))
}
