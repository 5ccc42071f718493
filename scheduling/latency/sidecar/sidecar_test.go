package sidecar_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/inferloom/inferloom/scheduling"
	"github.com/inferloom/inferloom/scheduling/latency/sidecar"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// server plays llm-d's servers: it predicts a millisecond a prompt token, and 10 ms, and keeps what it is sent.
type server struct {
	*httptest.Server
	mu       sync.Mutex
	requests [][]map[string]any
	entries  chan []map[string]any
	answer   func(rows int) (status int, body string)
}

func newServer(t *testing.T) *server {
	t.Helper()
	s := &server{entries: make(chan []map[string]any, 10)}
	s.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		data, _ := io.ReadAll(r.Body)
		var got struct{ Requests, Entries []map[string]any }
		if r.Method != http.MethodPost || r.Header.Get("Content-Type") != "application/json" || json.Unmarshal(data, &got) != nil {
			w.WriteHeader(http.StatusUnprocessableEntity)
			return
		}
		switch r.URL.Path {
		case "/predict/bulk/strict":
			s.mu.Lock()
			s.requests = append(s.requests, got.Requests)
			s.mu.Unlock()
			if s.answer != nil {
				status, body := s.answer(len(got.Requests))
				w.WriteHeader(status)
				fmt.Fprint(w, body)
				return
			}
			var predictions []map[string]any
			for _, f := range got.Requests {
				predictions = append(predictions, map[string]any{"ttft_ms": f["input_token_length"], "tpot_ms": 10, "quantile": .9, "model_type": "xgboost"})
			}
			_ = json.NewEncoder(w).Encode(map[string]any{"predictions": predictions, "total_requests": len(predictions)})
		case "/add_training_data_bulk":
			w.WriteHeader(http.StatusAccepted)
			s.entries <- got.Entries
		default:
			w.WriteHeader(http.StatusNotFound)
		}
	}))
	t.Cleanup(s.Close)
	return s
}

func newPool(t *testing.T, n int) *scheduling.Pool {
	t.Helper()
	var list []scheduling.Endpoint
	for i := range n {
		list = append(list, scheduling.Endpoint{ID: fmt.Sprint("e", i), Address: fmt.Sprintf("10.0.%d.%d:80", i/250, i%250+1), Model: "m", Role: scheduling.Role(i % 3)})
	}
	list = append(list, scheduling.Endpoint{Address: "10.9.9.9:80", Model: "other"})
	pool, err := scheduling.NewPool(scheduling.PoolOptions{Endpoints: list})
	require.NoError(t, err)
	require.NoError(t, pool.Report(scheduling.State{Endpoint: "e0", Values: []scheduling.Value{
		{Metric: scheduling.KVUsage, Value: .25}, {Metric: scheduling.Waiting, Value: 3},
	}}))
	return pool
}

func newPredictor(t *testing.T, o sidecar.Options) *sidecar.Predictor {
	t.Helper()
	o.Client = &http.Client{Transport: &http.Transport{}}
	t.Cleanup(o.Client.CloseIdleConnections)
	o.Timeout = 10 * time.Second
	p, err := sidecar.New(o)
	require.NoError(t, err)
	return p
}

// only keeps one endpoint.
type only string

func (id only) Filter(c *scheduling.Cycle, slots []scheduling.Slot) []scheduling.Slot {
	for _, slot := range slots {
		if c.Endpoint(slot).ID == string(id) {
			return append(slots[:0], slot)
		}
	}
	return nil
}

func pick(t *testing.T, pool *scheduling.Pool, p scheduling.Producer, id string, tokens int) scheduling.Decision {
	t.Helper()
	s, err := scheduling.New(pool, scheduling.Options{Profile: scheduling.Profile{Producers: []scheduling.Producer{p}, Filters: []scheduling.Filter{only(id)}}})
	require.NoError(t, err)
	d, err := s.Pick(context.Background(), &scheduling.Request{
		Model: "m", Prompt: scheduling.Prompt{Tokens: make([]uint32, tokens)}, TTFT: 200 * time.Millisecond, TPOT: 5 * time.Millisecond,
	})
	require.NoError(t, err)
	return d
}

