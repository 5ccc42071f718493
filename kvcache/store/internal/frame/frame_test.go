package frame

import (
	"bytes"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/inferloom/inferloom/kvcache/store"
)

func drawHeader(t *rapid.T) (store.Key, store.Attr, []byte) {
	text := func(label string, low, high int) string {
		return string(rapid.SliceOfN(rapid.Byte(), low, high).Draw(t, label))
	}
	key := store.Key{Namespace: text("namespace", 1, store.MaxNamespaceBytes), Hash: text("hash", 1, store.MaxHashBytes), Group: rapid.Uint32().Draw(t, "group"), Rank: rapid.Uint32().Draw(t, "rank")}
	attr := store.Attr{Tokens: rapid.IntRange(0, 1<<31-1).Draw(t, "tokens"), Cost: time.Duration(rapid.Int64Min(0).Draw(t, "cost"))}
	if attr.Chained = rapid.Bool().Draw(t, "chained"); attr.Chained {
		attr.Parent, attr.Depth = text("parent", 0, store.MaxHashBytes), rapid.IntRange(0, 1<<31-1).Draw(t, "depth")
	}
	return key, attr, rapid.SliceOfN(rapid.Byte(), 0, 300).Draw(t, "page")
}

func TestSealedPages(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		key, attr, page := drawHeader(t)
		sealed := Seal(nil, key, attr, page)
		require.Equal(t, Size(key, &attr)+len(page), len(sealed))
		got, gotAttr, err := Unseal(sealed, key)
		require.NoError(t, err)
		require.True(t, bytes.Equal(page, got))
		require.Equal(t, attr, gotAttr)
		require.True(t, Names(sealed, &key))
		other := key
		other.Rank++
		require.False(t, Names(sealed, &other))
		other = key
		other.Namespace, other.Hash = key.Namespace+key.Hash[:1], key.Hash[1:]
		require.False(t, Names(sealed, &other))

		_, _, err = Unseal(sealed[:rapid.IntRange(0, len(sealed)-1).Draw(t, "cut")], key)
		require.ErrorIs(t, err, store.ErrCorrupt)

		bit := rapid.IntRange(0, len(sealed)*8-1).Draw(t, "bit")
		sealed[bit/8] ^= 1 << (bit % 8)
		_, _, err = Unseal(sealed, key)
		require.ErrorIs(t, err, store.ErrCorrupt, "bit %d of %d", bit, len(sealed)*8)
	})
}

func TestAnotherKeysPage(t *testing.T) {
	key := store.Key{Namespace: "a", Hash: "h"}
	_, _, err := Unseal(Seal(nil, key, store.Attr{}, []byte("page")), store.Key{Namespace: "b", Hash: "h"})
	require.ErrorIs(t, err, store.ErrCorrupt)
}

func FuzzParse(f *testing.F) {
	f.Add(Seal(nil, store.Key{Namespace: "n", Hash: "h"}, store.Attr{Chained: true, Depth: 3}, nil))
	f.Add([]byte("ILKV\x01"))
	f.Fuzz(func(t *testing.T, b []byte) {
		h, n, err := Parse(b)
		if err != nil {
			return
		}
		// The flags and the zeros are not compared: they do not tell pages apart.
		again, m, err := Parse(Append(nil, &h))
		require.NoError(t, err)
		require.Equal(t, n, m)
		require.Equal(t, h, again)
	})
}
