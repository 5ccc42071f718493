package proxy_test

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/inferloom/inferloom/gateway"
	"github.com/inferloom/inferloom/gateway/api"
	"github.com/inferloom/inferloom/gateway/proxy"
)

// The ways in which engines fail here.
func refuses(t testing.TB) gateway.Target {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer l.Close()
	return gateway.Target{ID: "refuses", Address: l.Addr().String()}
}

func resets(t testing.TB) gateway.Target {
	return rawEngine(t, "resets", func(c *net.TCPConn) { c.SetLinger(0) })
}

func says(t testing.TB, id, raw string) gateway.Target {
	return rawEngine(t, id, func(c *net.TCPConn) { io.WriteString(c, raw) })
}

const (
	streamHead = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
	jsonHead   = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 70000\r\n\r\n"
)

func chunked(s string) string {
	const hex = "0123456789abcdef"
	return string([]byte{hex[len(s)>>8&15], hex[len(s)>>4&15], hex[len(s)&15]}) + "\r\n" + s + "\r\n"
}

func TestFaults(t *testing.T) {
	type want struct {
		status   int
		body     string // is in the answer
		cut      bool   // the answer breaks off
		attempts int    // targets that were tried
		engine   string // whose error the route ended with; "" if it ended well
		first    int    // times the route heard of a first byte
		log      string // is in the log
	}
	good := func(t testing.TB) gateway.Target { return engine(t, "good", streamOf(event, event, lastEvent, done)) }
	is := func(status int, contentType, body string) func(t testing.TB) gateway.Target {
		return func(t testing.TB) gateway.Target {
			return engine(t, http.StatusText(status), func(w http.ResponseWriter, r *http.Request) {
				w.Header().Set("Content-Type", contentType)
				w.Header().Set("Retry-After", "7")
				w.WriteHeader(status)
				io.WriteString(w, body)
			})
		}
	}
	raw := func(id, s string) func(t testing.TB) gateway.Target {
		return func(t testing.TB) gateway.Target { return says(t, id, s) }
	}
	type engines = []func(t testing.TB) gateway.Target
	tests := map[string]struct {
		engines engines
		want    want
	}{
		"nothing": {engines{good},
			want{status: 200, body: done, attempts: 1, first: 1}},
		"refused, then good": {engines{refuses, good},
			want{status: 200, body: done, attempts: 2, first: 1, log: "connection refused"}},
		"reset before the header, then good": {engines{resets, good},
			want{status: 200, body: done, attempts: 2, first: 1, log: "endpoint=resets"}},
		"cut in the header, then good": {engines{raw("cut", "HTTP/1.1 200 OK\r\nContent-"), good},
			want{status: 200, body: done, attempts: 2, first: 1, log: "endpoint=cut"}},
		"not HTTP, then good": {engines{raw("odd", "SSH-2.0\r\n\r\n"), good},
			want{status: 200, body: done, attempts: 2, first: 1, log: "endpoint=odd"}},
		"cut after the header, then good": {engines{raw("cut", streamHead), good},
			want{status: 200, body: done, attempts: 2, first: 1, log: "unexpected EOF"}},
		"502, 503, then good": {engines{is(502, "text/html", "<html>"), is(503, "text/plain", "busy"), good},
			want{status: 200, body: done, attempts: 3, first: 1, log: "answered with status 503"}},
		"a fourth target is not tried": {engines{refuses, refuses, refuses, good},
			want{status: 502, body: `"code":"engine_unreachable"`, attempts: 3, engine: "refuses", log: "next=false"}},
		"all refused": {engines{refuses, refuses},
			want{status: 502, body: `"type":"server_error"`, attempts: 2, engine: "refuses", log: "connection refused"}},
		"503 in JSON is passed on": {engines{is(503, "application/json", `{"error":{"message":"full"}}`)},
			want{status: 503, body: `{"error":{"message":"full"}}`, attempts: 1, engine: "Service Unavailable"}},
		"503 in HTML is not": {engines{refuses, is(503, "text/html", `<html>`)},
			want{status: 503, body: `"code":"engine_unavailable"`, attempts: 2, engine: "Service Unavailable"}},
		"500 is not retried": {engines{is(500, "application/json", `{"error":{"message":"bug"}}`), good},
			want{status: 500, body: `bug`, attempts: 1, engine: "Internal Server Error"}},
		"429 is passed on": {engines{is(429, "application/json", `{"error":{"message":"slow down"}}`), good},
			want{status: 429, body: `slow down`, attempts: 1}},
		"400 is passed on": {engines{is(400, "application/json", `{"error":{"message":"no such role"}}`), good},
			want{status: 400, body: `no such role`, attempts: 1}},
		"dead between events": {engines{raw("dies", streamHead+chunked(event)), good},
			want{status: 200, body: event + `data: {"error":{"message":"the engine failed`, attempts: 1, engine: "dies", first: 1, log: "engine failed during the answer"}},
		"dead within an event": {engines{raw("dies", streamHead+chunked(event+"data: {")), good},
			want{status: 200, body: event, cut: true, attempts: 1, engine: "dies", first: 1, log: "engine failed during the answer"}},
		"dead within a chunk": {engines{raw("dies", streamHead+"fff\r\n"+event), good},
			want{status: 200, body: event, attempts: 1, engine: "dies", first: 1, log: "unexpected EOF"}},
		"malformed chunk": {engines{raw("dies", streamHead+chunked(event)+"xyz\r\n"), good},
			want{status: 200, body: `"code":"engine_failed"`, attempts: 1, engine: "dies", first: 1, log: "engine failed during the answer"}},
		"dead within JSON, then good": {engines{raw("dies", jsonHead+`{"id":`), good},
			want{status: 200, body: done, attempts: 2, first: 1, log: "unexpected EOF"}},
		"dead within long JSON": {engines{raw("dies", jsonHead+`{"id":"`+strings.Repeat("x", 60_000)), good},
			want{status: 200, body: "xxx", cut: true, attempts: 1, engine: "dies", first: 1, log: "engine failed during the answer"}},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			router := route()
			for _, e := range tt.engines {
				router.targets = append(router.targets, e(t))
			}
			url, log := serve(t, router, proxy.Options{})
			resp, body, err := post(t, url, streamBody)
			assert.Equal(t, tt.want.status, resp.StatusCode)
			assert.Contains(t, body, tt.want.body)
			assert.Equal(t, tt.want.cut, err != nil, "the answer breaks off: %v", err)
			assert.NotEmpty(t, resp.Header.Get("X-Request-Id"))
			if resp.StatusCode == 429 || resp.StatusCode == 503 {
				assert.Equal(t, "7", resp.Header.Get("Retry-After"))
			}
			l := <-router.ended
			assert.Equal(t, tt.want.attempts, l.next, "targets tried")
			assert.Equal(t, 1, l.ends)
			assert.Equal(t, tt.want.first, l.first)
			if l.status != 0 {
				assert.Equal(t, tt.want.status, l.status)
			}
			var failure *gateway.EngineError
			if tt.want.engine == "" {
				assert.NoError(t, l.err)
			} else if assert.ErrorAs(t, l.err, &failure) {
				assert.Equal(t, tt.want.engine, failure.Endpoint)
			}
			assert.Zero(t, router.inFlight())
			assert.Contains(t, log.String(), tt.want.log)
		})
	}
}

