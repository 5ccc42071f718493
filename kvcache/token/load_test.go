package token

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// edit returns a family's file with members replaced by JSON texts, given by path.
func edit(t testing.TB, family string, changes map[string]string) []byte {
	var file map[string]any
	require.NoError(t, json.Unmarshal(gunzip(t, "testdata/"+family+".json.gz"), &file))
	for path, text := range changes {
		var value any
		require.NoError(t, json.Unmarshal([]byte(text), &value))
		at, last := file, path
		for {
			first, rest, more := strings.Cut(last, ".")
			if !more {
				break
			}
			at, last = at[first].(map[string]any), rest
		}
		at[last] = value
	}
	out, err := json.Marshal(file)
	require.NoError(t, err)
	return out
}

func TestRefused(t *testing.T) {
	for _, row := range []struct {
		name, path, json, message string
		unsupported               bool
	}{
		{"model", "model.type", `"WordPiece"`, `model.type: "WordPiece" is not BPE`, true},
		{"dropout", "model.dropout", `0.1`, "model.dropout: encoding would be random", true},
		{"prefix", "model.continuing_subword_prefix", `"##"`, `model.continuing_subword_prefix: "##" is not empty`, true},
		{"unknown", "model.unk_token", `"<none>"`, `model.unk_token: "<none>" is not in the vocabulary`, false},
		{"kind", "model.fuse_unk", `3`, "model: fuse_unk: number where bool is expected", false},
		{"merge", "model.merges", `["a b c"]`, `rank 0: "a b c" is not two tokens`, false},
		{"merge of strangers", "model.merges", `[["aaaaaaaa", "b"]]`, `rank 0: "aaaaaaaa" and "b", or what they make, is not in the vocabulary`, false},
		{"merge of three", "model.merges", `[["a", "b", "c"]]`, "rank 0: 3 tokens where 2 are expected", false},
		{"id", "model.vocab", `{"a": 99999999}`, `model.vocab: "a": id 99999999 is above 4194303`, false},
		{"negative id", "model.vocab", `{"a": -1}`, "model.vocab: offset 5: id expected", false},
		{"normalizer", "normalizer", `{"type": "Sequence", "normalizers": [{"type": "NFC"}, {"type": "BertNormalizer"}]}`, `normalizer.normalizers[1].type: no normalizer "BertNormalizer"`, true},
		{"replaced expression", "normalizer", `{"type": "Replace", "pattern": {"Regex": " +"}, "content": " "}`, "normalizer.pattern: only strings can be replaced", true},
		{"pre-tokenizer", "pre_tokenizer", `{"type": "BertPreTokenizer"}`, `pre_tokenizer.type: no pre-tokenizer "BertPreTokenizer"`, true},
		{"expression", "pre_tokenizer", `{"type": "Split", "pattern": {"Regex": "\\w+|[^\\w\\s]+"}, "behavior": "Isolated", "invert": false}`, `pre_tokenizer.pattern.Regex: no matcher for "\\w+|[^\\w\\s]+"`, true},
		{"behavior", "pre_tokenizer", `{"type": "Split", "pattern": {"String": " "}, "behavior": "Removed", "invert": false}`, `pre_tokenizer.behavior: no behavior "Removed"`, true},
		{"decoder", "decoder", `{"type": "WordPiece"}`, `decoder.type: no decoder "WordPiece"`, true},
		{"other decoder", "decoder", `{"type": "Fuse"}`, "decoder: does not undo the pre_tokenizer", true},
		{"post-processor", "post_processor", `{"type": "BertProcessing"}`, `post_processor.type: no post-processor "BertProcessing"`, true},
		{"added id", "added_tokens", `[{"id": 3, "content": "<new>"}]`, `added_tokens[0].id: "<new>" has id 3, `, false},
		{"added twice", "added_tokens", `[{"id": 500, "content": "<new>"}, {"id": 501, "content": "<new>"}]`, `added_tokens[1]: "<new>" is there twice`, false},
	} {
		t.Run(row.name, func(t *testing.T) {
			_, err := Load(edit(t, "llama3", map[string]string{row.path: row.json}), Options{})
			require.ErrorContains(t, err, "tokenizer.json: ")
			require.ErrorContains(t, err, row.message)
			if row.unsupported {
				require.ErrorIs(t, err, ErrUnsupported)
			} else {
				require.NotErrorIs(t, err, ErrUnsupported)
			}
		})
	}
}

// TestOldMerges reads merges as older files have them.
func TestOldMerges(t *testing.T) {
	var file struct{ Model struct{ Merges [][2]string } }
	require.NoError(t, json.Unmarshal(gunzip(t, "testdata/llama3.json.gz"), &file))
	var old []string
	for _, m := range file.Model.Merges {
		old = append(old, m[0]+" "+m[1])
	}
	text, err := json.Marshal(old)
	require.NoError(t, err)
	tok, err := Load(edit(t, "llama3", map[string]string{"model.merges": string(text)}), Options{})
	require.NoError(t, err)
	compare(t, tok, readExpectations(t, gunzip(t, "testdata/llama3.cases.gz")))
}

