package token

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"unicode/utf8"
)

// pretokenizer cuts text into the pieces that are encoded one by one.
type pretokenizer struct {
	byteLevel   bool // symbols are bytes
	mark        rune // replaces spaces, when not 0
	prepend     prependScheme
	prependText string
	cuts        []scanner // each applied to the pieces of the one before
	words       bool      // one of them ends a piece wherever a letter meets a space
	literals    bool      // one of them cuts at a string
}

// prependScheme says which sections of a text get a prefix that they do not begin with.
type prependScheme int

const (
	prependNever prependScheme = iota
	prependFirst
	prependAlways
)

type pretokenizerFile struct {
	Type          string
	Pretokenizers []json.RawMessage

	Pattern  *patternFile
	Behavior string
	Invert   bool

	PrefixSpace *bool   `json:"add_prefix_space"`
	UseRegex    *bool   `json:"use_regex"`
	Individual  bool    `json:"individual_digits"`
	Replacement string  `json:"replacement"`
	Scheme      *string `json:"prepend_scheme"`
	Split       *bool   `json:"split"`
}

func (p *pretokenizer) read(path string, raw []byte, n normalizer) error {
	if absent(raw) {
		return nil
	}
	var file pretokenizerFile
	if err := decode(raw, &file); err != nil {
		return at(path, err)
	}
	if p.byteLevel {
		return unsupported(path+".type", "%q behind ByteLevel", file.Type)
	}
	switch file.Type {
	case "Sequence":
		for i, part := range file.Pretokenizers {
			if err := p.read(fmt.Sprintf("%s.pretokenizers[%d]", path, i), part, n); err != nil {
				return err
			}
		}
		return nil
	case "ByteLevel":
		return p.readByteLevel(path, &file)
	case "Metaspace":
		return p.readMetaspace(path, &file)
	case "Digits":
		p.cuts = append(p.cuts, scanDigits(file.Individual))
		return nil
	case "Split":
		return p.readSplit(path, &file, n)
	}
	return unsupported(path+".type", "no pre-tokenizer %q", file.Type)
}

func (p *pretokenizer) readByteLevel(path string, file *pretokenizerFile) error {
	p.byteLevel = true
	if file.PrefixSpace == nil || *file.PrefixSpace {
		if len(p.cuts) > 0 || p.mark != 0 {
			return unsupported(path+".add_prefix_space", "a space before every piece of another pre-tokenizer")
		}
		p.prepend, p.prependText = prependAlways, " "
	}
	if file.UseRegex == nil || *file.UseRegex {
		p.cuts = append(p.cuts, scanGPT2)
		p.words = true
	}
	return nil
}

func (p *pretokenizer) readMetaspace(path string, file *pretokenizerFile) error {
	if len(p.cuts) > 0 || p.mark != 0 {
		return unsupported(path+".type", "Metaspace behind another pre-tokenizer")
	}
	r, size := utf8.DecodeRuneInString(file.Replacement)
	if size == 0 || size != len(file.Replacement) {
		return at(path+".replacement", fmt.Errorf("%q is not one character", file.Replacement))
	}
	p.mark, p.prependText = r, file.Replacement
	scheme := "always"
	if file.Scheme != nil {
		scheme = *file.Scheme
	} else if file.PrefixSpace != nil && !*file.PrefixSpace {
		scheme = "never"
	}
	i := slices.Index([]string{"never", "first", "always"}, scheme)
	if i < 0 {
		return unsupported(path+".prepend_scheme", "no scheme %q", scheme)
	}
	p.prepend = prependScheme(i)
	if file.Split == nil || *file.Split {
		p.cuts = append(p.cuts, scanLiteral(file.Replacement, "MergedWithNext"))
	}
	return nil
}

