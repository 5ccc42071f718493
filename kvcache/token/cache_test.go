package token

import (
	"bytes"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestJointsChangeNothing parts texts in two wherever that is allowed.
func TestJointsChangeNothing(t *testing.T) {
	for _, family := range families(t) {
		t.Run(family, func(t *testing.T) {
			tok := loadFamily(t, family, Options{})
			joined := 0
			all := texts(t, family)
			all = append(all, []byte("x <mask>a\n<sep> b word word\nword <tool call> Zoë é!\ntool call<|im_start|>x c <sep>  d，e。"))
			for _, text := range all {
				for _, special := range []bool{false, true} {
					s := &scratch{}
					whole := tok.append(s, nil, text, special, false)
					for i := 1; i < len(text) && tok.joints.on; i++ {
						if text[i]&0xc0 == 0x80 || !tok.joint(text, i) {
							continue
						}
						joined++
						parts := tok.append(s, nil, text[:i], special, false)
						parts = tok.append(s, parts, text[i:], special, true)
						require.Equal(t, whole, parts, "%q then %q, special %t", text[:i], text[i:], special)
					}
				}
			}
			if family == "marks" { // cuts at numbers only
				require.False(t, tok.joints.on)
				return
			}
			require.Greater(t, joined, 50)
		})
	}
}

// conversation draws a long text out of a family's.
func conversation(rng *rand.Rand, all [][]byte, size int) []byte {
	var text []byte
	for len(text) < size {
		text = append(text, all[rng.IntN(len(all))]...)
		text = append(text, " and so on\n"...)
	}
	return text
}

func TestCacheEqualsTokenizer(t *testing.T) {
	for _, family := range families(t) {
		t.Run(family, func(t *testing.T) {
			tok := loadFamily(t, family, Options{})
			all := texts(t, family)
			for _, maxBytes := range []int{0, 1, 20_000, 200_000} {
				c, err := NewCache(tok, CacheOptions{MaxBytes: maxBytes})
				require.NoError(t, err)
				rng := rand.New(rand.NewPCG(1, 2))
				for range 3 {
					text := conversation(rng, all, 4000)
					for turn := range 4 {
						require.Equal(t, tok.AppendSpecial(nil, text), c.AppendSpecial(nil, text), "turn %d", turn)
						require.Equal(t, tok.Append(nil, text), c.Append(nil, text), "turn %d", turn)
						require.Equal(t, tok.AppendSpecial(nil, text), slices.Concat(slices.Collect(c.Parts(text))...))
						text = append(text, conversation(rng, all, 700)...)
					}
				}
				require.LessOrEqual(t, c.bytes, c.maxBytes)
			}
		})
	}
}

func TestCacheConcurrently(t *testing.T) {
	tok := loadFamily(t, "qwen2", Options{CacheBytes: 4096})
	all := texts(t, "qwen2")
	c, err := NewCache(tok, CacheOptions{MaxBytes: 30_000})
	require.NoError(t, err)
	var g sync.WaitGroup
	for worker := range 4 {
		g.Go(func() {
			rng := rand.New(rand.NewPCG(uint64(worker/2), 2)) // pairs of workers ask for the same
			for range 30 {
				text := conversation(rng, all, 3000)
				if got := c.AppendSpecial(nil, text); !equal(got, tok.AppendSpecial(nil, text)) {
					t.Error("ids differ from the tokenizer's")
				}
			}
		})
	}
	g.Wait()
	require.LessOrEqual(t, c.bytes, c.maxBytes)
}

func TestCacheOptions(t *testing.T) {
	_, err := NewCache(loadFamily(t, "qwen2", Options{}), CacheOptions{MaxBytes: -1})
	require.EqualError(t, err, "MaxBytes: -1 is less than 0")
}

// BenchmarkIncremental encodes a chat of about 100,000 tokens of which the last turn, of 200, is new, and, for comparison,
// all of it.
func BenchmarkIncremental(b *testing.B) {
	tok := benchTokenizer(b, "qwen2")
	prose := benchText(b, "prose")
	var text []byte
	for i, n := 0, 0; n < 100_000; i++ {
		turn := append([]byte("<|im_start|>user\n"), prose[i*800%(len(prose)-800):][:800]...)
		turn = append(turn, "<|im_end|>\n"...)
		n += tok.CountSpecial(turn)
		text = append(text, turn...)
	}
	b.Run("text=new", func(b *testing.B) {
		ids := tok.AppendSpecial(nil, text)
		b.ReportAllocs()
		for b.Loop() {
			ids = tok.AppendSpecial(ids[:0], text)
		}
		b.ReportMetric(float64(len(ids)), "tokens")
	})
	b.Run("text=last-turn", func(b *testing.B) {
		c, err := NewCache(tok, CacheOptions{})
		require.NoError(b, err)
		ids := c.AppendSpecial(nil, text)
		turn := bytes.Clone(text[len(text)-800:])
		text := slices.Concat(text, turn)
		b.ReportAllocs()
		for i := 0; b.Loop(); i++ {
			// The new turn differs every time, from its beginning on.
			for j, at := 0, len(text)-len(turn); j < 8; j++ {
				text[at+j] = 'a' + byte(i>>(4*j)&15)
			}
			ids = c.AppendSpecial(ids[:0], text)
		}
		b.ReportMetric(float64(len(ids)), "tokens")
	})
}
