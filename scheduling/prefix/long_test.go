package prefix_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/inferloom/inferloom/scheduling"
	"github.com/inferloom/inferloom/scheduling/prefix"
)

// produce calls a producer as a pick does, over and over.
type produce func(c *scheduling.Cycle)

func (f produce) Produce(c *scheduling.Cycle) { f(c) }

// A prompt of 100,000 tokens is hashed and matched against 100 endpoints, ten of which have between a tenth and all of it.
// Each round is of a prompt that no round before has hashed.
func BenchmarkLongPrompt(b *testing.B) {
	const tokens, endpoints = 100_000, 100
	ids := make([]uint32, tokens)
	for i := range ids {
		ids[i] = uint32(i*2654435761) % 150_000
	}
	text := make([]byte, tokens*scheduling.BytesPerToken)
	for i := range text {
		text[i] = 'a' + byte(i*i%23)
	}
	for _, block := range []int{16, 64} {
		for name, prompt := range map[string]scheduling.Prompt{"tokens": {Tokens: ids}, "text": {Text: text}} {
			b.Run(fmt.Sprintf("block=%d/prompt=%s", block, name), func(b *testing.B) {
				list := make([]scheduling.Endpoint, endpoints)
				for i := range list {
					list[i] = scheduling.Endpoint{ID: fmt.Sprint(i), Address: fmt.Sprintf("10.0.0.%d:80", i+1), BlockTokens: block, CacheBlocks: 2 * tokens / block}
				}
				pool, err := scheduling.NewPool(scheduling.PoolOptions{Endpoints: list})
				require.NoError(b, err)
				index, err := prefix.New(prefix.Options{})
				require.NoError(b, err)
				producer := &prefix.Producer{Index: index}
				for i := range 10 {
					part := prompt
					part.Tokens, part.Text = part.Tokens[:len(part.Tokens)*(i+1)/10], part.Text[:len(part.Text)*(i+1)/10]
					place, err := scheduling.New(pool, scheduling.Options{Profile: scheduling.Profile{
						Producers: []scheduling.Producer{producer}, Filters: []scheduling.Filter{at(10 * i)},
					}})
					require.NoError(b, err)
					d, err := place.Pick(context.Background(), &scheduling.Request{Prompt: part})
					require.NoError(b, err)
					d.Done()
				}
				// The time is that of Produce alone; the rest of a pick does not depend on the prompt's length.
				var spent time.Duration
				s, err := scheduling.New(pool, scheduling.Options{Profile: scheduling.Profile{Producers: []scheduling.Producer{produce(func(c *scheduling.Cycle) {
					start := time.Now()
					producer.Produce(c)
					spent += time.Since(start)
					if int(c.Match.Cached[90]) != tokens/block*block {
						b.Error("not found")
					}
				})}}})
				require.NoError(b, err)
				request := &scheduling.Request{Prompt: prompt}
				b.ReportAllocs()
				for b.Loop() {
					d, err := s.Pick(context.Background(), request)
					if err != nil {
						b.Fatal(err)
					}
					d.Done()
				}
				b.ReportMetric(float64(spent.Nanoseconds())/float64(b.N), "produce-ns/op")
			})
		}
	}
}

type at int

func (slot at) Filter(_ *scheduling.Cycle, slots []scheduling.Slot) []scheduling.Slot {
	return append(slots[:0], scheduling.Slot(slot))
}
