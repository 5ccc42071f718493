package blockhash

import (
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/zeebo/xxh3"
)

// DefaultVLLMSeed is the seed of vLLM's sha256 algorithms since 2026-08 where PYTHONHASHSEED is not set.
const DefaultVLLMSeed = "vllm-none-hash"

// VLLMOptions say how an engine hashes: they must agree with its flags, environment and version.
type VLLMOptions struct {
	// Algorithm is the engine's --prefix-caching-hash-algo: sha256_cbor or xxhash_cbor.
	Algorithm string
	// Seed is the engine's PYTHONHASHSEED. Empty is DefaultVLLMSeed, which only sha256_cbor has.
	Seed string
	// Tagged is for versions that fold extra keys into the hash together with what they are, as 0.32 does. It matters to
	// prompts with an adapter, a salt or items only.
	Tagged bool
}

// VLLM hashes as vLLM does. The numbers are those that it publishes: the last eight bytes of each digest.
type VLLM struct {
	xxh    bool
	tagged bool
	none   [32]byte
}

// NewVLLM refuses the algorithms whose hashes another process cannot compute.
func NewVLLM(o VLLMOptions) (*VLLM, error) {
	v := &VLLM{tagged: o.Tagged}
	switch o.Algorithm {
	case "sha256_cbor":
		if o.Seed == "" {
			o.Seed = DefaultVLLMSeed
		}
	case "xxhash_cbor":
		if v.xxh = true; o.Seed == "" {
			return nil, errors.New("blockhash: Seed: xxhash_cbor without PYTHONHASHSEED has a random seed in each process")
		}
	case "sha256", "xxhash":
		return nil, fmt.Errorf("blockhash: Algorithm: %q hashes Python's pickled objects, whose bytes depend on the interpreter; "+
			"start the engine with --prefix-caching-hash-algo %s_cbor", o.Algorithm, o.Algorithm)
	case "builtin":
		return nil, errors.New("blockhash: Algorithm: \"builtin\" is Python's hash(), which depends on the interpreter; " +
			"start the engine with --prefix-caching-hash-algo sha256_cbor")
	default:
		return nil, fmt.Errorf("blockhash: Algorithm: %q is not known, want sha256_cbor or xxhash_cbor", o.Algorithm)
	}
	v.sum(&v.none, appendCBORText(nil, o.Seed))
	return v, nil
}

// None is the digest that chains begin at.
func (v *VLLM) None() []byte { return v.none[:v.width()] }

func (v *VLLM) width() int {
	if v.xxh {
		return 16
	}
	return 32
}

func (v *VLLM) sum(digest *[32]byte, b []byte) {
	if !v.xxh {
		*digest = sha256.Sum256(b)
		return
	}
	h := xxh3.Hash128(b)
	binary.BigEndian.PutUint64(digest[:], h.Hi)
	binary.BigEndian.PutUint64(digest[8:], h.Lo)
}

// Append follows Scheme.
func (v *VLLM) Append(dst []uint64, s *State, p *Prompt) []uint64 {
	var scratch [2048]byte // longer blocks allocate
	width := v.width()
	if s.Blocks == 0 {
		s.parent = v.none
	}
	for block, at := s.next(p); block != nil; block, at = s.next(p) {
		b := appendHead(scratch[:0], cborArray, 3)
		b = append(appendHead(b, cborBytes, uint64(width)), s.parent[:width]...)
		b = appendCBORTokens(b, block)
		b = v.extras(b, p, at)
		v.sum(&s.parent, b)
		s.Blocks++
		dst = append(dst, binary.BigEndian.Uint64(s.parent[width-8:]))
	}
	return dst
}

// Digest returns the digest of the last block hashed, in full.
func (v *VLLM) Digest(s *State) []byte {
	if s.Blocks == 0 {
		return v.None()
	}
	return append([]byte(nil), s.parent[:v.width()]...)
}

// extras appends what a block's hash has beside its tokens: the adapter, then the items with their offsets from the block's
// first token, then, in the first block, the salt.
func (v *VLLM) extras(b []byte, p *Prompt, at int) []byte {
	items := p.items(at)
	n := len(items)
	if p.Adapter != "" {
		n++
	}
	salted := at == 0 && p.Salt != ""
	if salted {
		n++
	}
	if n == 0 {
		return append(b, cborNull)
	}
	b = appendHead(b, cborArray, uint64(n))
	if p.Adapter != "" {
		b = v.tag(b, "lora", 2)
		b = appendCBORText(b, p.Adapter)
		if v.tagged {
			b = appendCBORText(b, p.AdapterPath)
		}
	}
	for _, item := range items {
		if v.tagged {
			b = v.tag(b, "mm", 2)
		} else {
			b = appendHead(b, cborArray, 2)
		}
		b = appendCBORInt(appendCBORText(b, item.ID), item.Offset-at)
	}
	if salted {
		b = appendCBORText(v.tag(b, "cache_salt", 1), p.Salt)
	}
	return b
}

// tag begins a tuple of a name and n values.
func (v *VLLM) tag(b []byte, name string, n uint64) []byte {
	if !v.tagged {
		return b
	}
	return appendCBORText(appendHead(b, cborArray, n+1), name)
}
