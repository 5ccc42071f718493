package gateway

import (
	"context"
	"errors"
	"fmt"
)

// Outcome is how a request ended.
type Outcome uint8

// The outcomes of a request.
const (
	Answered   Outcome = iota
	Failed             // an engine failed, or the gateway did
	Rejected           // the gateway would not place it
	ClientLeft         // says nothing about either
)

// String returns the outcome's name, for logs and metrics.
func (o Outcome) String() string {
	switch o {
	case Answered:
		return "answered"
	case Failed:
		return "failed"
	case Rejected:
		return "rejected"
	case ClientLeft:
		return "client left"
	}
	return fmt.Sprintf("Outcome(%d)", uint8(o))
}

// Outcome returns how the request ended.
func (r *Record) Outcome() Outcome {
	if r.Err == nil {
		return Answered
	}
	if errors.Is(r.Err, ErrClientGone) {
		return ClientLeft
	}
	// An engine's failure is one even if it was noticed as a cancelled context, by a timeout of the data plane.
	if _, ok := errors.AsType[*EngineError](r.Err); ok {
		return Failed
	}
	if _, ok := errors.AsType[*Rejection](r.Err); ok {
		return Rejected
	}
	if errors.Is(r.Err, context.Canceled) {
		return ClientLeft // while the decision was being made
	}
	return Failed
}

// Observers tells several of every request, in order.
type Observers []Observer

// Observe implements Observer.
func (o Observers) Observe(r Record) {
	for _, one := range o {
		one.Observe(r)
	}
}
