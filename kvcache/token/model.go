package token

import (
	"bytes"
	"errors"
	"fmt"
	"unicode/utf8"
)

// noID marks what has no token.
const noID = 1<<32 - 1

// model turns pieces of text into tokens by byte pair encoding. The symbols that it starts from are bytes, or code points
// of which those without a token of their own are spelled in bytes.
type model struct {
	vocab        vocab
	merges       merges
	bytes        bool        // symbols are bytes
	byteIDs      [256]uint32 // tokens of bytes
	fallback     bool        // a code point without a token is spelled in bytes
	unknown      uint32      // what stands for a symbol without a token; noID: it is dropped
	fuseUnknown  bool        // many in a row are one
	ignoreMerges bool        // a piece that is a token is that token, whatever the merges make of it
	whole        *vocab      // by text, to find these
	runes        runeIDs
	seams        seams
	words        words
}

// runeIDs are the tokens of code points.
type runeIDs [utf8.MaxRune>>8 + 1]*[256]uint32

func (t *runeIDs) of(r rune) uint32 {
	if p := t[r>>8]; p != nil {
		return p[r&0xff]
	}
	return noID
}

func (t *runeIDs) set(r rune, id uint32) {
	p := t[r>>8]
	if p == nil {
		p = new([256]uint32)
		for i := range p {
			p[i] = noID
		}
		t[r>>8] = p
	}
	p[r&0xff] = id
}

// modelFile is the model of a tokenizer.json without its large parts.
type modelFile struct {
	Type         string   `json:"type"`
	Dropout      *float64 `json:"dropout"`
	Unknown      *string  `json:"unk_token"`
	Prefix       *string  `json:"continuing_subword_prefix"`
	Suffix       *string  `json:"end_of_word_suffix"`
	FuseUnknown  *bool    `json:"fuse_unk"`
	ByteFallback *bool    `json:"byte_fallback"`
	IgnoreMerges *bool    `json:"ignore_merges"`
}

// readModel reads the member "model".
func readModel(raw []byte, byteLevel bool, cacheBytes int) (*model, error) {
	var file modelFile
	var rawVocab, rawMerges []byte
	small := []byte{'{'}
	r := jsonReader{data: raw}
	r.object(func(key []byte) {
		switch string(key) {
		case "vocab":
			rawVocab = r.skip()
		case "merges":
			rawMerges = r.skip()
		case "type", "dropout", "unk_token", "continuing_subword_prefix", "end_of_word_suffix", "fuse_unk", "byte_fallback", "ignore_merges":
			if len(small) > 1 {
				small = append(small, ',')
			}
			small = fmt.Appendf(small, "%q:%s", key, r.skip())
		default:
			r.skip()
		}
	})
	if r.err != nil {
		return nil, at("model", r.err)
	}
	if err := decode(append(small, '}'), &file); err != nil {
		return nil, at("model", err)
	}
	var errs []error
	refuse := func(refused bool, field, format string, args ...any) {
		if refused {
			errs = append(errs, unsupported("model."+field, format, args...))
		}
	}
	refuse(file.Type != "BPE" && (file.Type != "" || rawMerges == nil), "type", "%q is not BPE", file.Type)
	refuse(file.Dropout != nil && *file.Dropout != 0, "dropout", "encoding would be random")
	refuse(file.Prefix != nil && *file.Prefix != "", "continuing_subword_prefix", "%q is not empty", value(file.Prefix))
	refuse(file.Suffix != nil && *file.Suffix != "", "end_of_word_suffix", "%q is not empty", value(file.Suffix))
	refuse(rawVocab == nil, "vocab", "is missing")
	refuse(rawMerges == nil, "merges", "is missing")
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}

	m := &model{bytes: byteLevel, unknown: noID, fuseUnknown: value(file.FuseUnknown), fallback: value(file.ByteFallback),
		ignoreMerges: value(file.IgnoreMerges), words: newWords(cacheBytes)}
	if err := m.readVocab(rawVocab); err != nil {
		return nil, at("model.vocab", err)
	}
	list, err := m.readMerges(rawMerges)
	if err != nil {
		return nil, at("model.merges", err)
	}
	if file.Unknown != nil {
		id, ok := m.vocab.find([]byte(*file.Unknown))
		if !ok {
			return nil, at("model.unk_token", fmt.Errorf("%q is not in the vocabulary", *file.Unknown))
		}
		m.unknown = id
	}
	m.prepare(list)
	return m, nil
}

func value[T any](p *T) (v T) {
	if p != nil {
		v = *p
	}
	return v
}

func (m *model) readVocab(raw []byte) error {
	r := jsonReader{data: raw}
	m.vocab.data = make([]byte, 0, len(raw)/2)
	r.object(func(key []byte) {
		// A key with escapes is in the reader's buffer, which reading a number leaves alone.
		id := r.uint32()
		if r.err == nil {
			r.err = m.vocab.add(key, id)
		}
	})
	return r.err
}

