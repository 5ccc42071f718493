package selectserver_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/inferloom/inferloom/scheduling"
	"github.com/inferloom/inferloom/scheduling/condition"
	"github.com/inferloom/inferloom/scheduling/filter"
	"github.com/inferloom/inferloom/scheduling/policy"
	"github.com/inferloom/inferloom/scheduling/prefix"
	"github.com/inferloom/inferloom/scheduling/selectserver"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func newServer(t testing.TB, o selectserver.Options) *selectserver.Server {
	return serverOf(t, o, func(index *prefix.Index) scheduling.Options {
		return scheduling.Options{Profile: policy.Default(index), Seed: 1}
	})
}

func serverOf(t testing.TB, o selectserver.Options, plan func(*prefix.Index) scheduling.Options) *selectserver.Server {
	pool, err := scheduling.NewPool(scheduling.PoolOptions{})
	require.NoError(t, err)
	index, err := prefix.New(prefix.Options{MaxBytes: 16 << 20})
	require.NoError(t, err)
	o.Scheduler, err = scheduling.New(pool, plan(index))
	require.NoError(t, err)
	s, err := selectserver.New(o)
	require.NoError(t, err)
	return s
}

// host calls a server.
type host struct {
	t    testing.TB
	call func(*http.Request) (*http.Response, error)
	base string
}

// onLoopback is a host that reaches a server by real HTTP.
func onLoopback(t testing.TB, s http.Handler) *host {
	server := httptest.NewServer(s)
	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 100}}
	t.Cleanup(func() {
		client.CloseIdleConnections()
		server.Close()
	})
	return &host{t, client.Do, server.URL}
}

// inProcess is a host that calls a server without a network.
func inProcess(t testing.TB, s http.Handler) *host {
	return &host{t, func(r *http.Request) (*http.Response, error) {
		w := httptest.NewRecorder()
		s.ServeHTTP(w, r)
		return w.Result(), nil
	}, ""}
}

// do returns the status and the decoded answer.
func (h *host) do(method, path, body string) (int, map[string]any) {
	h.t.Helper()
	r, err := http.NewRequest(method, h.base+path, strings.NewReader(body))
	require.NoError(h.t, err)
	resp, err := h.call(r)
	require.NoError(h.t, err)
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	require.NoError(h.t, err)
	if resp.StatusCode == http.StatusNoContent {
		require.Empty(h.t, b)
		return resp.StatusCode, nil
	}
	require.Equal(h.t, "application/json", resp.Header.Get("Content-Type"))
	var answer map[string]any
	require.NoError(h.t, json.Unmarshal(b, &answer), "%s", b)
	return resp.StatusCode, answer
}

// must fails the test unless the status is 2xx.
func (h *host) must(method, path, body string) map[string]any {
	h.t.Helper()
	status, answer := h.do(method, path, body)
	require.Less(h.t, status, 300, "%v", answer)
	return answer
}

func (h *host) workers(n int) {
	h.t.Helper()
	for i := range n {
		h.must("POST", "/workers", fmt.Sprintf(`{"id":"w%d","address":"10.0.0.%d:8000","model":"m"}`, i, i+1))
	}
}

// load is what is in flight on all workers.
func (h *host) load() (requests, prefill, kv float64) {
	h.t.Helper()
	for _, l := range h.must("GET", "/loads", "")["loads"].([]any) {
		l := l.(map[string]any)
		requests += l["requests"].(float64)
		prefill += l["prefill_tokens"].(float64)
		kv += l["kv_tokens"].(float64)
	}
	return requests, prefill, kv
}

