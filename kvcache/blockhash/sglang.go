package blockhash

import (
	"crypto/sha256"
	"encoding/binary"
)

// SGLang hashes pages as SGLang does: the numbers are the first eight bytes of each digest, as it publishes them. The hash
// says nothing about the adapter or the items, so prompts that differ in these need keys of their own. Salts are part of the
// hash since SGLang 0.5.18; leave Prompt.Salt empty for versions before.
type SGLang struct{}

// Append follows Scheme.
func (SGLang) Append(dst []uint64, s *State, p *Prompt) []uint64 {
	var scratch [2048]byte // longer pages allocate
	root := s.Blocks == 0
	if root && p.Salt != "" {
		b := append(scratch[:0], "sglang-cache-salt-v1\x00"...)
		s.parent = sha256.Sum256(append(b, p.Salt...))
		root = false
	}
	for block, _ := s.next(p); block != nil; block, _ = s.next(p) {
		b := scratch[:0]
		if !root {
			b = append(b, s.parent[:]...)
		}
		root = false
		for _, t := range block {
			b = binary.LittleEndian.AppendUint32(b, t)
		}
		s.parent = sha256.Sum256(b)
		s.Blocks++
		dst = append(dst, binary.BigEndian.Uint64(s.parent[:]))
	}
	return dst
}