func TestPredictsAndTeaches(t *testing.T) {
	s := newServer(t)
	pool := newPool(t, 3)
	p := newPredictor(t, sidecar.Options{Pool: pool, Prediction: []string{s.URL + "/"}, Training: s.URL, FlushAfter: time.Millisecond})
	d := pick(t, pool, p, "e0", 100)
	require.InDelta(t, .1, d.Predicted.TTFT, 1e-9)
	require.InDelta(t, .01, d.Predicted.TPOT, 1e-9)
	require.InDelta(t, .9*.1, d.Predicted.Meets, 1e-9, "within the first objective and not the second")
	d = pick(t, pool, p, "e0", 40)
	require.Equal(t, map[string]any{
		"kv_cache_percentage": .25, "input_token_length": 40., "num_request_waiting": 3., "num_request_running": 1., "num_tokens_generated": 0.,
		"prefix_cache_score": 0., "encoder_input_size": 0., "encoder_matched_size": 0., "pod_type": "", "prefill_tokens_in_flight": 100.,
		"decode_tokens_in_flight": 0.,
	}, s.requests[1][0])
	require.Len(t, s.requests[1], 3, "not of another model")
	require.Equal(t, "prefill", s.requests[1][1]["pod_type"])
	require.Equal(t, "decode", s.requests[1][2]["pod_type"])

	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() {
		p.Run(ctx)
		close(ended)
	}()
	p.ObserveTTFT(&d.Predicted, 70*time.Millisecond)
	entry := (<-s.entries)[0]
	require.Equal(t, 70., entry["actual_ttft_ms"])
	require.Equal(t, 0., entry["actual_tpot_ms"])
	require.Equal(t, 100., entry["prefill_tokens_in_flight"])
	require.Equal(t, 40., entry["input_token_length"])
	require.Contains(t, entry, "timestamp")
	p.ObserveTPOT(&d.Predicted, 7*time.Millisecond)
	require.Equal(t, 7., (<-s.entries)[0]["actual_tpot_ms"])
	cancel()
	<-ended
}

func TestManyEndpoints(t *testing.T) {
	s, other := newServer(t), newServer(t)
	pool := newPool(t, 250)
	p := newPredictor(t, sidecar.Options{Pool: pool, Prediction: []string{s.URL, other.URL}})
	require.True(t, func() bool { d := pick(t, pool, p, "e249", 10); return d.Predicted.Known() }())
	require.Len(t, s.requests, 2)
	require.Len(t, s.requests[1], 50)
	require.Len(t, other.requests[0], 100)
}

// Without an answer that makes sense a pick goes on without predictions.
func TestFailures(t *testing.T) {
	for name, answer := range map[string]func(int) (int, string){
		"refused":   func(int) (int, string) { return 500, "broken" },
		"no JSON":   func(int) (int, string) { return 200, "{" },
		"too few":   func(int) (int, string) { return 200, `{"predictions":[{}]}` },
		"nonsense":  func(int) (int, string) { return 200, `{"predictions":[{"ttft_ms":-1},{"ttft_ms":0},{}]}` },
		"too large": func(int) (int, string) { return 200, `{"predictions":[{"ttft_ms":1e999},{},{}]}` },
	} {
		t.Run(name, func(t *testing.T) {
			s := newServer(t)
			s.answer = answer
			pool := newPool(t, 3)
			var failures []error
			p := newPredictor(t, sidecar.Options{Pool: pool, Prediction: []string{s.URL}, OnError: func(err error) { failures = append(failures, err) }})
			d := pick(t, pool, p, "e0", 10)
			require.False(t, d.Predicted.Known())
			require.Equal(t, name != "nonsense", len(failures) == 1, "%v", failures)
		})
	}
}

func TestObservationsAreBounded(t *testing.T) {
	pool := newPool(t, 1)
	p := newPredictor(t, sidecar.Options{Pool: pool, Prediction: []string{"http://127.0.0.1:1"}, Training: "http://127.0.0.1:1", MaxSamples: 2})
	known := &scheduling.Prediction{TTFT: 1}
	for range 25 {
		p.ObserveTTFT(known, time.Second)
	}
	p.ObserveTTFT(known, -time.Second)
	p.ObserveTTFT(&scheduling.Prediction{}, time.Second)
	require.Equal(t, uint64(5), p.Dropped())
}

func TestOptionsAreChecked(t *testing.T) {
	_, err := sidecar.New(sidecar.Options{Prediction: []string{"127.0.0.1:1"}, Training: "ftp://x", Timeout: -1, MaxBulk: -1, FlushAfter: -1, MaxSamples: -1})
	for _, field := range []string{"pool: nil", `prediction[0] "127.0.0.1:1"`, `training "ftp://x"`, "timeout", "max bulk", "flush after", "max samples"} {
		require.ErrorContains(t, err, field)
	}
	_, err = sidecar.New(sidecar.Options{})
	require.ErrorContains(t, err, "prediction: no server")
}
