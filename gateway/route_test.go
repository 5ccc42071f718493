package gateway_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"pgregory.net/rapid"

	"github.com/inferloom/inferloom/gateway"
	"github.com/inferloom/inferloom/gateway/api"
)

// journal is a Lease over a list of targets that writes down its calls. It has no lock: Route serialises.
type journal struct {
	rest  []gateway.Target
	calls []string
}

func (j *journal) Next(cause error) (gateway.Target, bool) {
	j.calls = append(j.calls, "next")
	if len(j.rest) == 0 {
		return gateway.Target{}, false
	}
	t := j.rest[0]
	j.rest = j.rest[1:]
	return t, true
}
func (j *journal) Status(int)        { j.calls = append(j.calls, "status") }
func (j *journal) FirstByte()        { j.calls = append(j.calls, "first") }
func (j *journal) Usage(u api.Usage) { j.calls = append(j.calls, "usage") }
func (j *journal) End(err error)     { j.calls = append(j.calls, "end") }

func TestRouteMovesThroughItsTargets(t *testing.T) {
	j := &journal{rest: []gateway.Target{{ID: "b"}}}
	r := gateway.NewRoute(gateway.Target{ID: "a"}, j)
	assert.Equal(t, "a", r.Target().ID)
	assert.True(t, r.Next(errors.New("refused")))
	assert.Equal(t, "b", r.Target().ID)
	assert.False(t, r.Next(errors.New("refused")))
	assert.Equal(t, "b", r.Target().ID, "the target stays when there is no other")
	r.End(nil)
	assert.Equal(t, []string{"next", "next", "end"}, j.calls)
}

// TestRouteKeepsItsLifeCycle drives a Route with any sequence of calls, in order and all at once.
func TestRouteKeepsItsLifeCycle(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		steps := rapid.SliceOf(rapid.SampledFrom([]string{"next", "status", "first", "usage", "end"})).Draw(t, "steps")
		concurrent := rapid.Bool().Draw(t, "concurrent")
		j := &journal{rest: make([]gateway.Target, 3)}
		r := gateway.NewRoute(gateway.Target{}, j)
		var wg sync.WaitGroup
		for _, step := range steps {
			do := func() {
				switch step {
				case "next":
					r.Next(nil)
				case "status":
					r.Status(200)
				case "first":
					r.FirstByte()
				case "usage":
					r.Usage(api.Usage{})
				case "end":
					r.End(nil)
				}
			}
			if concurrent {
				wg.Go(do)
			} else {
				do()
			}
		}
		wg.Wait()
		r.End(nil)
		first, ended := false, false
		for _, call := range j.calls {
			assert.False(t, ended, "%q after the end in %v", call, j.calls)
			if first {
				assert.NotContains(t, []string{"next", "first"}, call, "%v", j.calls)
			}
			first = first || call == "first"
			ended = ended || call == "end"
		}
		assert.True(t, ended)
	})
}

func TestRejectionOf(t *testing.T) {
	full := &gateway.Rejection{Status: 429, Reason: gateway.ReasonOverloaded, Message: "full", RetryAfter: time.Second}
	assert.Same(t, full, gateway.RejectionOf(fmt.Errorf("routing: %w", full)))

	bad := gateway.RejectionOf(&api.Error{Status: 400, Param: "tools", Code: "unsupported", Message: "no tools here"})
	assert.Equal(t, &api.Error{Status: 400, Param: "tools", Code: "unsupported", Message: "no tools here"}, bad.APIError())

	cause := errors.New("secret detail")
	fault := gateway.RejectionOf(cause)
	assert.Equal(t, 500, fault.Status)
	assert.ErrorIs(t, fault, cause)
	assert.NotContains(t, fault.APIError().Message, "secret")
	assert.Contains(t, fault.Error(), "secret")
}

func TestEngineErrorUnwraps(t *testing.T) {
	err := &gateway.EngineError{Endpoint: "a", Err: context.DeadlineExceeded}
	assert.ErrorIs(t, err, context.DeadlineExceeded)
	assert.Equal(t, "endpoint a: context deadline exceeded", err.Error())
	assert.Equal(t, "endpoint a answered with status 503", (&gateway.EngineError{Endpoint: "a", Status: 503}).Error())
}

// account is the smallest Lease: it counts what is in flight.
type account struct{ inFlight *int }

func (a account) Next(error) (gateway.Target, bool) { return gateway.Target{}, false }
func (a account) Status(int)                        {}
func (a account) FirstByte()                        {}
func (a account) Usage(api.Usage)                   {}
func (a account) End(error)                         { *a.inFlight-- }

func Example() {
	inFlight := 0
	var router gateway.Router = gateway.RouterFunc(func(_ context.Context, r *api.Request) (*gateway.Route, error) {
		if r.Model != "llama" {
			return nil, &gateway.Rejection{Status: 404, Reason: gateway.ReasonModelNotFound, Param: "model",
				Message: fmt.Sprintf("no engine serves %q", r.Model)}
		}
		inFlight++
		return gateway.NewRoute(gateway.Target{ID: "engine-0", Address: "10.0.0.1:8000"}, account{&inFlight}), nil
	})

	route, err := router.Route(context.Background(), &api.Request{Model: "llama"})
	fmt.Println(route.Target().Address, err, inFlight)
	route.End(nil)
	route.End(nil)
	fmt.Println(inFlight)

	_, err = router.Route(context.Background(), &api.Request{Model: "gpt"})
	fmt.Println(err)
	// Output:
	// 10.0.0.1:8000 <nil> 1
	// 0
	// rejected with 404 model_not_found: no engine serves "gpt"
}
