package enginemetrics

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/inferloom/inferloom/scheduling"
)

// serverVariable makes the test binary a server of pages, so that a benchmark measures the scraper alone.
const serverVariable = "ENGINEMETRICS_SERVER"

func TestMain(m *testing.M) {
	if os.Getenv(serverVariable) != "" {
		engines()
		return
	}
	goleak.VerifyTestMain(m)
}

// engines answers requests at all addresses of the loopback network with a page, which changes with none or each of them.
func engines() {
	l, err := net.Listen("tcp", "0.0.0.0:0")
	if err != nil {
		panic(err)
	}
	fmt.Println(l.Addr().(*net.TCPAddr).Port)
	go func() {
		_, _ = os.Stdin.Read(make([]byte, 1)) // until the parent ends
		os.Exit(0)
	}()
	page := vllmPage(92, 1)
	answer := []byte(fmt.Sprintf("HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: %d\r\n\r\n%s", len(page), page))
	for {
		conn, err := l.Accept()
		if err != nil {
			panic(err)
		}
		go func() {
			defer conn.Close()
			in := bufio.NewReader(conn)
			for {
				for {
					line, err := in.ReadSlice('\n')
					if err != nil {
						return
					}
					if len(line) == 2 {
						break
					}
				}
				if _, err := conn.Write(answer); err != nil {
					return
				}
			}
		}()
	}
}

func newPool(t testing.TB, endpoints ...scheduling.Endpoint) *scheduling.Pool {
	t.Helper()
	pool, err := scheduling.NewPool(scheduling.PoolOptions{Endpoints: endpoints})
	require.NoError(t, err)
	return pool
}

// start runs a scraper until the test ends.
func start(t testing.TB, pool *scheduling.Pool, o Options) {
	t.Helper()
	s, err := New(pool, o)
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error)
	go func() { ended <- s.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		require.ErrorIs(t, <-ended, context.Canceled)
	})
}

// serve answers with what page returns.
func serve(t testing.TB, page func() string) string {
	t.Helper()
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, page()) }))
	t.Cleanup(s.Close)
	return s.Listener.Addr().String()
}

// eventually waits for a metric of an endpoint.
func eventually(t *testing.T, pool *scheduling.Pool, id string, m scheduling.Metric, want float64) {
	t.Helper()
	require.Eventually(t, func() bool {
		s := pool.Snapshot()
		slot, ok := s.Find(id)
		if !ok {
			return false
		}
		v, _, ok := s.Observed(slot, m)
		return ok && v == want
	}, 5*time.Second, time.Millisecond, "%s of %s is %v", m, id, want)
}

var quick = Options{MinInterval: time.Millisecond, MaxInterval: 4 * time.Millisecond, MaxBackoff: 8 * time.Millisecond}

func TestThePoolIsKeptFresh(t *testing.T) {
	var running atomic.Int64
	page := func() string { return vllmPage(50, float64(running.Load())) }
	first, second := serve(t, page), serve(t, page)
	pool := newPool(t, scheduling.Endpoint{ID: "a", Address: first})
	start(t, pool, quick)
	for i := range 5 {
		running.Store(int64(i))
		eventually(t, pool, "a", scheduling.Running, float64(i))
	}
	require.NoError(t, pool.Upsert(scheduling.Endpoint{ID: "b", Address: second}))
	eventually(t, pool, "b", scheduling.KVUsage, .375)
	e := pool.Snapshot().Endpoint(0)
	assert.Equal(t, []int{16, 27000}, []int{e.BlockTokens, e.CacheBlocks})

	pool.Remove("a")
	running.Store(70)
	eventually(t, pool, "b", scheduling.Running, 70)
	require.NoError(t, pool.Upsert(scheduling.Endpoint{ID: "a", Address: second}))
	eventually(t, pool, "a", scheduling.KVUsage, .375)
}

func TestRanksShareAPage(t *testing.T) {
	address := serve(t, func() string {
		return "vllm:num_requests_running{engine=\"0\"} 1\nvllm:num_requests_running{engine=\"1\"} 2\n"
	})
	alone := newPool(t, scheduling.Endpoint{ID: "all", Address: address})
	start(t, alone, quick)
	eventually(t, alone, "all", scheduling.Running, 3)
	ranks := newPool(t, scheduling.Endpoint{ID: "0", Address: address}, scheduling.Endpoint{ID: "1", Address: address, Rank: 1})
	start(t, ranks, quick)
	eventually(t, ranks, "0", scheduling.Running, 1)
	eventually(t, ranks, "1", scheduling.Running, 2)
}

