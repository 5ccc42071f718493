package sim

import (
	"github.com/inferloom/inferloom/scheduling"
)

// workAhead is how many seconds of delay to requests yet to come the oracle expects of a second of prefill, for each second
// that requests wait at the moment, beside the one that follows it: work delays all that arrive before the queue is empty, and
// the longer the queue the more these are.
const workAhead = 1

// oracle is a policy with perfect knowledge of the present and of one thing about the future. It sees what each engine has
// cached and queued at this very moment, and knows how long each answer will be, so it can play every engine forward to this
// request's first token (engine.Forecast). It does not know what will arrive. It minimises that time plus the delay that the
// request's own prefill is expected to cause to later ones; without the second term it would compute cached prefixes anew
// whenever that is quicker for the one request, and saturate earlier than policies that know less. What is left of a
// request once it has its first token it does not weigh, so a policy can have a better TPOT. It is a mark to compare with, not
// proven to be the best possible.
type oracle struct {
	run  *run
	work []float64 // seconds of prefill by candidate
}

func newOracle(e Env) (scheduling.Profile, error) {
	return scheduling.Profile{Scorers: []scheduling.Weighted{{Scorer: &oracle{run: e.run}}}}, nil
}

// Score implements scheduling.Scorer.
func (o *oracle) Score(_ *scheduling.Cycle, slots []scheduling.Slot, scores []float64) {
	q := o.run.placing
	o.work = o.work[:0]
	waits, alive := 0.0, 0
	for i, slot := range slots {
		n := o.run.bySlot[slot]
		if n.state != ready {
			scores[i], o.work = -1, append(o.work, 0)
			continue
		}
		e := q.engineRequest(n)
		scores[i] = n.engine.Forecast(o.run.now, &e).Seconds()
		o.work = append(o.work, n.engine.PrefillTime(q.PromptTokens, n.engine.Cached(&e)).Seconds())
		waits += scores[i]
		alive++
	}
	weight := 1 + workAhead*ratio(waits, float64(alive))
	for i, wait := range scores {
		if wait < 0 {
			scores[i] = 0
		} else {
			scores[i] = 1 / (1 + wait + weight*o.work[i])
		}
	}
}
