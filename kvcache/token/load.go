package token

import (
	"encoding/json"
	"errors"
	"fmt"
	"unicode/utf8"
)

// ErrUnsupported is wrapped by the errors about files that are right but ask for what this package does not do.
var ErrUnsupported = errors.New("not supported")

// DefaultCacheBytes is Options.CacheBytes when that is 0.
const DefaultCacheBytes = 4 << 20

// Options are the parameters of a Tokenizer. The zero value works.
type Options struct {
	// CacheBytes bounds the memory that remembers the tokens of words, 64 bytes each; 0 means DefaultCacheBytes, less than
	// 0 none. It is reserved at once. Larger than the processor's caches, it costs more than it saves.
	CacheBytes int
}

func (o Options) cacheBytes() int {
	if o.CacheBytes == 0 {
		return DefaultCacheBytes
	}
	return o.CacheBytes
}

// Load reads a tokenizer.json of Hugging Face. What it asks for and this package does not do is refused with an error that
// wraps ErrUnsupported and names its place in the file. Truncation and padding, which model servers override, are not read.
func Load(file []byte, o Options) (*Tokenizer, error) {
	t, err := load(file, o)
	if err != nil {
		return nil, fmt.Errorf("tokenizer.json: %w", err)
	}
	return t, nil
}

func load(file []byte, o Options) (*Tokenizer, error) {
	if !utf8.Valid(file) {
		return nil, errors.New("is not UTF-8")
	}
	members := map[string][]byte{}
	r := jsonReader{data: file}
	r.object(func(key []byte) { members[string(key)] = r.skip() })
	if r.next() != 0 {
		r.fail("text behind the end")
	}
	if r.err != nil {
		return nil, r.err
	}
	t := &Tokenizer{unicode: readUnicode()}
	var err error
	if t.normalize, err = readNormalizer("normalizer", members["normalizer"], t.unicode); err != nil {
		return nil, err
	}
	if err = t.pieces.read("pre_tokenizer", members["pre_tokenizer"], t.normalize); err != nil {
		return nil, err
	}
	if absent(members["model"]) {
		return nil, at("model", errors.New("is missing"))
	}
	if t.model, err = readModel(members["model"], t.pieces.byteLevel, o.cacheBytes()); err != nil {
		return nil, err
	}
	var tokens []addedToken
	if err = decode(members["added_tokens"], &tokens); err != nil {
		return nil, at("added_tokens", err)
	}
	if err = t.addTokens(tokens); err != nil {
		return nil, err
	}
	t.joints = newJoints(t)
	if t.decoder, err = readDecoder(t, members["decoder"]); err != nil {
		return nil, err
	}
	if err = t.readPostProcessor("post_processor", members["post_processor"]); err != nil {
		return nil, err
	}
	return t, nil
}

// addTokens puts the tokens where they are found. The reference gives ids itself, to new tokens those behind the
// vocabulary's: a file that says otherwise is refused, as one of the two must be wrong.
func (t *Tokenizer) addTokens(tokens []addedToken) error {
	var raw, normal []addedToken
	t.names = make(map[uint32]addedName, len(tokens))
	next := uint32(t.model.vocab.count)
	seen := make(map[string]bool, len(tokens))
	for i, token := range tokens {
		path := fmt.Sprintf("added_tokens[%d]", i)
		if token.Content == "" {
			continue
		}
		if seen[token.Content] {
			return at(path, fmt.Errorf("%q is there twice", token.Content))
		}
		seen[token.Content] = true
		id, ok := t.model.vocab.find([]byte(token.Content))
		if !ok {
			id = next
			next++
		}
		if id != token.ID {
			return at(path+".id", fmt.Errorf("%q has id %d, %d is expected from the vocabulary", token.Content, token.ID, id))
		}
		name := addedName{token.Content, []byte(token.Content), token.Special}
		if !token.Normalized {
			t.names[id] = name
			raw = append(raw, token)
			continue
		}
		token.Content = string(t.normalize.apply(&scratch{}, []byte(token.Content), beginsText))
		if token.Content == "" {
			return at(path, errors.New("nothing is left of it when normalised"))
		}
		name.decoded = []byte(token.Content)
		// The reference knows special tokens by what they are decoded as.
		name.special = token.Special && token.Content == name.content
		t.names[id] = name
		normal = append(normal, token)
	}
	var err error
	if t.raw, err = newAdded(raw); err != nil {
		return at("added_tokens", err)
	}
	if t.normal, err = newAdded(normal); err != nil {
		return at("added_tokens", err)
	}
	return nil
}

type postProcessorFile struct {
	Type       string
	Processors []json.RawMessage
	Single     []struct {
		SpecialToken *struct{ ID string }
		Sequence     *struct{ ID string }
	}
	SpecialTokens map[string]struct{ IDs []uint32 } `json:"special_tokens"`
}

// readPostProcessor finds what goes before and behind a text.
func (t *Tokenizer) readPostProcessor(path string, raw []byte) error {
	if absent(raw) {
		return nil
	}
	var file postProcessorFile
	if err := decode(raw, &file); err != nil {
		return at(path, err)
	}
	switch file.Type {
	case "ByteLevel": // moves offsets only
		return nil
	case "Sequence":
		for i, part := range file.Processors {
			if err := t.readPostProcessor(fmt.Sprintf("%s.processors[%d]", path, i), part); err != nil {
				return err
			}
		}
		return nil
	case "TemplateProcessing":
	default:
		return unsupported(path+".type", "no post-processor %q", file.Type)
	}
	if t.begin != nil || t.end != nil {
		return unsupported(path, "a second template")
	}
	sequences := 0
	for i, part := range file.Single {
		switch {
		case part.Sequence != nil:
			sequences++
		case part.SpecialToken != nil:
			token, ok := file.SpecialTokens[part.SpecialToken.ID]
			if !ok {
				return at(fmt.Sprintf("%s.single[%d]", path, i), fmt.Errorf("%q is not among the special_tokens", part.SpecialToken.ID))
			}
			if sequences == 0 {
				t.begin = append(t.begin, token.IDs...)
			} else {
				t.end = append(t.end, token.IDs...)
			}
		}
	}
	if sequences != 1 {
		return unsupported(path+".single", "%d sequences where 1 is expected", sequences)
	}
	return nil
}

func at(path string, err error) error { return fmt.Errorf("%s: %w", path, err) }

func unsupported(path, format string, args ...any) error {
	return fmt.Errorf("%s: %s: %w", path, fmt.Sprintf(format, args...), ErrUnsupported)
}
