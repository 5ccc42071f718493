package scorer

import (
	"cmp"
	"errors"
	"fmt"
	"math/bits"
	"slices"

	"github.com/inferloom/inferloom/scheduling"
	"github.com/zeebo/xxh3"
)

// Session keeps the requests of a session together without remembering it: rendezvous hashing of the session and the
// endpoint's ID, highest wins (Thaler and Ravishankar, 1998). The winner scores 1 and the others 0; when an endpoint
// comes or goes, only the sessions that it wins or won move. It abstains for requests without a session.
type Session struct {
	// Bound passes over endpoints that have more than Bound·(total+1)/n of the requests in flight on the n candidates, as
	// consistent hashing with bounded loads does (Mirrokni, Thorup, Zadimoghaddam, 2016): 1.25, say. 0 means no bound.
	Bound float64 `json:"bound,omitempty"`
}

// Score implements scheduling.Scorer.
func (s Session) Score(c *scheduling.Cycle, slots []scheduling.Slot, scores []float64) {
	if c.Request.Session == "" {
		abstain(scores)
		return
	}
	rendezvous(c, xxh3.HashString(c.Request.Session), s.Bound, slots, scores)
}

// Validate implements scheduling.Validator.
func (s Session) Validate() error { return checkBound(s.Bound) }

// rendezvous gives 1 to the highest hash within the bound and 0 to the others.
func rendezvous(c *scheduling.Cycle, key uint64, bound float64, slots []scheduling.Slot, scores []float64) {
	most := boundedLoad(c, slots, bound)
	best, highest := -1, uint64(0)
	for i, slot := range slots {
		scores[i] = 0
		if most > 0 && float64(c.Requests(slot)) > most {
			continue
		}
		if h := xxh3.HashStringSeed(c.Endpoint(slot).ID, key); best < 0 || h > highest {
			best, highest = i, h
		}
	}
	scores[best] = 1 // whoever has the fewest requests is within every bound
}

// boundedLoad is how many requests an endpoint may have in flight under a bound, or 0 where there is none.
func boundedLoad(c *scheduling.Cycle, slots []scheduling.Slot, bound float64) float64 {
	if bound == 0 {
		return 0
	}
	total := 0
	for _, slot := range slots {
		total += c.Requests(slot)
	}
	return bound * float64(total+1) / float64(len(slots))
}

func checkBound(bound float64) error {
	if bound == 0 || bound >= 1 && notNegative("", bound) == nil {
		return nil
	}
	return fmt.Errorf("bound %v: want 0 or a number of at least 1", bound)
}

// PrefixHash sends prompts that begin alike to the same endpoint without remembering any: bounded-load rendezvous hashing of
// the prompt's first tokens. The winner scores 1 and the others 0. It abstains for requests without a prompt.
//
// It is SGLang's prefix_hash, which walks a ring instead and takes the least loaded endpoint where the ring's is over its
// bound; here it is the next in the prompt's own order.
type PrefixHash struct {
	// Tokens is how many count; 0 means 256. Text counts BytesPerToken bytes for a token.
	Tokens int `json:"prefixTokens,omitempty"`
	// Bound is as for Session, but 0 means 1.25.
	Bound float64 `json:"bound,omitempty"`
}

// Score implements scheduling.Scorer.
func (s PrefixHash) Score(c *scheduling.Cycle, slots []scheduling.Slot, scores []float64) {
	key, ok := c.PromptKey(cmp.Or(s.Tokens, 256), promptKey)
	if !ok {
		abstain(scores)
		return
	}
	rendezvous(c, key, cmp.Or(s.Bound, 1.25), slots, scores)
}

// promptKey hashes the first tokens of a prompt.
func promptKey(r *scheduling.Request, tokens int) (key uint64, ok bool) {
	switch p := &r.Prompt; {
	case len(p.Tokens) > 0:
		for _, t := range p.Tokens[:min(len(p.Tokens), tokens)] {
			key = bits.RotateLeft64((key^uint64(t))*0x9e3779b97f4a7c15, 29)
		}
	case len(p.Text) > 0:
		key = xxh3.Hash(p.Text[:min(len(p.Text), tokens*scheduling.BytesPerToken)])
	case len(p.Chains) > 0 && len(p.Chains[0].Hashes) > 0:
		chain := &p.Chains[0]
		last := max(tokens/max(chain.BlockTokens, 1), 1) - 1
		key = chain.Hashes[min(last, len(chain.Hashes)-1)]
	default:
		return 0, false
	}
	return key, true
}

// Validate implements scheduling.Validator.
func (s PrefixHash) Validate() error {
	return errors.Join(notNegative("prefixTokens", float64(s.Tokens)), checkBound(s.Bound))
}

// Ring keeps the requests of a session together by consistent hashing: each endpoint is at Points places of a ring, and a
// session belongs to the first candidate that follows its own place (Karger et al., 1997). It scores 1 and the others 0. When
// an endpoint comes or goes, only sessions next to its places move. It abstains for requests without a session. Session does
// the same, spreads more evenly and remembers nothing; this is for agreement with other routers' way. Use it by pointer.
type Ring struct {
	// Points is how many places an endpoint has; 0 means 128. Each costs 16 bytes.
	Points int `json:"points,omitempty"`
	// Bound is as for Session.
	Bound float64 `json:"bound,omitempty"`

	ring scheduling.PerLayout[[]point]
}

type point struct {
	hash uint64
	slot scheduling.Slot
}

// Score implements scheduling.Scorer.
func (s *Ring) Score(c *scheduling.Cycle, slots []scheduling.Slot, scores []float64) {
	if c.Request.Session == "" {
		abstain(scores)
		return
	}
	ring := s.ring.Of(c.Snapshot, s.derive)
	clear(scores)
	most := boundedLoad(c, slots, s.Bound)
	at, _ := slices.BinarySearchFunc(ring, xxh3.HashString(c.Request.Session), func(p point, key uint64) int {
		return cmp.Compare(p.hash, key)
	})
	for range ring {
		if at == len(ring) {
			at = 0
		}
		slot := ring[at].slot
		at++
		if most > 0 && float64(c.Requests(slot)) > most {
			continue
		}
		if i := slices.Index(slots, slot); i >= 0 {
			scores[i] = 1
			return
		}
	}
}

func (s *Ring) derive(snap *scheduling.Snapshot) []point {
	points := cmp.Or(s.Points, 128)
	ring := make([]point, 0, points*len(snap.Live()))
	for _, slot := range snap.Live() {
		id := snap.Endpoint(slot).ID
		for i := range points {
			ring = append(ring, point{xxh3.HashStringSeed(id, uint64(i)), slot})
		}
	}
	slices.SortFunc(ring, func(a, b point) int { return cmp.Compare(a.hash, b.hash) })
	return ring
}

// Validate implements scheduling.Validator.
func (s *Ring) Validate() error {
	return errors.Join(notNegative("points", float64(s.Points)), checkBound(s.Bound))
}
