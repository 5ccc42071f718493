package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/inferloom/inferloom/internal/workload"
)

// fakeEngine is a stand-in for the gateway that answers without a network, so that a test can run on a synthetic clock.
type fakeEngine struct {
	delay  time.Duration // until the answer, which then comes at once
	answer func(body string) string

	mu     sync.Mutex
	bodies []string
}

func (e *fakeEngine) RoundTrip(r *http.Request) (*http.Response, error) {
	if err := r.Context().Err(); err != nil {
		return nil, err
	}
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return nil, err
	}
	e.mu.Lock()
	e.bodies = append(e.bodies, string(body))
	e.mu.Unlock()
	select {
	case <-time.After(e.delay):
	case <-r.Context().Done():
		return nil, r.Context().Err()
	}
	return &http.Response{StatusCode: http.StatusOK, Body: io.NopCloser(strings.NewReader(e.answer(string(body))))}, nil
}

const (
	usageEvent = `data: {"choices":[],"usage":{"prompt_tokens":100,"completion_tokens":2,"prompt_tokens_details":{"cached_tokens":48}}}` + "\n\n"
	done       = "data: [DONE]\n\n"
)

func textEvent(text string) string {
	return fmt.Sprintf(`data: {"choices":[{"delta":{"content":%q}}]}`+"\n\n", text)
}

func good(string) string {
	return ": a comment\n\n" + textEvent("") + textEvent("be") + textEvent(`"g" `) + usageEvent + done
}

func drive(ctx context.Context, e *fakeEngine, timeScale float64, connections int, plan ...workload.Request) []outcome {
	d := newDriver("http://gateway", timeScale)
	d.client.Transport = e
	d.slots = make(chan struct{}, connections)
	return d.run(ctx, plan)
}

func request(session, turn int, last bool, at time.Duration) workload.Request {
	text := []workload.Message{{Role: workload.User, Pieces: []workload.Piece{{ID: uint64(turn), Tokens: 2}}}}
	return workload.Request{Session: session, Turn: turn, Last: last, At: at, Messages: text, OutputTokens: 2}
}

func TestTimeWaitingForAConnectionCounts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := &fakeEngine{delay: 100 * time.Millisecond, answer: good}
		outcomes := drive(t.Context(), e, 10, 1,
			request(1, 0, true, 0), request(2, 0, true, 0), request(3, 0, true, 2500*time.Millisecond))
		// At ten times the speed each takes a simulated second. The second waits for the first; the third finds all done.
		var ttft []time.Duration
		for _, o := range outcomes {
			require.NoError(t, o.err)
			ttft = append(ttft, o.ttft)
			assert.Equal(t, outcome{ttft: o.ttft, input: 100, cached: 48, output: 2, ended: o.ended}, o)
		}
		assert.Equal(t, []time.Duration{time.Second, 2 * time.Second, time.Second}, ttft)
	})
}

func TestALaterTurnContainsTheAnswer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := &fakeEngine{delay: 2 * time.Second, answer: good}
		// The second turn is due before the first is answered, the third long after the second is.
		outcomes := drive(t.Context(), e, 1, 9,
			request(1, 0, false, 0), request(1, 1, false, time.Second), request(1, 2, true, time.Minute))
		require.Len(t, outcomes, 3)
		for i, ended := range []time.Duration{2, 4, 62} {
			assert.Equal(t, 2*time.Second, outcomes[i].ttft, "counts from when the user could ask")
			assert.Equal(t, ended*time.Second, outcomes[i].ended)
		}
		asked := string(workload.Piece{ID: 1, Tokens: 2}.AppendText(nil))
		assert.Contains(t, e.bodies[1], `"},{"role":"assistant","content":"be\"g\" "},{"role":"user","content":"`+asked+`"}]}`)
		before := strings.TrimSuffix(e.bodies[1], "]}")
		assert.True(t, strings.HasPrefix(e.bodies[2], before), "each turn begins with all before it")
	})
}

func TestATurnBehindAFailureFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := &fakeEngine{answer: func(string) string { return textEvent("x") }}
		outcomes := drive(t.Context(), e, 1, 9, request(1, 0, false, 0), request(1, 1, true, time.Second))
		require.Len(t, outcomes, 2)
		assert.ErrorContains(t, outcomes[0].err, "before [DONE]")
		assert.ErrorIs(t, outcomes[1].err, errBefore)
		assert.Len(t, e.bodies, 1)
	})
}

func TestTheEndOfTheRunEndsRequests(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		e := &fakeEngine{delay: time.Minute, answer: good}
		outcomes := drive(ctx, e, 1, 1,
			request(1, 0, false, 0), request(2, 0, true, 0), request(1, 1, true, time.Millisecond), request(3, 0, true, time.Hour))
		require.Len(t, outcomes, 4, "an outcome for each")
		for _, o := range outcomes {
			assert.Error(t, o.err)
		}
		assert.Len(t, e.bodies, 1)
	})
}

func TestAnswersThatAreErrors(t *testing.T) {
	for name, tt := range map[string]struct{ answer, want string }{
		"not JSON":         {"data: hello\n\n", "event of the stream"},
		"an error event":   {textEvent("x") + `data: {"error":{"message":"lost"}}` + "\n\n", "lost"},
		"cut short":        {textEvent("x") + "data: {", "before [DONE]"},
		"no usage":         {textEvent("x") + done, "no usage"},
		"too few tokens":   {textEvent("x") + strings.Replace(usageEvent, `"completion_tokens":2`, `"completion_tokens":1`, 1) + done, "1 tokens in the answer, want 2"},
		"usage not usable": {`data: {"usage":[1]}` + "\n\n", "usage"},
	} {
		t.Run(name, func(t *testing.T) {
			e := &fakeEngine{answer: func(string) string { return tt.answer }}
			outcomes := drive(t.Context(), e, 1, 1, request(1, 0, true, 0))
			assert.ErrorContains(t, outcomes[0].err, tt.want)
		})
	}
	refusing := roundTrip(func(*http.Request) (*http.Response, error) {
		return &http.Response{StatusCode: 503, Body: io.NopCloser(strings.NewReader(`{"error":"full"}`))}, nil
	})
	_, err := chat(t.Context(), &http.Client{Transport: refusing}, "http://gateway", nil)
	assert.EqualError(t, err, `status 503: {"error":"full"}`)
	down := roundTrip(func(*http.Request) (*http.Response, error) { return nil, errors.New("down") })
	_, err = chat(t.Context(), &http.Client{Transport: down}, "http://gateway", nil)
	assert.ErrorContains(t, err, "down")
}

type roundTrip func(*http.Request) (*http.Response, error)

func (f roundTrip) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }
