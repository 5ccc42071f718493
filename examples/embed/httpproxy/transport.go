package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httputil"

	"github.com/inferloom/inferloom/scheduling"
)

// newProxy is the whole proxy: what it does not do itself, the scheduling transport does.
func newProxy(sched *scheduling.Scheduler, base http.RoundTripper) http.Handler {
	return &httputil.ReverseProxy{
		Rewrite:       func(r *httputil.ProxyRequest) { r.Out.URL.Scheme = "http" },
		Transport:     &transport{sched, base},
		FlushInterval: -1, // tokens as they come
		ErrorHandler: func(w http.ResponseWriter, _ *http.Request, err error) {
			status := http.StatusBadGateway
			var tooLarge *http.MaxBytesError
			switch {
			case errors.Is(err, scheduling.ErrUnknownModel):
				status = http.StatusNotFound
			case errors.Is(err, scheduling.ErrNoEndpoint):
				status = http.StatusServiceUnavailable
			case errors.Is(err, errBody):
				status = http.StatusBadRequest
			case errors.As(err, &tooLarge):
				status = http.StatusRequestEntityTooLarge
			}
			w.Header().Set("Content-Type", "application/json")
			w.WriteHeader(status)
			json.NewEncoder(w).Encode(map[string]any{"error": map[string]any{"message": err.Error(), "code": status}})
		},
	}
}

// transport sends a request where the scheduler says.
type transport struct {
	sched *scheduling.Scheduler
	base  http.RoundTripper
}

var errBody = errors.New("request body")

const maxBody = 32 << 20

func (t *transport) RoundTrip(r *http.Request) (*http.Response, error) {
	var body []byte
	if r.Body != nil {
		var err error
		if body, err = io.ReadAll(http.MaxBytesReader(nil, r.Body, maxBody)); err != nil {
			return nil, err
		}
	}
	var ask struct {
		Model    string
		Messages json.RawMessage
		Prompt   json.RawMessage
	}
	if len(body) > 0 { // a list of models, say, comes without one and from any engine
		if err := json.Unmarshal(body, &ask); err != nil {
			return nil, fmt.Errorf("%w: %w", errBody, err)
		}
	}
	d, err := t.sched.Pick(r.Context(), &scheduling.Request{
		Model: ask.Model, Prompt: scheduling.Prompt{Text: promptText(ask.Messages, ask.Prompt)}, Header: r.Header.Get,
	})
	if err != nil {
		return nil, err
	}
	for {
		out := r.Clone(r.Context())
		out.URL.Host, out.Host = d.Endpoint.Address, ""
		out.Body, out.ContentLength = io.NopCloser(bytes.NewReader(body)), int64(len(body))
		resp, err := t.base.RoundTrip(out)
		if err == nil {
			resp.Body = &answer{resp.Body, d.Reservation}
			return resp, nil
		}
		if r.Context().Err() != nil || !d.Next() { // Next gives the request, with its reservation, to the next best
			d.Done()
			return nil, err
		}
	}
}

// promptText is a form of the prompt of which a longer conversation has a shorter one as its prefix: the list without the
// bracket that closes it.
func promptText(messages, prompt json.RawMessage) []byte {
	return bytes.TrimSuffix(append(messages, prompt...), []byte("]"))
}

// answer ends the reservation with the answer. The first byte of it says that the prefill is over.
type answer struct {
	io.ReadCloser
	reservation scheduling.Reservation
}

func (a *answer) Read(p []byte) (int, error) {
	n, err := a.ReadCloser.Read(p)
	if n > 0 {
		a.reservation.FirstToken()
	}
	return n, err
}

func (a *answer) Close() error {
	a.reservation.Done()
	return a.ReadCloser.Close()
}
