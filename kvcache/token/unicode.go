package token

import (
	_ "embed"
	"encoding/binary"
	"sync"
	"unicode/utf8"
)

// The reference library's own view of Unicode, which is not that of Go's version of it.
//
//go:generate python3 ../../e2e/token/unicode.py unicode.bin
//go:embed unicode.bin
var unicodeData []byte

// group is a set of general categories, one bit each, as regular expressions name them. Every code point is in exactly one;
// white space is taken out of whatever category it has.
type group uint16

const (
	groupOther group = 1 << iota // controls, unassigned and private code points
	groupLu
	groupLl
	groupLt
	groupLm
	groupLo
	groupM
	groupN
	groupP
	groupS
	groupSpace

	groupL = groupLu | groupLl | groupLt | groupLm | groupLo
)

// A code point's kind has the number of its group in the low bits, then flags, then its combining class. Combining classes
// are numbered 1, 2, 3 ... in their order.
const (
	kindGroup     = 0xf
	kindNumeric   = 1 << 4 // numeric to the Digits pre-tokenizer
	kindWord      = 1 << 5 // a word's letter to added tokens that are single words
	kindCombining = 6
)

// unicodeTables answer questions about code points.
type unicodeTables struct {
	ascii [256]group // 0 from 0x80
	page  [utf8.MaxRune>>8 + 1]*[256]uint16

	canonical, compatible map[rune][]rune // full decompositions, Hangul apart
	compose               map[[2]rune]rune
	second                map[rune]bool // can be composed with what stands before
}

// readUnicode parses the embedded tables when the first tokenizer needs them.
var readUnicode = sync.OnceValue(func() *unicodeTables {
	u := &unicodeTables{compose: map[[2]rune]rune{}, second: map[rune]bool{}}
	data := unicodeData
	number := func() int {
		n, size := binary.Uvarint(data)
		data = data[size:]
		return int(n)
	}
	shared := map[[256]uint16]*[256]uint16{}
	var current [256]uint16
	fill := func(from, to int, kind uint16) {
		for c := from; c < to; c++ {
			current[c&0xff] = kind
			if c&0xff != 0xff {
				continue
			}
			p := shared[current]
			if p == nil {
				p = new([256]uint16)
				*p = current
				shared[current] = p
			}
			u.page[c>>8] = p
		}
	}
	start, kind := 0, uint16(0)
	for range number() {
		next := start + number()
		fill(start, next, kind)
		start, kind = next, uint16(number())
	}
	fill(start, utf8.MaxRune+1, kind)
	for c := range rune(utf8.RuneSelf) {
		u.ascii[c] = u.group(c)
	}

	decompositions := func() map[rune][]rune {
		m := map[rune][]rune{}
		c := 0
		for range number() {
			c += number()
			d := make([]rune, number())
			for i := range d {
				d[i] = rune(number())
			}
			m[rune(c)] = d
		}
		return m
	}
	u.canonical, u.compatible = decompositions(), decompositions()
	for range number() {
		first, second, whole := rune(number()), rune(number()), rune(number())
		u.compose[[2]rune{first, second}] = whole
		u.second[second] = true
	}
	return u
})

func (u *unicodeTables) kind(r rune) uint16 { return u.page[r>>8][r&0xff] }

func (u *unicodeTables) group(r rune) group { return 1 << (u.kind(r) & kindGroup) }

// at returns the group of the code point at text[i:], which must not be empty, and its length in bytes.
func (u *unicodeTables) at(text []byte, i int) (group, int) {
	if g := u.ascii[text[i]]; g != 0 {
		return g, 1
	}
	r, size := utf8.DecodeRune(text[i:])
	return u.group(r), size
}

// run returns the end of the longest stretch of code points of groups g from i.
func (u *unicodeTables) run(text []byte, i int, g group) int {
	for i < len(text) {
		m := u.ascii[text[i]]
		size := 1
		if m == 0 {
			m, size = u.at(text, i)
		}
		if m&g == 0 {
			break
		}
		i += size
	}
	return i
}
