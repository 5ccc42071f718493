package token

import (
	"bytes"
	"iter"
	"sync"
	"unicode/utf8"
)

// Tokenizer turns text into the token ids of one model, and back. It is safe for concurrent use.
type Tokenizer struct {
	unicode   *unicodeTables
	raw       *added // tokens found in the text as it is; nil when there are none
	normal    *added // and in the normalised text
	normalize normalizer
	pieces    pretokenizer
	model     *model
	decoder   decoder
	names     map[uint32]addedName // of added tokens, by id
	begin     []uint32
	end       []uint32
	joints    joints

	scratch sync.Pool
}

// scratch is the memory of one call.
type scratch struct {
	valid, normal, spare, pieces []byte
	runes                        []rune
	symbols                      []uint32
	links                        []link
	heap                         []uint64
	ids                          []uint32
	literal                      bool // added tokens are not looked for
}

// keepBytes is how large a scratch may be to be kept for another call.
const keepBytes = 8 << 20

func (t *Tokenizer) borrow() *scratch {
	if s, ok := t.scratch.Get().(*scratch); ok {
		return s
	}
	return &scratch{}
}

func (t *Tokenizer) giveBack(s *scratch) {
	size := cap(s.valid) + cap(s.normal) + cap(s.spare) + cap(s.pieces) + 4*(cap(s.runes)+cap(s.symbols)+cap(s.ids)) + 16*cap(s.links) + 8*cap(s.heap)
	if size <= keepBytes {
		t.scratch.Put(s)
	}
}

// Append appends the ids of a user's text to dst. Nothing in the text becomes a special token: what looks like one is
// encoded as the characters that it is. It allocates nothing when dst has room. Bytes that are not UTF-8 are encoded as
// U+FFFD, one for each longest stretch that could have begun a character.
func (t *Tokenizer) Append(dst []uint32, text []byte) []uint32 {
	s := t.borrow()
	dst = t.append(s, dst, text, false, false)
	t.giveBack(s)
	return dst
}

// AppendSpecial is Append for trusted text, as a chat template renders it: the names of special tokens in it become these.
func (t *Tokenizer) AppendSpecial(dst []uint32, text []byte) []uint32 {
	s := t.borrow()
	dst = t.append(s, dst, text, true, false)
	t.giveBack(s)
	return dst
}

// Part is a stretch of a text.
type Part struct {
	Text []byte
	// Literal text is encoded as the characters that it is: not even added tokens that are not special are found in it. In
	// other text special tokens stand by name.
	Literal bool
}

// AppendParts appends the ids of a text that is given in parts. Each is encoded by itself, the first as the beginning of a
// text and the others as what goes on.
func (t *Tokenizer) AppendParts(dst []uint32, parts ...Part) []uint32 {
	s := t.borrow()
	for i, p := range parts {
		s.literal = p.Literal
		dst = t.append(s, dst, p.Text, true, i > 0)
	}
	s.literal = false
	t.giveBack(s)
	return dst
}

// AddedTokens yields the names of the tokens that are found in texts before all else, in no order, and whether they are
// special.
func (t *Tokenizer) AddedTokens() iter.Seq2[string, bool] {
	return func(yield func(string, bool) bool) {
		for _, a := range t.names {
			if !yield(a.content, a.special) {
				return
			}
		}
	}
}

// Count returns how many ids Append would append.
func (t *Tokenizer) Count(text []byte) int { return t.count(text, false) }

// CountSpecial returns how many ids AppendSpecial would append.
func (t *Tokenizer) CountSpecial(text []byte) int { return t.count(text, true) }

func (t *Tokenizer) count(text []byte, special bool) int {
	s := t.borrow()
	s.ids = t.append(s, s.ids[:0], text, special, false)
	n := len(s.ids)
	t.giveBack(s)
	return n
}

// Begin returns the ids that the model's post-processor puts before a text, and End those behind it: those of BOS and EOS,
// mostly. Append never adds them. A chat template writes them out itself. The slices must not be changed.
func (t *Tokenizer) Begin() []uint32 { return t.begin }

