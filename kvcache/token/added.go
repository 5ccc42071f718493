package token

import (
	"errors"
	"fmt"
	"unicode/utf8"
)

// addedToken is a token that is found in the text before all else.
type addedToken struct {
	ID         uint32 `json:"id"`
	Content    string `json:"content"`
	SingleWord bool   `json:"single_word"` // only where no letter touches it
	Left       bool   `json:"lstrip"`      // takes the white space before it
	Right      bool   `json:"rstrip"`      // and behind it
	Normalized bool   `json:"normalized"`  // is found in normalised text, in its own normalised form
	Special    bool   `json:"special"`     // controls the model
}

// addedName is what an added token is called, and what it is decoded as: its normalised form if it has one.
type addedName struct {
	content string
	decoded []byte
	special bool
}

// added finds added tokens: the leftmost, of those the longest, and then on from its end.
type added struct {
	tokens []addedToken // their Content in the form that is searched for
	first  [256]bool    // bytes that they begin with
	next   map[uint32]uint32
	ends   []int32 // by node: the token that ends there, or -1
}

func newAdded(tokens []addedToken) (*added, error) {
	if len(tokens) == 0 {
		return nil, nil
	}
	a := &added{tokens: tokens, next: map[uint32]uint32{}, ends: []int32{-1}}
	for i, t := range tokens {
		a.first[t.Content[0]] = true
		node := uint32(0)
		for _, c := range []byte(t.Content) {
			edge := node<<8 | uint32(c)
			child, ok := a.next[edge]
			if !ok {
				if len(a.ends) == 1<<24 {
					return nil, errors.New("added tokens are longer than 16 MB together")
				}
				child = uint32(len(a.ends))
				a.ends = append(a.ends, -1)
				a.next[edge] = child
			}
			node = child
		}
		if a.ends[node] >= 0 {
			return nil, fmt.Errorf("two tokens are found as %q", t.Content)
		}
		a.ends[node] = int32(i)
	}
	return a, nil
}

// find returns the next token in text[from:] and where it is; nil when there is none.
func (a *added) find(text []byte, from int) (t *addedToken, start, end int) {
	for i := from; i < len(text); i++ {
		if !a.first[text[i]] {
			continue
		}
		node := uint32(0)
		for j := i; j < len(text); j++ {
			child, ok := a.next[node<<8|uint32(text[j])]
			if !ok {
				break
			}
			node = child
			if n := a.ends[node]; n >= 0 {
				t, start, end = &a.tokens[n], i, j+1
			}
		}
		if t != nil {
			return t, start, end
		}
	}
	return nil, len(text), len(text)
}

// cut returns the next token that counts from position at, and what it takes of the text behind done, where the one before
// ended. Special tokens count only when asked. The search goes on at next.
func (a *added) cut(u *unicodeTables, text []byte, done, at int, special bool) (t *addedToken, start, end, next int) {
	for {
		t, start, end = a.find(text, at)
		if t == nil {
			return nil, len(text), len(text), len(text)
		}
		at, next = end, end
		if t.Special && !special {
			continue
		}
		if t.SingleWord {
			if r, size := utf8.DecodeLastRune(text[:start]); size > 0 && u.kind(r)&kindWord != 0 {
				continue
			}
			if r, size := utf8.DecodeRune(text[end:]); size > 0 && u.kind(r)&kindWord != 0 {
				continue
			}
		}
		if t.Left {
			for start > done {
				r, size := utf8.DecodeLastRune(text[:start])
				if u.group(r) != groupSpace {
					break
				}
				start -= size
			}
		}
		if t.Right {
			end = u.run(text, end, groupSpace)
		}
		return t, max(start, done), end, next
	}
}