func (p *pretokenizer) readSplit(path string, file *pretokenizerFile, n normalizer) error {
	switch {
	case file.Pattern == nil || file.Pattern.String == nil && file.Pattern.Regex == nil:
		return at(path+".pattern", fmt.Errorf("is missing"))
	case file.Invert:
		return unsupported(path+".invert", "what does not match is not cut out")
	}
	if literal := file.Pattern.String; literal != nil {
		if *literal == "" {
			return unsupported(path+".pattern.String", "is empty")
		}
		if !slices.Contains([]string{"Isolated", "MergedWithNext", "MergedWithPrevious"}, file.Behavior) {
			return unsupported(path+".behavior", "no behavior %q", file.Behavior)
		}
		if n.removes(*literal) && p.mark == 0 {
			return nil // Gemma cuts at spaces that its normaliser has replaced
		}
		p.cuts = append(p.cuts, scanLiteral(*literal, file.Behavior))
		p.literals = true
		return nil
	}
	if file.Behavior != "Isolated" {
		return unsupported(path+".behavior", "no behavior %q with a regular expression", file.Behavior)
	}
	scan := scannerOf(*file.Pattern.Regex)
	if scan == nil {
		return unsupported(path+".pattern.Regex", "no matcher for %q", *file.Pattern.Regex)
	}
	p.cuts = append(p.cuts, scan)
	p.words = p.words || *file.Pattern.Regex != patternNumbers3 && *file.Pattern.Regex != patternCJK
	return nil
}

// append cuts a section of the normalised text and appends the tokens of its pieces. B tells what the section
// begins.
func (p *pretokenizer) append(t *Tokenizer, s *scratch, dst []uint32, text []byte, b beginning) []uint32 {
	if len(text) == 0 {
		return dst
	}
	space := byte(' ')
	prefixed := p.prepend == prependNever || p.prepend == prependFirst && b != beginsText || b == beginsNothing
	if !prefixed {
		prefixed = bytes.HasPrefix(text, []byte(p.prependText)) || p.mark != 0 && text[0] == space
	}
	if p.mark != 0 || !prefixed {
		s.pieces = s.pieces[:0]
		if !prefixed {
			s.pieces = append(s.pieces, p.prependText...)
		}
		if p.mark != 0 {
			s.pieces = appendReplaced(s.pieces, text, []byte{space}, []byte(p.prependText))
		} else {
			s.pieces = append(s.pieces, text...)
		}
		text = s.pieces
	}
	return p.cut(t, s, dst, text, p.cuts)
}

func (p *pretokenizer) cut(t *Tokenizer, s *scratch, dst []uint32, text []byte, cuts []scanner) []uint32 {
	if len(cuts) == 0 {
		return t.model.append(s, dst, text)
	}
	scan := cuts[0]
	for i := 0; i < len(text); {
		end := scan(t.unicode, text, i)
		if len(cuts) == 1 {
			dst = t.model.append(s, dst, text[i:end])
		} else {
			dst = p.cut(t, s, dst, text[i:end], cuts[1:])
		}
		i = end
	}
	return dst
}

// scanDigits cuts out numbers, one by one or in runs.
func scanDigits(individual bool) scanner {
	return func(u *unicodeTables, text []byte, i int) int {
		in := false
		for j := i; j < len(text); {
			r, size := utf8.DecodeRune(text[j:])
			numeric := u.kind(r)&kindNumeric != 0
			if j > i && (numeric != in || in && individual) {
				return j
			}
			in = numeric
			j += size
		}
		return len(text)
	}
}

// scanLiteral cuts at every occurrence of a string.
func scanLiteral(literal, behavior string) scanner {
	sep := []byte(literal)
	return func(_ *unicodeTables, text []byte, i int) int {
		end := func(from int) int {
			if n := bytes.Index(text[from:], sep); n >= 0 {
				return from + n
			}
			return len(text)
		}
		matches := bytes.HasPrefix(text[i:], sep)
		switch {
		case behavior == "MergedWithNext" && matches:
			return end(i + len(sep))
		case behavior == "MergedWithPrevious" && !matches:
			return min(end(i)+len(sep), len(text))
		case matches:
			return i + len(sep)
		}
		return end(i)
	}
}
