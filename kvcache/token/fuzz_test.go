package token

import (
	"bytes"
	"slices"
	"testing"
)

// FuzzLoad: whatever a file is, loading ends without a panic, and what is loaded can encode and decode.
func FuzzLoad(f *testing.F) {
	for _, family := range families(f) {
		f.Add(edit(f, family, map[string]string{
			"model.vocab":    `{"a": 0, "b": 1, "ab": 2, "<0x41>": 3, "é": 4, "▁": 5, "▁a": 6, "<unk>": 7}`,
			"model.merges":   `[["a", "b"], ["▁", "a"]]`,
			"added_tokens":   `[{"id": 8, "content": "<end>", "special": true, "lstrip": true}, {"id": 4, "content": "é", "normalized": true}]`,
			"post_processor": `{"type": "TemplateProcessing", "single": [{"SpecialToken": {"id": "e"}}, {"Sequence": {"id": "A"}}], "special_tokens": {"e": {"ids": [8]}}}`,
		}))
	}
	f.Add([]byte(`{"model":{"vocab":{"a":0,"b":1,"ab":2,"<0x41>":7},"merges":["a b"],"unk_token":"a"},"decoder":{"type":"Fuse"},"added_tokens":[{"id":4,"content":"ab","lstrip":true}]}`))
	f.Add([]byte(`{"model":{"vocab":{"\u00e9":0,"\ud83d\ude00":1},"merges":[["\u00e9","\ud83d\ude00"]]},"pre_tokenizer":{"type":"Metaspace","replacement":"_"},"decoder":{"type":"Metaspace","replacement":"_"}}`))
	f.Fuzz(func(t *testing.T, file []byte) {
		tok, err := Load(file, Options{CacheBytes: 1 << 12})
		if err != nil {
			return
		}
		text := []byte("It's a\ttest, \u4f60\u597d e\u0301 <|im_start|> 1234 \xff  x")
		ids := tok.AppendSpecial(nil, text)
		tok.AppendText(nil, ids, false)
	})
}

// FuzzLoadTiktoken is FuzzLoad for tiktoken files.
func FuzzLoadTiktoken(f *testing.F) {
	f.Add([]byte("IQ== 0\nIg== 1\nISI= 2\n"))
	f.Fuzz(func(t *testing.T, file []byte) {
		_, _ = LoadTiktoken(file, Tiktoken{Pattern: patternCL100K}, Options{CacheBytes: -1})
	})
}

// FuzzEncode holds encoding to the definition of the merges, to lossless decoding and to the cache of prefixes.
func FuzzEncode(f *testing.F) {
	toks := map[string]*Tokenizer{}
	lists := map[string][]pair{}
	names := families(f)
	for _, family := range names {
		tok := loadFamily(f, family, Options{CacheBytes: 1 << 12})
		toks[family] = tok
		for _, p := range tok.model.merges.pairs {
			if p.key != noPair {
				lists[family] = append(lists[family], p)
			}
		}
	}
	for i, text := range []string{"Hello, world's 'RE  \r\n\n x", "中文，你好。かな カナ", "e\u0301\u0323 \ufb01 \uac00", "<|im_start|>word <mask> ", "\xf0\x9f\x91\x8d\xff\xe2\x82", "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"} {
		f.Add(uint8(i), []byte(text))
	}
	f.Fuzz(func(t *testing.T, pick uint8, text []byte) {
		family := names[int(pick)%len(names)]
		tok := toks[family]
		ids := tok.AppendSpecial(nil, text)
		if again := tok.AppendSpecial(nil, text); !equal(ids, again) {
			t.Fatalf("%s: %q is %v, then %v", family, text, ids, again)
		}
		if len(tok.normalize) == 0 && tok.model.bytes && tok.pieces.prepend == prependNever {
			user := tok.Append(nil, text)
			if back := tok.AppendText(nil, user, true); !tok.takesSpace() && !bytes.Equal(back, appendValid(nil, text)) {
				t.Fatalf("%s: %q comes back as %q", family, text, back)
			}
		}
		if len(text) > 0 && len(text) < 200 {
			word := appendValid(nil, text)
			symbols := tok.model.appendSymbols(nil, word)
			if want, got := naiveMerge(lists[family], symbols), tok.model.merges.merge(&scratch{}, nil, slices.Clone(symbols)); !equal(got, want) {
				t.Fatalf("%s: %q is merged to %v, not %v", family, word, got, want)
			}
		}
		s := &scratch{}
		for i := 1; i < len(text) && tok.joints.on; i++ {
			if text[i]&0xc0 != 0x80 && tok.joint(text, i) {
				parts := tok.append(s, nil, text[:i], true, false)
				if parts = tok.append(s, parts, text[i:], true, true); !equal(parts, ids) {
					t.Fatalf("%s: %q parted before %q is %v, not %v", family, text, text[i:], parts, ids)
				}
			}
		}
	})
}

// takesSpace reports whether a token that is no special one takes white space with it.
func (t *Tokenizer) takesSpace() bool {
	return slices.ContainsFunc(t.raw.tokens, func(a addedToken) bool { return !a.Special && (a.Left || a.Right) })
}
