package scorer

import (
	"errors"
	"math"
	"slices"
	"strconv"
	"strings"

	"github.com/inferloom/inferloom/scheduling"
)

// ContextLength knows of endpoints that are set up for prompts of some length: a label of the form "min-max", in tokens. It is
// llm-d's context-length-aware plugin, and like it both a scorer and a filter.
//
// A prompt within the range scores 0.3 + 0.7·(0.7/(1+width/10000) + 0.3·(max-length)/width), or 1 if the width is 0: narrow
// ranges are preferred, and room above. One outside scores 0.3/(1+distance/1000). An endpoint without the label scores 0.5,
// one whose label is not a range 0. As a filter it keeps the endpoints in whose range the prompt is, and those without the
// label. Use it by pointer.
type ContextLength struct {
	Label string `json:"label"`

	ranges scheduling.PerLayout[[]lengths]
}

// lengths is what an endpoint's label says.
type lengths struct {
	labelled, ok bool
	min, max     float64
}

func (s *ContextLength) derive(snap *scheduling.Snapshot) []lengths {
	return scheduling.BySlot(snap, func(e *scheduling.Endpoint) lengths {
		text, labelled := e.Labels[s.Label]
		low, high, _ := strings.Cut(text, "-")
		from, err1 := strconv.ParseUint(strings.TrimSpace(low), 10, 32)
		to, err2 := strconv.ParseUint(strings.TrimSpace(high), 10, 32)
		return lengths{labelled, errors.Join(err1, err2) == nil && from <= to, float64(from), float64(to)}
	})
}

// Score implements scheduling.Scorer.
func (s *ContextLength) Score(c *scheduling.Cycle, slots []scheduling.Slot, scores []float64) {
	ranges := s.ranges.Of(c.Snapshot, s.derive)
	n := float64(c.PromptTokens)
	for i, slot := range slots {
		r := &ranges[slot]
		width := r.max - r.min
		switch {
		case !r.labelled:
			scores[i] = .5
		case !r.ok:
			scores[i] = 0
		case n < r.min || n > r.max:
			scores[i] = .3 / (1 + math.Max(r.min-n, n-r.max)/1000)
		case width == 0:
			scores[i] = 1
		default:
			scores[i] = .3 + .7*(.7/(1+width/10000)+.3*(r.max-n)/width)
		}
	}
}

// Filter implements scheduling.Filter.
func (s *ContextLength) Filter(c *scheduling.Cycle, slots []scheduling.Slot) []scheduling.Slot {
	ranges := s.ranges.Of(c.Snapshot, s.derive)
	n := float64(c.PromptTokens)
	return slices.DeleteFunc(slots, func(slot scheduling.Slot) bool {
		r := &ranges[slot]
		return r.labelled && (!r.ok || n < r.min || n > r.max)
	})
}

// Validate implements scheduling.Validator.
func (s *ContextLength) Validate() error {
	if s.Label == "" {
		return errors.New("label: empty")
	}
	return nil
}
