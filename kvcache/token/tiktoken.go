package token

import (
	"bytes"
	"encoding/base64"
	"errors"
	"fmt"
	"strconv"
	"unicode/utf8"
)

// Tiktoken says what a tiktoken file leaves to its library.
type Tiktoken struct {
	// Pattern is the regular expression that cuts text, as in a tokenizer.json: one of those of the known families.
	Pattern string
	// Special are the special tokens, by name.
	Special map[string]uint32
}

// LoadTiktoken reads a file of lines "base64-of-token rank". A token's rank is its id and its priority: two tokens are
// merged when what they make is a token, that of the lowest rank first.
func LoadTiktoken(file []byte, about Tiktoken, o Options) (*Tokenizer, error) {
	t, err := loadTiktoken(file, about, o)
	if err != nil {
		return nil, fmt.Errorf("tiktoken file: %w", err)
	}
	return t, nil
}

func loadTiktoken(file []byte, about Tiktoken, o Options) (*Tokenizer, error) {
	scan := scannerOf(about.Pattern)
	if scan == nil {
		return nil, unsupported("Pattern", "no matcher for %q", about.Pattern)
	}
	m := &model{bytes: true, unknown: noID, ignoreMerges: true, words: newWords(o.cacheBytes())}
	text := &vocab{}
	var token, name []byte
	for n := 1; len(file) > 0; n++ {
		var line []byte
		line, file, _ = bytes.Cut(file, []byte("\n"))
		if line = bytes.TrimSuffix(line, []byte("\r")); len(line) == 0 {
			continue
		}
		encoded, number, _ := bytes.Cut(line, []byte(" "))
		var err error
		if token, err = base64.StdEncoding.AppendDecode(token[:0], encoded); err != nil {
			return nil, fmt.Errorf("line %d: %q: %w", n, encoded, err)
		}
		rank, err := strconv.ParseUint(string(number), 10, 32)
		if err != nil || len(token) == 0 {
			return nil, fmt.Errorf("line %d: %q is not a token and its rank", n, line)
		}
		if _, twice := text.find(token); twice || text.token(uint32(rank)) != nil {
			return nil, fmt.Errorf("line %d: the token or its rank %d is there twice", n, rank)
		}
		name = name[:0]
		for _, b := range token {
			name = utf8.AppendRune(name, byteRunes[b])
		}
		if err := errors.Join(text.add(token, uint32(rank)), m.vocab.add(name, uint32(rank))); err != nil {
			return nil, fmt.Errorf("line %d: %w", n, err)
		}
	}
	for b := range 256 {
		if _, ok := text.find([]byte{byte(b)}); !ok {
			return nil, fmt.Errorf("byte 0x%02X has no token", b)
		}
	}
	m.prepare(splits(text))
	t := &Tokenizer{unicode: readUnicode(), model: m, decoder: decoder{byteLevel: true},
		pieces: pretokenizer{byteLevel: true, cuts: []scanner{scan}, words: true}, names: map[uint32]addedName{}}
	var special []addedToken
	for content, id := range about.Special {
		if content == "" || id > maxID || text.token(id) != nil || t.names[id].content != "" {
			return nil, fmt.Errorf("Special[%q]: the name is empty, or id %d is taken or above %d", content, id, maxID)
		}
		t.names[id] = addedName{content, []byte(content), true}
		special = append(special, addedToken{ID: id, Content: content, Special: true})
	}
	var err error
	t.raw, err = newAdded(special)
	t.joints = newJoints(t)
	return t, err
}

// splits lists the merges that the tokens amount to: all ways to make each from two others.
func splits(text *vocab) []pair {
	var list []pair
	for id := range text.spans {
		token := text.token(uint32(id))
		for i := 1; i < len(token); i++ {
			left, okLeft := text.find(token[:i])
			right, okRight := text.find(token[i:])
			if okLeft && okRight {
				list = append(list, pair{uint64(left)<<32 | uint64(right), uint64(id)<<32 | uint64(id)})
			}
		}
	}
	return list
}
