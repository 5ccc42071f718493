package blockhash

import (
	"encoding/binary"

	"github.com/zeebo/xxh3"
)

// Start returns the hash that a chain begins at. Prompts share hashes only if they agree in everything that separates
// caches: model, adapter, salt and block size.
func Start(model, adapter, salt string, blockTokens int) uint64 {
	h := xxh3.HashStringSeed(model, uint64(blockTokens))
	h = xxh3.HashStringSeed(adapter, h)
	return xxh3.HashStringSeed(salt, h)
}

// AppendText appends the chain of a text's blocks of blockBytes bytes, continuing from parent.
func AppendText(dst []uint64, parent uint64, text []byte, blockBytes int) []uint64 {
	for ; blockBytes > 0 && len(text) >= blockBytes; text = text[blockBytes:] {
		parent = link(parent, xxh3.Hash(text[:blockBytes]))
		dst = append(dst, parent)
	}
	return dst
}

// AppendTokens appends the chain of blocks of blockTokens token ids, continuing from parent.
func AppendTokens(dst []uint64, parent uint64, tokens []uint32, blockTokens int) []uint64 {
	var block [64]byte
	for ; blockTokens > 0 && len(tokens) >= blockTokens; tokens = tokens[blockTokens:] {
		content := uint64(0)
		for rest := tokens[:blockTokens]; len(rest) > 0; {
			n := min(len(rest), len(block)/4)
			for i, id := range rest[:n] {
				binary.LittleEndian.PutUint32(block[4*i:], id)
			}
			content = link(content, xxh3.Hash(block[:4*n]))
			rest = rest[n:]
		}
		parent = link(parent, content)
		dst = append(dst, parent)
	}
	return dst
}

// link adds a block's own hash to the chain. The blocks' hashes do not depend on each other, so the processor works on
// several at once and only this short step is in sequence.
func link(parent, block uint64) uint64 {
	h := (parent ^ 0x9e3779b97f4a7c15) * 0xff51afd7ed558ccd
	h ^= h>>33 ^ block
	h *= 0xc4ceb9fe1a85ec53
	return h ^ h>>29
}
