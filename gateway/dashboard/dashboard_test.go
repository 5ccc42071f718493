package dashboard

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/inferloom/inferloom/gateway"
	"github.com/inferloom/inferloom/gateway/api"
	"github.com/inferloom/inferloom/scheduling"
)

// clock is a time that tests move.
type clock struct {
	mu  sync.Mutex
	now time.Time
}

func (c *clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *clock) add(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}

// newTest has two endpoints, a clock that stands still, and what o says.
func newTest(t testing.TB, o Options) (*Dashboard, *clock) {
	t.Helper()
	c := &clock{now: time.Unix(1_700_000_000, 0)}
	if o.Pool == nil {
		pool, err := scheduling.NewPool(scheduling.PoolOptions{Now: c.Now, Endpoints: []scheduling.Endpoint{
			{ID: "a", Address: "10.0.0.1:80", Model: "m"}, {ID: "b", Address: "10.0.0.2:80", Model: "m", Role: scheduling.Decode}}})
		require.NoError(t, err)
		o.Pool = pool
	}
	o.Now = c.Now
	d, err := New(o)
	require.NoError(t, err)
	return d, c
}

func number(t *testing.T, want float64, got optional) {
	t.Helper()
	require.InDelta(t, want, float64(got), 1e-9)
}

func isAbsent(t *testing.T, got ...optional) {
	t.Helper()
	for i, v := range got {
		require.NotEqual(t, v, v, "number %d is %v", i, float64(v)) // only NaN differs from itself
	}
}

func answer(endpoint string) gateway.Record {
	return gateway.Record{Model: "m", Endpoint: endpoint, Attempts: 1, TTFT: 100 * time.Millisecond}
}

func TestOptionsAreChecked(t *testing.T) {
	pool, err := scheduling.NewPool(scheduling.PoolOptions{})
	require.NoError(t, err)
	for _, row := range []struct {
		name string
		o    Options
		want []string
	}{
		{"no pool", Options{}, []string{"pool: nil"}},
		{"every problem", Options{Window: -1, Decisions: -2, MaxRows: -3}, []string{"pool: nil", "window -1ns: negative", "decisions -2: negative", "max rows -3: negative"}},
		{"steps", Options{Pool: pool, Step: 7 * time.Second}, []string{"window 5m0s: not a multiple of the step, 7s", "recent 1m0s: not a multiple of the step, 7s"}},
		{"too fine", Options{Pool: pool, Step: time.Millisecond}, []string{"window 5m0s: more than 3600 steps of 1ms"}},
		{"too long", Options{Pool: pool, Window: time.Minute, Recent: time.Hour}, []string{"recent 1h0m0s: longer than the window, 1m0s"}},
	} {
		t.Run(row.name, func(t *testing.T) {
			_, err := New(row.o)
			require.Error(t, err)
			for _, want := range row.want {
				require.Contains(t, err.Error(), want)
			}
		})
	}
	_, err = New(Options{Pool: pool, Window: 30 * time.Second})
	require.NoError(t, err, "the recent time shrinks with the window")
}

func TestOutcomes(t *testing.T) {
	for _, row := range []struct {
		name string
		err  error
		want outcome
	}{
		{"answered", nil, answered},
		{"engine failed", &gateway.EngineError{Endpoint: "a"}, failed},
		{"engine timed out", fmt.Errorf("relaying: %w", &gateway.EngineError{Endpoint: "a", Err: context.Canceled}), failed},
		{"rejected", &gateway.Rejection{Status: 404}, rejected},
		{"client left", fmt.Errorf("%w: %w", gateway.ErrClientGone, context.Canceled), clientLeft},
		{"client left while the engine failed", errors.Join(&gateway.EngineError{}, gateway.ErrClientGone), clientLeft},
		{"client left before the decision", context.Canceled, clientLeft},
		{"too late", context.DeadlineExceeded, failed},
		{"anything else", errors.New("odd"), failed},
	} {
		require.Equal(t, row.want, (&gateway.Record{Err: row.err}).Outcome(), row.name)
	}
}