func TestTheLifeOfARequest(t *testing.T) {
	h := onLoopback(t, newServer(t, selectserver.Options{}))
	h.workers(2)
	tokens := strings.TrimSuffix(strings.Repeat("7, ", 160), ", ")
	first := h.must("POST", "/select_and_reserve", `{"model":"m","prompt":{"tokens":[`+tokens+`]},"lease_seconds":30}`)
	require.InDelta(t, 160, first["prompt_tokens"], 0)
	require.InDelta(t, 0, first["cached_tokens"], 0)
	require.InDelta(t, 30, first["lease_seconds"], 0)
	worker := first["worker"].(map[string]any)
	require.Len(t, first["fallbacks"], 1)
	path := "/reservations/" + first["reservation"].(string)

	requests, prefill, kv := h.load()
	require.Equal(t, []float64{1, 160, 160}, []float64{requests, prefill, kv})
	h.must("POST", path+"/first_token", "")
	h.must("POST", path+"/tokens", `{"tokens":16}`)
	requests, prefill, kv = h.load()
	require.Equal(t, []float64{1, 0, 176}, []float64{requests, prefill, kv})
	h.must("POST", path+"/renew", "")
	h.must("DELETE", path, "")
	requests, prefill, kv = h.load()
	require.Equal(t, []float64{0, 0, 0}, []float64{requests, prefill, kv})

	again := h.must("POST", "/select_and_reserve", `{"model":"m","prompt":{"tokens":[`+tokens+`,8]},"explain":true}`)
	require.Equal(t, worker, again["worker"], "the prefix is there")
	require.InDelta(t, 160, again["cached_tokens"], 0)
	require.Len(t, again["explanation"].(map[string]any)["candidates"], 2)

	// The worker fails, and then the other.
	path = "/reservations/" + again["reservation"].(string)
	moved := h.must("POST", path+"/next", "")
	require.NotEqual(t, worker, moved["worker"])
	require.Equal(t, again["reservation"], moved["reservation"])
	status, answer := h.do("POST", path+"/next", "")
	require.Equal(t, http.StatusGone, status)
	require.Equal(t, "no_fallback", code(answer))
	requests, prefill, kv = h.load()
	require.Equal(t, []float64{0, 0, 0}, []float64{requests, prefill, kv})
	require.InDelta(t, 0, h.must("GET", "/loads", "")["reservations"], 0)
}

func TestSelectReservesNothing(t *testing.T) {
	h := onLoopback(t, newServer(t, selectserver.Options{}))
	h.workers(4)
	body := `{"model":"m","prompt":{"text":"` + strings.Repeat("hello ", 100) + `"}}`
	first := h.must("POST", "/select", body)
	for range 3 {
		again := h.must("POST", "/select", body)
		require.Equal(t, first, again)
		require.InDelta(t, 0, again["cached_tokens"], 0, "nothing was sent there")
		require.NotContains(t, again, "reservation")
	}
	requests, prefill, kv := h.load()
	require.Equal(t, []float64{0, 0, 0}, []float64{requests, prefill, kv})
	require.Equal(t, first["worker"], h.must("POST", "/select_and_reserve", body)["worker"])
	require.InDelta(t, 144, h.must("POST", "/select", body)["cached_tokens"], 0)
	for _, wrong := range []string{`{"id":"x","model":"m"}`, `{"lease_seconds":3,"model":"m"}`} {
		status, answer := h.do("POST", "/select", wrong)
		require.Equal(t, http.StatusBadRequest, status)
		require.Contains(t, problems(answer), "only a reservation has them")
	}
}

func TestReserveAtAWorker(t *testing.T) {
	h := onLoopback(t, newServer(t, selectserver.Options{}))
	h.workers(3)
	prompt := `"model":"m","prompt":{"text":"` + strings.Repeat("hello ", 100) + `"}`
	first := h.must("POST", "/reservations", `{"worker":"w1",`+prompt+`}`)
	require.Equal(t, "w1", first["worker"].(map[string]any)["id"])
	require.NotContains(t, first, "fallbacks")
	requests, prefill, kv := h.load()
	require.Equal(t, []float64{1, 150, 150}, []float64{requests, prefill, kv})
	h.must("DELETE", "/reservations/"+first["reservation"].(string), "")
	require.Equal(t, "w1", h.must("POST", "/select", "{"+prompt+"}")["worker"].(map[string]any)["id"], "the index has learned it")
	for want, body := range map[string]string{`unknown endpoint: "w9"`: `{"worker":"w9"}`, "worker is empty": `{}`} {
		_, answer := h.do("POST", "/reservations", body)
		require.Contains(t, problems(answer), want)
	}
	_, answer := h.do("POST", "/select_and_reserve", `{"worker":"w1"}`)
	require.Contains(t, problems(answer), `worker "w1": is chosen here`)
	requests, _, _ = h.load()
	require.Zero(t, requests)
}

