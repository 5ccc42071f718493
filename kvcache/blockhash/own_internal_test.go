package blockhash

import (
	"encoding/binary"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

// The bytes that are hashed are the same on every machine.
func TestLittleEndian(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		tokens := rapid.SliceOfN(rapid.Uint32(), 1, pieceTokens).Draw(t, "tokens")
		var want []byte
		for _, id := range tokens {
			want = binary.LittleEndian.AppendUint32(want, id)
		}
		require.Equal(t, want, littleEndian(tokens, new([pieceTokens]uint32)))
	})
}
