package store

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

func TestNamesOfKeys(t *testing.T) {
	for _, row := range []struct {
		key  Key
		name string
	}{
		{Key{Namespace: "llama", Hash: "\x00\xab"}, "llama/00ab/0/0"},
		{Key{Namespace: "meta/Llama 3@fp8", Hash: "h", Group: 2, Rank: 4294967295}, "meta%2FLlama%203@fp8/68/2/4294967295"},
		{Key{Namespace: "..", Hash: "h"}, "%2E%2E/68/0/0"},
		{Key{Namespace: ".a.", Hash: "h"}, ".a./68/0/0"},
	} {
		require.Equal(t, row.name, row.key.String())
		got, err := ParseKey(row.name)
		require.NoError(t, err, row.name)
		require.Equal(t, row.key, got)
	}
	for _, name := range []string{"", "a", "a/00/0", "a/0/0/0", "/00/0/0", "a//0/0", "a/00/-1/0", "a/00/0/4294967296", "a/00/00/0", "a/AB/0/0", "%61/00/0/0", "../00/0/0", "a/00/0/0/"} {
		_, err := ParseKey(name)
		require.ErrorIs(t, err, ErrKey, name)
	}
}

func TestNamesAreUnique(t *testing.T) {
	draw := rapid.Custom(func(t *rapid.T) Key {
		return Key{Namespace: rapid.StringN(1, 20, 60).Draw(t, "namespace"), Hash: rapid.StringN(1, 10, 40).Draw(t, "hash"), Group: rapid.Uint32Range(0, 3).Draw(t, "group")}
	})
	rapid.Check(t, func(t *rapid.T) {
		a, b := draw.Draw(t, "a"), draw.Draw(t, "b")
		got, err := ParseKey(a.String())
		require.NoError(t, err)
		require.Equal(t, a, got)
		require.Equal(t, a == b, a.String() == b.String())
		require.Equal(t, a.Namespace == b.Namespace, strings.HasPrefix(a.String(), Prefix(b.Namespace)))
	})
}

func FuzzParseKey(f *testing.F) {
	f.Add("llama/00ab/0/0")
	f.Fuzz(func(t *testing.T, name string) {
		if k, err := ParseKey(name); err == nil {
			require.Equal(t, name, k.String())
		}
	})
}
