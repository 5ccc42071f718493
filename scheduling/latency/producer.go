package latency

import (
	"errors"

	"github.com/inferloom/inferloom/scheduling"
)

// Producer predicts by a Model. It is also a Committer, so that it sees the traffic of endpoints; one Producer belongs into a
// profile, and several profiles of a pool can have the same Model. It allocates nothing. Use it by pointer.
type Producer struct {
	*Model `json:"-"`
}

// Validate implements scheduling.Validator.
func (p *Producer) Validate() error {
	if p.Model == nil {
		return errors.New("model: nil")
	}
	return nil
}

// Produce implements scheduling.Producer.
func (p *Producer) Produce(c *scheduling.Cycle) { c.Predictions() }

// Predict implements scheduling.Predictor.
func (p *Producer) Predict(c *scheduling.Cycle, slots []scheduling.Slot) {
	m := p.Model
	predictions := c.Predictions()
	classOf := m.bySlot(c.Snapshot)
	classes := *m.classes.Load()
	now := c.Now().UnixNano()
	objectives, inverses := [targets]float64{c.Request.TTFT.Seconds(), c.Request.TPOT.Seconds()}, [targets]float64{}
	for target, o := range objectives {
		if o > 0 {
			inverses[target] = 1 / o
		}
	}
	v := viewOf(c)
	for _, slot := range slots {
		p := &predictions[slot]
		p.Basis.Slot, p.Basis.Generation, p.Basis.Class = slot, c.Snapshot.Generation(slot), classOf[slot]
		v.read(&p.Basis.Values, slot, m.rate(slot, now))
		current := classes[p.Basis.Class].current.Load()
		factors := m.local(slot, p.Basis.Generation, now)
		first, d := current[ttft].estimate(ttft, &p.Basis.Values, factors[ttft])
		p.TTFT, p.Meets = first*d.target, 1
		if o := objectives[ttft]; o > 0 {
			p.Meets = d.below(o, first, inverses[ttft])
		}
		between, d := current[tpot].estimate(tpot, &p.Basis.Values, factors[tpot])
		p.TPOT = between * d.target
		if o := objectives[tpot]; o > 0 {
			p.Meets *= d.below(o, between, inverses[tpot])
		}
	}
}

// Commit implements scheduling.Committer.
func (p *Producer) Commit(c *scheduling.Cycle, chosen scheduling.Slot) {
	p.Model.came(chosen, c.Uncached(chosen), c.Now().UnixNano())
}
