package sim

import (
	"errors"
	"strconv"
	"time"

	"github.com/inferloom/inferloom/internal/engine"
	"github.com/inferloom/inferloom/internal/workload"
	"github.com/inferloom/inferloom/scheduling"
)

// request is one that arrived and has not ended. Its struct is used again for a later one.
type request struct {
	Outcome
	id     uint64 // its place in run.requests, and its ID in engines
	serial uint64 // tells one use of the struct from the next
	active bool
	leg    leg
	gated  bool // the gate let it pass and is owed a release

	wanted    int // output tokens
	session   *session
	last      bool
	chains    []chain // one for each block size: prompt and answer
	sched     scheduling.Request
	decision  scheduling.Decision // where it is served; with Disagg where it is decoded
	node      *node
	prefill   scheduling.Decision
	prefiller *node
	lastToken time.Duration
	picked    time.Duration // for the endpoint that serves it
}

// leg is how far a request is on its way over two endpoints.
type leg uint8

const (
	whole      leg = iota // one endpoint does it all
	prefilling            // the first endpoint computes its prompt
	moving                // its KV is being transferred
	decoding              // the second endpoint has its KV
)

// arrive takes in a request of the workload. A turn whose session is busy waits for it.
func (r *run) arrive(w workload.Request) {
	s := r.sessions[w.Session]
	if s == nil && !w.Last {
		s = &session{}
		r.sessions[w.Session] = s
	}
	if s != nil && s.busy {
		s.waiting = append(s.waiting, w)
		r.inFlight++ // so that the run does not end before it was sent
		return
	}
	r.send(w, s)
}

// send brings a request to the gate.
func (r *run) send(w workload.Request, s *session) {
	q := r.newRequest()
	q.Outcome = Outcome{
		Request: r.result.All.Arrived, Measured: r.now >= r.c.WarmUp,
		Session: w.Session, Turn: w.Turn, Tenant: w.Tenant, Adapter: w.Adapter, Priority: w.Priority,
		Arrived: r.now, Admitted: Never, Started: Never, FirstToken: Never, Finished: Never,
	}
	q.wanted, q.session, q.last = max(1, w.OutputTokens), s, w.Last
	q.sched = scheduling.Request{
		Model: w.Model, Adapter: w.Adapter, Tenant: w.Tenant, Priority: w.Priority,
		Session: strconv.Itoa(w.Conversation),
		Prompt:  scheduling.Prompt{Chains: q.sched.Prompt.Chains},
		TTFT:    r.c.SLO.TTFT, TPOT: r.c.SLO.TPOT,
	}
	r.write(q, &w)
	if len(r.zeros) < q.PromptTokens {
		r.zeros = make([]uint32, 2*q.PromptTokens)
	}
	q.sched.Prompt.Tokens = r.zeros[:q.PromptTokens]
	if s != nil {
		s.busy = true
		if w.Last {
			delete(r.sessions, w.Session)
		}
	}
	r.inFlight++
	r.result.All.Arrived++
	r.sinceSample.Arrived++
	if q.Measured {
		r.result.Measured.Arrived++
	}
	r.arrivedTokens += uint64(q.PromptTokens)
	if r.c.Reuse {
		r.reuse(q)
	}
	if q.Request%1000 == 999 {
		for _, o := range r.observers {
			if o.Progress != nil {
				o.Progress(r.now, r.result.All.Arrived, r.endedInAll)
			}
		}
	}
	if r.c.Flow != nil {
		r.ask(q)
		return
	}
	if r.gate == nil {
		r.place(q)
		return
	}
	serial := q.serial
	r.held++
	r.gate.Acquire(r.now, &q.sched, func(err error) {
		if q.serial != serial {
			return // the run is over
		}
		r.held--
		if err != nil {
			r.end(q, Refused)
			return
		}
		q.gated = true
		r.place(q)
	})
}

// gatewayOf is where a request comes in.
func (r *run) gatewayOf(q *request) *gateway { return &r.gateways[q.Request%len(r.gateways)] }

// place picks an endpoint for a request, or one for each leg, and submits it.
func (r *run) place(q *request) {
	q.Admitted, q.picked = r.now, r.now
	if !r.pick(q, r.gatewayOf(q).sched, &q.decision, &q.node) {
		return
	}
	q.PredictedCached = q.decision.CachedTokens
	q.predicted()
	if r.decider != nil && r.decider.Split(&q.sched, &q.decision) {
		if !r.pick(q, r.prefillers, &q.prefill, &q.prefiller) {
			return
		}
		q.PredictedCached = q.prefill.CachedTokens
		q.decision.FirstToken() // there is no prompt to compute where it is decoded
		q.leg = prefilling
	}
	q.Attempts = 1
	r.submit(q)
}

