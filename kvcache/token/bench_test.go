package token

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// dataFolder has vocabularies of a realistic size and texts, as e2e/token/train.py writes them. Without it benchmarks use
// the small vocabularies of testdata and texts made on the spot, and their figures say less.
var dataFolder = os.Getenv("TOKEN_DATA")

var benchTexts = []string{"prose", "code", "cjk", "json"}

func benchTokenizer(b testing.TB, family string) *Tokenizer {
	if dataFolder == "" {
		return loadFamily(b, family, Options{})
	}
	file, err := os.ReadFile(filepath.Join(dataFolder, family+".json"))
	require.NoError(b, err)
	tok, err := Load(file, Options{})
	require.NoError(b, err)
	return tok
}

func benchText(b testing.TB, kind string) []byte {
	if dataFolder != "" {
		text, err := os.ReadFile(filepath.Join(dataFolder, kind+".txt"))
		require.NoError(b, err)
		return text
	}
	rng := rand.New(rand.NewPCG(1, 2))
	var text strings.Builder
	for text.Len() < 1<<18 {
		switch kind {
		case "prose":
			fmt.Fprintf(&text, "%s of the %s and %s. ", madeWord(rng), madeWord(rng), madeWord(rng))
		case "code":
			fmt.Fprintf(&text, "\tif %s != %d {\n\t\treturn %s(%s)\n\t}\n", madeWord(rng), rng.IntN(10), madeWord(rng), madeWord(rng))
		case "cjk":
			for range 4 + rng.IntN(12) {
				text.WriteRune('一' + rune(rng.ExpFloat64()*200)%2000)
			}
			text.WriteString("，")
		case "json":
			fmt.Fprintf(&text, "{\"%s\": %d, \"%s\": \"%s\"},\n", madeWord(rng), rng.IntN(1e6), madeWord(rng), madeWord(rng))
		}
	}
	return []byte(text.String())
}

// madeWord draws from a thousand words, the first of them often.
func madeWord(rng *rand.Rand) string {
	n := int(rng.ExpFloat64()*150) % 1000
	return []string{"con", "per", "in", "ex", "to", "re", "a", "un", "sub", "de"}[n%10] +
		[]string{"form", "ten", "s", "ject", "ver", "port", "tain", "miss", "duc", "cept"}[n/10%10] +
		[]string{"", "ing", "ed", "ation", "s", "er", "able", "ly", "ment", "al"}[n/100]
}

func BenchmarkEncode(b *testing.B) {
	for _, family := range []string{"gpt2", "llama3", "qwen2", "deepseek", "gptoss", "tekken", "llama2", "mistral", "gemma"} {
		for _, kind := range benchTexts {
			b.Run("family="+family+"/text="+kind, func(b *testing.B) {
				tok, text := benchTokenizer(b, family), benchText(b, kind)
				ids := tok.Append(nil, text)
				b.SetBytes(int64(len(text)))
				b.ReportAllocs()
				for b.Loop() {
					ids = tok.Append(ids[:0], text)
				}
				b.ReportMetric(float64(len(text))/float64(len(ids)), "bytes/token")
			})
		}
	}
}
