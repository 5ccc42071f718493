package main

import (
	"bytes"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/inferloom/inferloom/examples/internal/program"
	"github.com/inferloom/inferloom/internal/engine"
	"github.com/inferloom/inferloom/internal/enginesim"
	"github.com/inferloom/inferloom/internal/workload"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// engineServer serves a simulated engine that ends with the test.
func engineServer(t *testing.T, timeScale float64) (string, *enginesim.Server) {
	t.Helper()
	sim, err := enginesim.New(enginesim.Options{Model: "m", TimeScale: timeScale, Engine: engine.Options{Blocks: 4000}})
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = sim.Run(ctx)
	}()
	s := httptest.NewServer(sim)
	t.Cleanup(func() {
		cancel()
		<-ended
		s.CloseClientConnections()
		s.Close()
	})
	return s.URL, sim
}

func loadtest(t *testing.T, ctx context.Context, args string, more ...string) (stdout, stderr string, err error) {
	t.Helper()
	var out, notes bytes.Buffer
	err = run(ctx, append(strings.Fields(args), more...), &out, &notes)
	return out.String(), notes.String(), err
}

func measured(t *testing.T, args string, more ...string) *result {
	t.Helper()
	out, notes, err := loadtest(t, t.Context(), args+" -json", more...)
	require.NoError(t, err, notes)
	var r result
	require.NoError(t, json.Unmarshal([]byte(out), &r))
	return &r
}

func TestAgainstTheSimulatedEngine(t *testing.T) {
	url, _ := engineServer(t, 20)
	page := filepath.Join(t.TempDir(), "out.html")
	r := measured(t, "-url "+url+"/v1/ -rate 60 -duration 1500ms -warmup 300ms -input 200 -output 20 -report "+page)
	assert.Equal(t, "m", r.Model, "the first that the server lists")
	assert.InDelta(t, 72, r.Requests, 35)
	assert.Greater(t, r.WarmupRequests, 3)
	assert.Equal(t, r.Requests, r.Answered)
	assert.Equal(t, 20*r.Answered, r.OutputTokens)
	assert.Greater(t, r.InputTokens, 200*r.Answered, "with the chat template")
	assert.Len(t, r.Samples.TTFT, r.Requests)
	assert.EqualValues(t, 1, r.AnswerRatio)
	assert.Greater(t, float64(r.TTFT.P50), 0.0)
	assert.LessOrEqual(t, r.TTFT.P50, r.E2E.P50)
	b, err := os.ReadFile(page)
	require.NoError(t, err)
	assert.Contains(t, string(b), "Load test of m")
	assert.NotContains(t, string(b), "ZgotmplZ")
}

func TestChatsOverCompletionsReuseTheCache(t *testing.T) {
	url, _ := engineServer(t, 50)
	for _, endpoint := range []string{"chat", "completions"} {
		r := measured(t, "-url "+url+" -model m -workload chats -rate 30 -duration 2s -input 400 -output 30 -turns 4 -pause 0.0005 -seed 3 -endpoint "+endpoint)
		require.Equal(t, r.Requests, r.Answered, "%v", r.Details)
		assert.Greater(t, float64(r.HitRatio), 0.3, "a turn begins with the one before and its answer: %s", endpoint)
	}
}

// fake is a server that is only a function, so that a test can run on a synthetic clock.
type fake func(r *http.Request) (*http.Response, error)

func (f fake) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// timed delivers pieces of a body at their times.
type timed struct {
	ctx    context.Context
	pieces []piece
	err    error // at the end; nil is io.EOF
}

type piece struct {
	after time.Duration
	text  string
}

func (b *timed) Read(p []byte) (int, error) {
	if len(b.pieces) == 0 {
		if b.err != nil {
			return 0, b.err
		}
		return 0, io.EOF
	}
	first := &b.pieces[0]
	if first.after > 0 {
		select {
		case <-time.After(first.after):
		case <-b.ctx.Done():
			return 0, b.ctx.Err()
		}
		first.after = 0
	}
	n := copy(p, first.text)
	if first.text = first.text[n:]; first.text == "" {
		b.pieces = b.pieces[1:]
	}
	return n, nil
}