func TestNothingIsAbsentNotZero(t *testing.T) {
	d, c := newTest(t, Options{})
	c.add(20 * time.Second)
	doc := d.document(0)
	require.Zero(t, doc.Ended)
	number(t, 0, doc.Recent.RequestsPerSecond)
	isAbsent(t, doc.Recent.HitRatio, doc.Recent.TTFTp50Ms, doc.Recent.TTFTp95Ms)
	require.Len(t, doc.Endpoints.Rows, 2)
	for _, e := range doc.Endpoints.Rows {
		require.Nil(t, e.Waiting)
		require.Nil(t, e.Running)
		require.Nil(t, e.KVUsage)
		isAbsent(t, e.HitRatio, e.TTFTp50Ms, e.TTFTp95Ms)
	}
	require.Len(t, doc.Series.RequestsPerSecond, 60)
	isAbsent(t, doc.Series.RequestsPerSecond[:56]...) // before the start
	for _, v := range doc.Series.RequestsPerSecond[56:] {
		number(t, 0, v)
	}
	isAbsent(t, doc.Series.TTFTp50Ms...)
	isAbsent(t, doc.Series.TTFTp95Ms...)
	isAbsent(t, doc.Series.Failed...)
	isAbsent(t, doc.Series.Rejected...)
	require.NotNil(t, doc.Decisions)
	require.NotNil(t, doc.Failures)
}

func TestWindowSlides(t *testing.T) {
	d, c := newTest(t, Options{Window: 30 * time.Second, Recent: 15 * time.Second, Step: 5 * time.Second})
	d.Observe(answer("a")) // at 0 s
	c.add(4999 * time.Millisecond)
	d.Observe(answer("a")) // still in the first step
	c.add(time.Millisecond)
	d.Observe(answer("b")) // at 5 s
	doc := d.document(0)
	require.EqualValues(t, 3, doc.Recent.Requests)
	number(t, 3.0/5, doc.Recent.RequestsPerSecond)
	require.EqualValues(t, 2, doc.Endpoints.Rows[0].Requests)
	number(t, 2.0/5, doc.Endpoints.Rows[0].RequestsPerSecond)
	number(t, 2.0/5, doc.Series.RequestsPerSecond[5]) // the complete step

	for _, row := range []struct {
		to           time.Duration // since the start
		recent, a, b uint64
		covered      float64
		first, last  float64 // of the series; -1 is absent
	}{
		{14 * time.Second, 3, 2, 1, 14, -1, 1.0 / 5},
		{15 * time.Second, 1, 0, 1, 10, -1, 0}, // the first step left the recent ones
		{19999 * time.Millisecond, 1, 0, 1, 14.999, -1, 0},
		{20 * time.Second, 0, 0, 0, 10, -1, 0},
		{30 * time.Second, 0, 0, 0, 10, 2.0 / 5, 0},
		{35 * time.Second, 0, 0, 0, 10, 1.0 / 5, 0},
		{40 * time.Second, 0, 0, 0, 10, 0, 0},
		{time.Hour, 0, 0, 0, 10, 0, 0},
	} {
		c.add(row.to - c.Now().Sub(d.started))
		doc := d.document(0)
		require.Equal(t, row.recent, doc.Recent.Requests, row.to)
		require.Equal(t, row.a, doc.Endpoints.Rows[0].Requests, row.to)
		require.Equal(t, row.b, doc.Endpoints.Rows[1].Requests, row.to)
		number(t, float64(row.recent)/row.covered, doc.Recent.RequestsPerSecond)
		if row.first < 0 {
			isAbsent(t, doc.Series.RequestsPerSecond[0])
		} else {
			number(t, row.first, doc.Series.RequestsPerSecond[0])
		}
		number(t, row.last, doc.Series.RequestsPerSecond[5])
		require.EqualValues(t, 3, doc.Ended.Requests, "since the start")
		require.Equal(t, d.started.Add(row.to).Truncate(5*time.Second).UnixMilli(), doc.Series.EndMs)
	}
	d.Observe(answer("a")) // in a place of the ring that held another step
	require.EqualValues(t, 1, d.document(0).Recent.Requests)
}

func TestClockThatGoesBackCountsInTheRunningStep(t *testing.T) {
	d, c := newTest(t, Options{})
	c.add(time.Minute)
	d.Observe(answer("a"))
	c.add(-30 * time.Second)
	d.Observe(answer("a"))
	require.EqualValues(t, 2, d.document(0).Recent.Requests)
}

