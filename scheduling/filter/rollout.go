package filter

import (
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/inferloom/inferloom/scheduling"
)

// Rollout keeps one revision of the model server, so that all legs of a request run on the same: that of the request's peer,
// if it has one, else one drawn with a probability in proportion to its share of the candidates. It is the revision gating of
// llm-d's rollout screener, and comes first among a profile's filters; put HeaderLabel before it for clients that ask for a
// revision. Endpoints without the label are a revision too. Use it by pointer.
type Rollout struct {
	// Label holds the revision.
	Label string `json:"labelKey"`
	// Weight is what a revision's probability is in proportion to.
	Weight RolloutWeight `json:"weight,omitempty"`
	// Require lists roles: a revision takes part only while endpoints in the pool take each of them; unless none does, when
	// all take part.
	Require []scheduling.Role `json:"requireRoles,omitempty"`

	revisions scheduling.PerLayout[revisions]
}

// RolloutWeight is how Rollout weighs revisions.
type RolloutWeight string

// The weights.
const (
	// MaxRole counts a revision's endpoints of the role that most candidates have. It is the standard.
	MaxRole RolloutWeight = "max-role"
	// Sum counts a revision's endpoints.
	Sum RolloutWeight = "sum"
)

type revisions struct {
	bySlot   []string
	eligible []bool // by slot: its revision has all required roles, or none has
}

func (f *Rollout) derive(s *scheduling.Snapshot) revisions {
	r := revisions{bySlot: scheduling.BySlot(s, func(e *scheduling.Endpoint) string { return e.Labels[f.Label] })}
	complete := map[string]bool{}
	for _, slot := range s.Live() {
		revision := r.bySlot[slot]
		if _, seen := complete[revision]; seen {
			continue
		}
		complete[revision] = !slices.ContainsFunc(f.Require, func(role scheduling.Role) bool {
			return !slices.ContainsFunc(s.Live(), func(other scheduling.Slot) bool {
				return r.bySlot[other] == revision && s.Endpoint(other).Role.Takes(role)
			})
		})
	}
	none := !slices.Contains(slices.Collect(maps.Values(complete)), true)
	r.eligible = scheduling.BySlot(s, func(e *scheduling.Endpoint) bool { return none || complete[e.Labels[f.Label]] })
	return r
}

// Filter implements scheduling.Filter.
func (f *Rollout) Filter(c *scheduling.Cycle, slots []scheduling.Slot) []scheduling.Slot {
	r := f.revisions.Of(c.Snapshot, f.derive)
	revision, ok := "", false
	if peer := c.Peer; peer != nil {
		revision, ok = peer.Labels[f.Label], true
	} else {
		revision, ok = f.draw(c, r, slots)
	}
	return slices.DeleteFunc(slots, func(slot scheduling.Slot) bool { return !ok || r.bySlot[slot] != revision })
}

// draw returns the revision of a candidate drawn at random, among those of the most common role where Weight says so.
func (f *Rollout) draw(c *scheduling.Cycle, r revisions, slots []scheduling.Slot) (revision string, ok bool) {
	var byRole [1 << 3]int
	most := scheduling.Role(0)
	for _, slot := range slots {
		if r.eligible[slot] {
			role := c.Endpoint(slot).Role
			byRole[role]++
			if byRole[role] > byRole[most] || byRole[role] == byRole[most] && role < most {
				most = role
			}
		}
	}
	seen := 0
	for _, slot := range slots {
		if !r.eligible[slot] || f.Weight != Sum && c.Endpoint(slot).Role != most {
			continue
		}
		if seen++; c.IntN(seen) == 0 {
			revision, ok = r.bySlot[slot], true
		}
	}
	return revision, ok
}

// Validate implements scheduling.Validator.
func (f *Rollout) Validate() error {
	var problems []error
	if f.Label == "" {
		problems = append(problems, errors.New("labelKey: empty"))
	}
	if f.Weight != "" && f.Weight != MaxRole && f.Weight != Sum {
		problems = append(problems, fmt.Errorf("weight %q: want max-role or sum", f.Weight))
	}
	for i, role := range f.Require {
		if err := (Role{Phase: role}).Validate(); err != nil {
			problems = append(problems, fmt.Errorf("requireRoles[%d]: %w", i, err))
		}
	}
	return errors.Join(problems...)
}