// readings collects what a scraper observes.
type readings struct {
	sync.Mutex
	all []Reading
}

func (r *readings) observe(one Reading) {
	r.Lock()
	defer r.Unlock()
	r.all = append(r.all, one)
}

func (r *readings) take() []Reading {
	r.Lock()
	defer r.Unlock()
	return r.all
}

func TestWhatGoesWrong(t *testing.T) {
	hung := make(chan struct{})
	defer close(hung)
	refused, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	require.NoError(t, refused.Close())
	// say answers each request with the same bytes and closes.
	say := func(answer string) string {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		require.NoError(t, err)
		t.Cleanup(func() { _ = l.Close() })
		go func() {
			for {
				conn, err := l.Accept()
				if err != nil {
					return
				}
				_, _ = http.ReadRequest(bufio.NewReader(conn))
				fmt.Fprint(conn, answer)
				_ = conn.Close()
			}
		}()
		return l.Addr().String()
	}
	handle := func(h http.HandlerFunc) string {
		s := httptest.NewServer(h)
		t.Cleanup(s.Close)
		return s.Listener.Addr().String()
	}
	for name, tt := range map[string]struct{ address, want string }{
		"no server":   {refused.Addr().String(), "connection refused"},
		"status":      {handle(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(503) }), "status 503"},
		"redirection": {handle(func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "/", http.StatusFound) }), "status 302"},
		"empty":       {handle(func(http.ResponseWriter, *http.Request) {}), ErrNothing.Error()},
		"long":        {handle(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, strings.Repeat("x\n", 600)) }), "longer than 1000 bytes"},
		"hanging":     {handle(func(_ http.ResponseWriter, r *http.Request) { <-hung }), "i/o timeout"},
		"no HTTP":     {say("hello\r\n\r\n"), "malformed HTTP"},
		"cut short":   {say("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nvllm:"), "unexpected EOF"},
	} {
		t.Run(name, func(t *testing.T) {
			good := serve(t, func() string { return "tgi_queue_size 5\n" })
			pool := newPool(t, scheduling.Endpoint{ID: "bad", Address: tt.address}, scheduling.Endpoint{ID: "good", Address: good})
			var seen readings
			o := quick
			o.Observe, o.MaxPageBytes, o.Timeout = seen.observe, 1000, 50*time.Millisecond
			start(t, pool, o)
			eventually(t, pool, "good", scheduling.Waiting, 5)
			require.Eventually(t, func() bool {
				for _, r := range seen.take() {
					if r.Err != nil {
						assert.ErrorContains(t, r.Err, tt.want)
						assert.ErrorContains(t, r.Err, tt.address)
						return true
					}
				}
				return false
			}, 5*time.Second, time.Millisecond)
			slot, _ := pool.Snapshot().Find("bad")
			_, _, ok := pool.Snapshot().Observed(slot, scheduling.Waiting)
			assert.False(t, ok, "absent, not zero")
		})
	}
}

func TestAConnectionIsKept(t *testing.T) {
	var connections, closed atomic.Int64
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, vllmPage(100, 1)) }))
	s.Config.ConnState = func(_ net.Conn, st http.ConnState) {
		switch st {
		case http.StateNew:
			connections.Add(1)
		case http.StateClosed:
			closed.Add(1)
		}
	}
	s.Start()
	defer s.Close()
	pool := newPool(t, scheduling.Endpoint{ID: "a", Address: s.Listener.Addr().String()})
	var seen readings
	o := quick
	o.Observe = seen.observe
	start(t, pool, o)
	wait := func(n int) {
		require.Eventually(t, func() bool { return len(seen.take()) >= n }, 5*time.Second, time.Millisecond)
	}
	wait(20)
	assert.EqualValues(t, 1, connections.Load())
	s.CloseClientConnections()
	wait(len(seen.take()) + 20)
	assert.EqualValues(t, 2, connections.Load())
	for _, r := range seen.take() {
		assert.NoError(t, r.Err, "a connection that was closed meanwhile is no failure")
	}
	pool.Remove("a")
	require.Eventually(t, func() bool { return closed.Load() == 2 }, 5*time.Second, time.Millisecond, "it goes with the endpoint")
}

