package proxy_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/inferloom/inferloom/gateway"
	"github.com/inferloom/inferloom/gateway/api"
	"github.com/inferloom/inferloom/gateway/proxy"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	chatBody   = `{"model":"llama","messages":[{"role":"user","content":"Hi"}]}`
	streamBody = `{"model":"llama","messages":[{"role":"user","content":"Hi"}],"stream":true}`

	event     = `data: {"id":"c","object":"chat.completion.chunk","choices":[{"index":0,"delta":{"content":" token"}}]}` + "\n\n"
	lastEvent = `data: {"id":"c","choices":[],"usage":{"prompt_tokens":9,"completion_tokens":2}}` + "\n\n"
	done      = "data: [DONE]\n\n"
	answer    = `{"id":"c","choices":[{"message":{"content":"Hello"}}],"usage":{"prompt_tokens":9,"completion_tokens":1}}`
)

// ranked is a Router that leads every request through the same targets, and the ledger of what it gave out.
type ranked struct {
	targets []gateway.Target
	ended   chan *lease // gets each lease when it ends; buffered

	mu     sync.Mutex
	active int
}

type lease struct {
	router *ranked
	next   int
	causes []error
	first  int
	status int
	usage  []api.Usage
	ends   int
	err    error
}

func route(targets ...gateway.Target) *ranked {
	return &ranked{targets: targets, ended: make(chan *lease, 100)}
}

func (r *ranked) Route(_ context.Context, req *api.Request) (*gateway.Route, error) {
	if req.Model != "llama" {
		return nil, &gateway.Rejection{Status: 404, Reason: gateway.ReasonModelNotFound, Param: "model",
			Message: fmt.Sprintf("no pool serves %q", req.Model)}
	}
	if len(r.targets) == 0 {
		return nil, &gateway.Rejection{Status: 503, Reason: gateway.ReasonNoEndpoint, Message: "no endpoint is ready",
			RetryAfter: 1500e6}
	}
	r.mu.Lock()
	r.active++
	r.mu.Unlock()
	return gateway.NewRoute(r.targets[0], &lease{router: r, next: 1}), nil
}

func (r *ranked) inFlight() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.active
}

func (l *lease) Next(cause error) (gateway.Target, bool) {
	l.causes = append(l.causes, cause)
	if l.next == len(l.router.targets) {
		return gateway.Target{}, false
	}
	l.next++
	return l.router.targets[l.next-1], true
}
func (l *lease) Status(code int)   { l.status = code }
func (l *lease) FirstByte()        { l.first++ }
func (l *lease) Usage(u api.Usage) { l.usage = append(l.usage, u) }
func (l *lease) End(err error) {
	l.ends++
	l.err = err
	l.router.mu.Lock()
	l.router.active--
	l.router.mu.Unlock()
	l.router.ended <- l
}

// lastUsage returns the final counts that the lease heard of.
func (l *lease) lastUsage() api.Usage {
	if len(l.usage) == 0 {
		return api.Usage{}
	}
	return l.usage[len(l.usage)-1]
}

// logBuffer is a log to look into.
type logBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *logBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *logBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// serve runs a Proxy in front of router and returns its URL and its log.
func serve(t testing.TB, router gateway.Router, o proxy.Options) (url string, log *logBuffer) {
	log = new(logBuffer)
	o.Logger = slog.New(slog.NewTextHandler(log, nil))
	p, err := proxy.New(router, o)
	require.NoError(t, err)
	front := httptest.NewServer(p)
	t.Cleanup(func() {
		front.CloseClientConnections()
		front.Close()
		p.Close()
	})
	return front.URL, log
}

// engine runs an engine and returns it as a target.
func engine(t testing.TB, id string, h http.HandlerFunc) gateway.Target {
	s := httptest.NewServer(h)
	t.Cleanup(func() {
		s.CloseClientConnections()
		s.Close()
	})
	return gateway.Target{ID: id, Address: s.Listener.Addr().String()}
}

// rawEngine runs an engine that does with each connection what serve does, after a request has been read.
func rawEngine(t testing.TB, id string, serve func(c *net.TCPConn)) gateway.Target {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			wg.Go(func() {
				defer c.Close()
				if _, err := c.Read(make([]byte, 64<<10)); err == nil {
					serve(c.(*net.TCPConn))
				}
			})
		}
	})
	t.Cleanup(func() {
		l.Close()
		wg.Wait()
	})
	return gateway.Target{ID: id, Address: l.Addr().String()}
}

func write(w http.ResponseWriter, parts ...string) {
	for _, part := range parts {
		io.WriteString(w, part)
		w.(http.Flusher).Flush()
	}
}

func streamOf(parts ...string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream")
		write(w, parts...)
	}
}

func jsonOf(status int, body string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(status)
		io.WriteString(w, body)
	}
}

// post sends a chat request; the returned error is that of reading the answer.
func post(t testing.TB, url, body string) (resp *http.Response, answer string, err error) {
	resp, err = http.Post(url+"/v1/chat/completions", "application/json", strings.NewReader(body))
	require.NoError(t, err)
	defer http.DefaultClient.CloseIdleConnections()
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	return resp, string(b), err
}

// steady is a Router that always names the same target and holds nothing.
type steady struct{ target gateway.Target }

func (s steady) Route(context.Context, *api.Request) (*gateway.Route, error) {
	return gateway.NewRoute(s.target, s), nil
}
func (steady) Next(error) (gateway.Target, bool) { return gateway.Target{}, false }
func (steady) Status(int)                        {}
func (steady) FirstByte()                        {}
func (steady) Usage(api.Usage)                   {}
func (steady) End(error)                         {}