func (b *timed) Close() error { return nil }

func answering(r *http.Request, pieces ...piece) *http.Response {
	return &http.Response{StatusCode: 200, Header: http.Header{"Content-Type": {"text/event-stream"}}, Body: &timed{r.Context(), pieces, nil}}
}

func token(text string) string {
	return fmt.Sprintf(`data: {"choices":[{"index":0,"delta":{"content":%q}}]}`+"\n\n", text)
}

const (
	role = `data: {"choices":[{"index":0,"delta":{"role":"assistant","content":""}}]}` + "\n\n"
	tail = `data: {"choices":[],"usage":{"prompt_tokens":100,"completion_tokens":4,"prompt_tokens_details":{"cached_tokens":48}}}` + "\n\ndata: [DONE]\n\n"
)

func ms(n int) time.Duration { return time.Duration(n) * time.Millisecond }

// drive sends requests to a fake server.
func drive(t *testing.T, ctx context.Context, f fake, edit func(*config), plan ...workload.Request) (*driver, *result) {
	t.Helper()
	c := config{model: "m", endpoint: "chat", timeout: time.Minute, duration: time.Minute, drain: time.Minute, concurrency: 10, slo: slo{ttft: ms(150), tpot: ms(20)}}
	if edit != nil {
		edit(&c)
	}
	cl := newClient(c)
	cl.http.Transport = f
	d := newDriver(c, cl)
	d.sleep = time.Sleep // on the synthetic clock
	err := d.run(ctx, func(yield func(workload.Request, error) bool) {
		for _, r := range plan {
			if !yield(r, nil) {
				return
			}
		}
	})
	require.NoError(t, err)
	return d, summarise(c, d.outcomes, &d.gaps, d.end())
}

func single(session int, at time.Duration) workload.Request {
	return workload.Request{Session: session, Last: true, At: at, OutputTokens: 4, Messages: []workload.Message{{Role: workload.User, Pieces: []workload.Piece{{ID: uint64(session), Tokens: 2}}}}}
}

func TestTimesAreThoseOfTheServer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, r := drive(t, t.Context(), func(q *http.Request) (*http.Response, error) {
			time.Sleep(ms(30)) // until the headers
			return answering(q, piece{ms(20), role}, piece{ms(50), token("a")}, piece{ms(10), token("b")}, piece{ms(30), token("c") + token("d")}, piece{ms(7), tail}), nil
		}, nil, single(1, ms(5)))
		require.Equal(t, 1, r.Answered)
		near := func(want int, got any, what string) {
			t.Helper()
			assert.InDelta(t, ms(want).Seconds(), got, 1e-4, what)
		}
		near(100, float64(r.TTFT.P50), "TTFT: the role brings no token")
		near(140, float64(r.E2E.P50), "to the last token")
		assert.InEpsilon(t, 0.040/3, float64(r.TPOT.P50), 1e-4, "three tokens after the first")
		near(30, float64(r.ITL.Max), "longest gap")
		assert.InEpsilon(t, 0.010, float64(r.ITL.P50), 0.006, "gaps of 10, 30 and 0 ms")
		assert.Equal(t, []any{100, 48, 4, 1}, []any{r.InputTokens, r.CachedTokens, r.OutputTokens, r.Good})
	})
}