func TestFiguresByEndpoint(t *testing.T) {
	d, c := newTest(t, Options{})
	usage := func(prompt, cached, output int, known api.Counts) api.Usage {
		return api.Usage{PromptTokens: prompt, CachedTokens: cached, CompletionTokens: output, Known: known}
	}
	const all = api.PromptCount | api.CachedCount | api.CompletionCount
	for _, r := range []gateway.Record{
		{Endpoint: "a", TTFT: 100 * time.Millisecond, Usage: usage(1000, 600, 50, all)},
		{Endpoint: "a", TTFT: 200 * time.Millisecond, Usage: usage(1000, 0, 30, all)},
		{Endpoint: "a", TTFT: 300 * time.Millisecond, Usage: usage(5000, 0, 0, api.PromptCount)}, // did not say what was cached
		{Endpoint: "a", Err: &gateway.EngineError{Endpoint: "a"}},                                // no first byte
		{Endpoint: "a", TTFT: time.Second, Err: gateway.ErrClientGone},
		{Endpoint: "b", TTFT: 50 * time.Millisecond, Usage: usage(10, 0, 0, api.PromptCount)},
		{Err: &gateway.Rejection{Status: 503}},
		{Endpoint: "gone", TTFT: 50 * time.Millisecond}, // no longer in the pool
	} {
		r.Model = "m"
		d.Observe(r)
	}
	c.add(10 * time.Second)
	doc := d.document(0)
	require.Equal(t, ended{Requests: 8, Failed: 1, Rejected: 1, ClientLeft: 1}, doc.Ended)
	require.Equal(t, doc.Ended, doc.Recent.ended)
	a, b := doc.Endpoints.Rows[0], doc.Endpoints.Rows[1]
	require.Equal(t, ended{Requests: 5, Failed: 1, ClientLeft: 1}, a.ended)
	number(t, 0.5, a.RequestsPerSecond)
	number(t, 0.3, a.HitRatio)
	number(t, 8, a.OutputTokensPerSecond)
	require.InEpsilon(t, 200, float64(a.TTFTp50Ms), 0.05)
	require.InEpsilon(t, 1000, float64(a.TTFTp95Ms), 0.05)
	isAbsent(t, b.HitRatio, b.OutputTokensPerSecond)
	require.InEpsilon(t, 50, float64(b.TTFTp50Ms), 0.05)
	require.Equal(t, []string{"decode"}, b.Role)
	number(t, 1.0/8, doc.Series.Failed[58])
	number(t, 1.0/8, doc.Series.Rejected[58])
	isAbsent(t, doc.Series.Failed[59], doc.Series.TTFTp50Ms[59])
}

func TestEndpointsShowReportsAndTheLedger(t *testing.T) {
	d, c := newTest(t, Options{})
	require.NoError(t, d.o.Pool.Report(scheduling.State{Endpoint: "a", At: c.Now(), Values: []scheduling.Value{
		{Metric: scheduling.Waiting, Value: 0}, {Metric: scheduling.KVUsage, Value: 0.25}}}))
	sched, err := scheduling.New(d.o.Pool, scheduling.Options{})
	require.NoError(t, err)
	var in [2]scheduling.Decision
	for i := range in {
		in[i], err = sched.Pick(t.Context(), &scheduling.Request{Model: "m", Prompt: scheduling.Prompt{Tokens: make([]uint32, 40)}})
		require.NoError(t, err)
	}
	c.add(3 * time.Second)
	doc := d.document(0)
	a, b := doc.Endpoints.Rows[0], doc.Endpoints.Rows[1]
	require.Equal(t, &reading{Value: 0, AgeMs: 3000}, a.Waiting, "a zero that was reported")
	require.Nil(t, a.Running)
	require.Equal(t, &reading{Value: 0.25, AgeMs: 3000}, a.KVUsage)
	require.Equal(t, inFlight{1, 40, 40}, a.InFlight)
	require.Equal(t, inFlight{1, 40, 40}, b.InFlight)
	require.Equal(t, inFlight{2, 80, 80}, doc.InFlight)
	in[0].Done()
	in[1].Done()
	require.Zero(t, d.document(0).InFlight)
}

func TestManyEndpointsAreCutToTheBusiest(t *testing.T) {
	pool := manyEndpoints(t, 30)
	d, _ := newTest(t, Options{Pool: pool, MaxRows: 3})
	for _, id := range []string{"e-20", "e-7", "e-7", "e-29"} {
		d.Observe(answer(id))
	}
	table := d.document(0).Endpoints
	require.Equal(t, 30, table.Total)
	var ids []string
	for _, e := range table.Rows {
		ids = append(ids, e.ID)
	}
	require.Equal(t, []string{"e-7", "e-20", "e-29"}, ids)
}

