package inferloom_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"reflect"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/inferloom/inferloom/scheduling"
	"github.com/inferloom/inferloom/scheduling/policy"
	"github.com/inferloom/inferloom/scheduling/prefix"
	"github.com/inferloom/inferloom/scheduling/replay"
	"github.com/inferloom/inferloom/scheduling/selectserver"
	"github.com/inferloom/inferloom/scheduling/shadow"
)

// What follows is the code of docs/embedding.md and docs/explain.md, line by line.

type transport struct {
	sched *scheduling.Scheduler
	base  http.RoundTripper
}

func (t *transport) RoundTrip(r *http.Request) (*http.Response, error) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return nil, err
	}
	d, err := t.sched.Pick(r.Context(), &scheduling.Request{Prompt: scheduling.Prompt{Text: body}})
	if err != nil {
		return nil, err // the proxy's ErrorHandler makes a 404 or a 503 of it
	}
	for {
		out := r.Clone(r.Context())
		out.URL.Scheme, out.URL.Host = "http", d.Endpoint.Address
		out.Body = io.NopCloser(bytes.NewReader(body))
		resp, err := t.base.RoundTrip(out)
		if err == nil {
			resp.Body = &answer{resp.Body, d.Reservation}
			return resp, nil
		}
		if r.Context().Err() != nil || !d.Next() { // the next best endpoint, with the reservation
			d.Done()
			return nil, err
		}
	}
}

// answer ends the reservation with the answer; its first byte says that the prefill is over.
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

func mount(ctx context.Context, sched *scheduling.Scheduler, mux *http.ServeMux, requireToken func(http.Handler) http.Handler) error {
	server, err := selectserver.New(selectserver.Options{Scheduler: sched, Lease: time.Minute})
	if err != nil {
		return err
	}
	go server.Run(ctx) // ends reservations whose lease has run out
	mux.Handle("/scheduler/", requireToken(http.StripPrefix("/scheduler", server)))
	return nil
}

func explain(ctx context.Context, sched *scheduling.Scheduler, prompt scheduling.Prompt) ([]byte, error) {
	d, err := sched.Pick(ctx, &scheduling.Request{Model: "llama", Prompt: prompt, Explain: true})
	if err == nil {
		defer d.Done()
		return json.Marshal(d.Explanation)
	}
	if failed, ok := errors.AsType[*scheduling.PickError](err); ok {
		return json.Marshal(failed.Explanation) // which filter removed whom
	}
	return nil, err
}

func observe(sched *scheduling.Scheduler, next scheduling.Profile, file io.Writer, run func()) error {
	candidate, err := scheduling.New(sched.Pool(), scheduling.Options{Profile: next})
	if err != nil {
		return err
	}
	beside, err := shadow.New(shadow.Options{Name: "next", Scheduler: candidate})
	if err != nil {
		return err
	}
	sched.Observe(10, beside) // one pick in ten; Observe with no observer ends it

	recorder, err := replay.NewRecorder(file, replay.RecorderOptions{Headers: []string{"x-tier"}})
	if err != nil {
		return err
	}
	sched.Observe(1, recorder, beside)
	run()
	// and once it has run for long enough:
	sched.Observe(0)
	if err := recorder.Close(); err != nil {
		return err
	}
	if beside.Stats().Compared() == 0 {
		return errors.New("nothing was compared")
	}
	return nil
}

func again(ctx context.Context, file io.Reader, next scheduling.Profile) error {
	report, err := replay.Run(ctx, replay.NewReader(file), replay.Options{Plan: scheduling.Options{Profile: next}})
	if err != nil {
		return err
	}
	fmt.Println(report) // agreement, regret, cached tokens, shifts between endpoints, the first differences
	return nil
}

func docsScheduler(t *testing.T, addresses ...string) *scheduling.Scheduler {
	var list []scheduling.Endpoint
	for _, a := range addresses {
		list = append(list, scheduling.Endpoint{Address: a, Model: "llama"})
	}
	pool, err := scheduling.NewPool(scheduling.PoolOptions{Endpoints: list})
	require.NoError(t, err)
	index, err := prefix.New(prefix.Options{MaxBytes: 16 << 20})
	require.NoError(t, err)
	sched, err := scheduling.New(pool, scheduling.Options{Profile: policy.Default(index)})
	require.NoError(t, err)
	return sched
}

func TestDocsExamples(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	engine := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "token") }))
	defer engine.Close()
	sched := docsScheduler(t, engine.Listener.Addr().String())
	r := httptest.NewRequest("POST", "/v1/completions", strings.NewReader("{}"))
	resp, err := (&transport{sched, http.DefaultTransport}).RoundTrip(r)
	require.NoError(t, err)
	body, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	require.Equal(t, "token", string(body))
	require.Equal(t, 1, sched.Pool().Total().Requests)
	require.NoError(t, resp.Body.Close())
	require.Zero(t, sched.Pool().Total())

	mux := http.NewServeMux()
	require.NoError(t, mount(ctx, sched, mux, func(h http.Handler) http.Handler { return h }))
	w := httptest.NewRecorder()
	mux.ServeHTTP(w, httptest.NewRequest("GET", "/scheduler/loads", nil))
	require.Equal(t, http.StatusOK, w.Code)

	b, err := explain(ctx, sched, scheduling.Prompt{Text: []byte("hello")})
	require.NoError(t, err)
	require.Contains(t, string(b), `"candidates":[{"endpoint"`)
	var file bytes.Buffer
	require.NoError(t, observe(sched, scheduling.Profile{}, &file, func() {
		_, err := explain(ctx, sched, scheduling.Prompt{})
		require.NoError(t, err)
	}))
	require.NoError(t, again(ctx, &file, scheduling.Profile{}))
}

func TestDocsCodeIsCompiled(t *testing.T) {
	requireCompiled(t, "docs_test.go", "docs/embedding.md", "docs/explain.md")
}

// docs/explain.md names every field of an explanation.
func TestDocsNameTheFieldsOfAnExplanation(t *testing.T) {
	text, err := os.ReadFile("docs/explain.md")
	require.NoError(t, err)
	for _, v := range []any{scheduling.Explanation{}, scheduling.Removal{}, scheduling.Candidate{}, scheduling.Score{}} {
		for f := range reflect.TypeOf(v).Fields() {
			if name, _, _ := strings.Cut(f.Tag.Get("json"), ","); name != "" {
				require.Contains(t, string(text), "`"+name+"`")
			}
		}
	}
}

// docs/embedding.md lists calls that there are.
func TestDocsListTheCalls(t *testing.T) {
	text, err := os.ReadFile("docs/embedding.md")
	require.NoError(t, err)
	server, err := selectserver.New(selectserver.Options{Scheduler: docsScheduler(t)})
	require.NoError(t, err)
	calls := regexp.MustCompile("(?m)^\\| `([A-Z]+) ([^` ]+)` \\|").FindAllStringSubmatch(string(text), -1)
	require.Len(t, calls, 16)
	for _, call := range calls {
		w := httptest.NewRecorder()
		server.ServeHTTP(w, httptest.NewRequest(call[1], strings.NewReplacer("{", "", "}", "").Replace(call[2]), nil))
		require.NotContains(t, w.Body.String(), "unknown_path", call[0])
		require.NotContains(t, w.Body.String(), "method_not_allowed", call[0])
	}
}