// A prefill worker and a decode worker, as in disaggregated serving.
func TestStages(t *testing.T) {
	h := onLoopback(t, serverOf(t, selectserver.Options{}, func(index *prefix.Index) scheduling.Options {
		profile := func(phase scheduling.Role) scheduling.Profile {
			p := policy.Default(index)
			p.Filters = append(p.Filters, filter.Role{Phase: phase, Explicit: phase == scheduling.Prefill})
			return p
		}
		return scheduling.Options{Seed: 1, Stages: []scheduling.Stage{
			{Name: "decode", Profile: profile(scheduling.Decode)},
			{
				Name: "prefill", Profile: profile(scheduling.Prefill), After: []string{"decode"},
				When: condition.Uncached{Tokens: 64, Stage: "decode"}, Takes: scheduling.Prefill, Optional: true,
			},
		}}
	}))
	for i, role := range []string{"decode", "decode", "prefill", "prefill"} {
		h.must("POST", "/workers", fmt.Sprintf(`{"id":"%s%d","address":"10.0.0.%d:8000","model":"m","roles":["%s"]}`, role, i, i+1, role))
	}
	loads := func() string {
		var all []string
		for _, l := range h.must("GET", "/loads", "")["loads"].([]any) {
			l := l.(map[string]any)
			all = append(all, fmt.Sprint(l["worker"], ":", l["requests"], "/", l["prefill_tokens"], "/", l["kv_tokens"]))
		}
		return strings.Join(all, " ")
	}
	stage := func(p map[string]any) (name, worker string, fallbacks int) {
		require.Len(t, p["stages"], 1)
		leg := p["stages"].([]any)[0].(map[string]any)
		rest, _ := leg["fallbacks"].([]any)
		return leg["stage"].(string), leg["worker"].(map[string]any)["id"].(string), len(rest)
	}
	body := `{"model":"m","prompt":{"text":"` + strings.Repeat("x", 800) + `"}}`
	preview := h.must("POST", "/select", body)
	name, _, _ := stage(preview)
	require.Equal(t, "prefill", name)
	require.Equal(t, "decode0:0/0/0 decode1:0/0/0 prefill2:0/0/0 prefill3:0/0/0", loads())

	p := h.must("POST", "/select_and_reserve", body)
	decode := p["worker"].(map[string]any)["id"].(string)
	_, prefill, fallbacks := stage(p)
	require.Equal(t, 1, fallbacks)
	require.Contains(t, loads(), decode+":1/0/200")
	require.Contains(t, loads(), prefill+":1/200/200")
	path := "/reservations/" + p["reservation"].(string)

	_, moved, fallbacks := stage(h.must("POST", path+"/stages/prefill/next", ""))
	require.NotEqual(t, prefill, moved)
	require.Zero(t, fallbacks)
	require.Contains(t, loads(), prefill+":0/0/0")
	require.Contains(t, loads(), moved+":1/200/200")
	h.must("POST", path+"/stages/prefill/done", "")
	require.Contains(t, loads(), moved+":0/0/0")
	require.Contains(t, loads(), decode+":1/0/200")
	for _, other := range []string{"decode", "x"} {
		status, answer := h.do("POST", path+"/stages/"+other+"/done", "")
		require.Equal(t, http.StatusNotFound, status)
		require.Equal(t, "unknown_stage", code(answer))
	}
	status, answer := h.do("POST", path+"/stages/prefill/next", "")
	require.Equal(t, http.StatusGone, status)
	require.Equal(t, "no_fallback", code(answer))
	h.must("POST", path+"/first_token", "")
	h.must("DELETE", path, "")
	require.Equal(t, "decode0:0/0/0 decode1:0/0/0 prefill2:0/0/0 prefill3:0/0/0", loads())

	again := h.must("POST", "/select_and_reserve", body)
	require.NotContains(t, again, "stages", "the decode worker has the prompt")
	require.Equal(t, decode, again["worker"].(map[string]any)["id"])
}

