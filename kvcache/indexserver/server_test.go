package indexserver

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/inferloom/inferloom/kvcache"
	"github.com/inferloom/inferloom/kvcache/blockhash"
	"github.com/inferloom/inferloom/kvcache/events"
	"github.com/inferloom/inferloom/kvcache/follow"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const size = 16 // tokens a block

// engine publishes on loopback what a vLLM with sha256_cbor would.
type engine struct {
	*events.Publisher
	live, replay string
}

func newEngine(t testing.TB, topic string) *engine {
	t.Helper()
	e := &engine{Publisher: events.NewPublisher(events.PublisherOptions{Topic: topic})}
	live, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	replay, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	e.live, e.replay = "tcp://"+live.Addr().String(), "tcp://"+replay.Addr().String()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { defer close(done); _ = e.Serve(ctx, live, replay) }()
	t.Cleanup(func() { cancel(); <-done })
	return e
}

// prompt returns the tokens of n blocks.
func prompt(seed, n int) []uint32 {
	tokens := make([]uint32, n*size)
	for i := range tokens {
		tokens[i] = uint32(seed*10000 + i)
	}
	return tokens
}

func hashes64Of(t testing.TB, p blockhash.Prompt) []uint64 {
	scheme, err := blockhash.NewVLLM(blockhash.VLLMOptions{Algorithm: "sha256_cbor", Tagged: true})
	require.NoError(t, err)
	p.BlockTokens = size
	return scheme.Append(nil, new(blockhash.State), &p)
}

// store publishes blocks [from, to) of a prompt.
func (e *engine) store(t testing.TB, tier events.Tier, p blockhash.Prompt, from, to int) {
	h := hashes64Of(t, p)
	ev := events.Event{
		Kind: events.Stored, Tier: tier, BlockTokens: size, Group: -1, Adapter: p.Adapter, Salt: p.Salt,
		Hashes: h[from:to], Tokens: p.Tokens[from*size : to*size],
	}
	if from > 0 {
		ev.HasParent, ev.Parent = true, h[from-1]
	}
	e.publish(ev)
}

func (e *engine) remove(t testing.TB, tier events.Tier, p blockhash.Prompt, from, to int) {
	e.publish(events.Event{Kind: events.Removed, Tier: tier, Group: -1, Hashes: hashes64Of(t, p)[from:to]})
}

func (e *engine) publish(ev events.Event) {
	e.Publish(&events.Batch{Time: float64(time.Now().Unix()), Rank: -1, Events: []events.Event{ev}})
}

// service is a server with what belongs to it, on loopback.
type service struct {
	*Server
	t        testing.TB
	url      string
	index    *kvcache.Index
	follower *follow.Follower
}

func serve(t testing.TB, edit ...func(*Options, *follow.Options)) *service {
	t.Helper()
	index, err := kvcache.New(kvcache.Options{})
	require.NoError(t, err)
	o := Options{Index: index, Register: true}
	fo := follow.Options{Index: index, MinBackoff: time.Millisecond, MaxBackoff: 10 * time.Millisecond}
	for _, f := range edit {
		f(&o, &fo)
	}
	o.Follower, err = follow.New(fo)
	require.NoError(t, err)
	s, err := New(o)
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { _ = o.Follower.Run(ctx) }) // ends with the context
	h := httptest.NewServer(s)
	t.Cleanup(func() {
		cancel()
		running.Wait()
		http.DefaultClient.CloseIdleConnections()
		h.Close()
	})
	return &service{s, t, h.URL, index, o.Follower}
}

// M is a JSON object.
type M = map[string]any

// post returns the answer's status and body.
func (s *service) post(path string, body any) (int, string) {
	s.t.Helper()
	text, ok := body.(string)
	if !ok {
		b, err := json.Marshal(body)
		require.NoError(s.t, err)
		text = string(b)
	}
	resp, err := http.Post(s.url+path, "application/json", strings.NewReader(text))
	require.NoError(s.t, err)
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	require.NoError(s.t, err)
	return resp.StatusCode, string(b)
}

func (s *service) get(path string) (int, string) {
	s.t.Helper()
	resp, err := http.Get(s.url + path)
	require.NoError(s.t, err)
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	require.NoError(s.t, err)
	return resp.StatusCode, string(b)
}

// settle waits until all that the engines have published is in the index.
func (s *service) settle(engines ...*engine) {
	s.t.Helper()
	for _, e := range engines {
		require.Eventually(s.t, func() bool {
			followed := 0
			for _, h := range s.follower.Health() {
				if h.Engine.Endpoint == e.live {
					if h.Cursor.Next != e.Published() {
						return false
					}
					followed++
				}
			}
			return followed > 0
		}, 10*time.Second, time.Millisecond)
	}
}

