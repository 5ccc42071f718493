package token

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strconv"
	"unicode/utf8"
)

// decoder is the steps from the names of tokens to text.
type decoder struct {
	byteLevel bool
	steps     []decodeStep
}

// decodeStep changes the name of each token, or, as byteFallback, puts bytes together.
type decodeStep struct {
	old, new     []byte
	byteFallback bool
	mark         []byte // becomes a space, and nothing in the first token when drop is set
	drop         bool
	strip        []byte // up to start times at the beginning of a token
	start        int
	fuse         bool // all tokens are one from here on
}

type decoderFile struct {
	Type        string
	Decoders    []json.RawMessage
	Pattern     *patternFile
	Content     string
	Start, Stop int
	Replacement string
	Scheme      *string `json:"prepend_scheme"`
	PrefixSpace *bool   `json:"add_prefix_space"`
}

func readDecoder(t *Tokenizer, raw []byte) (decoder, error) {
	var d decoder
	if absent(raw) {
		return d, unsupported("decoder", "is missing")
	}
	err := d.read("decoder", raw)
	if err == nil && d.byteLevel != t.pieces.byteLevel {
		err = unsupported("decoder", "does not undo the pre_tokenizer: only one of them is ByteLevel")
	}
	return d, err
}

func (d *decoder) read(path string, raw []byte) error {
	var file decoderFile
	if err := decode(raw, &file); err != nil {
		return at(path, err)
	}
	if d.byteLevel {
		return unsupported(path+".type", "%q behind ByteLevel", file.Type)
	}
	var step decodeStep
	switch file.Type {
	case "Sequence":
		for i, part := range file.Decoders {
			if err := d.read(fmt.Sprintf("%s.decoders[%d]", path, i), part); err != nil {
				return err
			}
		}
		return nil
	case "ByteLevel":
		if len(d.steps) > 0 {
			return unsupported(path+".type", "ByteLevel behind another decoder")
		}
		d.byteLevel = true
		return nil
	case "ByteFallback":
		step.byteFallback = true
	case "Fuse":
		step.fuse = true
	case "Replace":
		if file.Pattern == nil || file.Pattern.String == nil || *file.Pattern.String == "" {
			return unsupported(path+".pattern", "only strings can be replaced")
		}
		step.old, step.new = []byte(*file.Pattern.String), []byte(file.Content)
	case "Strip":
		if file.Stop != 0 || utf8.RuneCountInString(file.Content) != 1 {
			return unsupported(path, "strips %q %d times behind", file.Content, file.Stop)
		}
		step.strip, step.start = []byte(file.Content), file.Start
	case "Metaspace":
		step.mark = []byte(file.Replacement)
		step.drop = file.PrefixSpace == nil || *file.PrefixSpace
		if file.Scheme != nil {
			step.drop = *file.Scheme != "never"
		}
		if len(step.mark) == 0 {
			return at(path+".replacement", fmt.Errorf("is empty"))
		}
	default:
		return unsupported(path+".type", "no decoder %q", file.Type)
	}
	d.steps = append(d.steps, step)
	return nil
}

// AppendText appends the text of ids to dst, without special tokens unless asked. Bytes that make no character become
// U+FFFD, as in the reference; ids without a token are passed over.
func (t *Tokenizer) AppendText(dst []byte, ids []uint32, special bool) []byte {
	if t.decoder.byteLevel {
		start := len(dst)
		for _, id := range ids {
			name := t.name(id, special)
			if text, ok := unmapBytes(dst, name); ok {
				dst = text
			} else {
				dst = append(dst, name...)
			}
		}
		if !utf8.Valid(dst[start:]) {
			dst = appendValid(dst[:start:start], dst[start:])
		}
		return dst
	}
	var names [][]byte
	for _, id := range ids {
		if name := t.name(id, special); name != nil {
			names = append(names, name)
		}
	}
	for _, step := range t.decoder.steps {
		names = step.apply(names)
	}
	for _, name := range names {
		dst = append(dst, name...)
	}
	return dst
}

// name returns a token as the model's file names it.
func (t *Tokenizer) name(id uint32, special bool) []byte {
	if added, ok := t.names[id]; ok {
		if added.special && !special {
			return nil
		}
		return added.decoded
	}
	return t.model.vocab.token(id)
}

func (d *decodeStep) apply(names [][]byte) [][]byte {
	switch {
	case d.byteFallback:
		return joinBytes(names)
	case d.fuse:
		if len(names) == 0 {
			return nil
		}
		return [][]byte{bytes.Join(names, nil)}
	}
	for i, name := range names {
		switch {
		case d.old != nil:
			names[i] = bytes.ReplaceAll(name, d.old, d.new)
		case d.mark != nil && d.drop && i == 0:
			names[i] = bytes.ReplaceAll(name, d.mark, nil)
		case d.mark != nil:
			names[i] = bytes.ReplaceAll(name, d.mark, []byte(" "))
		default:
			for n := 0; n < d.start && bytes.HasPrefix(name, d.strip); n++ {
				name = name[len(d.strip):]
			}
			names[i] = name
		}
	}
	return names
}

// joinBytes turns runs of tokens like <0xE2> into the text that they spell, or as many U+FFFD.
func joinBytes(names [][]byte) [][]byte {
	var out [][]byte
	var run []byte
	flush := func() {
		if len(run) == 0 {
			return
		}
		if !utf8.Valid(run) {
			run = bytes.Repeat([]byte("\uFFFD"), len(run))
		}
		out = append(out, run)
		run = nil
	}
	for _, name := range names {
		if len(name) == 6 && name[0] == '<' && name[1] == '0' && name[2] == 'x' && name[5] == '>' {
			if b, err := strconv.ParseUint(string(name[3:5]), 16, 8); err == nil {
				run = append(run, byte(b))
				continue
			}
		}
		flush()
		out = append(out, name)
	}
	flush()
	return out
}
