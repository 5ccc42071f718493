package gateway

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"sync/atomic"
	"time"

	"github.com/inferloom/inferloom/gateway/api"
	"github.com/inferloom/inferloom/scheduling"
	"github.com/inferloom/inferloom/scheduling/flow"
)

// SessionHeader is the header that names a request's session where BrainOptions does not say.
const SessionHeader = "X-Session-Id"

// BrainOptions are the parameters of a Brain; Scheduler is required.
type BrainOptions struct {
	Scheduler *scheduling.Scheduler
	// Flow decides when requests run, and has Scheduler choose where; nil runs them all at once.
	Flow *flow.Controller
	// Dialect understands another project's headers; nil goes by the body alone.
	Dialect Dialect
	// Tokenizers tell the tokens of prompts exactly, by the name of the base model. The prompts of other models, and those
	// that a Tokenizer fails at, are estimated.
	Tokenizers map[string]Tokenizer
	// Observer is told of every request that ends; nil means nobody.
	Observer Observer
	// SessionHeader names the header with the session for session affinity; empty means the constant of that name.
	SessionHeader string
	// Objectives reads a request's latency objectives from its headers, as llmd.Objectives does; nil means that there are none.
	Objectives func(header func(name string) string) (ttft, tpot time.Duration)
	// Learner is told how long requests took for which the scheduler predicts; nil means nobody.
	Learner Learner
	// ExplainEvery asks the scheduler to explain one decision in so many; 0 means none. An explanation costs some
	// microseconds an endpoint.
	ExplainEvery int
	// Now is the clock; nil means time.Now.
	Now func() time.Time
}

// Dialect translates another project's headers. It must be safe for concurrent use. LLMD is one.
type Dialect interface {
	// Describe changes what the brain has made of a request.
	Describe(s *scheduling.Request, r *api.Request)
	// Reject changes what a client is told that is turned away.
	Reject(r *Rejection)
}

// Observer is told what became of requests. It must be safe for concurrent use and must not block.
type Observer interface {
	Observe(Record)
}

// Learner learns from how long streamed answers took: the time from the pick to the first byte, and the mean time between tokens
// of a complete answer. latency.Model is one. A Learner that has a method
//
//	Ended(r *scheduling.Request, p *scheduling.Prediction)
//
// is told as well when a request leaves the endpoint that the prediction is of. It must be safe for concurrent use and must not
// block or keep what it is given.
type Learner interface {
	ObserveTTFT(p *scheduling.Prediction, took time.Duration)
	ObserveTPOT(p *scheduling.Prediction, took time.Duration)
}

type ender interface {
	Ended(r *scheduling.Request, p *scheduling.Prediction)
}

// Record is the story of one request that was routed or rejected.
type Record struct {
	Start          time.Time
	Model, Adapter string
	// Endpoint is the ID of the last one that the request was sent to; empty if it was rejected.
	Endpoint string
	Stream   bool
	// Attempts is how many endpoints were tried, and Failed those before Endpoint, in order, with what went wrong.
	Attempts int
	Failed   []Attempt
	// Request is what the scheduler was asked for. It is the data plane's, prompt and all: nothing of it may be used after
	// Observe has returned. Empty if no model of that name is known.
	Request *scheduling.Request
	// Usage is what is known of the tokens when the request ends.
	Usage api.Usage
	// PromptKind says how the prompt's tokens were known, PromptTokens how many the scheduler went by.
	PromptKind   PromptKind
	PromptTokens int
	// Tokenize is the part of Decide that the model's Tokenizer took; TokenizeErr is why it did not tell the tokens.
	Tokenize    time.Duration
	TokenizeErr error
	// PredictedCached is how many prompt tokens the scheduler believed cached.
	PredictedCached int
	// Waited is how long flow control took, the choice of the endpoint included; 0 without it.
	Waited time.Duration
	// Decide is how long the decision took, TTFT when the first byte came after Start (0 if none did), Total when the
	// request ended.
	Decide, TTFT, Total time.Duration
	// Status is the HTTP status that the client was sent, 499 if it left before that.
	Status int
	// Err is nil if the engine answered; else as in Route.End, or the Rejection.
	Err error
	// Explanation is set for the decisions that were explained.
	Explanation *scheduling.Explanation
}

// Attempt is an endpoint that failed a request.
type Attempt struct {
	Endpoint string // its ID
	Err      error  // the cause, as in Route.Next
}

// Brain is a Router that asks a scheduler.
type Brain struct {
	o       BrainOptions
	decided atomic.Uint64
	buffers tokenBuffers
	ender   ender // the Learner, if it is one
}

