package enginesim

import (
	"time"

	"github.com/inferloom/inferloom/internal/engine"
)

// The bucket bounds are vLLM's.
var (
	firstTokenBounds = []float64{0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10, 20, 40, 80, 160, 640, 2560}
	tokenBounds      = []float64{0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1, 2.5, 5, 7.5, 10, 20, 40, 80}
	requestBounds    = []float64{0.3, 0.5, 0.8, 1, 1.5, 2, 2.5, 5, 10, 15, 20, 30, 40, 50, 60, 120, 240, 480, 960, 1920, 7680}
	lengthBounds     = []float64{1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10_000, 20_000, 50_000, 100_000}
)

type histogram struct {
	bounds []float64
	counts []uint64 // of each bucket alone, the last above all bounds
	sum    float64
}

func newHistogram(bounds []float64) *histogram {
	return &histogram{bounds: bounds, counts: make([]uint64, len(bounds)+1)}
}

func (h *histogram) add(v float64, n int) {
	i := 0
	for i < len(h.bounds) && v > h.bounds[i] {
		i++
	}
	h.counts[i] += uint64(n)
	h.sum += v * float64(n)
}

func (h *histogram) observe(d time.Duration, n int) { h.add(d.Seconds(), n) }

// metrics are what the engine's own Stats do not count.
type metrics struct {
	firstToken, interToken, perToken, queue, prefill, decode, request *histogram // simulated seconds
	prompt, generation                                                *histogram // tokens
	stop, length, abort                                               uint64     // requests by the way they ended
}

func newMetrics() metrics {
	return metrics{
		firstToken: newHistogram(firstTokenBounds),
		interToken: newHistogram(tokenBounds), perToken: newHistogram(tokenBounds),
		queue: newHistogram(requestBounds), prefill: newHistogram(requestBounds),
		decode: newHistogram(requestBounds), request: newHistogram(requestBounds),
		prompt: newHistogram(lengthBounds), generation: newHistogram(lengthBounds),
	}
}

func (m *metrics) finish(r engine.Result, limited bool) {
	switch {
	case r.Reason != engine.Completed:
		m.abort++
	case limited:
		m.length++
	default:
		m.stop++
	}
	if r.Reason != engine.Completed {
		return
	}
	m.request.observe(r.Finished-r.Arrived, 1)
	m.prefill.observe(r.FirstToken-r.Started, 1)
	m.decode.observe(r.Finished-r.FirstToken, 1)
	if r.OutputTokens > 1 {
		m.perToken.observe((r.Finished-r.FirstToken)/time.Duration(r.OutputTokens-1), 1)
	}
	m.prompt.add(float64(r.PromptTokens), 1)
	m.generation.add(float64(r.OutputTokens), 1)
}
