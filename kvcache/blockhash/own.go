package blockhash

import (
	"encoding/binary"
	"math/bits"
	"unsafe"

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
	from := len(dst)
	dst = AppendContents(dst, tokens, blockTokens)
	Chain(dst[from:], parent)
	return dst
}

// AppendContents appends a hash of each block's tokens alone, whatever comes before it.
func AppendContents(dst []uint64, tokens []uint32, blockTokens int) []uint64 {
	var block [pieceTokens]uint32
	for ; blockTokens > 0 && len(tokens) >= blockTokens; tokens = tokens[blockTokens:] {
		content := uint64(0)
		for rest := tokens[:blockTokens]; len(rest) > 0; {
			piece := rest[:min(len(rest), pieceTokens)]
			content = link(content, xxh3.Hash(littleEndian(piece, &block)))
			rest = rest[len(piece):]
		}
		dst = append(dst, content)
	}
	return dst
}

// Chain turns the hashes of blocks' contents into a chain that continues from parent, in place.
func Chain(contents []uint64, parent uint64) {
	for i, content := range contents {
		parent = link(parent, content)
		contents[i] = parent
	}
}

// Unchain undoes Chain.
func Unchain(chain []uint64, parent uint64) {
	for i, h := range chain {
		chain[i], parent = unlink(parent, h), h
	}
}

// pieceTokens is how many tokens are hashed at once.
const pieceTokens = 16

// littleEndian returns tokens as bytes, four each, the lowest first. Where that is how they lie in memory already, as on nearly
// every machine, the bytes are the tokens themselves and not a copy: that halves the time to hash a prompt.
func littleEndian(tokens []uint32, scratch *[pieceTokens]uint32) []byte {
	if binary.NativeEndian.Uint16([]byte{1, 0}) != 1 {
		for i, id := range tokens {
			scratch[i] = bits.ReverseBytes32(id)
		}
		tokens = scratch[:len(tokens)]
	}
	return unsafe.Slice((*byte)(unsafe.Pointer(unsafe.SliceData(tokens))), 4*len(tokens))
}

// link adds a block's own hash to the chain. The blocks' hashes do not depend on each other, so the processor works on
// several at once and only this short step is in sequence.
func link(parent, block uint64) uint64 {
	h := (parent ^ 0x9e3779b97f4a7c15) * 0xff51afd7ed558ccd
	h ^= h>>33 ^ block
	h *= 0xc4ceb9fe1a85ec53
	return h ^ h>>29
}

// unlink returns the block that link added to a parent.
func unlink(parent, h uint64) uint64 {
	h ^= h>>29 ^ h>>58
	h *= 0x9cb4b2f8129337db // the inverse of link's last factor modulo 2^64
	p := (parent ^ 0x9e3779b97f4a7c15) * 0xff51afd7ed558ccd
	return h ^ p ^ p>>33
}