func TestAStallIsSeenByAllWhoWouldHaveAsked(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		// One connection, an answer in 10 ms, a request every 100 ms for 10 s; but for one second nothing is answered.
		var plan []workload.Request
		for i := range 100 {
			plan = append(plan, single(i, time.Duration(i)*ms(100)))
		}
		began := time.Now()
		_, r := drive(t, t.Context(), func(q *http.Request) (*http.Response, error) {
			if at := time.Since(began); at >= 4*time.Second && at < 5*time.Second {
				time.Sleep(5*time.Second - at)
			}
			time.Sleep(ms(10))
			return answering(q, piece{0, token("a") + tail}), nil
		}, func(c *config) { c.concurrency = 1 }, plan...)
		slow := 0
		for _, v := range r.Samples.TTFT {
			if v > 0.02 {
				slow++
			}
		}
		// Ten were due in that second, and one more finds the connection busy with them.
		assert.InDelta(t, 11, slow, 1)
		assert.InDelta(t, 1.01, float64(r.TTFT.Max), 0.001)
		assert.InDelta(t, 0.51, float64(r.TTFT.P95), 0.1, "half of those who asked meanwhile waited for half a second or more")
		assert.Less(t, float64(r.TTFTFromSend.P95), 0.02, "which a clock that starts at sending does not see")
		assert.InDelta(t, 10, r.Client.Waited, 1)
		assert.Contains(t, strings.Join(r.warnings(), "\n"), "waited for one of the 1 connections")
	})
}

func TestALaterTurnWaitsForTheAnswerAndContainsIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var bodies []string
		turn := func(n int, at time.Duration, last bool) workload.Request {
			r := single(1, at)
			r.Turn, r.Last = n, last
			return r
		}
		_, r := drive(t, t.Context(), func(q *http.Request) (*http.Response, error) {
			b, err := io.ReadAll(q.Body)
			bodies = append(bodies, string(b))
			return answering(q, piece{ms(100), token(`"hé` + "\n")}, piece{ms(400), token("y") + tail}), err
		}, nil, turn(0, 0, false), turn(1, ms(50), false), turn(2, time.Second+ms(500), true))
		require.Equal(t, 3, r.Answered)
		assert.Equal(t, 1, r.LateTurns)
		for _, v := range r.Samples.TTFT {
			assert.InDelta(t, 0.1, float64(v), 0.001)
		}
		var sent struct {
			Messages []struct{ Role, Content string }
		}
		require.NoError(t, json.Unmarshal([]byte(bodies[2]), &sent))
		require.Len(t, sent.Messages, 5)
		assert.Equal(t, "\"hé\ny", sent.Messages[1].Content)
		assert.Equal(t, "assistant", sent.Messages[3].Role)
	})
}

func TestFailuresAreClassified(t *testing.T) {
	status := func(code int) fake {
		return func(*http.Request) (*http.Response, error) {
			return &http.Response{StatusCode: code, Body: io.NopCloser(strings.NewReader("no room\n"))}, nil
		}
	}
	body := func(text string) fake {
		return func(q *http.Request) (*http.Response, error) { return answering(q, piece{0, text}), nil }
	}
	for name, tt := range map[string]struct {
		server fake
		class  class
		detail string
	}{
		"status":    {status(503), badStatus, "503: no room"},
		"no answer": {func(q *http.Request) (*http.Response, error) { <-q.Context().Done(); return nil, q.Context().Err() }, timedOut, "not complete within -timeout"},
		"too slow": {func(q *http.Request) (*http.Response, error) {
			return answering(q, piece{0, token("a")}, piece{time.Hour, tail}), nil
		}, timedOut, "not complete"},
		"not JSON":       {body("data: hello\n\n"), malformed, "event"},
		"half an object": {body(token("a") + "data: {\"choices\":[{\n\n"), malformed, "event"},
		"error event":    {body(token("a") + `data: {"error":{"message":"lost"}}` + "\n\n"), engineFail, "lost"},
		"cut":            {body(token("a")), cutShort, "before [DONE]"},
		"empty":          {body(role + "data: [DONE]\n\n"), malformed, "no token"},
		"reset": {func(q *http.Request) (*http.Response, error) {
			return &http.Response{StatusCode: 200, Header: http.Header{"Content-Type": {"text/event-stream"}}, Body: &timed{q.Context(), nil, fmt.Errorf("read tcp 1.2.3.4:5: %w", io.ErrUnexpectedEOF)}}, nil
		}, cutShort, "unexpected EOF"},
		"not a stream": {func(*http.Request) (*http.Response, error) {
			return &http.Response{StatusCode: 200, Header: http.Header{"Content-Type": {"application/json"}}, Body: http.NoBody}, nil
		}, malformed, "application/json"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				d, r := drive(t, t.Context(), tt.server, nil, single(1, 0), workload.Request{Session: 2, OutputTokens: 1}, workload.Request{Session: 2, Turn: 1, Last: true, OutputTokens: 1, At: 1})
				require.Len(t, d.outcomes, 3)
				assert.Equal(t, map[string]int{string(tt.class): 2, string(notSent): 1}, r.Errors)
				assert.Contains(t, fmt.Sprint(r.Details), tt.detail)
				assert.Zero(t, r.Answered+r.Good)
			})
		})
	}
}

