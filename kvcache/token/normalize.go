package token

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"unicode/utf8"
)

// normalizer is the steps that text goes through before it is cut.
type normalizer []normalStep

// normalStep is one of: a Unicode form, a replacement, a prefix.
type normalStep struct {
	form     *form
	old, new []byte
	prepend  []byte
}

type normalizerFile struct {
	Type        string
	Normalizers []json.RawMessage
	Prepend     string
	Pattern     *patternFile
	Content     string
}

type patternFile struct {
	String *string
	Regex  *string
}

func readNormalizer(path string, raw []byte, u *unicodeTables) (normalizer, error) {
	if absent(raw) {
		return nil, nil
	}
	var file normalizerFile
	if err := decode(raw, &file); err != nil {
		return nil, at(path, err)
	}
	switch file.Type {
	case "Sequence":
		var all normalizer
		for i, part := range file.Normalizers {
			steps, err := readNormalizer(fmt.Sprintf("%s.normalizers[%d]", path, i), part, u)
			if err != nil {
				return nil, err
			}
			all = append(all, steps...)
		}
		return all, nil
	case "NFC", "NFD", "NFKC", "NFKD":
		f := newForm(u, file.Type[2] == 'K', file.Type[len(file.Type)-1] == 'C')
		return normalizer{{form: f}}, nil
	case "Prepend":
		return normalizer{{prepend: []byte(file.Prepend)}}, nil
	case "Replace":
		if file.Pattern == nil || file.Pattern.String == nil || *file.Pattern.String == "" {
			return nil, unsupported(path+".pattern", "only strings can be replaced")
		}
		return normalizer{{old: []byte(*file.Pattern.String), new: []byte(file.Content)}}, nil
	}
	return nil, unsupported(path+".type", "no normalizer %q", file.Type)
}

// apply returns the text normalised: in a buffer of s, or the text itself when nothing changes.
func (n normalizer) apply(s *scratch, text []byte, b beginning) []byte {
	if len(text) == 0 {
		return text
	}
	for _, step := range n {
		// What the step reads may be the result of the one before, in the first buffer.
		switch {
		case step.form != nil:
			out, changed := step.form.append(s, s.spare[:0], text)
			s.spare = out
			if !changed {
				continue
			}
		case step.old != nil:
			if !bytes.Contains(text, step.old) {
				continue
			}
			s.spare = appendReplaced(s.spare[:0], text, step.old, step.new)
		case b == beginsNothing:
			continue
		default:
			s.spare = append(append(s.spare[:0], step.prepend...), text...)
		}
		s.normal, s.spare = s.spare, s.normal
		text = s.normal
	}
	return text
}

// removes reports whether no normalised text contains a character.
func (n normalizer) removes(character string) bool {
	gone := false
	for _, step := range n {
		switch {
		case len(character) == 1 && string(step.old) == character:
			gone = !bytes.Contains(step.new, []byte(character))
		case step.form != nil || bytes.Contains(step.new, []byte(character)) || bytes.Contains(step.prepend, []byte(character)):
			gone = false
		}
	}
	return gone
}

func appendReplaced(dst, text, old, new []byte) []byte {
	for {
		i := bytes.Index(text, old)
		if len(old) == 1 {
			i = bytes.IndexByte(text, old[0])
		}
		if i < 0 {
			return append(dst, text...)
		}
		dst = append(append(dst, text[:i]...), new...)
		text = text[i+len(old):]
	}
}

// form is a normalisation form of Unicode. Unlike golang.org/x/text it inserts nothing into long runs of marks, as the
// reference does not either, and follows the reference's version of Unicode.
type form struct {
	tables  *unicodeTables
	compat  bool
	compose bool
	changes [utf8.MaxRune>>8 + 1]*[4]uint64 // bits of code points that are not plain
}

// Hangul syllables are composed by arithmetic (Unicode Standard, section 3.12).
const (
	hangulBase, hangulL, hangulV, hangulT = 0xac00, 0x1100, 0x1161, 0x11a7
	countL, countV, countT                = 19, 21, 28
)

