package scorer

import (
	"cmp"
	"errors"
	"fmt"
	"math"
	"math/bits"

	"github.com/inferloom/inferloom/scheduling"
)

// Cost adds up what serving the request on an endpoint would cost, in one unit: seconds, if its terms are; and prefers the
// least. No weights are needed between terms, because seconds in a queue and seconds of prefill are the same seconds. The
// score is HalfAt/(HalfAt+cost), so a Cost alone chooses the least cost exactly, and beside other scorers it counts like a
// load.
type Cost struct {
	// Terms are added; one that is not known of an endpoint counts there as its mean over the others.
	Terms []Term `json:"terms"`
	// HalfAt is the cost that scores 0.5; 0 means 1.
	HalfAt float64 `json:"halfAt,omitempty"`
}

// Term is one part of a Cost. It adds to costs[i] what slots[i] would cost, or nothing where that is not known of any. It
// must be safe for concurrent use.
type Term interface {
	Add(c *scheduling.Cycle, slots []scheduling.Slot, costs []float64)
}

// Score implements scheduling.Scorer.
func (s Cost) Score(c *scheduling.Cycle, slots []scheduling.Slot, scores []float64) {
	clear(scores)
	for _, t := range s.Terms {
		t.Add(c, slots, scores)
	}
	half := cmp.Or(s.HalfAt, 1)
	for i, cost := range scores {
		scores[i] = falling(max(cost, 0), half)
	}
}

// Validate implements scheduling.Validator.
func (s Cost) Validate() error {
	problems := []error{notNegative("halfAt", s.HalfAt)}
	if len(s.Terms) == 0 {
		problems = append(problems, errors.New("terms: none"))
	}
	for i, t := range s.Terms {
		if t == nil {
			problems = append(problems, fmt.Errorf("terms[%d]: nil", i))
		}
		if v, ok := t.(scheduling.Validator); ok {
			if err := v.Validate(); err != nil {
				problems = append(problems, fmt.Errorf("terms[%d] (%T): %w", i, t, err))
			}
		}
	}
	return errors.Join(problems...)
}

// TermFunc is a term as a function: a predicted latency, say. What is not finite counts as not known.
type TermFunc func(c *scheduling.Cycle, slot scheduling.Slot) (cost float64, known bool)

// Add implements Term.
func (f TermFunc) Add(c *scheduling.Cycle, slots []scheduling.Slot, costs []float64) {
	addKnown(slots, costs, func(slot scheduling.Slot) (float64, bool) {
		v, known := f(c, slot)
		return v, known && !math.IsNaN(v) && !math.IsInf(v, 0)
	})
}

// addKnown adds what is known, and the mean of that where it is not.
func addKnown(slots []scheduling.Slot, costs []float64, at func(scheduling.Slot) (float64, bool)) {
	var unknown [16]uint64 // of the first thousand; others are asked again
	sum, known := 0.0, 0
	for i, slot := range slots {
		if v, ok := at(slot); ok {
			costs[i] += v
			sum += v
			known++
		} else if i < 64*len(unknown) {
			unknown[i/64] |= 1 << (i % 64)
		}
	}
	if known == 0 || known == len(slots) {
		return
	}
	mean := sum / float64(known)
	for w, word := range unknown {
		for ; word != 0; word &= word - 1 {
			costs[64*w+bits.TrailingZeros64(word)] += mean
		}
	}
	for i := 64 * len(unknown); i < len(slots); i++ {
		if _, ok := at(slots[i]); !ok {
			costs[i] += mean
		}
	}
}

// Each costs so much for each unit of a metric or of a count of the ledger: seconds for each request that waits, say.
type Each struct {
	Metric scheduling.Metric `json:"metric"`
	Cost   float64           `json:"cost"`
}

// Add implements Term.
func (t Each) Add(c *scheduling.Cycle, slots []scheduling.Slot, costs []float64) {
	metric := c.Metric(t.Metric)
	addKnown(slots, costs, func(slot scheduling.Slot) (float64, bool) {
		v, ok := metric.At(slot)
		return v * t.Cost, ok
	})
}

// Validate implements scheduling.Validator.
func (t Each) Validate() error {
	var metric error
	if !t.Metric.Valid() {
		metric = fmt.Errorf("metric: %v is unknown", t.Metric)
	}
	return errors.Join(metric, notNegative("cost", t.Cost))
}

// PrefillTime is the seconds until the prompt is prefilled: what this process has there to prefill, and the part of the
// prompt that is not cached, at the endpoint's throughput. Use it by pointer.
type PrefillTime struct {
	// TokensPerSecond is an endpoint's prefill throughput.
	TokensPerSecond Capacity `json:"tokensPerSecond"`
}

