package proxy_test

import (
	"context"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/inferloom/inferloom/gateway"
	"github.com/inferloom/inferloom/gateway/api"
	"github.com/inferloom/inferloom/gateway/proxy"
)

func TestRefusals(t *testing.T) {
	models := func() []string { return []string{"llama", "org/m"} }
	big := `{"model":"llama","messages":[{"content":"` + strings.Repeat("x", 2000) + `"}]}`
	tests := map[string]struct {
		method, path, body string
		noLength           bool
		targets            int
		status             int
		code, param        string
		header             map[string]string
	}{
		"malformed JSON": {method: "POST", path: "/v1/chat/completions", body: `{"model":`, status: 400, code: "invalid_json"},
		"no model":       {method: "POST", path: "/v1/chat/completions", body: `{"messages":[{}]}`, status: 400, code: "missing_required_parameter", param: "model"},
		"no body":        {method: "POST", path: "/v1/completions", status: 400, code: "invalid_json"},
		"too large":      {method: "POST", path: "/v1/chat/completions", body: big, status: 413, code: "request_too_large"},
		"too large, of unknown length": {method: "POST", path: "/v1/chat/completions", body: big, noLength: true,
			status: 413, code: "request_too_large"},
		"unknown model": {method: "POST", path: "/v1/chat/completions", body: `{"model":"gpt","messages":[{}]}`, targets: 1,
			status: 404, code: "model_not_found", param: "model"},
		"no endpoint": {method: "POST", path: "/v1/chat/completions", body: chatBody, status: 503, code: "no_endpoint",
			header: map[string]string{"Retry-After": "2"}},
		"unknown path":       {method: "POST", path: "/v1/embeddings", body: "{}", status: 404, code: "unknown_url"},
		"path that is close": {method: "POST", path: "/v1/chat/completions/", body: chatBody, status: 404, code: "unknown_url"},
		"GET of a chat": {method: "GET", path: "/v1/chat/completions", status: 405, code: "method_not_allowed",
			header: map[string]string{"Allow": "POST"}},
		"POST of models": {method: "POST", path: "/v1/models", status: 405, code: "method_not_allowed",
			header: map[string]string{"Allow": "GET, HEAD"}},
		"a model that is not": {method: "GET", path: "/v1/models/gpt", status: 404, code: "model_not_found", param: "model"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			router := route(make([]gateway.Target, tt.targets)...)
			url, log := serve(t, router, proxy.Options{MaxBodyBytes: 1000, Models: models})
			var body io.Reader = strings.NewReader(tt.body)
			if tt.noLength {
				body = io.MultiReader(body)
			}
			req, err := http.NewRequest(tt.method, url+tt.path, body)
			require.NoError(t, err)
			req.Header.Set("X-Request-Id", "mine")
			resp, err := http.DefaultClient.Do(req)
			require.NoError(t, err)
			defer http.DefaultClient.CloseIdleConnections()
			defer resp.Body.Close()
			got, err := io.ReadAll(resp.Body)
			require.NoError(t, err)
			assert.Equal(t, tt.status, resp.StatusCode)
			assert.Equal(t, "application/json", resp.Header.Get("Content-Type"))
			assert.Equal(t, "mine", resp.Header.Get("X-Request-Id"))
			assert.Contains(t, string(got), `{"error":{"message":"`)
			assert.Contains(t, string(got), `"code":"`+tt.code+`"`)
			if tt.param != "" {
				assert.Contains(t, string(got), `"param":"`+tt.param+`"`)
			}
			for name, value := range tt.header {
				assert.Equal(t, value, resp.Header.Get(name), name)
			}
			assert.Contains(t, log.String(), "request_id=mine")
			assert.Zero(t, router.inFlight())
		})
	}
}

func TestModels(t *testing.T) {
	url, _ := serve(t, route(), proxy.Options{Models: func() []string { return []string{"llama", "org/m"} }})
	defer http.DefaultClient.CloseIdleConnections()
	for path, want := range map[string]string{
		"/v1/models": `{"object":"list","data":[{"id":"llama","object":"model","created":0,"owned_by":"inferloom"},
			{"id":"org/m","object":"model","created":0,"owned_by":"inferloom"}]}`,
		"/v1/models/org/m": `{"id":"org/m","object":"model","created":0,"owned_by":"inferloom"}`,
	} {
		resp, err := http.Get(url + path)
		require.NoError(t, err)
		got, err := io.ReadAll(resp.Body)
		require.NoError(t, err)
		resp.Body.Close()
		assert.Equal(t, 200, resp.StatusCode)
		assert.JSONEq(t, want, string(got))
	}
}