func TestNoConnection(t *testing.T) {
	s := httptest.NewServer(http.NotFoundHandler())
	s.Close()
	r := measured(t, "-model m -rate 100 -requests 5 -url "+s.URL)
	assert.Equal(t, map[string]int{"connect": 5}, r.Errors)
	_, _, err := loadtest(t, t.Context(), "-url "+s.URL)
	assert.ErrorContains(t, err, "asking "+s.URL+" for its models")
}

func TestAnInterruptedRunTellsWhatThereIs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, interrupt := context.WithCancel(t.Context())
		time.AfterFunc(ms(450), interrupt)
		var plan []workload.Request
		for i := range 1000 {
			plan = append(plan, single(i, time.Duration(i)*ms(10)))
		}
		d, r := drive(t, ctx, func(q *http.Request) (*http.Response, error) {
			return answering(q, piece{ms(100), token("a") + tail}), nil
		},
			func(c *config) { c.concurrency = 100 }, plan...)
		assert.InDelta(t, 0.45, float64(r.WindowSeconds), 0.01)
		assert.InDelta(t, 35, r.Answered, 1)
		assert.InDelta(t, 10, r.InterruptedRequests, 1)
		assert.Empty(t, r.Errors, "what was under way is no failure")
		assert.Less(t, len(d.outcomes), 50)
	})
}

func TestDrainIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		began := time.Now()
		_, r := drive(t, t.Context(), func(q *http.Request) (*http.Response, error) {
			return answering(q, piece{ms(50), token("a")}, piece{time.Hour, tail}), nil
		},
			func(c *config) { c.drain, c.timeout, c.concurrency = 2*time.Second, 2*time.Hour, 1 }, single(1, 0), single(2, ms(100)))
		assert.Equal(t, map[string]int{string(unfinished): 2}, r.Errors)
		assert.InDelta(t, 2.1, time.Since(began).Seconds(), 0.01)
	})
}

func TestABrokenTraceStillLeavesFigures(t *testing.T) {
	url, _ := engineServer(t, 50)
	trace := filepath.Join(t.TempDir(), "trace.jsonl")
	require.NoError(t, os.WriteFile(trace, []byte(`{"timestamp": 0, "input_length": 600, "output_length": 5, "hash_ids": [1, 2]}
{"timestamp": 100, "input_length": 600, "output_length": 5, "hash_ids": [1, 3]}
{"timestamp": 50, "input_length": 600, "output_length": 5, "hash_ids": [1, 3]}
`), 0o600))
	out, notes, err := loadtest(t, t.Context(), "-url "+url+" -trace "+trace)
	require.ErrorContains(t, err, "line 3")
	assert.Contains(t, out, "answered                    2 (100 %)", notes)
}

func TestTheKeyIsSentAndNeverShown(t *testing.T) {
	var seen atomic.Value
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		seen.Store(r.Header.Get("Authorization"))
		w.Header().Set("Content-Type", "text/event-stream")
		_, _ = io.WriteString(w, token("a")+tail)
	}))
	defer s.Close()
	t.Setenv("MY_KEY", "s3cret")
	out, notes, err := loadtest(t, t.Context(), "-json -model m -rate 100 -requests 2 -api-key-env MY_KEY -url "+s.URL)
	require.NoError(t, err)
	assert.Equal(t, "Bearer s3cret", seen.Load())
	assert.NotContains(t, out+notes, "s3cret")
}