// readMerges reads "left right" or ["left", "right"], by rank.
func (m *model) readMerges(raw []byte) ([]pair, error) {
	r := jsonReader{data: raw}
	list := make([]pair, 0, len(raw)/16)
	var text []byte
	r.array(func() {
		var split int
		if r.next() == '[' {
			parts := 0
			text = text[:0]
			r.array(func() {
				split = len(text)
				text = append(text, r.string()...)
				parts++
			})
			if r.err == nil && parts != 2 {
				r.fail(fmt.Sprintf("rank %d: %d tokens where 2 are expected", len(list), parts))
			}
		} else {
			line := r.string()
			if bytes.HasPrefix(line, []byte("#version")) {
				return
			}
			split = bytes.IndexByte(line, ' ')
			if r.err == nil && (split < 0 || bytes.IndexByte(line[split+1:], ' ') >= 0) {
				r.fail(fmt.Sprintf("rank %d: %q is not two tokens", len(list), line))
			}
			if r.err == nil {
				text = append(append(text[:0], line[:split]...), line[split+1:]...)
			}
		}
		if r.err != nil {
			return
		}
		left, okLeft := m.vocab.find(text[:split])
		right, okRight := m.vocab.find(text[split:])
		result, okResult := m.vocab.find(text)
		if !okLeft || !okRight || !okResult {
			r.fail(fmt.Sprintf("rank %d: %q and %q, or what they make, is not in the vocabulary", len(list), text[:split], text[split:]))
			return
		}
		list = append(list, pair{uint64(left)<<32 | uint64(right), uint64(len(list))<<32 | uint64(result)})
	})
	return list, r.err
}

// prepare derives the tables that encoding needs.
func (m *model) prepare(list []pair) {
	m.merges = newMerges(list)
	if m.bytes {
		for b := range m.byteIDs {
			m.byteIDs[b] = m.id(utf8.AppendRune(nil, byteRunes[b]))
		}
		if m.ignoreMerges {
			m.whole = &vocab{}
			for id := range m.vocab.spans {
				if text, ok := unmapBytes(nil, m.vocab.token(uint32(id))); ok && len(text) > 0 {
					// Cannot fail: the id was accepted before.
					_ = m.whole.add(text, uint32(id))
				}
			}
		}
		return
	}
	for b := range m.byteIDs {
		m.byteIDs[b] = m.id(fmt.Appendf(nil, "<0x%02X>", b))
	}
	for id := range m.vocab.spans {
		token := m.vocab.token(uint32(id))
		if r, size := utf8.DecodeRune(token); size > 0 && size == len(token) {
			m.runes.set(r, uint32(id))
		}
	}
	if m.ignoreMerges {
		m.whole = &m.vocab
	} else {
		m.seams = newSeams(m, list)
	}
}

func (m *model) id(token []byte) uint32 {
	if id, ok := m.vocab.find(token); ok {
		return id
	}
	return noID
}

// append appends the tokens of a piece.
func (m *model) append(s *scratch, dst []uint32, piece []byte) []uint32 {
	if m.bytes || m.ignoreMerges {
		return m.appendWord(s, dst, piece)
	}
	for len(piece) > 0 {
		n := m.seams.first(&m.runes, piece)
		dst = m.appendWord(s, dst, piece[:n])
		piece = piece[n:]
	}
	return dst
}

// appendWord is append for a piece that is not cut further.
func (m *model) appendWord(s *scratch, dst []uint32, word []byte) []uint32 {
	if len(word) > maxWordBytes || len(m.words.slots) == 0 {
		return m.encode(s, dst, word)
	}
	key := keyOf(word)
	dst, ok := m.words.get(dst, &key, len(word))
	if ok {
		return dst
	}
	start := len(dst)
	dst = m.encode(s, dst, word)
	if len(dst)-start <= maxWordTokens {
		m.words.put(&key, len(word), dst[start:])
	}
	return dst
}

func (m *model) encode(s *scratch, dst []uint32, word []byte) []uint32 {
	if m.ignoreMerges {
		if id, ok := m.whole.find(word); ok {
			return append(dst, id)
		}
	}
	s.symbols = m.appendSymbols(s.symbols[:0], word)
	return m.merges.merge(s, dst, s.symbols)
}

// appendSymbols appends what merging starts from.
func (m *model) appendSymbols(dst []uint32, word []byte) []uint32 {
	unknown := false // one is yet to be appended
	for i := 0; i < len(word); {
		var id uint32
		size := 1
		if m.bytes {
			id = m.byteIDs[word[i]]
		} else {
			var r rune
			r, size = utf8.DecodeRune(word[i:])
			id = m.runes.of(r)
		}
		symbol := word[i : i+size]
		i += size
		switch {
		case id != noID:
			if unknown {
				dst = append(dst, m.unknown)
				unknown = false
			}
			dst = append(dst, id)
		case m.spelled(symbol):
			// The reference leaves an unknown symbol pending here, and so behind these bytes.
			for _, b := range symbol {
				dst = append(dst, m.byteIDs[b])
			}
		case m.unknown != noID:
			if unknown && !m.fuseUnknown {
				dst = append(dst, m.unknown)
			}
			unknown = true
		}
	}
	if unknown {
		dst = append(dst, m.unknown)
	}
	return dst
}

// spelled reports whether a code point without a token can be spelled in tokens of bytes.
func (m *model) spelled(symbol []byte) bool {
	if !m.fallback || m.bytes {
		return false
	}
	for _, b := range symbol {
		if m.byteIDs[b] == noID {
			return false
		}
	}
	return true
}