func TestHeadersToTheEngine(t *testing.T) {
	seen := make(chan http.Header, 1)
	target := engine(t, "e", func(w http.ResponseWriter, r *http.Request) {
		seen <- r.Header.Clone()
		w.Header().Set("Connection", "X-Internal")
		w.Header().Set("X-Internal", "secret")
		w.Header().Set("X-Engine", "yes")
		w.Header().Set("X-Request-Id", "the engine's own")
		jsonOf(200, answer)(w, r)
	})
	target.Header = []gateway.HeaderEdit{{Name: "X-Data-Parallel-Rank", Value: "3"}, {Name: "X-Drop"}}
	url, _ := serve(t, route(target), proxy.Options{})
	send := func(set map[string]string) (engine, client http.Header) {
		req, err := http.NewRequest("POST", url+"/v1/chat/completions", strings.NewReader(chatBody))
		require.NoError(t, err)
		for name, value := range set {
			req.Header.Set(name, value)
		}
		resp, err := http.DefaultClient.Do(req)
		require.NoError(t, err)
		resp.Body.Close()
		http.DefaultClient.CloseIdleConnections()
		return <-seen, resp.Header
	}
	engine, client := send(map[string]string{
		"X-Gateway-Destination-Endpoint": "10.0.0.1:22", "X-Llm-D-Inference-Objective": "x", "X-Prefiller-Host-Port": "evil:1",
		"X-Kv-Cache-Source-Host-Port": "evil:1", "X-Data-Parallel-Rank": "9", "X-Forwarded-For": "1.2.3.4", "Forwarded": "for=1.2.3.4",
		"Connection": "X-Hop, keep-alive", "X-Hop": "1", "Te": "trailers, deflate", "Proxy-Authorization": "p", "Upgrade": "h2c",
		"Authorization": "Bearer key", "Cookie": "c", "Accept-Encoding": "gzip", "X-Drop": "1",
		"X-Kept": "1", "X-Request-Id": "id-1", "User-Agent": "me", "Traceparent": "00-1-2-3",
	})
	assert.Equal(t, http.Header{
		"Content-Length": {"61"}, "Content-Type": nil, "X-Kept": {"1"}, "X-Request-Id": {"id-1"}, "User-Agent": {"me"},
		"Traceparent": {"00-1-2-3"}, "Te": {"trailers"}, "X-Data-Parallel-Rank": {"3"}, "X-Forwarded-For": {"127.0.0.1"},
		"X-Forwarded-Host": {strings.TrimPrefix(url, "http://")}, "X-Forwarded-Proto": {"http"},
	}, withNil(engine, "Content-Type"))
	assert.Equal(t, "yes", client.Get("X-Engine"))
	assert.Equal(t, "id-1", client.Get("X-Request-Id"))
	assert.Empty(t, client.Get("X-Internal"))

	engine, client = send(map[string]string{"X-Request-Id": "odd\tone"})
	assert.Regexp(t, `^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$`, engine.Get("X-Request-Id"))
	assert.Equal(t, engine.Get("X-Request-Id"), client.Get("X-Request-Id"))
}

func withNil(h http.Header, name string) http.Header {
	if _, ok := h[name]; !ok {
		h[name] = nil
	}
	return h
}

func TestCredentialsAreForwardedWhenAsked(t *testing.T) {
	seen := make(chan string, 1)
	url, _ := serve(t, route(engine(t, "e", func(w http.ResponseWriter, r *http.Request) {
		seen <- r.Header.Get("Authorization")
	})), proxy.Options{ForwardCredentials: true})
	req, err := http.NewRequest("POST", url+"/v1/chat/completions", strings.NewReader(chatBody))
	require.NoError(t, err)
	req.Header.Set("Authorization", "Bearer key")
	resp, err := http.DefaultClient.Do(req)
	require.NoError(t, err)
	resp.Body.Close()
	http.DefaultClient.CloseIdleConnections()
	assert.Equal(t, "Bearer key", <-seen)
}

