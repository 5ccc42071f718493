package proxy_test

import (
	"bytes"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/inferloom/inferloom/gateway"
	"github.com/inferloom/inferloom/gateway/proxy"
)

// script is an answer that an engine gives.
type script struct {
	status      int
	contentType string
	length      bool // announce Content-Length
	parts       []string
	header      map[string]string
	trailer     map[string]string
}

func (s script) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	io.Copy(io.Discard, r.Body)
	h := w.Header()
	if s.contentType != "" {
		h.Set("Content-Type", s.contentType)
	}
	for name, value := range s.header {
		h.Set(name, value)
	}
	for name := range s.trailer {
		h.Add("Trailer", name)
	}
	if s.length {
		h["Content-Length"] = []string{strconv.Itoa(len(strings.Join(s.parts, "")))}
	}
	w.WriteHeader(s.status)
	for _, part := range s.parts {
		io.WriteString(w, part)
		w.(http.Flusher).Flush()
	}
	for name, value := range s.trailer {
		h.Set(name, value)
	}
}

// relayed is an answer as a client sees it.
type relayed struct {
	Status  int
	Body    string
	Header  http.Header
	Trailer http.Header
	Length  int64
}

func ask(t require.TestingT, url string) relayed {
	resp, err := http.Post(url+"/v1/chat/completions", "application/json", strings.NewReader(streamBody))
	require.NoError(t, err)
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	for _, name := range []string{"Date", "X-Request-Id", "X-Accel-Buffering"} {
		resp.Header.Del(name) // what the two may differ in
	}
	return relayed{resp.StatusCode, string(body), resp.Header, resp.Trailer, resp.ContentLength}
}

// TestRelayIsThatOfReverseProxy relays answers of all shapes and compares what arrives with what
// httputil.ReverseProxy relays, byte for byte.
func TestRelayIsThatOfReverseProxy(t *testing.T) {
	var answer script
	engine := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { answer.ServeHTTP(w, r) }))
	target := engine.Listener.Addr().String()
	transport := &http.Transport{DisableCompression: true}
	oracle := httptest.NewServer(&httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) {
			r.SetURL(&url.URL{Scheme: "http", Host: target})
			// An answer that begins while the transport still looks for the end of the client's body cuts the answer short: the
			// server closes that body under it. So it is read before.
			body, _ := io.ReadAll(r.In.Body)
			r.Out.Body = io.NopCloser(bytes.NewReader(body))
		},
		FlushInterval: -1,
		Transport:     transport,
	})
	t.Cleanup(func() {
		http.DefaultClient.CloseIdleConnections()
		oracle.Close()
		transport.CloseIdleConnections()
		engine.Close()
	})
	ours, _ := serve(t, steady{gateway.Target{ID: "e", Address: target}}, proxy.Options{})

	rapid.Check(t, func(t *rapid.T) {
		pieces := []string{event, lastEvent, done, "data: {", "\n", "\r\n\r\n", "\x00\xff", `{"usage":{`, strings.Repeat("long ", 9000)}
		answer = script{
			status:      rapid.SampledFrom([]int{200, 201, 400, 404, 429, 500}).Draw(t, "status"),
			contentType: rapid.SampledFrom([]string{"text/event-stream", "text/event-stream; charset=utf-8", "application/json", "text/plain"}).Draw(t, "type"),
			parts:       rapid.SliceOfN(rapid.SampledFrom(pieces), 0, 12).Draw(t, "parts"),
			header: rapid.MapOfN(rapid.SampledFrom([]string{"X-A", "Cache-Control", "Keep-Alive", "Set-Cookie"}),
				rapid.SampledFrom([]string{"1", "no-cache", "a=b"}), 0, 3).Draw(t, "header"),
		}
		if answer.length = rapid.Bool().Draw(t, "length"); !answer.length {
			answer.trailer = rapid.MapOfN(rapid.SampledFrom([]string{"X-T1", "X-T2"}), rapid.Just("t"), 0, 2).Draw(t, "trailer")
		}
		got, want := ask(t, ours), ask(t, oracle.URL)
		if diff := cmp.Diff(want, got); diff != "" {
			t.Fatalf("relayed differently (-ReverseProxy +ours):\n%s", diff)
		}
		if got.Body != strings.Join(answer.parts, "") {
			t.Fatalf("the body is not the engine's")
		}
	})
}

// TestUnannouncedTrailerIsRelayed covers the trailers that an engine did not announce.
func TestUnannouncedTrailerIsRelayed(t *testing.T) {
	url, _ := serve(t, route(engine(t, "e", func(w http.ResponseWriter, r *http.Request) {
		write(w, "a")
		w.Header().Set(http.TrailerPrefix+"X-Late", "t")
	})), proxy.Options{})
	resp, body, err := post(t, url, chatBody)
	require.NoError(t, err)
	require.Equal(t, "a", body)
	require.Equal(t, "t", resp.Trailer.Get("X-Late"))
}