// newForm finds the code points that are plain: unchanged whatever stands around them, and no barrier's wrong side: a text
// can be normalised piece by piece where a piece begins with a plain one.
func newForm(u *unicodeTables, compat, compose bool) *form {
	f := &form{tables: u, compat: compat, compose: compose}
	mark := func(r rune) {
		p := f.changes[r>>8]
		if p == nil {
			p = new([4]uint64)
			f.changes[r>>8] = p
		}
		p[r>>6&3] |= 1 << (r & 63)
	}
	for r := range rune(utf8.MaxRune + 1) {
		if p := u.page[r>>8]; p != nil && p[r&0xff]>>kindCombining != 0 {
			mark(r)
		}
	}
	for r, d := range u.canonical {
		if !compose || len(d) == 1 || u.kind(d[0])>>kindCombining != 0 || u.second[d[0]] || f.excluded(r, d) {
			mark(r)
		}
	}
	if compat {
		for r := range u.compatible {
			mark(r)
		}
	}
	if compose {
		for r := range u.second {
			mark(r)
		}
		for r := rune(hangulV); r < hangulV+countV; r++ {
			mark(r)
		}
		for r := rune(hangulT); r < hangulT+countT; r++ {
			mark(r)
		}
	} else {
		for r := rune(hangulBase); r < hangulBase+countL*countV*countT; r++ {
			mark(r)
		}
	}
	return f
}

// excluded reports whether r does not come back from its decomposition.
func (f *form) excluded(r rune, d []rune) bool {
	c := composed(f.tables, slices.Clone(d))
	return len(c) != 1 || c[0] != r
}

func (f *form) plain(r rune) bool {
	p := f.changes[r>>8]
	return p == nil || p[r>>6&3]>>(r&63)&1 == 0
}

// append appends the normalised text, unless all of it is plain.
func (f *form) append(s *scratch, dst, text []byte) (out []byte, changed bool) {
	copied, start := 0, 0 // what is in dst, and where the last plain code point is
	for i := 0; i < len(text); {
		if text[i] < utf8.RuneSelf {
			start = i
			i++
			continue
		}
		r, size := utf8.DecodeRune(text[i:])
		if f.plain(r) {
			start = i
			i += size
			continue
		}
		i += size
		for i < len(text) {
			if r, size = utf8.DecodeRune(text[i:]); f.plain(r) {
				break
			}
			i += size
		}
		dst = append(dst, text[copied:start]...)
		dst = f.appendStretch(s, dst, text[start:i])
		copied = i
		start = i
	}
	if copied == 0 {
		return dst, false
	}
	return append(dst, text[copied:]...), true
}

// appendStretch normalises a stretch that nothing around it touches.
func (f *form) appendStretch(s *scratch, dst, text []byte) []byte {
	runes := s.runes[:0]
	for len(text) > 0 {
		r, size := utf8.DecodeRune(text)
		text = text[size:]
		runes = f.decompose(runes, r)
	}
	rank := func(r rune) uint16 { return f.tables.kind(r) >> kindCombining }
	for i := 0; i < len(runes); {
		if rank(runes[i]) == 0 {
			i++
			continue
		}
		j := i
		for j < len(runes) && rank(runes[j]) != 0 {
			j++
		}
		slices.SortStableFunc(runes[i:j], func(a, b rune) int { return int(rank(a)) - int(rank(b)) })
		i = j
	}
	s.runes = runes
	if f.compose {
		runes = composed(f.tables, runes)
	}
	for _, r := range runes {
		dst = utf8.AppendRune(dst, r)
	}
	return dst
}

func (f *form) decompose(dst []rune, r rune) []rune {
	if n := r - hangulBase; n >= 0 && n < countL*countV*countT {
		dst = append(dst, hangulL+n/(countV*countT), hangulV+n%(countV*countT)/countT)
		if t := n % countT; t != 0 {
			dst = append(dst, hangulT+t)
		}
		return dst
	}
	if f.compat {
		if d, ok := f.tables.compatible[r]; ok {
			return append(dst, d...)
		}
	}
	if d, ok := f.tables.canonical[r]; ok {
		return append(dst, d...)
	}
	return append(dst, r)
}

// composed composes in place (Unicode Standard, section 3.11, D117): each code point with the last starter, unless one of
// the same or a higher class stands between.
func composed(u *unicodeTables, runes []rune) []rune {
	starter, last := -1, uint16(0)
	out := runes[:0]
	for _, r := range runes {
		rank := u.kind(r) >> kindCombining
		if starter >= 0 && (starter == len(out)-1 || last < rank) {
			if whole, ok := u.pair(out[starter], r); ok {
				out[starter] = whole
				continue
			}
		}
		if rank == 0 {
			starter = len(out)
		}
		last = rank
		out = append(out, r)
	}
	return out
}

// pair composes two code points.
func (u *unicodeTables) pair(a, b rune) (rune, bool) {
	if l, v := a-hangulL, b-hangulV; l >= 0 && l < countL && v >= 0 && v < countV {
		return hangulBase + (l*countV+v)*countT, true
	}
	if n, t := a-hangulBase, b-hangulT; n >= 0 && n < countL*countV*countT && n%countT == 0 && t > 0 && t < countT {
		return a + t, true
	}
	whole, ok := u.compose[[2]rune{a, b}]
	return whole, ok
}