func TestClientLeaves(t *testing.T) {
	tests := map[string]struct {
		answer []string // what the engine sends before it hangs
		read   int      // what the client reads before it leaves
		usage  int
	}{
		"before the answer":        {nil, 0, 0},
		"during a stream":          {[]string{event, event}, 2 * len(event), 2},
		"within an event":          {[]string{event, "data: {"}, len(event) + 3, 1},
		"after the header, unread": {[]string{""}, 0, 0},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			arrived, cancelled := make(chan struct{}), make(chan struct{})
			router := route(engine(t, "hangs", func(w http.ResponseWriter, r *http.Request) {
				io.Copy(io.Discard, r.Body)
				if len(tt.answer) > 0 {
					streamOf(tt.answer...)(w, r)
				}
				close(arrived)
				<-r.Context().Done()
				close(cancelled)
			}), engine(t, "next", streamOf(done)))
			url, log := serve(t, router, proxy.Options{})

			ctx, leave := context.WithCancel(t.Context())
			req, err := http.NewRequestWithContext(ctx, "POST", url+"/v1/chat/completions", strings.NewReader(streamBody))
			require.NoError(t, err)
			left := make(chan error)
			go func() {
				resp, err := http.DefaultClient.Do(req)
				if err == nil {
					_, err = io.ReadFull(resp.Body, make([]byte, tt.read))
					if err == nil {
						leave()
						_, err = io.ReadAll(resp.Body)
					}
					resp.Body.Close()
				}
				left <- err
			}()
			<-arrived
			if tt.read == 0 {
				leave()
			}
			require.ErrorIs(t, <-left, context.Canceled)
			<-cancelled
			l := <-router.ended
			assert.ErrorIs(t, l.err, gateway.ErrClientGone)
			assert.ErrorIs(t, l.err, context.Canceled)
			assert.Empty(t, l.causes, "a client that leaves is no reason to try another engine")
			assert.Equal(t, tt.usage, l.lastUsage().CompletionTokens)
			assert.Zero(t, router.inFlight())
			assert.Contains(t, log.String(), "client left")
			assert.NotContains(t, log.String(), "attempt failed")
			leave()
			http.DefaultClient.CloseIdleConnections()
		})
	}
}