func (r *run) pick(q *request, s *scheduling.Scheduler, d *scheduling.Decision, n **node) bool {
	r.placing = q
	var err error
	*d, err = s.Pick(r.ctx, &q.sched)
	switch {
	case err == nil:
		*n = r.bySlot[d.Slot()]
		r.log.decision(r.now, "pick", q.Request, d)
		return true
	case errors.Is(err, scheduling.ErrNoEndpoint), errors.Is(err, scheduling.ErrUnknownModel):
		r.log.none(r.now, q.Request)
		r.end(q, Unplaced)
	case isPickError(err):
		r.log.none(r.now, q.Request)
		q.Admitted = Never
		r.end(q, Refused) // by a filter that says why
	default:
		r.fail(err)
	}
	return false
}

func isPickError(err error) bool {
	_, ok := errors.AsType[*scheduling.PickError](err)
	return ok
}

var errDown = errors.New("connection refused")

// submit hands a request to the engine of its leg, and moves it on while engines refuse it.
func (r *run) submit(q *request) {
	for {
		n := q.node
		if q.leg == prefilling {
			n = q.prefiller
		}
		err := errDown
		if n.state == ready || n.state == draining {
			err = n.engine.Submit(r.now, q.engineRequest(n))
		}
		switch {
		case err == nil:
			n.resident++
			r.settle(n)
			return
		case errors.Is(err, engine.ErrTooLong):
			r.end(q, TooLong)
			return
		case errors.Is(err, errDown), errors.Is(err, engine.ErrQueueFull), errors.Is(err, engine.ErrNoAdapters):
			if !r.move(q) {
				r.end(q, Unplaced)
				return
			}
		default:
			r.fail(err)
			return
		}
	}
}

// move turns to the next endpoint of the ranking of the leg, if there is one and attempts are left.
func (r *run) move(q *request) bool {
	d, n := &q.decision, &q.node
	if q.leg == prefilling {
		d, n = &q.prefill, &q.prefiller
	}
	r.placing = q
	r.left(q)
	if q.Attempts == r.c.Attempts || !d.Next() {
		return false
	}
	q.Attempts++
	r.result.Retries++
	*n = r.bySlot[d.Slot()]
	q.picked = r.now
	q.predicted()
	r.log.decision(r.now, "next", q.Request, d)
	if q.leg == decoding {
		q.leg = whole // its KV went to the other
	}
	return true
}

// left tells, once, that a request leaves the endpoint that something was predicted of.
func (r *run) left(q *request) {
	if ender := r.gatewayOf(q).ender; ender != nil && q.decision.Predicted.Known() {
		ender.Ended(&q.sched, &q.decision.Predicted)
		q.decision.Predicted = scheduling.Prediction{}
	}
}

// predicted notes what the policy predicts of where the request is served.
func (q *request) predicted() {
	q.PredictedTTFT = time.Duration(q.decision.Predicted.TTFT * float64(time.Second))
	q.PredictedTPOT = time.Duration(q.decision.Predicted.TPOT * float64(time.Second))
}

// engineRequest is a request as the engine of a node gets it.
func (q *request) engineRequest(n *node) engine.Request {
	e := engine.Request{
		ID: q.id, PromptTokens: q.PromptTokens, OutputTokens: q.wanted,
		Blocks: q.chains[n.size].blocks, Adapter: q.Adapter,
	}
	switch q.leg {
	case prefilling:
		e.OutputTokens = 1
		e.Blocks = q.sched.Prompt.Chains[n.size].Hashes
	case decoding:
		e.LoadedTokens = q.PromptTokens
	}
	return e
}

// started is the engines' hook for a request that joins a batch.
func (r *run) started(at time.Duration, id uint64, cached int) {
	q := r.requests[id]
	if q.Started == Never {
		q.Started = at
	}
	if q.leg != decoding {
		q.CachedTokens = cached
	}
}

