package chat

import (
	"bytes"
	"slices"
	"strings"

	"github.com/inferloom/inferloom/kvcache/token"
	"github.com/inferloom/inferloom/kvcache/token/internal/jinja"
)

// separator keeps users' texts from turning into control tokens, in the manner of transformers' sanitize_control_tokens:
// what reads like one is put between marks before it is rendered, and encoded as text behind it.
type separator struct {
	controls []string // longest first
}

// The marks are characters of the private use area. They are taken out of what users write.
const openMark, closeMark = "\uE000", "\uE001"

// newSeparator takes as control tokens those that are special, and the other added ones that the template writes out.
func newSeparator(t *token.Tokenizer, templates string) *separator {
	s := &separator{}
	for name, special := range t.AddedTokens() {
		if special || strings.Contains(templates, name) && strings.TrimSpace(name) != "" {
			s.controls = append(s.controls, name)
		}
	}
	slices.SortFunc(s.controls, func(a, b string) int {
		if len(a) != len(b) {
			return len(b) - len(a)
		}
		return strings.Compare(a, b)
	})
	return s
}

// conversation marks all texts of a conversation.
func (s *separator) conversation(c *conversation) {
	for i, m := range c.messages {
		c.messages[i] = s.value(m)
	}
	c.tools, c.documents = s.value(c.tools), s.value(c.documents)
	for i := range c.more {
		c.more[i].Value = s.value(c.more[i].Value)
	}
}

// value marks the texts in a value; the keys of dictionaries are left as they are.
func (s *separator) value(v jinja.Value) jinja.Value {
	if text, ok := v.Str(); ok {
		return jinja.String(s.mark(text))
	}
	if items, ok := v.Items(); ok {
		out := make([]jinja.Value, len(items))
		for i, item := range items {
			out[i] = s.value(item)
		}
		return jinja.List(out)
	}
	if d, ok := v.Dict(); ok {
		out := &jinja.Dict{}
		for i := range d.Len() {
			key, value := d.At(i)
			out.Set(key, s.value(value))
		}
		return out.Value()
	}
	return v
}

func (s *separator) mark(text string) string {
	text = strings.NewReplacer(openMark, "", closeMark, "").Replace(text)
	var out strings.Builder
	done := 0
	for i := 0; i < len(text); {
		n := s.control(text[i:])
		if n == 0 {
			i++
			continue
		}
		out.WriteString(text[done:i] + openMark + text[i:i+n] + closeMark)
		i += n
		done = i
	}
	if done == 0 {
		return text
	}
	return out.String() + text[done:]
}

// control returns the length of the control token that text begins with.
func (s *separator) control(text string) int {
	for _, name := range s.controls {
		if strings.HasPrefix(text, name) {
			return len(name)
		}
	}
	return 0
}

func (s *separator) marked(text []byte) bool {
	return bytes.IndexFunc(text, isMark) >= 0
}

func (s *separator) unmark(text []byte) []byte {
	return bytes.ReplaceAll(bytes.ReplaceAll(text, []byte(openMark), nil), []byte(closeMark), nil)
}

// parts cuts a rendered text at its marks. A template may have taken marks from their token, by cutting a text say: a token
// that has one mark left beside it is the user's too, and a mark that is left alone goes, and still parts the text.
func (s *separator) parts(text []byte) []token.Part {
	var out []token.Part
	add := func(text []byte, literal bool) {
		if len(text) > 0 {
			out = append(out, token.Part{Text: text, Literal: literal})
		}
	}
	for {
		at := bytes.IndexFunc(text, isMark)
		if at < 0 {
			add(text, false)
			return out
		}
		before, opens := text[:at], bytes.HasPrefix(text[at:], []byte(openMark))
		text = text[at+len(openMark):]
		if opens {
			add(before, false)
			n := s.control(string(text[:min(len(text), maxControl)]))
			add(text[:n], true)
			text = text[n:]
			if n > 0 {
				text = bytes.TrimPrefix(text, []byte(closeMark))
			}
			continue
		}
		n := s.controlAtEnd(before)
		add(before[:len(before)-n], false)
		add(before[len(before)-n:], true)
	}
}

func isMark(c rune) bool { return c == '\uE000' || c == '\uE001' }

// controlAtEnd returns the length of the control token that text ends with.
func (s *separator) controlAtEnd(text []byte) int {
	for _, name := range s.controls {
		if bytes.HasSuffix(text, []byte(name)) {
			return len(name)
		}
	}
	return 0
}

// maxControl is longer than any control token.
const maxControl = 1 << 10