// TestBodyReachesTheEngine sends bodies of all the sizes that are handled differently, edited and not, twice each.
func TestBodyReachesTheEngine(t *testing.T) {
	for name, size := range map[string]int{"small": 10, "pooled": 100 << 10, "beyond the pool": 3 << 20} {
		t.Run(name, func(t *testing.T) {
			body := `{"messages":[{"content":"` + strings.Repeat("x", size) + `"}],"model":"llama"}`
			seen := make(chan string, 2)
			read := func(w http.ResponseWriter, r *http.Request) {
				b, _ := io.ReadAll(r.Body)
				seen <- string(b)
				if len(seen) == 1 { // the first to see the request
					w.WriteHeader(503)
				}
			}
			edit := api.Edit{Start: len(body) - len(`"llama"}`), End: len(body) - 1, Replacement: []byte(`"canary"`)}
			first, second := engine(t, "a", read), engine(t, "b", read)
			second.Body = []api.Edit{edit}
			url, _ := serve(t, route(first, second), proxy.Options{})
			resp, _, err := post(t, url, body)
			require.NoError(t, err)
			assert.Equal(t, 200, resp.StatusCode)
			assert.True(t, body == <-seen, "the first engine gets the body as it was")
			assert.True(t, strings.Replace(body, `"llama"`, `"canary"`, 1) == <-seen, "the second an edited one")
		})
	}
}

func TestUsageReachesTheRoute(t *testing.T) {
	count := func(n int) api.Usage {
		return api.Usage{CompletionTokens: n, Known: api.CompletionCount, Estimated: true}
	}
	final := api.Usage{PromptTokens: 9, CompletionTokens: 2, Known: api.PromptCount | api.CompletionCount}
	tests := map[string]struct {
		engine http.HandlerFunc
		body   string
		last   api.Usage
		least  int // times the route heard of it
	}{
		"stream with usage":    {streamOf(event, event, lastEvent, done), streamBody, final, 1},
		"stream without":       {streamOf(event, event, event, done), streamBody, count(3), 1},
		"a long stream":        {streamOf(strings.Split(strings.Repeat(event+"|", 50), "|")...), streamBody, count(50), 3},
		"whole answer":         {jsonOf(200, answer), chatBody, api.Usage{PromptTokens: 9, CompletionTokens: 1, Known: final.Known}, 1},
		"an error has none":    {jsonOf(400, answer), chatBody, api.Usage{}, 0},
		"nor has a plain text": {func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "hi") }, chatBody, api.Usage{}, 0},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			router := route(engine(t, "e", tt.engine))
			url, _ := serve(t, router, proxy.Options{})
			_, _, err := post(t, url, tt.body)
			require.NoError(t, err)
			l := <-router.ended
			assert.Equal(t, tt.last, l.lastUsage())
			assert.GreaterOrEqual(t, len(l.usage), tt.least)
			assert.LessOrEqual(t, len(l.usage), tt.least+2, "the route is not told of every token")
			for i := 1; i < len(l.usage); i++ {
				assert.GreaterOrEqual(t, l.usage[i].CompletionTokens, l.usage[i-1].CompletionTokens)
			}
		})
	}
}

func TestFaultOfTheRouterIsHidden(t *testing.T) {
	url, log := serve(t, gateway.RouterFunc(func(context.Context, *api.Request) (*gateway.Route, error) {
		return nil, io.ErrNoProgress
	}), proxy.Options{})
	resp, body, err := post(t, url, chatBody)
	require.NoError(t, err)
	assert.Equal(t, 500, resp.StatusCode)
	assert.NotContains(t, body, io.ErrNoProgress.Error())
	assert.Contains(t, log.String(), io.ErrNoProgress.Error())
}

func TestOptionsAreChecked(t *testing.T) {
	_, err := proxy.New(nil, proxy.Options{MaxBodyBytes: -1, MaxAttempts: -2, ResponseHeaderTimeout: -3})
	for _, problem := range []string{"router: must not be nil", "MaxBodyBytes: want 0 or more, got -1",
		"MaxAttempts: want 0 or more, got -2", "ResponseHeaderTimeout: want 0 or more, got -3ns"} {
		assert.ErrorContains(t, err, problem)
	}
}