func manyEndpoints(t testing.TB, n int) *scheduling.Pool {
	t.Helper()
	var endpoints []scheduling.Endpoint
	for i := range n {
		endpoints = append(endpoints, scheduling.Endpoint{ID: fmt.Sprintf("e-%d", i), Address: fmt.Sprintf("10.0.%d.%d:80", i/250, i%250), Model: "m"})
	}
	pool, err := scheduling.NewPool(scheduling.PoolOptions{Endpoints: endpoints, MaxEndpoints: max(n, 4)})
	require.NoError(t, err)
	return pool
}

// Pods come and go under new names for as long as the gateway lives.
func TestEndpointsAreForgotten(t *testing.T) {
	d, c := newTest(t, Options{Pool: manyEndpoints(t, 4)})
	for i := range 1000 {
		d.Observe(answer(fmt.Sprintf("pod-%d", i)))
		require.LessOrEqual(t, len(d.endpoints), 4)
		if i%4 == 3 {
			c.add(d.o.Recent)
		}
	}
	d.Observe(answer("e-1"))
	require.EqualValues(t, 1, d.document(0).Endpoints.Rows[1].Requests)
	require.EqualValues(t, 1001, d.document(0).Ended.Requests)

	for i := range 10 { // more at once than the pool can hold: counted in all, not apart
		d.Observe(answer(fmt.Sprintf("new-%d", i)))
	}
	require.Len(t, d.endpoints, 4)
	require.EqualValues(t, 1011, d.document(0).Ended.Requests)
}

func TestNamesThatClientsChooseAreCut(t *testing.T) {
	d, _ := newTest(t, Options{})
	long := strings.Repeat("é", 1<<20)
	r := answer("a")
	r.Model, r.Adapter = long, long
	r.Explanation = &scheduling.Explanation{Model: long, Adapter: long}
	r.Err = fmt.Errorf("no model %s", long)
	d.Observe(r)
	kept := d.decisions.after(0)[0].value
	require.Equal(t, strings.Repeat("é", maxNameBytes/2)+"…", kept.model)
	require.LessOrEqual(t, len(kept.adapter), maxNameBytes+len("…"))
	require.Empty(t, kept.explanation.Model+kept.explanation.Adapter)
	failure := d.failures.after(0)[0].value
	require.LessOrEqual(t, len(failure.err), maxErrorBytes+len("…"))
	require.LessOrEqual(t, len(failure.model), maxNameBytes+len("…"))
}

func TestObserveDoesNotAllocate(t *testing.T) {
	d, c := newTest(t, Options{})
	plain, explained := answer("a"), answer("b")
	explained.Explanation = &scheduling.Explanation{}
	d.Observe(plain)
	d.Observe(explained)
	require.Zero(t, testing.AllocsPerRun(1000, func() {
		d.Observe(plain)
		d.Observe(explained)
		c.add(time.Second)
	}))
}

// Run with -race.
func TestObserveAndReadAtOnce(t *testing.T) {
	pool := manyEndpoints(t, 20)
	d, err := New(Options{Pool: pool, Step: 10 * time.Millisecond, Window: 100 * time.Millisecond, MaxRows: 10})
	require.NoError(t, err)
	const writers, each = 4, 2000
	var writing, reading sync.WaitGroup
	done := make(chan struct{})
	for range writers {
		writing.Go(func() {
			for i := range each {
				r := answer(fmt.Sprintf("e-%d", i%25))
				if i%7 == 0 {
					r.Err = &gateway.EngineError{Endpoint: r.Endpoint}
				}
				if i%5 == 0 {
					r.Explanation = &scheduling.Explanation{Candidates: []scheduling.Candidate{{Endpoint: r.Endpoint}}}
				}
				d.Observe(r)
			}
		})
	}
	for range 2 {
		reading.Go(func() {
			var seen uint64
			for {
				doc := d.document(0)
				require.GreaterOrEqual(t, doc.Ended.Requests, seen)
				seen = doc.Ended.Requests
				select {
				case <-done:
					return
				default:
				}
			}
		})
	}
	writing.Wait()
	close(done)
	reading.Wait()
	require.EqualValues(t, writers*each, d.document(0).Ended.Requests)
}
