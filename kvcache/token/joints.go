package token

import (
	"slices"
	"unicode/utf8"
)

// joints know where a text can be encoded in two parts, whatever stands before and behind: between a letter a and a space,
// a line break or one of some marks of punctuation b.
//
//   - Normalisation does not reach across: a and b are both plain, see newForm.
//   - Byte-level models: none of the expressions that cut words matches a text in which a letter is followed by white space
//     or punctuation other than an apostrophe, and their matchers look at nothing before the place where they start. So a
//     piece ends at b, and cutting goes on there as it would have. The other cuts are between classes of single characters.
//   - Models over characters: there is a seam, see seams, between what a and b are replaced by.
//   - Added tokens: none has a and b inside, ends with a, or begins with b and looks at what is before it.
type joints struct {
	on     bool
	marks  []joint
	banned [][2]rune // letters and marks that added tokens forbid
}

// joint is a character before which text can be parted, and what it is once normalised.
type joint struct{ mark, normal rune }

func newJoints(t *Tokenizer) joints {
	var j joints
	m := t.model
	switch {
	case t.pieces.literals:
		return j
	case m.bytes && !t.pieces.words, !m.bytes && m.ignoreMerges:
		return j
	}
	for _, step := range t.normalize {
		if len(step.old) > 1 || step.old != nil && letterASCII(step.old[0]) || step.form != nil && !m.bytes {
			return j
		}
	}
	for _, mark := range " \n。，、！？" {
		normal := t.normalize.apply(&scratch{}, []byte(string(mark)), beginsNothing)
		r, size := utf8.DecodeRune(normal)
		if t.pieces.mark != 0 && r == ' ' {
			r = t.pieces.mark
		}
		if size > 0 && t.plain(mark) {
			j.marks = append(j.marks, joint{mark, r})
		}
	}
	for _, a := range []*added{t.raw, t.normal} {
		if a == nil {
			continue
		}
		for i := range a.tokens {
			token := &a.tokens[i]
			if first, _ := utf8.DecodeRuneInString(token.Content); token.SingleWord && j.mark(first) {
				return j // it would not see that a letter precedes it
			}
			before := rune(-1)
			for _, r := range token.Content {
				if before >= 0 {
					j.banned = append(j.banned, [2]rune{before, r})
				}
				before = r
			}
			// What stands behind it is the token's, or begins a section, which can have a prefix.
			for _, k := range j.marks {
				j.banned = append(j.banned, [2]rune{before, k.mark})
			}
		}
	}
	// Only pairs that could be joints matter.
	j.banned = slices.DeleteFunc(j.banned, func(p [2]rune) bool {
		return t.unicode.group(p[0])&groupL == 0 || !j.mark(p[1])
	})
	j.on = true
	return j
}

// mark reports whether r is a mark, as it is or normalised.
func (j *joints) mark(r rune) bool {
	return slices.ContainsFunc(j.marks, func(k joint) bool { return k.mark == r || k.normal == r })
}

// plain reports whether normalisation leaves r alone whatever stands around it, replacements apart.
func (t *Tokenizer) plain(r rune) bool {
	for _, step := range t.normalize {
		if step.form != nil && !step.form.plain(r) {
			return false
		}
	}
	return true
}

// joint reports whether text can be parted at i.
func (t *Tokenizer) joint(text []byte, i int) bool {
	b, size := utf8.DecodeRune(text[i:])
	if b == utf8.RuneError && size <= 1 {
		return false
	}
	k := slices.IndexFunc(t.joints.marks, func(k joint) bool { return k.mark == b })
	if k < 0 {
		return false
	}
	a, size := utf8.DecodeLastRune(text[:i])
	if a == utf8.RuneError && size <= 1 || t.unicode.group(a)&groupL == 0 || !t.plain(a) {
		return false
	}
	normal := t.joints.marks[k].normal
	for _, p := range t.joints.banned {
		if p[0] == a && (p[1] == b || p[1] == normal) {
			return false
		}
	}
	return t.model.bytes || t.model.seams.between(&t.model.runes, a, normal)
}

// part returns the first place from size on where the text can be parted, or its length.
func (t *Tokenizer) part(text []byte, size int) int {
	if !t.joints.on {
		return len(text)
	}
	for i := size; i < len(text); i++ {
		// Continuation bytes begin nothing.
		if text[i]&0xc0 != 0x80 && t.joint(text, i) {
			return i
		}
	}
	return len(text)
}
