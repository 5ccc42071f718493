package moe

import (
	"fmt"
	"math"
	"sync"
	"time"
)

// DefaultHalfLife is that of a Tracker: a change of traffic shows within minutes, a burst hardly does.
const DefaultHalfLife = time.Minute

// TrackerOptions are the parameters of a Tracker. Layers and Experts are required.
type TrackerOptions struct {
	Layers, Experts int
	// HalfLife is after how long a token counts half; 0 means DefaultHalfLife.
	HalfLife time.Duration
	// Now is the clock; nil means time.Now.
	Now func() time.Time
}

// Tracker sums tokens of experts and forgets them exponentially. It is safe for concurrent use. Values stay finite and are
// never negative, whatever clocks and counts do. An expert is absent until its layer is observed.
type Tracker struct {
	options TrackerOptions

	mu     sync.Mutex
	tokens []float64 // as of the layer's time
	at     []time.Time
	known  []bool // by layer
}

// NewTracker makes a tracker that has seen nothing. Errors are joined FieldErrors.
func NewTracker(o TrackerOptions) (*Tracker, error) {
	var p problems
	if o.Layers < 1 {
		p.add("TrackerOptions.Layers", o.Layers, "must be at least 1")
	}
	if o.Experts < 1 {
		p.add("TrackerOptions.Experts", o.Experts, "must be at least 1")
	} else if o.Layers > math.MaxInt32/o.Experts {
		p.add("TrackerOptions.Layers", o.Layers, "has too many experts in all")
	}
	if o.HalfLife < 0 {
		p.add("TrackerOptions.HalfLife", o.HalfLife, "must not be negative")
	}
	if err := p.err(); err != nil {
		return nil, err
	}
	if o.HalfLife == 0 {
		o.HalfLife = DefaultHalfLife
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	return &Tracker{
		options: o,
		tokens:  make([]float64, o.Layers*o.Experts),
		at:      make([]time.Time, o.Layers),
		known:   make([]bool, o.Layers),
	}, nil
}

// Observe adds tokens that a layer's experts got, a value an expert. Nothing is added if any is refused.
func (t *Tracker) Observe(layer int, tokens []float64) error {
	var p problems
	t.checkLayer(&p, layer)
	if len(tokens) != t.options.Experts {
		p.add("len(tokens)", len(tokens), fmt.Sprintf("must be the experts: %d", t.options.Experts))
	}
	checkTokens(&p, tokens)
	if err := p.err(); err != nil {
		return err
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	row := t.decay(layer)
	for e, v := range tokens {
		row[e] = min(row[e]+v, maxLoad)
	}
	return nil
}

// ObserveSlots adds tokens that a layer's slots got under a placement, as engines count them.
func (t *Tracker) ObserveSlots(p *Placement, layer int, tokens []float64) error {
	var bad problems
	t.checkLayer(&bad, layer)
	if p.Layers != t.options.Layers || p.Experts != t.options.Experts {
		bad.add("Placement", fmt.Sprintf("%d x %d", p.Layers, p.Experts), fmt.Sprintf("must be %d x %d", t.options.Layers, t.options.Experts))
	}
	if len(tokens) != p.Cluster.Slots() {
		bad.add("len(tokens)", len(tokens), fmt.Sprintf("must be the slots: %d", p.Cluster.Slots()))
	}
	checkTokens(&bad, tokens)
	if err := bad.err(); err != nil {
		return err
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	row := t.decay(layer)
	for s, e := range p.Row(layer) {
		if e != Empty {
			row[e] = min(row[e]+tokens[s], maxLoad)
		}
	}
	return nil
}

func (t *Tracker) checkLayer(p *problems, layer int) {
	if layer < 0 || layer >= t.options.Layers {
		p.add("layer", layer, fmt.Sprintf("must be from 0 to %d", t.options.Layers-1))
	}
}

func checkTokens(p *problems, tokens []float64) {
	for i, v := range tokens {
		if !(v >= 0 && v <= maxLoad) {
			p.add(fmt.Sprintf("tokens[%d]", i), v, "must be from 0 to 1e30")
		}
	}
}

// decay brings a layer to now. A clock that goes back stands still.
func (t *Tracker) decay(layer int) []float64 {
	row := t.tokens[layer*t.options.Experts : (layer+1)*t.options.Experts]
	now := t.options.Now()
	if age := now.Sub(t.at[layer]); !t.known[layer] || age > 0 {
		if t.known[layer] {
			keep := math.Exp2(-float64(age) / float64(t.options.HalfLife))
			for e := range row {
				row[e] *= keep
			}
		}
		t.at[layer], t.known[layer] = now, true
	}
	return row
}

// Loads writes what is known now into l, reusing its memory. Experts of layers that were never observed are absent.
func (t *Tracker) Loads(l *Loads) {
	o := t.options
	l.Layers, l.Experts = o.Layers, o.Experts
	l.Tokens, l.Absent = resize(l.Tokens, o.Layers*o.Experts), resize(l.Absent, o.Layers*o.Experts)
	t.mu.Lock()
	defer t.mu.Unlock()
	for layer := range o.Layers {
		known := t.known[layer]
		if known {
			copy(l.Tokens[layer*o.Experts:], t.decay(layer))
		}
		for e := layer * o.Experts; e < (layer+1)*o.Experts; e++ {
			l.Absent[e] = !known
			if !known {
				l.Tokens[e] = 0
			}
		}
	}
}