func TestClientLeavesWhileRouting(t *testing.T) {
	waiting, returned := make(chan struct{}), make(chan struct{})
	url, log := serve(t, gateway.RouterFunc(func(ctx context.Context, _ *api.Request) (*gateway.Route, error) {
		close(waiting)
		<-ctx.Done()
		defer close(returned)
		return nil, context.Cause(ctx)
	}), proxy.Options{})
	ctx, leave := context.WithCancel(t.Context())
	req, err := http.NewRequestWithContext(ctx, "POST", url+"/v1/chat/completions", strings.NewReader(chatBody))
	require.NoError(t, err)
	go func() {
		<-waiting
		leave()
	}()
	_, err = http.DefaultClient.Do(req)
	require.ErrorIs(t, err, context.Canceled)
	<-returned
	http.DefaultClient.CloseIdleConnections()
	assert.NotContains(t, log.String(), "request rejected")
}

func TestResponseHeaderTimeoutMovesOn(t *testing.T) {
	router := route(
		engine(t, "hangs", func(_ http.ResponseWriter, r *http.Request) {
			io.Copy(io.Discard, r.Body)
			<-r.Context().Done()
		}),
		engine(t, "good", jsonOf(200, answer)))
	url, log := serve(t, router, proxy.Options{ResponseHeaderTimeout: 20 * time.Millisecond})
	resp, body, err := post(t, url, chatBody)
	require.NoError(t, err)
	assert.Equal(t, 200, resp.StatusCode)
	assert.Equal(t, answer, body)
	l := <-router.ended
	assert.NoError(t, l.err)
	assert.Len(t, l.causes, 1)
	assert.Contains(t, log.String(), "no header of an answer in time")
}

func TestRouteEndsWhenTheWriterPanics(t *testing.T) {
	router := route(engine(t, "good", jsonOf(200, answer)))
	p, err := proxy.New(router, proxy.Options{})
	require.NoError(t, err)
	defer p.Close()
	r, err := http.NewRequest("POST", "/v1/chat/completions", strings.NewReader(chatBody))
	require.NoError(t, err)
	assert.Panics(t, func() { p.ServeHTTP(panicWriter{http.Header{}}, r) })
	l := <-router.ended
	assert.Error(t, l.err)
	assert.False(t, errors.Is(l.err, gateway.ErrClientGone))
	assert.Zero(t, router.inFlight())
}

type panicWriter struct{ h http.Header }

func (w panicWriter) Header() http.Header       { return w.h }
func (w panicWriter) WriteHeader(int)           {}
func (w panicWriter) Write([]byte) (int, error) { panic("a bug in a wrapper") }
