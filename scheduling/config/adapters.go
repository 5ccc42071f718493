package config

import (
	"encoding/base64"
	"slices"

	"github.com/inferloom/inferloom/scheduling"
	"github.com/inferloom/inferloom/scheduling/scorer"
)

// roleLabel is the label by which llm-d tells what an endpoint takes part in.
const roleLabel = "llm-d.ai/role"

// labelledRole keeps the endpoints that take a phase, by llm-d's label; where that is absent, by Endpoint.Role.
type labelledRole struct {
	phase    scheduling.Role
	explicit bool // without either an endpoint is left out

	kept scheduling.PerLayout[[]bool]
}

// Filter implements scheduling.Filter.
func (f *labelledRole) Filter(c *scheduling.Cycle, slots []scheduling.Slot) []scheduling.Slot {
	kept := f.kept.Of(c.Snapshot, func(s *scheduling.Snapshot) []bool { return scheduling.BySlot(s, f.takes) })
	return slices.DeleteFunc(slots, func(slot scheduling.Slot) bool { return !kept[slot] })
}

func (f *labelledRole) takes(e *scheduling.Endpoint) bool {
	role := e.Role
	if label, ok := e.Labels[roleLabel]; ok {
		if role.UnmarshalText([]byte(label)) != nil || role == 0 {
			return false
		}
	}
	if role == 0 {
		return !f.explicit
	}
	return role.Takes(f.phase)
}

// halved is a scorer that says half as much.
type halved struct{ scorer.Linear }

// Score implements scheduling.Scorer.
func (s halved) Score(c *scheduling.Cycle, slots []scheduling.Slot, scores []float64) {
	s.Linear.Score(c, slots, scores)
	for i := range scores {
		scores[i] *= .5
	}
}

// pinned goes by the endpoint that the client asks to come back to: Request.Pinned, or else the one that a header has in
// base64. As a filter it keeps only that, if it is a candidate; as a scorer it gives it 1 and the others 0, and abstains where it
// is none.
type pinned struct{ header string }

func (p *pinned) find(c *scheduling.Cycle, slots []scheduling.Slot) int {
	id := c.Request.Pinned
	var buf [512]byte
	if token := p.token(c); id == "" && token != "" {
		var encoded [684]byte // what decodes to 512 bytes
		if len(token) > len(encoded) {
			return -1
		}
		n, err := base64.StdEncoding.Decode(buf[:], encoded[:copy(encoded[:], token)])
		if err != nil {
			return -1
		}
		return slices.IndexFunc(slots, func(slot scheduling.Slot) bool { return c.Endpoint(slot).ID == string(buf[:n]) })
	}
	return slices.IndexFunc(slots, func(slot scheduling.Slot) bool { return c.Endpoint(slot).ID == id })
}

func (p *pinned) token(c *scheduling.Cycle) string {
	if c.Request.Header == nil {
		return ""
	}
	return c.Request.Header(p.header)
}

// Filter implements scheduling.Filter.
func (p *pinned) Filter(c *scheduling.Cycle, slots []scheduling.Slot) []scheduling.Slot {
	if at := p.find(c, slots); at >= 0 {
		return append(slots[:0], slots[at])
	}
	return slots
}

// Score implements scheduling.Scorer.
func (p *pinned) Score(c *scheduling.Cycle, slots []scheduling.Slot, scores []float64) {
	at := p.find(c, slots)
	for i := range scores {
		scores[i] = scheduling.Abstain
		if at >= 0 {
			scores[i] = 0
		}
	}
	if at >= 0 {
		scores[at] = 1
	}
}
