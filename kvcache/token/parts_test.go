package token

import (
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestParts(t *testing.T) {
	for _, family := range families(t) {
		tok := loadFamily(t, family, Options{})
		var name string
		var id uint32
		for content, special := range tok.AddedTokens() {
			if got, ok := tok.ID(content); ok && special && (name == "" || content < name) {
				name, id = content, got
			}
		}
		if name == "" {
			continue // none is special
		}
		text := "a b" + name + "c"
		require.Equal(t, tok.AppendSpecial(nil, []byte(text)), tok.AppendParts(nil, Part{Text: []byte(text)}), family)

		ids := tok.AppendParts([]uint32{9}, Part{Text: []byte("a b")}, Part{Text: []byte(name), Literal: true}, Part{Text: []byte("c" + name)})
		require.Equal(t, uint32(9), ids[0])
		n := 0
		for _, got := range ids[1:] {
			if got == id {
				n++
			}
		}
		require.Equal(t, 1, n, "%s: only what is not literal", family)
		// The mode does not outlast the call.
		require.True(t, slices.Contains(tok.AppendSpecial(nil, []byte(name)), id), family)
	}
}
