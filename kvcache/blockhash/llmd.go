package blockhash

import (
	"encoding/binary"
	"fmt"
)

// LLMD hashes as llm-d's router does for its own keys, which name the model, or the adapter in its place.
type LLMD struct {
	xxh  bool
	init uint64
}

// NewLLMD takes the algorithm, "cbor-fnv" (llm-d's default) or "xxh64", and the seed of llm-d's configuration.
func NewLLMD(algorithm, seed string) (*LLMD, error) {
	switch algorithm {
	case "cbor-fnv":
		return &LLMD{init: fnv1a([]byte(seed))}, nil
	case "xxh64":
		return &LLMD{xxh: true, init: xxh64([]byte(seed))}, nil
	}
	return nil, fmt.Errorf("blockhash: %q is not known, want cbor-fnv or xxh64", algorithm)
}

// Append follows Scheme.
func (l *LLMD) Append(dst []uint64, s *State, p *Prompt) []uint64 {
	var scratch [2048]byte // longer blocks allocate
	parent := binary.LittleEndian.Uint64(s.parent[:])
	if s.Blocks == 0 {
		parent = l.root(scratch[:0], p)
	}
	for block, at := s.next(p); block != nil; block, at = s.next(p) {
		items, salt := p.items(at), ""
		if at == 0 {
			salt = p.Salt
		}
		if l.xxh {
			b := binary.LittleEndian.AppendUint64(scratch[:0], parent)
			for _, t := range block {
				b = binary.LittleEndian.AppendUint32(b, t)
			}
			for _, item := range items {
				b = appendSized(b, item.ID)
			}
			if salt != "" {
				b = appendSized(b, salt)
			}
			parent = xxh64(b)
		} else {
			b := appendHead(scratch[:0], cborArray, 3)
			b = appendHead(b, cborUint, parent)
			b = appendCBORTokens(b, block)
			parent = fnv1a(appendHashMaps(b, items, salt))
		}
		s.Blocks++
		dst = append(dst, parent)
	}
	binary.LittleEndian.PutUint64(s.parent[:], parent)
	return dst
}

// root is the hash that chains of a model begin at.
func (l *LLMD) root(b []byte, p *Prompt) uint64 {
	name := p.Model
	if p.Adapter != "" {
		name = p.Adapter
	}
	if l.xxh {
		return xxh64(appendSized(binary.LittleEndian.AppendUint64(b, l.init), name))
	}
	b = appendHead(appendHead(b, cborArray, 3), cborUint, l.init)
	return fnv1a(appendCBORText(append(b, cborNull), name))
}

func appendSized(b []byte, s string) []byte {
	return append(binary.LittleEndian.AppendUint64(b, uint64(len(s))), s...)
}

// appendHashMaps appends the items' identifiers and the salt, each as a map of one key "Hash".
func appendHashMaps(b []byte, items []Item, salt string) []byte {
	n := len(items)
	if salt != "" {
		n++
	}
	if n == 0 {
		return append(b, cborNull)
	}
	b = appendHead(b, cborArray, uint64(n))
	for _, item := range items {
		b = appendCBORText(appendCBORText(append(b, 0xa1), "Hash"), item.ID)
	}
	if salt != "" {
		b = appendCBORText(appendCBORText(append(b, 0xa1), "Hash"), salt)
	}
	return b
}

// fnv1a is hash/fnv's New64a without its allocation.
func fnv1a(b []byte) uint64 {
	h := uint64(14695981039346656037)
	for _, c := range b {
		h = (h ^ uint64(c)) * 1099511628211
	}
	return h
}