func code(answer map[string]any) string { return answer["error"].(map[string]any)["code"].(string) }

func problems(answer map[string]any) string {
	return fmt.Sprint(answer["error"].(map[string]any)["problems"])
}

func TestWorkers(t *testing.T) {
	h := onLoopback(t, newServer(t, selectserver.Options{}))
	full := `{"id":"a/b#1","address":"10.0.0.1:8000","rank":1,"roles":["prefill","decode"],"model":"m","adapters":["x"],` +
		`"labels":{"zone":"z"},"block_tokens":32,"cache_blocks":1000}`
	var want any
	require.NoError(t, json.Unmarshal([]byte(full), &want))
	require.Empty(t, cmp.Diff(want, any(h.must("POST", "/workers", full))))
	path := "/workers/" + url.PathEscape("a/b#1")
	require.Empty(t, cmp.Diff(want, any(h.must("GET", path, ""))))
	require.Equal(t, "10.0.0.2:8000#3", h.must("POST", "/workers", `{"address":"10.0.0.2:8000","rank":3}`)["id"])
	require.Len(t, h.must("GET", "/workers", "")["workers"], 2)

	h.must("POST", path+"/metrics", `{"waiting":3,"kv_usage":0.5,"adapters":{"active":["x"],"max":4}}`)
	loads := h.must("GET", "/loads", "")["loads"].([]any)
	reported := loads[0].(map[string]any)["reported"].(map[string]any)
	require.InDelta(t, 3, reported["waiting"].(map[string]any)["value"], 0)
	require.InDelta(t, .5, reported["kv_usage"].(map[string]any)["value"], 0)
	require.NotContains(t, reported, "running")

	h.must("DELETE", path, "")
	status, _ := h.do("GET", path, "")
	require.Equal(t, http.StatusNotFound, status)
	require.Len(t, h.must("GET", "/workers", "")["workers"], 1)
}

func TestAdaptersAreModelsToo(t *testing.T) {
	h := inProcess(t, newServer(t, selectserver.Options{}))
	h.workers(1)
	h.must("POST", "/workers", `{"id":"tuned","address":"10.0.1.1:8000","model":"m","adapters":["legal"]}`)
	for range 3 {
		got := h.must("POST", "/select_and_reserve", `{"model":"legal","prompt":{"text":"x"}}`)
		require.Equal(t, "tuned", got["worker"].(map[string]any)["id"])
	}
}

