package token

import "unicode/utf8"

// seams are the places where text can be cut before it is merged, although no pre-tokenizer cuts it there: between two code
// points a and b, each with a token of its own, when no merge makes a token in which b follows a.
//
// Cutting changes nothing. A token across the place would be the result of a merge and contain a and then b; as there is
// none, no merge ever spans it, and what happens left of it neither enables nor forbids anything on the right: merges are
// applied by rank and, among equals, leftmost first, which orders merges that do not meet in no way that matters.
//
// Models in the manner of SentencePiece merge whole texts. There these places are above all those before a word's mark.
type seams struct {
	// cut has a bit for each pair of ASCII, in which DEL stands for the mark of a word.
	cut   [128][2]uint64
	table []uint64 // of joined, for all but ASCII: open addressing by pairKey, 0 when empty
}

const wordMark = '▁'

func small(r rune) int {
	switch {
	case r < 127:
		return int(r)
	case r == wordMark:
		return 127
	}
	return -1
}

func pairKey(a, b rune) uint64 { return uint64(a)<<21 | uint64(b) }

func newSeams(m *model, list []pair) seams {
	joined := map[uint64]struct{}{}
	var s seams
	for _, p := range list {
		before := rune(-1)
		for token := m.vocab.token(uint32(p.priority)); len(token) > 0; {
			r, size := utf8.DecodeRune(token)
			token = token[size:]
			if before >= 0 {
				joined[pairKey(before, r)] = struct{}{}
			}
			before = r
		}
	}
	letter := func(i int) rune {
		if i == 127 {
			return wordMark
		}
		return rune(i)
	}
	for a := range s.cut {
		for b := range s.cut {
			_, ok := joined[pairKey(letter(a), letter(b))]
			if !ok && m.runes.of(letter(a)) != noID && m.runes.of(letter(b)) != noID {
				s.cut[a][b>>6] |= 1 << (b & 63)
			}
		}
	}
	size := 16
	for size < 2*len(joined) {
		size *= 2
	}
	s.table = make([]uint64, size)
	for key := range joined {
		*s.find(key) = key
	}
	return s
}

func (s *seams) find(key uint64) *uint64 {
	mask := uint64(len(s.table) - 1)
	for i := mix(key, 0); ; i++ {
		if p := &s.table[i&mask]; *p == key || *p == 0 {
			return p
		}
	}
}

// between reports whether there is a seam between a and b.
func (s *seams) between(ids *runeIDs, a, b rune) bool {
	if i, j := small(a), small(b); i >= 0 && j >= 0 {
		return s.cut[i][j>>6]>>(j&63)&1 != 0
	}
	return ids.of(a) != noID && ids.of(b) != noID && *s.find(pairKey(a, b)) == 0
}

// first returns the length of the text up to its first seam.
func (s *seams) first(ids *runeIDs, text []byte) int {
	before, size := utf8.DecodeRune(text)
	for i := size; i < len(text); i += size {
		r := rune(text[i])
		size = 1
		if r >= utf8.RuneSelf {
			r, size = utf8.DecodeRune(text[i:])
		}
		if s.between(ids, before, r) {
			return i
		}
		before = r
	}
	return len(text)
}
