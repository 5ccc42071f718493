package token

import (
	"bytes"
	"compress/gzip"
	"encoding/binary"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/stretchr/testify/require"
)

// expectation is what the reference library makes of a text. Its record is described in e2e/token/train.py.
type expectation struct {
	special bool
	text    []byte
	ids     []uint32
	back    []byte
}

func readExpectations(t testing.TB, data []byte) []expectation {
	var all []expectation
	take := func(n int) []byte {
		part := data[:n]
		data = data[n:]
		return part
	}
	number := func() int { return int(binary.LittleEndian.Uint32(take(4))) }
	for len(data) > 0 {
		e := expectation{special: take(1)[0] == 1}
		e.text = take(number())
		e.ids = make([]uint32, number())
		for i := range e.ids {
			e.ids[i] = uint32(number())
		}
		e.back = take(number())
		all = append(all, e)
	}
	return all
}

func gunzip(t testing.TB, path string) []byte {
	t.Helper()
	f, err := os.Open(path)
	require.NoError(t, err)
	defer f.Close()
	r, err := gzip.NewReader(f)
	require.NoError(t, err)
	data, err := io.ReadAll(r)
	require.NoError(t, err)
	return data
}

// families are the configurations in testdata.
func families(t testing.TB) []string {
	paths, err := filepath.Glob("testdata/*.json.gz")
	require.NoError(t, err)
	require.NotEmpty(t, paths)
	for i, p := range paths {
		paths[i] = strings.TrimSuffix(filepath.Base(p), ".json.gz")
	}
	return paths
}

func loadFamily(t testing.TB, name string, o Options) *Tokenizer {
	tok, err := Load(gunzip(t, "testdata/"+name+".json.gz"), o)
	require.NoError(t, err)
	return tok
}

// compare holds a tokenizer to what the reference made of texts, and returns how many characters and mismatches there are.
func compare(t *testing.T, tok *Tokenizer, all []expectation) (characters, mismatches int) {
	for _, e := range all {
		characters += utf8.RuneCount(e.text)
		encode := tok.Append
		if e.special {
			encode = tok.AppendSpecial
		}
		ids := encode(nil, e.text)
		if !equal(ids, e.ids) {
			if mismatches++; mismatches <= 5 {
				i := 0
				for i < len(ids) && i < len(e.ids) && ids[i] == e.ids[i] {
					i++
				}
				t.Errorf("special=%t %.300q: ids differ from the %dth:\n got %v\nwant %v", e.special, e.text, i, head(ids[i:]), head(e.ids[i:]))
			}
			continue
		}
		if back := tok.AppendText(nil, e.ids, true); !bytes.Equal(back, e.back) {
			if mismatches++; mismatches <= 5 {
				t.Errorf("%v decodes to\n%.200q, not\n%.200q", head(e.ids), back, e.back)
			}
		}
	}
	return characters, mismatches
}

func head(ids []uint32) []uint32 { return ids[:min(len(ids), 10)] }

func equal(a, b []uint32) bool {
	if len(a) != len(b) {
		return false
	}
	for i := range a {
		if a[i] != b[i] {
			return false
		}
	}
	return true
}

func TestGolden(t *testing.T) {
	for _, name := range families(t) {
		t.Run(name, func(t *testing.T) {
			all := readExpectations(t, gunzip(t, "testdata/"+name+".cases.gz"))
			for _, cache := range []int{0, -1, 64} {
				tok := loadFamily(t, name, Options{CacheBytes: cache})
				compare(t, tok, all)
				compare(t, tok, all) // from the cache
			}
		})
	}
}