func TestErrorsNameFieldAndValue(t *testing.T) {
	h := onLoopback(t, newServer(t, selectserver.Options{MaxBodyBytes: 10_000, MaxReservations: 1}))
	h.workers(1)
	h.must("POST", "/select_and_reserve", `{"id":"held","model":"m"}`)
	for _, row := range []struct {
		name, method, path, body string
		status                   int
		code                     string
		says                     []string
	}{
		{"no JSON", "POST", "/workers", `{`, 400, "invalid_request", []string{"body: unexpected EOF"}},
		{"two values", "POST", "/workers", `{"address":"a:1"}{}`, 400, "invalid_request", []string{"more than one JSON value"}},
		{"an unknown field", "POST", "/workers", `{"adress":"a:1"}`, 400, "invalid_request", []string{`unknown field "adress"`}},
		{"a wrong type", "POST", "/workers", `{"rank":"1"}`, 400, "invalid_request", []string{"rank: is a JSON string, want int"}},
		{"all that is wrong with a worker", "POST", "/workers", `{"address":"x","rank":-1,"block_tokens":-2}`, 400, "invalid_request",
			[]string{`address "x": want host:port`, "rank -1: negative", "block tokens -2: negative"}},
		{"roles", "POST", "/workers", `{"address":"a:1","roles":["prefill","both","x"]}`, 400, "invalid_request",
			[]string{`roles[1] "both": want encode, prefill or decode`, `roles[2] "x"`}},
		{"an unknown worker", "DELETE", "/workers/w9", ``, 404, "unknown_worker", []string{`worker "w9": not registered`}},
		{"metrics", "POST", "/workers/w0/metrics", `{"waiting":-1,"kv_usage":1.5,"cache_blocks":-1}`, 400, "invalid_request",
			[]string{"waiting -1: out of range", "kv_usage 1.5: out of range", "cache_blocks -1: negative"}},
		{"metrics of an unknown worker", "POST", "/workers/w9/metrics", `{}`, 404, "unknown_worker", nil},
		{"an unknown model", "POST", "/select_and_reserve", `{"model":"x"}`, 404, "unknown_model", []string{`model "x"`}},
		{"all that is wrong with a request", "POST", "/select_and_reserve",
			`{"model":"m","max_tokens":-1,"ttft_ms":-5,"prompt":{"blocks":[{"block_tokens":0,"hashes":[]}]}}`, 400, "invalid_request",
			[]string{"max_tokens -1: negative", "ttft_ms -5: want 0", "prompt.blocks[0].block_tokens 0: want at least 1"}},
		{"a token that is none", "POST", "/select_and_reserve", `{"prompt":{"tokens":[1,-2]}}`, 400, "invalid_request",
			[]string{"prompt.tokens[1]", `"-2"`, "want a token id from 0 to 4294967295"}},
		{"a token that is too large", "POST", "/select_and_reserve", `{"prompt":{"tokens":[4294967296]}}`, 400, "invalid_request", []string{"prompt.tokens[0]"}},
		{"tokens that are no list", "POST", "/select_and_reserve", `{"prompt":{"tokens":"x"}}`, 400, "invalid_request", []string{"prompt.tokens"}},
		{"a hash that is none", "POST", "/select_and_reserve", `{"prompt":{"blocks":[{"block_tokens":1,"hashes":["0xg"]}]}}`, 400, "invalid_request",
			[]string{`hash "0xg"`}},
		{"a lease that is too long", "POST", "/select_and_reserve", `{"model":"m","lease_seconds":1e9}`, 400, "invalid_request", []string{"lease_seconds 1e+09: want"}},
		{"a long id", "POST", "/select_and_reserve", `{"id":"` + strings.Repeat("x", 300) + `"}`, 400, "invalid_request", []string{"300 bytes"}},
		{"too many reservations", "POST", "/select_and_reserve", `{"model":"m"}`, 429, "too_many_reservations", []string{"1 are held"}},
		{"an unknown reservation", "DELETE", "/reservations/R", ``, 404, "unknown_reservation", []string{`reservation "R"`}},
		{"a first token of an unknown one", "POST", "/reservations/R/first_token", ``, 404, "unknown_reservation", nil},
		{"no tokens", "POST", "/reservations/held/tokens", `{}`, 400, "invalid_request", []string{"tokens 0: want 1"}},
		{"a negative lease", "POST", "/reservations/held/renew", `{"lease_seconds":-1}`, 400, "invalid_request", []string{"lease_seconds -1"}},
		{"a long body", "POST", "/select_and_reserve", `{"prompt":{"text":"` + strings.Repeat("x", 10_000) + `"}}`, 413, "body_too_large", []string{"10000 bytes"}},
		{"another path", "GET", "/worker", ``, 404, "unknown_path", []string{`"/worker"`}},
		{"another method", "PATCH", "/workers", ``, 405, "method_not_allowed", []string{"GET", "POST"}},
	} {
		t.Run(row.name, func(t *testing.T) {
			h := &host{t, h.call, h.base}
			status, answer := h.do(row.method, row.path, row.body)
			require.Equal(t, row.status, status, "%v", answer)
			require.Equal(t, row.code, code(answer))
			for _, want := range row.says {
				require.Contains(t, problems(answer), want)
			}
		})
	}
	requests, _, _ := h.load()
	require.InDelta(t, 1, requests, 0, "nothing that failed is charged for")
	h.must("DELETE", "/workers/w0", "")
	h.must("DELETE", "/reservations/held", "")
	status, answer := h.do("POST", "/select_and_reserve", `{"id":"`+strings.Repeat("y", 256)+`"}`)
	require.Equal(t, http.StatusServiceUnavailable, status)
	require.Equal(t, "no_worker", code(answer))
}

