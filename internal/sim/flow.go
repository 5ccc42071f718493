package sim

import (
	"errors"
	"fmt"
	"time"

	"github.com/inferloom/inferloom/scheduling"
	"github.com/inferloom/inferloom/scheduling/flow"
)

// control returns the options of flow control before the scheduler of a pool, or nil if there is none.
func (r *run) control(pool *scheduling.Pool) (*flow.Options, error) {
	if r.c.Flow == nil {
		return nil, nil
	}
	env := r.env()
	env.Pool = pool
	o, err := r.c.Flow(env)
	if err != nil {
		return nil, fmt.Errorf("Flow: %w", err)
	}
	o.Clock = simClock{r}
	return &o, nil
}

// simClock is the time of a run.
type simClock struct{ run *run }

func (c simClock) Now() time.Time { return epoch.Add(c.run.now) }

func (c simClock) AfterFunc(d time.Duration, f func()) (stop func() bool) {
	done := false
	c.run.after(d, func() {
		if !done {
			done = true
			f()
		}
	})
	return func() bool {
		was := done
		done = true
		return !was
	}
}

// ask has flow control place a request. What it grants is submitted later at the same time: the answer can come while an engine
// tells of a token, when it must not be called.
func (r *run) ask(q *request) {
	serial := q.serial
	r.held++
	r.gateways[q.Request%len(r.gateways)].flow.Ask(r.ctx, &q.sched, func(d scheduling.Decision, err error) {
		if q.serial != serial || r.finished {
			d.Done()
			return
		}
		r.held--
		if err == nil {
			q.decision = d
		}
		r.at(r.now, func() { r.answered(q, serial, err) })
	})
}

func (r *run) answered(q *request, serial uint64, err error) {
	if q.serial != serial {
		return
	}
	if err != nil {
		class := Unplaced
		if refused, ok := errors.AsType[*flow.Rejected](err); ok && refused.Outcome != flow.Failed && refused.Outcome != flow.NoEndpoint {
			class = Refused
		} else {
			q.Admitted = r.now
		}
		r.end(q, class)
		return
	}
	q.Admitted, q.Attempts = r.now, 1
	q.PredictedCached = q.decision.CachedTokens
	q.node = r.bySlot[q.decision.Slot()]
	r.log.decision(r.now, "pick", q.Request, &q.decision)
	r.submit(q)
}