func TestTLSAndHeaders(t *testing.T) {
	s := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") != "Bearer k" || r.URL.String() != "/in/metrics?all=1" {
			w.WriteHeader(401)
			return
		}
		fmt.Fprint(w, "tgi_queue_size 5\n")
	}))
	defer s.Close()
	roots := x509.NewCertPool()
	roots.AddCert(s.Certificate())
	pool := newPool(t, scheduling.Endpoint{ID: "a", Address: "h:1"})
	o := quick
	o.URL = func(*scheduling.Endpoint) string { return s.URL + "/in/metrics?all=1" }
	o.Header, o.TLS = http.Header{"Authorization": {"Bearer k"}}, &tls.Config{RootCAs: roots}
	start(t, pool, o)
	eventually(t, pool, "a", scheduling.Waiting, 5)

	var seen readings
	o.TLS, o.Observe = nil, seen.observe
	start(t, newPool(t, scheduling.Endpoint{ID: "a", Address: "h:1"}), o)
	require.Eventually(t, func() bool { return len(seen.take()) > 0 }, 5*time.Second, time.Millisecond)
	var unknown x509.UnknownAuthorityError
	assert.ErrorAs(t, seen.take()[0].Err, &unknown)
}

// TestIntervals follows one endpoint's intervals without a network.
func TestIntervals(t *testing.T) {
	pool := newPool(t, scheduling.Endpoint{ID: "a", Address: "h:1"})
	s, err := New(pool, Options{})
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	require.ErrorIs(t, s.Run(ctx), context.Canceled) // makes it ready
	target := &target{endpoints: []endpoint{{id: "a"}}, interval: s.o.MinInterval}
	now := time.Unix(100, 0)
	next := func(changed bool, failed error) time.Duration {
		target.changed, target.err = changed, failed
		s.queue = nil
		s.collect(target, now)
		spread := target.due.Sub(now)
		require.InDelta(t, target.interval, spread, float64(target.interval)/10)
		return target.interval
	}
	ms := time.Millisecond
	down := errors.New("down")
	assert.Equal(t, 100*ms, next(true, nil))
	for _, want := range []time.Duration{200 * ms, 400 * ms, 800 * ms, time.Second, time.Second} {
		assert.Equal(t, want, next(false, nil))
	}
	assert.Equal(t, 100*ms, next(true, nil))
	for _, want := range []time.Duration{200 * ms, 400 * ms, 800 * ms, 1600 * ms, 3200 * ms, 6400 * ms, 10 * time.Second, 10 * time.Second} {
		assert.Equal(t, want, next(true, down))
	}
	assert.Equal(t, time.Second, next(false, nil))

	sched, err := scheduling.New(pool, scheduling.Options{})
	require.NoError(t, err)
	d, err := sched.Pick(t.Context(), &scheduling.Request{})
	require.NoError(t, err)
	assert.Equal(t, 100*ms, next(false, nil), "busy by our own doing")
	d.Done()
	assert.Equal(t, 200*ms, next(false, nil))
}

func TestOptionsAreChecked(t *testing.T) {
	_, err := New(nil, Options{
		MinInterval: -1, MaxInterval: -2, MaxBackoff: -3, Timeout: -4, Workers: -5, MaxPageBytes: -6, Sources: []Source{{Waiting: []string{"{"}}},
	})
	for _, want := range []string{"MinInterval is -1ns", "MaxInterval is -2ns", "MaxBackoff is -3ns", "Timeout is -4ns", "Workers is -5", "MaxPageBytes is -6",
		"pool is nil", "sources[0]"} {
		assert.ErrorContains(t, err, want)
	}
	_, err = New(newPool(t), Options{MinInterval: 2, MaxInterval: 1, MaxBackoff: 1})
	assert.ErrorContains(t, err, "MaxInterval is 1ns, less than MinInterval, 2ns")
	assert.ErrorContains(t, err, "MaxBackoff is 1ns, less than MinInterval")
}