// TestMooncake speaks as the conductor's documentation does.
func TestMooncake(t *testing.T) {
	a0, a1, b := newEngine(t, ""), newEngine(t, ""), newEngine(t, "")
	p := blockhash.Prompt{Tokens: prompt(1, 8)}
	a0.store(t, events.GPU, p, 0, 4)
	a1.store(t, events.GPU, p, 0, 2)
	a1.store(t, events.CPU, p, 0, 8)
	b.store(t, events.Disk, p, 0, 1)
	s := serve(t)
	register := func(e *engine, instance string, rank int) {
		status, body := s.post("/register", M{
			"endpoint": e.live, "replay_endpoint": e.replay, "type": "vLLM", "modelname": "deepseek", "lora_name": "", "tenant_id": "default",
			"instance_id": instance, "block_size": size, "dp_rank": rank, "additionalsalt": "",
		})
		require.Equal(t, 200, status, body)
		require.JSONEq(t, `{"status":"registered successfully","instance_id":"`+instance+`"}`, body)
	}
	register(a0, "vllm-prefill-node1", 0)
	register(a1, "vllm-prefill-node1", 1)
	register(b, "node2", 0)
	register(b, "node2", 0) // again
	s.settle(a0, a1, b)

	ask := func(more M) string {
		body := M{"model": "deepseek", "token_ids": append(p.Tokens, 7), "tenant_id": "default", "block_size": size}
		for k, v := range more {
			body[k] = v
		}
		path := "/query"
		if body["seq_hashes"] != nil || body["block_hash"] != nil {
			path += "_by_hash"
			delete(body, "token_ids")
		}
		status, answer := s.post(path, body)
		require.Equal(t, 200, status, answer)
		return answer
	}
	node1 := `{"longest_matched":128,"GPU":64,"DP":{"0":64,"1":128},"CPU":128,"DISK":0}`
	node2 := `{"longest_matched":16,"GPU":0,"DP":{"0":16},"CPU":0,"DISK":16}`
	require.JSONEq(t, `{"default":{"vllm-prefill-node1":`+node1+`,"node2":`+node2+`}}`, ask(nil))
	require.JSONEq(t, `{"default":{"node2":`+node2+`}}`, ask(M{"instance_id": "node2"}))
	require.JSONEq(t, `{"default":{}}`, ask(M{"block_size": 64}))
	require.JSONEq(t, `{"else":{}}`, ask(M{"tenant_id": "else"}))
	require.JSONEq(t, `{"default":{"node2":{"longest_matched":0,"GPU":0,"DP":{"0":0},"CPU":0,"DISK":0}}}`, ask(M{"instance_id": "node2", "lora_name": "sql"}))
	require.JSONEq(t, `{"default":{"node2":{"longest_matched":0,"GPU":0,"DP":{"0":0},"CPU":0,"DISK":0}}}`, ask(M{"instance_id": "node2", "cache_salt": "x"}))
	h := hashes64Of(t, p)
	require.JSONEq(t, `{"default":{"vllm-prefill-node1":`+node1+`,"node2":`+node2+`}}`, ask(M{"seq_hashes": h}))
	require.JSONEq(t, `{"default":{"node2":`+node2+`}}`, ask(M{"block_hash": h[:1], "instance_id": "node2"}))

	status, body := s.post("/register", M{"endpoint": b.live, "type": "vLLM", "modelname": "deepseek", "instance_id": "node2", "block_size": 32, "dp_rank": 0})
	require.Equal(t, http.StatusConflict, status, body)
	status, body = s.post("/unregister", M{"type": "vLLM", "modelname": "deepseek", "tenant_id": "default", "instance_id": "vllm-prefill-node1", "block_size": size, "dp_rank": 0})
	require.Equal(t, 200, status)
	require.JSONEq(t, `{"status":"unregistered successfully","removed_instances":["vllm-prefill-node1|default|0"]}`, body)
	require.JSONEq(t, `{"default":{"vllm-prefill-node1":{"longest_matched":128,"GPU":32,"DP":{"1":128},"CPU":128,"DISK":0}}}`, ask(M{"instance_id": "vllm-prefill-node1"}))
	status, _ = s.post("/unregister", M{"modelname": "deepseek", "instance_id": "vllm-prefill-node1", "dp_rank": 0})
	require.Equal(t, 404, status)
}

