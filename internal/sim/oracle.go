package sim

import (
	"github.com/inferloom/inferloom/scheduling"
)

// oracle scores endpoints by when the request's first token would come, which it asks the engines themselves.
type oracle struct {
	run *run
}

func newOracle(e Env) (scheduling.Profile, error) {
	return scheduling.Profile{Scorers: []scheduling.Weighted{{Scorer: oracle{e.run}}}}, nil
}

// Score implements scheduling.Scorer.
func (o oracle) Score(_ *scheduling.Cycle, slots []scheduling.Slot, scores []float64) {
	q := o.run.placing
	for i, slot := range slots {
		n := o.run.bySlot[slot]
		scores[i] = 0
		if n.state == ready || n.state == draining {
			e := q.engineRequest(n)
			wait := n.engine.Forecast(o.run.now, &e)
			scores[i] = 1 / (1 + wait.Seconds())
		}
	}
}
