package dashboard

import (
	"time"

	"github.com/inferloom/inferloom/gateway"
	"github.com/inferloom/inferloom/gateway/api"
)

// window counts what happened in each of the last steps. Its steps are a ring; one is cleared when its place is needed
// again, so that an idle window costs nothing.
type window struct {
	steps  []step
	newest int64
}

type step struct {
	number int64 // which step this is; one that lies too far back is as good as empty
	sums
}

func newWindow(steps int) window { return window{steps: make([]step, steps)} }

// at returns the sums of a step that is not before any that was asked for earlier.
func (w *window) at(number int64) *sums {
	s := &w.steps[number%int64(len(w.steps))]
	if s.number != number {
		*s = step{number: number}
	}
	w.newest = number
	return &s.sums
}

// last is the newest step in which something was counted.
func (w *window) last() int64 { return w.newest }

// add adds the sums of the steps from first to last to total.
func (w *window) add(total *sums, first, last int64) {
	for number := max(first, 0); number <= last; number++ {
		if s := &w.steps[number%int64(len(w.steps))]; s.number == number {
			total.add(&s.sums)
		}
	}
}

// requests is how many requests ended in the steps from first to last.
func (w *window) requests(first, last int64) uint64 {
	var n uint64
	for number := max(first, 0); number <= last; number++ {
		if s := &w.steps[number%int64(len(w.steps))]; s.number == number {
			n += s.ended.total()
		}
	}
	return n
}

// sums is what is counted of requests.
type sums struct {
	ended outcomeCounts
	// prompt and cached are tokens of the requests whose engine said both.
	prompt, cached uint64
	// output is tokens; outputs is how many requests said theirs.
	output, outputs uint64
	ttft            histogram
}

func (s *sums) count(r *gateway.Record, o outcome) {
	s.ended[o]++
	if r.Usage.Has(api.PromptCount | api.CachedCount) {
		s.prompt += uint64(max(r.Usage.PromptTokens, 0))
		s.cached += uint64(max(r.Usage.CachedTokens, 0))
	}
	if r.Usage.Has(api.CompletionCount) {
		s.output += uint64(max(r.Usage.CompletionTokens, 0))
		s.outputs++
	}
	if r.TTFT > 0 {
		s.ttft.record(r.TTFT)
	}
}

func (s *sums) add(o *sums) {
	for i, n := range o.ended {
		s.ended[i] += n
	}
	s.prompt += o.prompt
	s.cached += o.cached
	s.output += o.output
	s.outputs += o.outputs
	s.ttft.add(&o.ttft)
}

// hitRatio is the part of the prompt tokens that a cache served.
func (s *sums) hitRatio() optional {
	if s.prompt == 0 {
		return absent
	}
	return optional(float64(s.cached) / float64(s.prompt))
}

// share is the part of the requests that ended so.
func (s *sums) share(o outcome) optional {
	total := s.ended.total()
	if total == 0 {
		return absent
	}
	return optional(float64(s.ended[o]) / float64(total))
}

// ttftMillis is a quantile of the time to first token.
func (s *sums) ttftMillis(q float64) optional {
	v, ok := s.ttft.quantile(q)
	if !ok {
		return absent
	}
	return optional(float64(v) / float64(time.Millisecond))
}

// outputRate is output tokens a second.
func (s *sums) outputRate(d time.Duration) optional {
	if s.outputs == 0 && s.ended.total() > 0 {
		return absent // there was output, but nobody said how much
	}
	return optional(float64(s.output) / d.Seconds())
}

func (s *sums) rate(d time.Duration) optional {
	return optional(float64(s.ended.total()) / d.Seconds())
}