// TestDynamo speaks as the standalone indexer's documentation does.
func TestDynamo(t *testing.T) {
	one, two := newEngine(t, ""), newEngine(t, "")
	p := blockhash.Prompt{Tokens: prompt(1, 4)}
	one.store(t, events.GPU, p, 0, 2)
	one.store(t, events.CPU, p, 1, 3)
	one.store(t, events.Disk, p, 3, 4)
	two.store(t, events.GPU, blockhash.Prompt{Tokens: prompt(2, 1)}, 0, 1)
	s := serve(t)
	register := func(body M) (int, string) {
		body["model_name"], body["block_size"] = "llama-3-8b", size
		return s.post("/register", body)
	}
	status, body := register(M{"instance_id": 1, "endpoint": one.live, "replay_endpoint": one.replay})
	require.Equal(t, 201, status, body)
	require.JSONEq(t, `{"status":"ok"}`, body)
	status, _ = register(M{"instance_id": 2, "endpoint": two.live, "replay_endpoint": two.replay, "dp_rank": 1})
	require.Equal(t, 201, status)
	status, _ = register(M{"instance_id": 3, "endpoint": two.live, "replay_endpoint": two.replay, "routing_group": "customer-a"})
	require.Equal(t, 201, status)
	s.settle(one, two)

	want := `{"scores":{"1":{"0":32},"2":{"1":0}},"frequencies":[1,1],"instances":{
		"1":{"longest_matched":64,"gpu":32,"dp":{"0":32},"cpu":48,"disk":64},
		"2":{"longest_matched":0,"gpu":0,"dp":{"1":0},"cpu":0,"disk":0}}}`
	_, body = s.post("/query", M{"token_ids": p.Tokens, "model_name": "llama-3-8b"})
	require.JSONEq(t, want, body)
	signed := []int64{}
	for _, h := range hashes64Of(t, p) {
		signed = append(signed, int64(h))
	}
	_, body = s.post("/query_by_hash", M{"block_hashes": signed, "model_name": "llama-3-8b"})
	require.JSONEq(t, want, body)
	status, _ = s.post("/query_by_hash", M{"block_hashes": signed, "model_name": "llama-3-8b", "cache_salt": ""})
	require.Equal(t, 400, status)
	status, body = s.post("/query", M{"token_ids": p.Tokens, "model_name": "unknown"})
	require.Equal(t, 404, status)
	require.Contains(t, body, `no engine is registered for model \"unknown\"`)

	_, body = s.get("/workers?routing_group=customer-a")
	var workers []struct {
		Instance  int    `json:"instance_id"`
		Status    string `json:"status"`
		Group     string `json:"routing_group"`
		Endpoints map[string]string
		Listeners map[string]struct{ Batches int }
	}
	require.NoError(t, json.Unmarshal([]byte(body), &workers))
	require.Len(t, workers, 1)
	require.Equal(t, 3, workers[0].Instance)
	require.Equal(t, "active", workers[0].Status)
	require.Equal(t, map[string]string{"0": two.live}, workers[0].Endpoints)
	require.Equal(t, 1, workers[0].Listeners["0"].Batches)

	status, body = s.post("/unregister", M{"instance_id": 3, "model_name": "llama-3-8b"})
	require.Equal(t, 200, status)
	require.JSONEq(t, `{"status":"ok"}`, body)
	_, body = s.get("/workers?model_name=llama-3-8b")
	require.NoError(t, json.Unmarshal([]byte(body), &workers))
	require.Len(t, workers, 2)
}

func TestSalts(t *testing.T) {
	plain, special := newEngine(t, ""), newEngine(t, "")
	p := blockhash.Prompt{Tokens: prompt(1, 2)}
	salted := p
	salted.Salt, salted.Adapter = "tenant-a", "sql"
	plain.store(t, events.GPU, salted, 0, 2)
	special.store(t, events.GPU, p, 0, 2)
	s := serve(t)
	s.post("/register", M{"endpoint": plain.live, "replay_endpoint": plain.replay, "modelname": "m", "instance_id": "plain", "block_size": size})
	s.post("/register", M{"endpoint": special.live, "replay_endpoint": special.replay, "modelname": "m", "instance_id": "special", "block_size": size, "additionalsalt": "w8a8"})
	s.settle(plain, special)
	longest := func(q M) (plain, special int) {
		q["model"], q["token_ids"] = "m", p.Tokens
		_, body := s.post("/query", q)
		var all map[string]map[string]struct {
			Longest int `json:"longest_matched"`
		}
		require.NoError(t, json.Unmarshal([]byte(body), &all))
		return all["default"]["plain"].Longest, all["default"]["special"].Longest
	}
	for _, tt := range []struct {
		q              M
		plain, special int
	}{
		{M{}, 0, 0}, {M{"cache_salt": "w8a8"}, 0, 32}, {M{"cache_salt": "tenant-a"}, 0, 0}, {M{"cache_salt": "tenant-a", "lora_name": "sql"}, 32, 0},
	} {
		a, b := longest(tt.q)
		require.Equal(t, []int{tt.plain, tt.special}, []int{a, b}, "%v", tt.q)
	}
}