func TestFlagsAreCheckedAtOnce(t *testing.T) {
	_, _, err := loadtest(t, t.Context(), "-url nowhere -endpoint text -rate 0 -duration 1s -warmup 2s -concurrency 0 -workload x -trace /no/such -requests -1 -report /no/such/out.html")
	require.ErrorAs(t, err, new(program.UsageError))
	for _, want := range []string{
		`-url is "nowhere", want http://host:port`, `-endpoint is "text", want chat or completions`, "-rate is 0", "-warmup is 2s, want less than -duration, 1s",
		"-concurrency is 0", `-workload is "x", want chats or single`, `-trace is "/no/such", want a file that can be read`, "-requests is -1", "-report is",
	} {
		assert.ErrorContains(t, err, want)
	}
	_, _, err = loadtest(t, t.Context(), "-compare a.json")
	assert.ErrorContains(t, err, "-compare has 1 files, want two")
	_, notes, err := loadtest(t, t.Context(), "-h")
	require.ErrorIs(t, err, flag.ErrHelp)
	assert.Contains(t, notes, "-ignore-eos")
	_, _, err = loadtest(t, t.Context(), "stray")
	assert.ErrorContains(t, err, `unexpected argument "stray"`)
}

func TestCompareTwoRuns(t *testing.T) {
	dir := t.TempDir()
	write := func(name string, delay, step time.Duration) string {
		path := filepath.Join(dir, name)
		synctest.Test(t, func(t *testing.T) {
			var plan []workload.Request
			for i := range 600 {
				plan = append(plan, single(i, time.Duration(i)*ms(20)))
			}
			var n atomic.Int64
			_, r := drive(t, t.Context(), func(q *http.Request) (*http.Response, error) {
				wobble := time.Duration(n.Add(1)%7) * ms(3)
				return answering(q, piece{delay + wobble, token("a")}, piece{step, token("b") + tail}), nil
			}, func(c *config) { c.concurrency = 1000 }, plan...)
			f, err := os.Create(path)
			require.NoError(t, err)
			require.NoError(t, r.writeJSON(f))
			require.NoError(t, f.Close())
		})
		return path
	}
	old, faster := write("old.json", ms(100), ms(60)), write("new.json", ms(80), ms(60))
	page := filepath.Join(dir, "out.html")
	out, _, err := loadtest(t, t.Context(), "-compare -report "+page+" "+old+" "+faster)
	require.NoError(t, err)
	assert.Regexp(t, `TTFT +p50 +-18\.3 % +-1[0-9.]+ % to -1[0-9.]+ % +better`, out)
	assert.Regexp(t, `TPOT +p50 +\+0\.0 % .*no difference shown`, out)
	assert.Contains(t, out, "They do not say what another start of the server")
	assert.FileExists(t, page)

	out, _, err = loadtest(t, t.Context(), "-compare -json "+old+" "+old)
	require.NoError(t, err)
	var both struct{ Differences []comparisonJSON }
	require.NoError(t, json.Unmarshal([]byte(out), &both))
	require.Greater(t, len(both.Differences), 9)
	for _, d := range both.Differences {
		assert.Equal(t, "no difference shown", d.Verdict, "%s of a run against itself", d.Figure)
	}

	bad := filepath.Join(dir, "bad.json")
	require.NoError(t, os.WriteFile(bad, []byte(`{"format":"inferloom-loadtest-1","samples":{"due_s":[1]}}`), 0o600))
	_, _, err = loadtest(t, t.Context(), "-compare "+old+" "+bad)
	assert.ErrorContains(t, err, "0 values, want 1")
	require.NoError(t, os.WriteFile(bad, []byte(`{}`), 0o600))
	_, _, err = loadtest(t, t.Context(), "-compare "+bad+" "+old)
	assert.ErrorContains(t, err, `format is ""`)
}
