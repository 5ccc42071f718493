package emit

import (
	"bytes"
	"testing"
	"unicode/utf8"

	"github.com/stretchr/testify/require"
	"go.yaml.in/yaml/v3"
)

// Whatever strings are, a YAML parser reads them back as the same strings.
func FuzzYAML(f *testing.F) {
	for _, s := range []string{"", "a", "true", "No", "1e3", "0x1f", "- x", "a: b", "#", "x #y", "'", `"\`, "\n", "a\n", "a\nb\n", " a\n",
		"~", "é", "\u0085\u2028\ufeff", "\U0001f600", "\x00\x7f", "2001-01-01", "=", "<<", "exec a \\\n  --b\n", "a\n\nb\n", "!!x", "&a", "*a", "%", "@", "`"} {
		f.Add(s, s)
	}
	f.Fuzz(func(t *testing.T, key, value string) {
		if !utf8.ValidString(key) || !utf8.ValidString(value) {
			t.Skip("refused before anything is written")
		}
		if len(key) > 100 {
			t.Skip("keys are names, which are short; YAML allows 1024 characters")
		}
		doc := documents(
			object{{"k" + key, value}, {"script", script(value)}, {"list", list{value, script(value), object{{"in", value}, {"n", 7}}}}},
			object{{"second", object{{"deep", object{{"s", script(value)}}}, {"row", row{1, -1}}, {"rows", rows{{3, row{5}}, {-4, nil}}}}}, {"yes", true}})
		type second struct {
			Second struct {
				Deep struct{ S string }
				Row  []int
				Rows map[int][]int
			}
			Yes bool
		}
		dec := yaml.NewDecoder(bytes.NewReader(doc))
		var first map[string]any
		require.NoError(t, dec.Decode(&first), "%s", doc)
		require.Equal(t, value, first["k"+key], "%s", doc)
		require.Equal(t, value, first["script"], "%s", doc)
		require.Equal(t, []any{value, value, map[string]any{"in": value, "n": 7}}, first["list"], "%s", doc)
		var next second
		require.NoError(t, dec.Decode(&next), "%s", doc)
		require.Equal(t, value, next.Second.Deep.S)
		require.Equal(t, []int{1, -1}, next.Second.Row)
		require.Equal(t, map[int][]int{3: {5}, -4: {}}, next.Second.Rows)
		require.True(t, next.Yes)
	})
}
