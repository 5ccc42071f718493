package flow

import (
	"fmt"
	"net/http"
	"time"
)

// Outcome is how a request ended at flow control.
type Outcome uint8

// The outcomes. All but Granted are refusals.
const (
	// Granted requests were placed.
	Granted Outcome = iota
	// Saturated is refused because too much waits, of the request's tenant or in all.
	Saturated
	// Late is refused on arrival because it could not have been dispatched in time.
	Late
	// Expired waited for as long as it may.
	Expired
	// NoEndpoint waited for an endpoint that could serve it, or was not allowed to wait for one.
	NoEndpoint
	// Displaced made room for a more important request, or one of a tenant that had less waiting.
	Displaced
	// ClientGone was given up by who asked.
	ClientGone
	// ShutDown came when the controller was closed, or waited then.
	ShutDown
	// Failed met an error of the scheduler that waiting does not mend, as for an unknown model.
	Failed

	outcomes // how many there are
)

var outcomeNames = [...]string{
	Granted: "granted", Saturated: "saturated", Late: "late", Expired: "expired", NoEndpoint: "no_endpoint",
	Displaced: "displaced", ClientGone: "client_gone", ShutDown: "shut_down", Failed: "failed",
}

// Outcomes lists all.
func Outcomes() []Outcome {
	return []Outcome{Granted, Saturated, Late, Expired, NoEndpoint, Displaced, ClientGone, ShutDown, Failed}
}

func (o Outcome) String() string {
	if int(o) < len(outcomeNames) {
		return outcomeNames[o]
	}
	return fmt.Sprintf("outcome(%d)", uint8(o))
}

// Rejected is the error of a request that flow control refused.
type Rejected struct {
	Outcome Outcome
	// RetryAfter is when another try makes sense, by the pace of the last seconds; 0 if unknown.
	RetryAfter time.Duration
	// Waited is how long it waited.
	Waited time.Duration
	// Err is the context's or the scheduler's error, where one is the reason.
	Err error
}

func (r *Rejected) Error() string {
	s := fmt.Sprintf("flow control: %s after %v", r.Outcome, r.Waited.Round(time.Millisecond))
	if r.Err != nil {
		s += ": " + r.Err.Error()
	}
	return s
}

func (r *Rejected) Unwrap() error { return r.Err }

// Status is the HTTP status for the outcome: 429 where trying again later helps, 503 where there is nothing to run it.
func (r *Rejected) Status() int {
	switch r.Outcome {
	case Saturated, Late, Expired, Displaced:
		return http.StatusTooManyRequests
	case NoEndpoint, ShutDown:
		return http.StatusServiceUnavailable
	case ClientGone:
		return 499
	}
	return http.StatusInternalServerError
}

// Evicted is the cause given to a request that ran and was given up for a more important one.
type Evicted struct {
	// Priority is of the request that it made room for.
	Priority int
}

func (e *Evicted) Error() string {
	return fmt.Sprintf("evicted for a request of priority %d", e.Priority)
}