// tokens is the engines' hook for n more tokens.
func (r *run) tokens(at time.Duration, id uint64, n, produced int) {
	q := r.requests[id]
	if q.leg == prefilling {
		return // it is produced again, by the endpoint that decodes
	}
	q.decision.Tokens(n)
	q.OutputTokens = produced
	if q.FirstToken == Never {
		q.FirstToken = at
		q.decision.FirstToken()
		if learner := r.gatewayOf(q).learner; learner != nil && q.leg == whole {
			learner.ObserveTTFT(&q.decision.Predicted, at-q.picked)
		}
	} else if q.Measured {
		r.result.ITL.Add((at-q.lastToken)/time.Duration(n), n)
	}
	q.lastToken = at
}

// collect deals with the requests that engines have let go of. They cannot be dealt with in the engine's hook, which must
// not call it.
func (r *run) collect() {
	for i := 0; i < len(r.ended); i++ {
		e := r.ended[i]
		q := r.requests[e.result.ID]
		q.Preemptions += e.result.Preemptions
		e.node.resident--
		switch {
		case e.result.Reason == engine.Lost && q.FirstToken == Never && r.move(q):
			r.submit(q)
		case e.result.Reason == engine.Lost:
			r.end(q, Lost)
		case q.leg == prefilling:
			q.prefill.Done()
			r.transfer(q)
		default:
			r.end(q, Completed)
		}
		if e.node.state == draining && e.node.resident == 0 {
			r.drop(e.node)
		}
	}
	r.ended = r.ended[:0]
}

// end is the one place where a request ends.
func (r *run) end(q *request, class Class) {
	q.decision.Done()
	q.prefill.Done()
	q.Class, q.Finished = class, r.now
	if q.decision.Endpoint != nil {
		q.Endpoint = q.decision.Endpoint.ID
	}
	if q.prefill.Endpoint != nil {
		q.Prefill = q.prefill.Endpoint.ID
	}
	q.Good = r.c.SLO.met(&q.Outcome)
	if between, ok := q.TPOT(); ok && r.gatewayOf(q).learner != nil {
		r.gatewayOf(q).learner.ObserveTPOT(&q.decision.Predicted, between)
	}
	r.left(q)
	r.count(q)
	r.inFlight--
	r.endedInAll++
	for _, o := range r.observers {
		if o.Outcome != nil {
			o.Outcome(&q.Outcome)
		}
	}
	if s := q.session; s != nil {
		s.busy = false
		if len(s.waiting) > 0 && class != Unfinished {
			// Later at the same time: whoever ends this request need not expect another to begin.
			r.at(r.now, func() {
				next := s.waiting[0]
				s.waiting = s.waiting[1:]
				r.inFlight--
				r.send(next, s)
			})
		}
	}
	gated := q.gated
	released := q.sched
	r.recycle(q)
	if gated && r.gate != nil {
		r.gate.Release(r.now, &released)
	}
}

func (r *run) count(q *request) {
	r.result.All.add(&q.Outcome)
	if q.Class == Completed {
		r.sinceSample.Completed++
		if q.Good {
			r.sinceSample.Good++
		}
	}
	if !q.Measured {
		return
	}
	r.result.Measured.add(&q.Outcome)
	if q.Class != Completed {
		return
	}
	if d, ok := q.TTFT(); ok {
		r.result.TTFT.Add(d, 1)
	}
	if d, ok := q.TPOT(); ok {
		r.result.TPOT.Add(d, 1)
	}
	if d, ok := q.Queued(); ok {
		r.result.Queued.Add(d, 1)
	}
	r.result.E2E.Add(q.E2E(), 1)
}

func (c *Counts) add(o *Outcome) {
	c.Ended[o.Class]++
	if o.Good {
		c.Good++
	}
	if o.Started != Never {
		c.PromptTokens += uint64(o.PromptTokens)
		c.CachedTokens += uint64(o.CachedTokens)
		c.ReusableTokens += uint64(o.ReusableTokens)
	}
	c.OutputTokens += uint64(o.OutputTokens)
	c.Preemptions += o.Preemptions
}

func (r *run) newRequest() *request {
	var q *request
	if n := len(r.idle); n > 0 {
		q, r.idle = r.idle[n-1], r.idle[:n-1]
	} else {
		q = &request{id: uint64(len(r.requests))}
		r.requests = append(r.requests, q)
	}
	r.uses++
	q.serial, q.active = r.uses, true
	return q
}

func (r *run) recycle(q *request) {
	*q = request{id: q.id, chains: q.chains, sched: scheduling.Request{Prompt: scheduling.Prompt{Chains: q.sched.Prompt.Chains}}}
	r.idle = append(r.idle, q)
}
