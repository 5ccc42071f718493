package chat

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// conversationBody is a request whose prompt has the given number of turns, of a hundred words each.
func conversationBody(turns, seed int) string {
	rng := rand.New(rand.NewPCG(uint64(seed), 1))
	words := strings.Fields("the cache of a model keeps what it has seen so that a prompt which begins alike costs less and answers come sooner than before")
	var b strings.Builder
	b.WriteString(`{"model":"m","messages":[{"role":"system","content":"You are helpful."}`)
	for i := range turns {
		role := "user"
		if i%2 == 1 {
			role = "assistant"
		}
		fmt.Fprintf(&b, `,{"role":%q,"content":"`, role)
		for range 100 {
			b.WriteString(words[rng.IntN(len(words))] + " ")
		}
		b.WriteString(`"}`)
	}
	b.WriteString(`]}`)
	return b.String()
}

// BenchmarkChat turns a chat of about 10,000 tokens into ids: of one not seen before, and of one of which the last turn is
// new. The vocabulary is small, so there are more tokens a byte than with a real model's.
func BenchmarkChat(b *testing.B) {
	const turns = 71
	source := readTemplate(b, "turns")
	run := func(name string, fresh bool, f func(m *Model, body []byte, ids []uint32) int) {
		b.Run(name, func(b *testing.B) {
			tok := loadTokenizer(b, "qwen2")
			m := newModel(b, Options{Tokenizer: tok, Template: source})
			ids := make([]uint32, 0, 1<<16)
			prefix := conversationBody(turns-1, 1)
			f(m, []byte(prefix), ids)
			const digits = "0000000000"
			body := []byte(strings.TrimSuffix(prefix, "]}") + `,{"role":"user","content":"` + digits + strings.Repeat(" what of that?", 40) + `"}]}`)
			number := bytes.Index(body, []byte(digits))
			b.ReportAllocs()
			tokens, n := 0, 0
			for b.Loop() {
				n++
				copy(body[number:], fmt.Appendf(make([]byte, 0, len(digits)), "%010d", n))
				if fresh {
					b.StopTimer()
					m = newModel(b, Options{Tokenizer: tok, Template: source})
					b.StartTimer()
				}
				tokens = f(m, body, ids)
			}
			b.ReportMetric(float64(tokens), "tokens")
			b.ReportMetric(float64(b.Elapsed().Microseconds())/float64(b.N), "µs/prompt")
		})
	}
	appendChat := func(m *Model, body []byte, ids []uint32) int {
		ids, err := m.AppendChat(context.Background(), ids, body)
		require.NoError(b, err)
		return len(ids)
	}
	run("cold", true, appendChat)
	run("last-turn-new", false, appendChat)
	var text []byte
	run("render-only", false, func(m *Model, body []byte, _ []uint32) int {
		var err error
		text, err = m.AppendPrompt(text[:0], body)
		require.NoError(b, err)
		return len(text) / 4
	})
}