// NewBrain makes a Brain.
func NewBrain(o BrainOptions) (*Brain, error) {
	if o.Scheduler == nil {
		return nil, errors.New("scheduler: nil")
	}
	if o.Flow != nil && o.Flow.Scheduler() != o.Scheduler {
		return nil, errors.New("flow: over another scheduler")
	}
	if o.ExplainEvery < 0 {
		return nil, fmt.Errorf("explain every %d: negative", o.ExplainEvery)
	}
	if o.SessionHeader == "" {
		o.SessionHeader = SessionHeader
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	b := &Brain{o: o}
	b.ender, _ = o.Learner.(ender)
	return b, nil
}

// Models returns the names that requests may ask for.
func (b *Brain) Models() []string { return b.o.Scheduler.Pool().Snapshot().Models() }

// Route implements Router.
func (b *Brain) Route(ctx context.Context, r *api.Request) (*Route, error) {
	l := &lease{brain: b, record: Record{Start: b.o.Now(), Model: r.Model, Stream: r.Stream, Attempts: 1}}
	if err := b.describe(&l.request, r); err != nil {
		return nil, l.reject(err)
	}
	l.record.Model, l.record.Adapter = l.request.Model, l.request.Adapter
	b.prompt(ctx, l, r)
	l.record.PromptTokens = l.request.Prompt.Len()
	if n := b.o.ExplainEvery; n > 0 {
		l.request.Explain = b.decided.Add(1)%uint64(n) == 0
	}
	d, err := b.place(ctx, l)
	if err != nil {
		return nil, l.reject(err)
	}
	l.decision = d
	l.picked = b.o.Now()
	l.record.Decide = l.picked.Sub(l.record.Start)
	l.record.PredictedCached = d.CachedTokens
	l.record.Explanation = d.Explanation
	return NewRoute(l.target(), l), nil
}

// place waits until the request may run, if there is flow control, and chooses where.
func (b *Brain) place(ctx context.Context, l *lease) (scheduling.Decision, error) {
	if b.o.Flow == nil {
		return b.o.Scheduler.Pick(ctx, &l.request)
	}
	began := b.o.Now()
	d, err := b.o.Flow.Acquire(ctx, &l.request)
	l.record.Waited = b.o.Now().Sub(began)
	return d, err
}

// describe says in the scheduler's words what a request asks for.
func (b *Brain) describe(s *scheduling.Request, r *api.Request) error {
	model, adapter, ok := b.o.Scheduler.Pool().Snapshot().Resolve(r.Model)
	if !ok {
		return &scheduling.PickError{Model: r.Model, Err: scheduling.ErrUnknownModel}
	}
	*s = scheduling.Request{
		Model: model, Adapter: adapter, MaxTokens: r.MaxTokens, Priority: -r.Priority, Tenant: r.User,
		Session: r.HeaderValue(b.o.SessionHeader), Header: r.Header,
	}
	if b.o.Objectives != nil {
		s.TTFT, s.TPOT = b.o.Objectives(r.HeaderValue)
	}
	if b.o.Dialect != nil {
		b.o.Dialect.Describe(s, r)
	}
	return nil
}

// lease is the Lease of a scheduler's decision.
type lease struct {
	brain    *Brain
	request  scheduling.Request
	decision scheduling.Decision
	record   Record
	output   int // completion tokens on the reservation
	picked   time.Time
	began    time.Time // when the first byte came
}

func (l *lease) target() Target {
	l.record.Endpoint = l.decision.Endpoint.ID
	return Target{ID: l.decision.Endpoint.ID, Address: l.decision.Endpoint.Address}
}

func (l *lease) Next(cause error) (Target, bool) {
	l.ended()
	if !l.decision.Next() {
		return Target{}, false
	}
	l.picked = l.brain.o.Now()
	l.record.Attempts++
	l.record.Failed = append(l.record.Failed, Attempt{l.record.Endpoint, cause})
	return l.target(), true
}

func (l *lease) Status(code int) { l.record.Status = code }

func (l *lease) FirstByte() {
	l.decision.FirstToken()
	l.began = l.brain.o.Now()
	l.record.TTFT = l.began.Sub(l.record.Start)
	if l.brain.o.Learner != nil && l.record.Stream {
		l.brain.o.Learner.ObserveTTFT(&l.decision.Predicted, l.began.Sub(l.picked))
	}
}

func (l *lease) Usage(u api.Usage) {
	l.record.Usage = u
	if more := u.CompletionTokens - l.output; more > 0 && u.Has(api.CompletionCount) {
		l.decision.Tokens(more)
		l.output = u.CompletionTokens
	}
}

func (l *lease) End(err error) {
	l.decision.Done()
	if n := l.output - 1; err == nil && n > 0 && l.brain.o.Learner != nil && l.record.Stream && !l.began.IsZero() {
		l.brain.o.Learner.ObserveTPOT(&l.decision.Predicted, l.brain.o.Now().Sub(l.began)/time.Duration(n))
	}
	l.ended()
	l.observe(err)
	l.brain.buffers.put(l.request.Prompt.Tokens)
}

// ended tells the learner, once, that the request leaves its endpoint.
func (l *lease) ended() {
	if l.brain.ender != nil && l.decision.Predicted.Known() {
		l.brain.ender.Ended(&l.request, &l.decision.Predicted)
		l.decision.Predicted = scheduling.Prediction{}
	}
}

func (l *lease) observe(err error) {
	if l.brain.o.Observer != nil {
		l.record.Err = err
		l.record.Request = &l.request
		if l.record.Status == 0 {
			l.record.Status = statusOf(err)
		}
		l.record.Total = l.brain.o.Now().Sub(l.record.Start)
		l.brain.o.Observer.Observe(l.record)
	}
}

// statusClientGone is in records of requests whose client left before it was sent a status.
const statusClientGone = 499

// statusOf is the status that a client is sent where the data plane has not said it.
func statusOf(err error) int {
	if err == nil {
		return http.StatusOK
	}
	if errors.Is(err, ErrClientGone) {
		return statusClientGone
	}
	if failure, ok := errors.AsType[*EngineError](err); ok {
		return cmp.Or(failure.Status, http.StatusBadGateway)
	}
	if errors.Is(err, context.Canceled) {
		return statusClientGone // while the decision was being made
	}
	return RejectionOf(err).Status
}

// reject says to the client why its request could not be placed.
func (l *lease) reject(err error) error {
	r := &Rejection{Err: err}
	pick, picked := errors.AsType[*scheduling.PickError](err)
	if picked {
		l.record.Explanation = pick.Explanation
	}
	if refused, ok := errors.AsType[*flow.Rejected](err); ok && refused.Outcome != flow.Failed {
		if refused.Outcome == flow.ClientGone {
			l.observe(refused.Err)
			return refused.Err
		}
		l.refuse(r, refused)
	} else if !picked {
		l.observe(err)
		return err
	} else if errors.Is(pick, scheduling.ErrUnknownModel) {
		r.Status, r.Reason, r.Param = http.StatusNotFound, ReasonModelNotFound, "model"
		r.Message = fmt.Sprintf("the model %q does not exist", l.record.Model)
	} else if !errors.Is(pick, scheduling.ErrNoEndpoint) { // a filter refused it
		r.Status, r.Reason, r.RetryAfter = http.StatusTooManyRequests, ReasonOverloaded, time.Second
		r.Message = pick.Err.Error()
	} else {
		r.Status, r.Reason, r.RetryAfter = http.StatusServiceUnavailable, ReasonNoEndpoint, time.Second
		r.Message = fmt.Sprintf("no endpoint can serve the model %q at the moment", l.record.Model)
	}
	if l.brain.o.Dialect != nil {
		l.brain.o.Dialect.Reject(r)
	}
	l.observe(r)
	return r
}

// refuse words a refusal of flow control.
func (l *lease) refuse(r *Rejection, refused *flow.Rejected) {
	r.Status, r.RetryAfter = refused.Status(), refused.RetryAfter
	switch refused.Outcome {
	case flow.Saturated, flow.Displaced:
		r.Reason, r.Message = ReasonOverloaded, "too many requests are waiting"
	case flow.Late:
		r.Reason, r.Message = ReasonTooLate, "the request could not have been started in time"
	case flow.Expired:
		r.Reason, r.Message = ReasonTooLate, fmt.Sprintf("the request was not started within %v", refused.Waited.Round(time.Millisecond))
	case flow.NoEndpoint:
		r.Reason, r.Message = ReasonNoEndpoint, fmt.Sprintf("no endpoint can serve the model %q at the moment", l.record.Model)
		r.RetryAfter = max(r.RetryAfter, time.Second)
	case flow.ShutDown:
		r.Reason, r.Message = ReasonShuttingDown, "the gateway is shutting down"
		r.RetryAfter = max(r.RetryAfter, time.Second)
	}
}
