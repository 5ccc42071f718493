package gateway

import (
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/inferloom/inferloom/gateway/api"
)

// Reasons for a Rejection, as clients see them in the "code" of an error. A brain may have others.
const (
	ReasonModelNotFound = "model_not_found" // 404: no pool serves the model
	ReasonNoEndpoint    = "no_endpoint"     // 503: the model is known but nothing that could serve it is there
	ReasonOverloaded    = "overloaded"      // 429: everything that could serve it is full
	ReasonTooLate       = "too_late"        // 429: it would not start, or has not started, in time
	ReasonShuttingDown  = "shutting_down"   // 503: the gateway takes no more
	ReasonInternal      = "internal_error"  // 500: the brain itself failed
)

// Rejection is a [Router]'s answer that a request does not run.
type Rejection struct {
	Status     int           // HTTP status
	Reason     string        // one of the Reason constants, or the brain's own
	Param      string        // the request field at fault, if one is
	Message    string        // for the client
	RetryAfter time.Duration // when another try makes sense; 0 if unknown
	Header     []HeaderEdit  // more headers of the answer
	Err        error         // for the log, not for the client; may be nil
}

func (r *Rejection) Error() string {
	s := fmt.Sprintf("rejected with %d %s: %s", r.Status, r.Reason, r.Message)
	if r.Err != nil {
		s += ": " + r.Err.Error()
	}
	return s
}

func (r *Rejection) Unwrap() error { return r.Err }

// APIError returns what the client is told.
func (r *Rejection) APIError() *api.Error {
	return &api.Error{Status: r.Status, Param: r.Param, Code: r.Reason, Message: r.Message}
}

// RejectionOf returns the Rejection in err. For any other error it makes one: of an [*api.Error] with the same
// content, of anything else a 500 that keeps the cause from the client.
func RejectionOf(err error) *Rejection {
	var r *Rejection
	if errors.As(err, &r) {
		return r
	}
	var e *api.Error
	if errors.As(err, &e) {
		return &Rejection{Status: e.Status, Reason: e.Code, Param: e.Param, Message: e.Message, Err: err}
	}
	return &Rejection{Status: http.StatusInternalServerError, Reason: ReasonInternal,
		Message: "the gateway could not decide where to run the request", Err: err}
}