// tiktokenFile writes a family's vocabulary as tiktoken would have it: in the order of its merges, after the bytes.
func tiktokenFile(t *testing.T, family string) (file []byte, ids map[uint32]uint32) {
	tok := loadFamily(t, family, Options{})
	ids = map[uint32]uint32{}
	for id := range tok.model.vocab.spans {
		text, ok := unmapBytes(nil, tok.model.vocab.token(uint32(id)))
		if _, added := tok.names[uint32(id)]; !ok || len(text) == 0 || added || string(text) == "<unk>" {
			continue
		}
		ids[uint32(id)] = uint32(len(ids))
		file = fmt.Appendf(file, "%s %d\n", base64.StdEncoding.EncodeToString(text), ids[uint32(id)])
	}
	return file, ids
}

// TestTiktoken holds a tiktoken file to the tokenizer.json of the same vocabulary: trained by merging, the ranks of both
// are in the same order.
func TestTiktoken(t *testing.T) {
	file, ids := tiktokenFile(t, "llama3")
	begin := uint32(len(ids))
	tok, err := LoadTiktoken(file, Tiktoken{Pattern: patternCL100K, Special: map[string]uint32{"<|begin_of_text|>": begin}}, Options{})
	require.NoError(t, err)
	other, err := Load(edit(t, "llama3", map[string]string{"added_tokens": "[]", "post_processor": "null"}), Options{})
	require.NoError(t, err)
	for _, text := range texts(t, "llama3") {
		want := other.Append(nil, text)
		for i, id := range want {
			want[i] = ids[id]
		}
		require.True(t, equal(want, tok.Append(nil, text)), "%q", text)
		require.Equal(t, other.AppendText(nil, other.Append(nil, text), true), tok.AppendText(nil, want, true))
	}
	require.Equal(t, []uint32{begin}, tok.AppendSpecial(nil, []byte("<|begin_of_text|>")))
	require.Greater(t, tok.Count([]byte("<|begin_of_text|>")), 1)
}

func TestTiktokenRefused(t *testing.T) {
	file, _ := tiktokenFile(t, "llama3")
	for _, row := range []struct {
		name, file string
		about      Tiktoken
		message    string
	}{
		{"pattern", string(file), Tiktoken{Pattern: `\w+`}, `Pattern: no matcher for "\\w+": not supported`},
		{"line", "IQ==\n", Tiktoken{Pattern: patternGPT2}, `line 1: "IQ==" is not a token and its rank`},
		{"base64", "I 0\n", Tiktoken{Pattern: patternGPT2}, `line 1: "I": illegal base64`},
		{"twice", "IQ== 0\nIQ== 1\n", Tiktoken{Pattern: patternGPT2}, "line 2: the token or its rank 1 is there twice"},
		{"bytes", "IQ== 0\n", Tiktoken{Pattern: patternGPT2}, "byte 0x00 has no token"},
		{"special", string(file), Tiktoken{Pattern: patternGPT2, Special: map[string]uint32{"<s>": 5}}, `Special["<s>"]`},
	} {
		t.Run(row.name, func(t *testing.T) {
			_, err := LoadTiktoken([]byte(row.file), row.about, Options{})
			require.ErrorContains(t, err, row.message)
		})
	}
}

func TestBeginAndEnd(t *testing.T) {
	tok := loadFamily(t, "llama3", Options{})
	for name, ids := range map[string][]uint32{"<|begin_of_text|>": tok.Begin(), "</s>": tok.End()} {
		id, ok := tok.ID(name)
		require.True(t, ok)
		require.Equal(t, []uint32{id}, ids)
	}
	tok = loadFamily(t, "qwen2", Options{})
	require.Empty(t, slices.Concat(tok.Begin(), tok.End()))
	_, ok := tok.ID("<none>")
	require.False(t, ok)
}

// largeFile is a tokenizer.json of about ten megabytes, spread over lines as the library writes it.
func largeFile() []byte {
	rng := rand.New(rand.NewPCG(1, 2))
	var tokens []string
	known := map[string]bool{}
	var vocab, merges bytes.Buffer
	add := func(token string) {
		name, _ := json.Marshal(token) // of a string, cannot fail
		fmt.Fprintf(&vocab, "      %s: %d,\n", name, len(tokens))
		tokens = append(tokens, token)
		known[token] = true
	}
	for _, r := range byteRunes {
		add(string(r))
	}
	for vocab.Len()+merges.Len() < 10_000_000 {
		left, right := tokens['a'+rng.IntN(26)], tokens['a'+rng.IntN(26)]
		if n := len(tokens) - 256; n > 100 {
			right = tokens[256+rng.IntN(n)]
		}
		if whole := left + right; len(whole) < 12 && !known[whole] {
			add(whole)
			fmt.Fprintf(&merges, "      [\n        %q,\n        %q\n      ],\n", left, right)
		}
	}
	return fmt.Appendf(nil, `{
  "version": "1.0",
  "added_tokens": [],
  "normalizer": null,
  "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true},
  "post_processor": null,
  "decoder": {"type": "ByteLevel"},
  "model": {
    "type": "BPE",
    "vocab": {
%s
    },
    "merges": [
%s
    ]
  }
}`, bytes.TrimRight(vocab.Bytes(), ",\n"), bytes.TrimRight(merges.Bytes(), ",\n"))
}

func BenchmarkLoad(b *testing.B) {
	file := largeFile()
	b.SetBytes(int64(len(file)))
	b.ReportAllocs()
	for b.Loop() {
		tok, err := Load(file, Options{})
		if err != nil {
			b.Fatal(err)
		}
		b.ReportMetric(float64(tok.model.vocab.count), "tokens")
	}
}