func TestBadRequests(t *testing.T) {
	s := serve(t, func(o *Options, _ *follow.Options) {
		o.MaxBodyBytes, o.MaxEngines = 1000, 1
		o.Allow = func(endpoint string) error {
			if strings.Contains(endpoint, "169.254.") {
				return fmt.Errorf("%s is not allowed", endpoint)
			}
			return nil
		}
	})
	good := M{"endpoint": "tcp://127.0.0.1:1", "modelname": "m", "instance_id": "a", "block_size": 16}
	with := func(k string, v any) M {
		m := M{}
		for k, v := range good {
			m[k] = v
		}
		m[k] = v
		return m
	}
	status, body := s.post("/register", good)
	require.Equal(t, 200, status, body)
	for _, tt := range []struct {
		name, path string
		body       any
		status     int
		want       string
	}{
		{"no JSON", "/query", "hello", 400, "invalid character"},
		{"two values", "/query", `{"model":"m"} {}`, 400, "after top-level value"},
		{"empty", "/query", "", 400, "unexpected end"},
		{"no model", "/query", `{"token_ids":[1]}`, 400, "model: missing"},
		{"negative token", "/query", `{"model":"m","token_ids":[-1]}`, 400, "element 0"},
		{"token of 33 bits", "/query", `{"model":"m","token_ids":[1, 4294967296]}`, 400, "element 1"},
		{"hash of 65 bits", "/query_by_hash", `{"model":"m","seq_hashes":[18446744073709551616]}`, 400, "element 0"},
		{"fraction", "/query_by_hash", `{"model":"m","seq_hashes":[1.5]}`, 400, "element 0"},
		{"no array", "/query", `{"model":"m","token_ids":{"a":1}}`, 400, "is no array"},
		{"text for numbers", "/query", `{"model":"m","token_ids":["1,2"]}`, 400, "element 0"},
		{"arrays for numbers", "/query", `{"model":"m","token_ids":[[1],[2]]}`, 400, "element 0"},
		{"too large", "/query", strings.Repeat(" ", 1001), 413, "more than 1000 bytes"},
		{"block size", "/query", `{"model":"m","block_size":-1}`, 400, "block_size: -1"},
		{"rank", "/query", `{"model":"m","dp_rank":70000}`, 400, "dp_rank: 70000"},
		{"instance", "/query", `{"model":"m","instance_id":[1]}`, 400, "neither a string nor a whole number"},
		{"tenant", "/query", `{"model":"m","tenant_id":"a|b"}`, 400, "tenant_id or routing_group"},
		{"no endpoint", "/register", M{"modelname": "m"}, 400, "endpoint: missing"},
		{"no instance", "/register", M{"modelname": "m"}, 400, "instance_id: missing"},
		{"endpoint", "/register", with("endpoint", "ipc://x"), 409, "registered otherwise"},
		{"not allowed", "/register", with("replay_endpoint", "tcp://169.254.169.254:80"), 400, "is not allowed"},
		{"too many", "/register", with("instance_id", "b"), 507, "1 engines are registered"},
		{"nothing to unregister", "/unregister", M{"modelname": "m"}, 400, "instance_id: missing"},
		{"why what", "/debug/why", M{"model": "m"}, 400, "token_ids: missing"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			status, body := s.post(tt.path, tt.body)
			require.Equal(t, tt.status, status, body)
			require.Contains(t, body, tt.want)
		})
	}
	status, _ = s.get("/query")
	require.Equal(t, 405, status)
	_, err := New(Options{MaxBodyBytes: -1, MaxEngines: -1})
	for _, want := range []string{"Index: nil", "Follower: nil", "MaxBodyBytes: -1", "MaxEngines: -1"} {
		require.ErrorContains(t, err, want)
	}
}

