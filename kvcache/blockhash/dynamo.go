package blockhash

import (
	"encoding/binary"
	"slices"
	"strconv"

	"github.com/zeebo/xxh3"
)

// The seeds of Dynamo's router, and of the Mooncake conductor, for prompts without an adapter.
const (
	DynamoSeed      = 1337
	DynamoChainSeed = 1337
)

// Dynamo hashes as NVIDIA Dynamo does: each block by its content, then the chain of these. Seed separates models' adapters and
// salts: DynamoSeed or DynamoAdapterSeed of versions until 2026, DynamoSaltSeed of later ones. ChainSeed is DynamoChainSeed in
// its router and 0 in its newer token library.
type Dynamo struct {
	Seed, ChainSeed uint64
}

// DynamoAdapterSeed is the seed of an adapter in older versions.
func DynamoAdapterSeed(adapter string) uint64 {
	if adapter == "" {
		return DynamoSeed
	}
	return DynamoSeed + xxh3.HashString(adapter)
}

// DynamoSaltSeed is the seed of a salt and an adapter in newer versions.
func DynamoSaltSeed(salt, adapter string) uint64 {
	b := []byte{'{'}
	if salt != "" {
		b = appendJSON(append(b, `"salt":`...), salt)
	}
	if adapter != "" {
		if len(b) > 1 {
			b = append(b, ',')
		}
		b = appendJSON(append(b, `"lora_name":`...), adapter)
	}
	return xxh3.Hash(append(b, '}'))
}

// Append follows Scheme. Of the prompt, only tokens and items are hashed.
func (d Dynamo) Append(dst []uint64, s *State, p *Prompt) []uint64 {
	var scratch [2048]byte // longer blocks allocate
	parent := binary.LittleEndian.Uint64(s.parent[:])
	for block, at := s.next(p); block != nil; block, at = s.next(p) {
		b := scratch[:0]
		for _, t := range block {
			b = binary.LittleEndian.AppendUint32(b, t)
		}
		b = appendItems(b, p.items(at))
		h := xxh3.HashSeed(b, d.Seed)
		if s.Blocks > 0 {
			var link [16]byte
			binary.LittleEndian.PutUint64(link[:], parent)
			binary.LittleEndian.PutUint64(link[8:], h)
			h = xxh3.HashSeed(link[:], d.ChainSeed)
		}
		parent = h
		s.Blocks++
		dst = append(dst, h)
	}
	binary.LittleEndian.PutUint64(s.parent[:], parent)
	return dst
}

// appendItems appends the items' hashes in rising order. An identifier of 64 hexadecimal digits is a hash itself, of which the
// first 16 count.
func appendItems(b []byte, items []Item) []byte {
	if len(items) == 0 {
		return b
	}
	var few [8]uint64
	hashes := few[:0]
	for _, item := range items {
		h, err := uint64(0), strconv.ErrSyntax
		if len(item.ID) == 64 {
			h, err = strconv.ParseUint(item.ID[:16], 16, 64)
		}
		if err != nil {
			h = xxh3.HashString(item.ID)
		}
		hashes = append(hashes, h)
	}
	slices.Sort(hashes)
	for _, h := range hashes {
		b = binary.LittleEndian.AppendUint64(b, h)
	}
	return b
}
