package jinja

import (
	"strings"
	"unicode"
	"unicode/utf8"
)

// special are the letters whose upper, lower or title case is not one letter for one, or depends on what is around them
// (SpecialCasing.txt of Unicode). Texts with them are refused.
var special = &unicode.RangeTable{
	R16: []unicode.Range16{
		{0xdf, 0xdf, 1}, {0x130, 0x130, 1}, {0x149, 0x149, 1}, {0x1f0, 0x1f0, 1}, {0x390, 0x390, 1}, {0x3a3, 0x3a3, 1},
		{0x3b0, 0x3b0, 1}, {0x587, 0x587, 1}, {0x1e96, 0x1e9a, 1}, {0x1e9e, 0x1e9e, 1}, {0x1f50, 0x1f56, 2}, {0x1f80, 0x1faf, 1},
		{0x1fb2, 0x1fb4, 1}, {0x1fb6, 0x1fb7, 1}, {0x1fbc, 0x1fbc, 1}, {0x1fc2, 0x1fc4, 1}, {0x1fc6, 0x1fc7, 1},
		{0x1fcc, 0x1fcc, 1}, {0x1fd2, 0x1fd3, 1}, {0x1fd6, 0x1fd7, 1}, {0x1fe2, 0x1fe4, 1}, {0x1fe6, 0x1fe7, 1},
		{0x1ff2, 0x1ff4, 1}, {0x1ff6, 0x1ff7, 1}, {0x1ffc, 0x1ffc, 1}, {0xfb00, 0xfb06, 1}, {0xfb13, 0xfb17, 1},
	},
}

func (r *run) plainLetters(s string) string {
	if !ascii(s) && strings.ContainsFunc(s, func(c rune) bool { return unicode.Is(special, c) }) {
		r.unsupported("to change the case of letters such as ß")
	}
	return s
}

func (r *run) upper(s string) string { return strings.ToUpper(r.plainLetters(s)) }
func (r *run) lower(s string) string { return strings.ToLower(r.plainLetters(s)) }

func (r *run) capitalize(s string) string {
	r.plainLetters(s)
	c, size := utf8.DecodeRuneInString(s)
	if size == 0 {
		return ""
	}
	return string(unicode.ToTitle(c)) + strings.ToLower(s[size:])
}

// title is Python's str.title: a letter behind one that has no case begins a word.
func (r *run) title(s string) string {
	inside := false
	return strings.Map(func(c rune) rune {
		was := inside
		inside = unicode.IsUpper(c) || unicode.IsLower(c) || unicode.IsTitle(c)
		if was {
			return unicode.ToLower(c)
		}
		return unicode.ToTitle(c)
	}, r.plainLetters(s))
}

// titleFilter is Jinja2's filter: words begin behind white space, hyphens and opening brackets.
func (r *run) titleFilter(s string) string {
	begins := true
	return strings.Map(func(c rune) rune {
		was := begins
		begins = isSpace(c) || strings.ContainsRune("-({[<", c)
		if was && !begins {
			return unicode.ToUpper(c)
		}
		return unicode.ToLower(c)
	}, r.plainLetters(s))
}