// Queries and operators can have addresses of their own.
func TestRoutesApart(t *testing.T) {
	s := serve(t, func(o *Options, _ *follow.Options) { o.Register = false })
	for _, tt := range []struct {
		h      http.Handler
		path   string
		status int
	}{
		{s.Queries(), "/health", 200}, {s.Queries(), "/metrics", 404}, {s.Queries(), "/snapshot", 404}, {s.Queries(), "/debug/why", 404},
		{s.Admin(), "/metrics", 200}, {s.Admin(), "/health", 404}, {s.Admin(), "/register", 404}, {s, "/register", 404}, {s, "/workers", 200},
	} {
		w := httptest.NewRecorder()
		tt.h.ServeHTTP(w, httptest.NewRequest("GET", tt.path, nil))
		require.Equal(t, tt.status, w.Code, tt.path)
	}
}

func TestReadyAndMetrics(t *testing.T) {
	e := newEngine(t, "")
	e.store(t, events.GPU, blockhash.Prompt{Tokens: prompt(1, 2)}, 0, 2)
	s := serve(t)
	status, _ := s.get("/ready")
	require.Equal(t, 200, status, "nobody is waited for")
	silent, err := net.Listen("tcp", "127.0.0.1:0") // takes connections and says nothing
	require.NoError(t, err)
	defer silent.Close()
	s.post("/register", M{"endpoint": "tcp://" + silent.Addr().String(), "modelname": "m", "instance_id": `bad"one`, "block_size": size})
	s.post("/register", M{"endpoint": e.live, "replay_endpoint": e.replay, "modelname": "m", "instance_id": "good", "block_size": size})
	s.settle(e)
	require.Eventually(t, func() bool {
		status, body := s.get("/ready")
		return status == 503 && body == `{"ready":false,"waiting":["bad\"one|default|0"]}`+"\n"
	}, 10*time.Second, time.Millisecond)
	s.post("/unregister", M{"modelname": "m", "instance_id": `bad"one`})
	require.Eventually(t, func() bool { status, _ := s.get("/ready"); return status == 200 }, 10*time.Second, time.Millisecond)
	s.post("/register", M{"endpoint": "tcp://127.0.0.1:1", "modelname": "m", "instance_id": `bad"one`, "block_size": size})
	s.post("/query", "nonsense")

	status, page := s.get("/metrics")
	require.Equal(t, 200, status)
	for _, want := range []string{
		`inferloom_kvindex_engine_batches_total{model="m",tenant="default",instance="good",rank="0"} 1`,
		`inferloom_kvindex_engine_connected{model="m",tenant="default",instance="bad\"one",rank="0"} 0`,
		`inferloom_kvindex_requests_total{path="/query",class="4xx"} 1`,
		`inferloom_kvindex_request_duration_seconds_count{path="/register"} 3`,
		"# TYPE inferloom_kvindex_blocks gauge",
	} {
		require.Contains(t, page, want)
	}
	seen := map[string]bool{}
	for _, line := range strings.Split(strings.TrimSpace(page), "\n") { // a page that Prometheus takes
		if strings.HasPrefix(line, "# TYPE ") {
			require.False(t, seen[line], line)
			seen[line] = true
		}
		if !strings.HasPrefix(line, "#") {
			require.Regexp(t, `^[a-z_]+(\{([a-z_]+="([^"\\]|\\.)*",?)+\})? [0-9e.+-]+$`, line)
		}
	}
}

func FuzzRequests(f *testing.F) {
	s := serve(f)
	serve := func(path string, body []byte) *httptest.ResponseRecorder {
		w := httptest.NewRecorder()
		s.ServeHTTP(w, httptest.NewRequest("POST", path, bytes.NewReader(body)))
		return w
	}
	engine := []byte(`{"endpoint":"tcp://127.0.0.1:1","modelname":"m","instance_id":"a","block_size":2}`)
	for _, seed := range []string{
		`{"model":"m","token_ids":[1,2,3,4],"block_size":2,"cache_salt":"x","lora_name":"l","instance_id":"a","dp_rank":0}`,
		`{"model_name":"m","block_hashes":[-1,18446744073709551615]}`, `{"model":"m","seq_hashes":[1]}`, `{"modelname":"m","instance_id":7}`,
		`{}`, `[]`, `null`, `{"token_ids":null,"instance_id":null,"model":"m"}`,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		serve("/register", engine)
		for _, path := range []string{"/query", "/query_by_hash", "/debug/why", "/unregister"} {
			w := serve(path, body)
			require.Contains(t, []int{200, 400, 404}, w.Code)
			require.True(t, json.Valid(w.Body.Bytes()))
		}
	})
}