func TestTheSameCallTwiceIsChargedOnce(t *testing.T) {
	h := onLoopback(t, newServer(t, selectserver.Options{}))
	h.workers(4)
	body := `{"id":"request-1","model":"m","prompt":{"text":"hello"}}`
	first := h.must("POST", "/select_and_reserve", body)
	require.Equal(t, "request-1", first["reservation"])
	require.Equal(t, first, h.must("POST", "/select_and_reserve", body))

	var calls sync.WaitGroup
	answers := make([]map[string]any, 16)
	for i := range answers {
		calls.Go(func() {
			r, err := http.NewRequest("POST", h.base+"/select_and_reserve", strings.NewReader(`{"id":"request-2","model":"m"}`))
			if err != nil {
				t.Error(err)
				return
			}
			resp, err := h.call(r)
			if err != nil {
				t.Error(err)
				return
			}
			defer resp.Body.Close()
			if err := json.NewDecoder(resp.Body).Decode(&answers[i]); err != nil {
				t.Error(err)
			}
		})
	}
	calls.Wait()
	for _, a := range answers {
		require.Equal(t, answers[0]["worker"], a["worker"])
	}
	requests, _, _ := h.load()
	require.InDelta(t, 2, requests, 0)
}

// A host that crashes says nothing any more. What it held ends when its lease does, and not before.
func TestACrashedHostLeaksNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newServer(t, selectserver.Options{Lease: time.Minute})
		go s.Run(t.Context())
		h := inProcess(t, s)
		h.workers(2)
		reserve := func(lease string) string {
			return "/reservations/" + h.must("POST", "/select_and_reserve", `{"model":"m","prompt":{"text":"hello"}`+lease+`}`)["reservation"].(string)
		}
		left := func() int {
			synctest.Wait()
			requests, _, _ := h.load()
			require.InDelta(t, s.Reservations(), requests, 0)
			return s.Reservations()
		}
		long := reserve(`,"lease_seconds":300`)
		usual := reserve("")
		short := reserve(`,"lease_seconds":1`)
		require.Equal(t, 3, left())
		time.Sleep(time.Second)
		require.Equal(t, 2, left())
		status, answer := h.do("POST", short+"/tokens", `{"tokens":1}`)
		require.Equal(t, http.StatusNotFound, status)
		require.Equal(t, "unknown_reservation", code(answer))

		// Every word of it renews it.
		for _, say := range []string{"/first_token", "/renew", "/first_token"} {
			time.Sleep(58 * time.Second)
			h.must("POST", usual+say, "")
			require.Equal(t, 2, left(), say)
		}
		time.Sleep(58 * time.Second)
		h.must("POST", usual+"/renew", `{"lease_seconds":5}`)
		time.Sleep(5*time.Second - 1)
		require.Equal(t, 2, left())
		time.Sleep(time.Nanosecond)
		require.Equal(t, 1, left())
		time.Sleep(time.Hour)
		require.Equal(t, 0, left())
		status, _ = h.do("DELETE", long, "")
		require.Equal(t, http.StatusNotFound, status)
	})
}

func TestRunEndsWhatIsHeld(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newServer(t, selectserver.Options{})
		ctx, cancel := context.WithCancel(t.Context())
		go s.Run(ctx)
		h := inProcess(t, s)
		h.workers(2)
		for range 10 {
			h.must("POST", "/select_and_reserve", `{"model":"m"}`)
		}
		cancel()
		synctest.Wait()
		requests, _, _ := h.load()
		require.Zero(t, requests)
		require.Zero(t, s.Reservations())
	})
}