// End returns the ids behind a text. See Begin.
func (t *Tokenizer) End() []uint32 { return t.end }

// ID returns the id of a token by its name in the model's file: of "<|im_end|>", say.
func (t *Tokenizer) ID(name string) (id uint32, ok bool) {
	for id, added := range t.names {
		if added.content == name {
			return id, true
		}
	}
	return t.model.vocab.find([]byte(name))
}

// append encodes a text, or the rest of one of which the beginning has been encoded.
func (t *Tokenizer) append(s *scratch, dst []uint32, text []byte, special, rest bool) []uint32 {
	if !utf8.Valid(text) {
		s.valid = appendValid(s.valid[:0], text)
		text = s.valid
	}
	if t.raw == nil || s.literal {
		return t.appendSection(s, dst, text, special, begins(0, rest))
	}
	for done, next := 0, 0; done < len(text); {
		token, start, end, after := t.raw.cut(t.unicode, text, done, next, special)
		dst = t.appendSection(s, dst, text[done:start], special, begins(done, rest))
		if token == nil {
			break
		}
		dst = append(dst, token.ID)
		done, next = end, after
	}
	return dst
}

// beginning says what begins where a section does, which decides on prefixes.
type beginning int

const (
	beginsText    beginning = iota
	beginsSection           // behind an added token
	beginsNothing
)

func begins(done int, rest bool) beginning {
	switch {
	case done > 0:
		return beginsSection
	case rest:
		return beginsNothing
	}
	return beginsText
}

// appendSection encodes what stands between two tokens that are found in the text as it is.
func (t *Tokenizer) appendSection(s *scratch, dst []uint32, text []byte, special bool, b beginning) []uint32 {
	text = t.normalize.apply(s, text, b)
	if t.normal == nil || s.literal {
		return t.pieces.append(t, s, dst, text, b)
	}
	for done, next := 0, 0; done < len(text); {
		token, start, end, after := t.normal.cut(t.unicode, text, done, next, special)
		dst = t.pieces.append(t, s, dst, text[done:start], b)
		if token == nil {
			break
		}
		dst = append(dst, token.ID)
		done, next = end, after
		b = beginsSection
	}
	return dst
}

// appendValid replaces what is not UTF-8 by U+FFFD: once for each longest stretch that begins a character and does not end
// it, else for each byte (Unicode Standard, section 3.9, "U+FFFD Substitution of Maximal Subparts"). Rust's and Python's
// lossy decoding do the same.
func appendValid(dst, text []byte) []byte {
	for len(text) > 0 {
		r, size := utf8.DecodeRune(text)
		if r == utf8.RuneError && size == 1 {
			size = subpart(text)
			dst = append(dst, "\uFFFD"...)
		} else {
			dst = append(dst, text[:size]...)
		}
		text = text[size:]
	}
	return dst
}

// subpart returns the length of the longest beginning of a character at the head of a text that is not UTF-8 there.
func subpart(text []byte) int {
	length, low, high := 0, byte(0x80), byte(0xbf)
	switch c := text[0]; {
	case c >= 0xc2 && c <= 0xdf:
		length = 2
	case c >= 0xe0 && c <= 0xef:
		length = 3
	case c >= 0xf0 && c <= 0xf4:
		length = 4
	default:
		return 1
	}
	switch text[0] {
	case 0xe0:
		low = 0xa0
	case 0xed:
		high = 0x9f
	case 0xf0:
		low = 0x90
	case 0xf4:
		high = 0x8f
	}
	n := 1
	for n < length && n < len(text) && text[n] >= low && text[n] <= high {
		low, high = 0x80, 0xbf
		n++
	}
	return n
}

// absent reports whether a member of a file is missing or null.
func absent(raw []byte) bool { return len(raw) == 0 || bytes.Equal(raw, []byte("null")) }
