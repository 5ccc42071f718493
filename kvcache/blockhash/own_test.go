package blockhash_test

import (
	"encoding/binary"
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/inferloom/inferloom/kvcache/blockhash"
)

// Chains of two prompts agree exactly as far as the prompts do, in whole blocks.
func TestChainsAgreeAsFarAsPromptsDo(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		block := rapid.IntRange(1, 40).Draw(t, "block")
		a := rapid.SliceOfN(rapid.Uint32Range(0, 1), 0, 200).Draw(t, "a")
		b := append(append([]uint32(nil), a[:rapid.IntRange(0, len(a)).Draw(t, "shared")]...), rapid.SliceOfN(rapid.Uint32Range(0, 1), 0, 100).Draw(t, "rest")...)
		same := 0
		for same < min(len(a), len(b)) && a[same] == b[same] {
			same++
		}
		for _, chains := range [][2][]uint64{
			{blockhash.AppendTokens(nil, 1, a, block), blockhash.AppendTokens(nil, 1, b, block)},
			{blockhash.AppendText(nil, 1, text(a), block), blockhash.AppendText(nil, 1, text(b), block)},
		} {
			require.Len(t, chains[0], len(a)/block)
			for i := range min(len(chains[0]), len(chains[1])) {
				require.Equal(t, (i+1)*block <= same, chains[0][i] == chains[1][i], "block %d", i)
			}
		}
		// A chain continues from any of its blocks.
		whole := blockhash.AppendTokens(nil, 1, a, block)
		if len(whole) > 1 {
			rest := blockhash.AppendTokens(nil, whole[0], a[block:], block)
			require.Equal(t, whole[1:], rest)
		}
	})
}

func text(tokens []uint32) []byte {
	b := make([]byte, len(tokens))
	for i, t := range tokens {
		b[i] = 'a' + byte(t)
	}
	return b
}

func TestStartSeparates(t *testing.T) {
	seen := map[uint64]string{}
	for _, s := range [][3]string{{"m", "", ""}, {"", "m", ""}, {"", "", "m"}, {"m", "a", ""}, {"ma", "", ""}, {"m", "", "a"}} {
		for _, block := range []int{16, 32} {
			h := blockhash.Start(s[0], s[1], s[2], block)
			require.Empty(t, seen[h])
			seen[h] = fmt.Sprint(s, block)
		}
	}
}

func ExampleAppendText() {
	start := blockhash.Start("llama", "", "", 16)
	first := blockhash.AppendText(nil, start, []byte("You are a helpful assistant. What is the capital of France?"), 16)
	second := blockhash.AppendText(nil, start, []byte("You are a helpful assistant. What is the capital of Spain? "), 16)
	shared := 0
	for shared < len(first) && first[shared] == second[shared] {
		shared++
	}
	fmt.Println(len(first), shared)
	// Output: 3 3
}

func BenchmarkAppend(b *testing.B) {
	const tokens = 8192
	ids, body := make([]uint32, tokens), make([]byte, 4*tokens)
	dst := make([]uint64, 0, tokens)
	run := func(name string, f func()) {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				f()
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/(tokens/16), "ns/block")
		})
	}
	run("text", func() { blockhash.AppendText(dst, 1, body, 64) })
	run("tokens", func() { blockhash.AppendTokens(dst, 1, ids, 16) })
}

// A text and token ids share no hash, even where they are the same bytes: what is estimated never matches what is exact.
func TestTextsAndTokensAreApart(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		ids := rapid.SliceOfN(rapid.Uint32Range(0, 3), 1, 100).Draw(t, "ids")
		block := rapid.IntRange(1, 20).Draw(t, "block")
		var bytes []byte
		for _, id := range ids {
			bytes = binary.LittleEndian.AppendUint32(bytes, id)
		}
		start := blockhash.Start("m", "", "", block)
		texts := blockhash.AppendText(nil, start, bytes, 4*block)
		for i, h := range blockhash.AppendTokens(nil, start, ids, block) {
			require.NotEqual(t, texts[i], h, "block %d", i)
		}
	})
}

func TestUnchain(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		contents := rapid.SliceOf(rapid.Uint64()).Draw(t, "contents")
		parent := rapid.Uint64().Draw(t, "parent")
		chain := append([]uint64(nil), contents...)
		blockhash.Chain(chain, parent)
		blockhash.Unchain(chain, parent)
		require.Equal(t, append([]uint64(nil), contents...), chain)
	})
}