// However calls about the same few reservations meet each other and the end of leases, the ledger is empty in the end.
func TestTheLedgerIsEmptyInTheEnd(t *testing.T) {
	s := newServer(t, selectserver.Options{Lease: 2 * time.Millisecond, MaxReservations: 6})
	ctx, cancel := context.WithCancel(t.Context())
	var run sync.WaitGroup
	run.Go(func() { s.Run(ctx) })
	inProcess(t, s).workers(3)
	var hosts sync.WaitGroup
	for host := range 4 {
		hosts.Go(func() {
			for i := range 2000 {
				n := i*7 + host*13
				path := fmt.Sprintf("/reservations/r%d", n%8)
				method, body := "POST", ""
				switch n % 11 {
				case 0, 1, 2, 3:
					path, body = "/select_and_reserve", fmt.Sprintf(`{"id":"r%d","model":"m","prompt":{"text":"%064d"}}`, n%8, n%5)
				case 4:
					path += "/first_token"
				case 5:
					path, body = path+"/tokens", `{"tokens":3}`
				case 6, 7:
					path += "/next"
				case 8:
					path += "/renew"
				default:
					method = "DELETE"
				}
				w := httptest.NewRecorder()
				s.ServeHTTP(w, httptest.NewRequest(method, path, bytes.NewReader([]byte(body))))
				switch w.Code {
				case 200, 204, 404, 410, 429:
				default:
					t.Errorf("%s %s: %d %s", method, path, w.Code, w.Body)
				}
			}
		})
	}
	hosts.Wait()
	cancel()
	run.Wait()
	requests, prefill, kv := inProcess(t, s).load()
	require.Equal(t, []float64{0, 0, 0}, []float64{requests, prefill, kv})
}

func TestOptionsAreChecked(t *testing.T) {
	_, err := selectserver.New(selectserver.Options{Lease: -1, MaxLease: -2, MaxReservations: -3, MaxBodyBytes: -4})
	for _, want := range []string{"scheduler: nil", "lease -1ns", "max lease -2ns", "max reservations -3", "max body bytes -4"} {
		require.ErrorContains(t, err, want)
	}
}

// BenchmarkSelect is one request over loopback: reserved, first token, released, on a connection that is kept.
func BenchmarkSelect(b *testing.B) {
	tokens := "1"
	for i := 2; i <= 4096; i++ {
		tokens += fmt.Sprintf(",%d", i*37)
	}
	for _, prompt := range []string{"blocks", "tokens"} {
		for _, workers := range []int{8, 100} {
			b.Run(fmt.Sprintf("prompt=%s/workers=%d", prompt, workers), func(b *testing.B) {
				s := newServer(b, selectserver.Options{})
				h := onLoopback(b, s)
				h.workers(workers)
				body := `{"model":"m","prompt":{"tokens":[` + tokens + `]}}`
				if prompt == "blocks" {
					body = `{"model":"m","prompt":{"blocks":[{"block_tokens":16,"hashes":[` + strings.Join(strings.Split(tokens, ",")[:256], ",") + `]}]}}`
				}
				call := func(method, path, body string) []byte {
					r, err := http.NewRequest(method, h.base+path, strings.NewReader(body))
					require.NoError(b, err)
					resp, err := h.call(r)
					require.NoError(b, err)
					answer, err := io.ReadAll(resp.Body)
					resp.Body.Close()
					require.NoError(b, err)
					require.Less(b, resp.StatusCode, 300)
					return answer
				}
				b.ReportAllocs()
				var selecting time.Duration
				for b.Loop() {
					began := time.Now()
					answer := call("POST", "/select_and_reserve", body)
					selecting += time.Since(began)
					_, rest, _ := bytes.Cut(answer, []byte(`"reservation":"`))
					id, _, _ := bytes.Cut(rest, []byte(`"`))
					call("POST", "/reservations/"+string(id)+"/first_token", "")
					call("DELETE", "/reservations/"+string(id), "")
				}
				b.ReportMetric(float64(selecting.Microseconds())/float64(b.N), "µs/select")
			})
		}
	}
}