// Add implements Term.
func (t *PrefillTime) Add(c *scheduling.Cycle, slots []scheduling.Slot, costs []float64) {
	rates := t.TokensPerSecond.of(c)
	for i, slot := range slots {
		costs[i] += float64(c.PrefillTokens(slot)+c.Uncached(slot)) / rates[slot]
	}
}

// Validate implements scheduling.Validator.
func (t *PrefillTime) Validate() error {
	return inField("tokensPerSecond", t.TokensPerSecond.Validate())
}

// TransferTime is the seconds that it takes to move the KV cache of the prompt from the request's peer to an endpoint: of those
// tokens that the endpoint does not have cached. It is nothing for the peer itself, and for a request without one. Use it by
// pointer.
type TransferTime struct {
	// BytesPerToken is the size of the KV cache.
	BytesPerToken float64 `json:"bytesPerToken"`
	// BytesPerSecond is the throughput by what the two have in common.
	BytesPerSecond Links `json:"bytesPerSecond"`
	// Seconds is what every transfer takes at least.
	Seconds float64 `json:"seconds,omitempty"`
	// ToPeer turns the direction round: the endpoint prefills, and the whole prompt's cache goes to the peer.
	ToPeer bool `json:"toPeer,omitempty"`
	// Labels say where endpoints are.
	Labels scheduling.Topology `json:"labels,omitzero"`

	places scheduling.PerLayout[*scheduling.Places]
}

// Links are rates by proximity. One that is 0 is as the next wider.
type Links struct {
	Host   float64 `json:"host,omitempty"`
	Rack   float64 `json:"rack,omitempty"`
	Zone   float64 `json:"zone,omitempty"`
	Region float64 `json:"region,omitempty"`
	// Anywhere must be given.
	Anywhere float64 `json:"anywhere"`
}

func (l Links) rates() [scheduling.SameHost + 1]float64 {
	region := cmp.Or(l.Region, l.Anywhere)
	zone := cmp.Or(l.Zone, region)
	rack := cmp.Or(l.Rack, zone)
	return [...]float64{
		scheduling.Anywhere: l.Anywhere, scheduling.SameRegion: region, scheduling.SameZone: zone,
		scheduling.SameRack: rack, scheduling.SameHost: cmp.Or(l.Host, rack),
	}
}

// Add implements Term.
func (t *TransferTime) Add(c *scheduling.Cycle, slots []scheduling.Slot, costs []float64) {
	if c.Peer == nil {
		return
	}
	around := t.places.Of(c.Snapshot, t.Labels.Places).Around(c.Peer)
	perToken := t.BytesPerSecond.rates()
	for at, rate := range perToken {
		perToken[at] = t.BytesPerToken / rate
	}
	for i, slot := range slots {
		tokens := c.Uncached(slot)
		if t.ToPeer {
			tokens = c.PromptTokens
		}
		if tokens > 0 && c.Endpoint(slot).ID != c.Peer.ID {
			costs[i] += t.Seconds + float64(tokens)*perToken[around.At(slot)]
		}
	}
}

// Validate implements scheduling.Validator.
func (t *TransferTime) Validate() error {
	problems := []error{notNegative("bytesPerToken", t.BytesPerToken), notNegative("seconds", t.Seconds)}
	if t.BytesPerSecond.Anywhere == 0 {
		problems = append(problems, errors.New("bytesPerSecond.anywhere: 0"))
	}
	for at, rate := range t.BytesPerSecond.rates() {
		problems = append(problems, notNegative(fmt.Sprintf("bytesPerSecond.%v", scheduling.Proximity(at)), rate))
	}
	return errors.Join(problems...)
}

// AdapterTime is the seconds until a LoRA adapter can run: nothing where it is running; Load where there is room for it or
// requests for it wait; Load + Evict where another has to go first. It is nothing for requests without an adapter.
type AdapterTime struct {
	Load float64 `json:"loadSeconds"`
	// Evict is what driving out another adapter costs those who use it.
	Evict float64 `json:"evictSeconds,omitempty"`
}

// Add implements Term.
func (t AdapterTime) Add(c *scheduling.Cycle, slots []scheduling.Slot, costs []float64) {
	if c.Request.Adapter == "" {
		return
	}
	adapter := c.Adapter()
	times := [...]float64{
		scheduling.NotResident:    t.Load + t.Evict,
		scheduling.AdapterWaiting: t.Load,
		scheduling.AdapterFree:    t.Load,
		scheduling.AdapterActive:  0,
	}
	addKnown(slots, costs, func(slot scheduling.Slot) (float64, bool) {
		at := adapter.At(slot)
		return times[at], at != scheduling.ResidencyUnknown
	})
}

// Validate implements scheduling.Validator.
func (t AdapterTime) Validate() error {
	return errors.Join(notNegative("loadSeconds", t.Load), notNegative("evictSeconds", t.Evict))
}

func inField(name string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s: %w", name, err)
}
