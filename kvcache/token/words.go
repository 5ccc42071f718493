package token

import (
	"math/bits"
	"sync/atomic"
)

// What the word cache takes: longer words, and those of more tokens, are encoded each time.
const (
	maxWordBytes  = 24
	maxWordTokens = 8
)

// words remembers the tokens of short words: text is mostly words seen before. Each word has one place; the newer of two
// that meet there stays. Nothing waits: a place that is being written is a miss.
type words struct {
	slots []slot
	shift uint
}

// slot fills a cache line. state is 0 when empty, odd while being written, and else a version above the numbers of bytes
// and tokens.
type slot struct {
	state  atomic.Uint64
	key    [maxWordBytes / 8]atomic.Uint64
	tokens [maxWordTokens / 2]atomic.Uint64
}

const (
	slotBytes    = 64
	stateVersion = 1 << 16
)

type wordKey [maxWordBytes / 8]uint64

func newWords(bytes int) words {
	if bytes < slotBytes {
		return words{}
	}
	n := bits.Len(uint(bytes/slotBytes)) - 1
	return words{make([]slot, 1<<n), uint(64 - n)}
}

func keyOf(b []byte) wordKey {
	switch {
	case len(b) <= 8:
		return wordKey{word(b)}
	case len(b) <= 16:
		return wordKey{word(b), word(b[8:])}
	}
	return wordKey{word(b), word(b[8:]), word(b[16:])}
}

func (w *words) slot(key *wordKey, size int) *slot {
	h := mix(key[0]^uint64(size), key[1]^bits.RotateLeft64(key[2], 32))
	return &w.slots[h>>w.shift]
}

// shape is the part of a state that tells how many bytes and tokens there are.
func shape(size, tokens int) uint64 { return uint64(size)<<8 | uint64(tokens)<<1 }

// get appends the tokens of a word of size bytes.
func (w *words) get(dst []uint32, key *wordKey, size int) ([]uint32, bool) {
	s := w.slot(key, size)
	state := s.state.Load()
	if state&1 != 0 || state>>8&0xff != uint64(size) {
		return dst, false
	}
	if s.key[0].Load() != key[0] || size > 8 && (s.key[1].Load() != key[1] || s.key[2].Load() != key[2]) {
		return dst, false
	}
	count := int(state >> 1 & 0x7f)
	start := len(dst)
	for i := 0; i < count; i += 2 {
		two := s.tokens[i/2].Load()
		dst = append(dst, uint32(two))
		if i+1 < count {
			dst = append(dst, uint32(two>>32))
		}
	}
	if s.state.Load() != state {
		return dst[:start], false
	}
	return dst, true
}

func (w *words) put(key *wordKey, size int, tokens []uint32) {
	s := w.slot(key, size)
	state := s.state.Load()
	if state&1 != 0 || !s.state.CompareAndSwap(state, state|1) {
		return
	}
	for i := range key {
		s.key[i].Store(key[i])
	}
	for i := 0; i < len(tokens); i += 2 {
		two := uint64(tokens[i])
		if i+1 < len(tokens) {
			two |= uint64(tokens[i+1]) << 32
		}
		s.tokens[i/2].Store(two)
	}
	s.state.Store((state/stateVersion+1)*stateVersion | shape(size, len(tokens)))
}
