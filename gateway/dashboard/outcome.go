package dashboard

import (
	"context"
	"errors"

	"github.com/inferloom/inferloom/gateway"
)

// outcome is how a request ended.
type outcome uint8

const (
	answered   outcome = iota
	failed             // an engine failed, or the gateway did
	rejected           // the gateway would not place it
	clientLeft         // says nothing about either
	outcomes           // how many there are
)

func (o outcome) String() string {
	return [...]string{"answered", "failed", "rejected", "client left"}[o]
}

// outcomeCounts is how many requests ended in which way.
type outcomeCounts [outcomes]uint64

func (c *outcomeCounts) total() uint64 {
	var sum uint64
	for _, n := range c {
		sum += n
	}
	return sum
}

func outcomeOf(err error) outcome {
	if err == nil {
		return answered
	}
	if errors.Is(err, gateway.ErrClientGone) {
		return clientLeft
	}
	// An engine's failure is one even if it was noticed as a cancelled context, by a timeout of the data plane.
	if _, ok := errors.AsType[*gateway.EngineError](err); ok {
		return failed
	}
	if _, ok := errors.AsType[*gateway.Rejection](err); ok {
		return rejected
	}
	if errors.Is(err, context.Canceled) {
		return clientLeft // while the decision was being made
	}
	return failed
}
