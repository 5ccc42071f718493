package proxy

import (
	"bufio"
	"context"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// script serves connections one after the other: each with the answers given for it, one a request, and closes it then.
func script(t *testing.T, conns ...[]string) (address string, requests func() []*http.Request) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	var seen []*http.Request
	var wg sync.WaitGroup
	wg.Go(func() {
		defer l.Close()
		for _, answers := range conns {
			c, err := l.Accept()
			if err != nil {
				return
			}
			r := bufio.NewReader(c)
			for _, answer := range answers {
				req, err := http.ReadRequest(r)
				if err != nil {
					break
				}
				body, _ := io.ReadAll(req.Body)
				req.Body = io.NopCloser(strings.NewReader(string(body)))
				seen = append(seen, req)
				io.WriteString(c, answer)
			}
			c.Close()
		}
	})
	t.Cleanup(func() { l.Close() })
	return l.Addr().String(), func() []*http.Request {
		wg.Wait()
		return seen
	}
}

func request(t *testing.T, address, body string) *http.Request {
	r, err := http.NewRequest("POST", "http://"+address+"/v1/completions?a=b", strings.NewReader(body))
	require.NoError(t, err)
	return r
}

func (t *transport) idleCount() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	n := 0
	for _, conns := range t.idle {
		n += len(conns)
	}
	return n
}

const ok = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"

func get(t *testing.T, tr *transport, r *http.Request) string {
	resp, err := tr.RoundTrip(r)
	require.NoError(t, err)
	body, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	resp.Body.Close()
	return string(body)
}

func TestConnectionsAreKept(t *testing.T) {
	tests := map[string]struct {
		answer string
		kept   bool
	}{
		"length":         {ok, true},
		"chunked":        {"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n", true},
		"after a 1xx":    {"HTTP/1.1 100 Continue\r\n\r\n" + ok, true},
		"close":          {"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok", false},
		"HTTP/1.0":       {"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok", false},
		"until the end":  {"HTTP/1.1 200 OK\r\n\r\nok", false},
		"more than said": {ok + "HTTP/1.1 200 OK\r\n", false},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			address, requests := script(t, []string{tt.answer})
			tr := newTransport()
			defer tr.closeAll()
			assert.Equal(t, "ok", get(t, tr, request(t, address, "question")))
			assert.Equal(t, tt.kept, tr.idleCount() == 1)
			r := requests()[0]
			body, _ := io.ReadAll(r.Body)
			assert.Equal(t, "question", string(body))
			assert.Equal(t, "/v1/completions?a=b", r.RequestURI)
			assert.Equal(t, address, r.Host)
		})
	}
}

// TestAClosedKeptConnectionCostsNothing lets the engine close a connection after an answer, as servers do with idle ones.
func TestAClosedKeptConnectionCostsNothing(t *testing.T) {
	address, requests := script(t, []string{ok}, []string{ok})
	tr := newTransport()
	defer tr.closeAll()
	body := strings.Repeat("x", 100<<10)
	assert.Equal(t, "ok", get(t, tr, request(t, address, body)))
	assert.Equal(t, 1, tr.idleCount())
	assert.Equal(t, "ok", get(t, tr, request(t, address, body)))
	require.Len(t, requests(), 2)
	again, _ := io.ReadAll(requests()[1].Body)
	assert.True(t, string(again) == body)
}

func TestAFreshConnectionThatClosesIsAnError(t *testing.T) {
	address, requests := script(t, []string{""}, []string{ok})
	tr := newTransport()
	defer tr.closeAll()
	_, err := tr.RoundTrip(request(t, address, "q"))
	require.ErrorIs(t, err, errUnanswered)
	assert.Equal(t, "ok", get(t, tr, request(t, address, "q")))
	assert.Len(t, requests(), 2)
}

func TestAnswersThatAreRefused(t *testing.T) {
	for name, answer := range map[string]string{
		"a header without end": "HTTP/1.1 200 OK\r\nX: " + strings.Repeat("x", maxHeaderBytes),
		"only 1xx":             strings.Repeat("HTTP/1.1 103 Early Hints\r\n\r\n", maxInforming+1),
		"an upgrade":           "HTTP/1.1 101 Switching Protocols\r\n\r\n",
		"not HTTP":             "220 mail\r\n",
	} {
		t.Run(name, func(t *testing.T) {
			address, _ := script(t, []string{answer})
			tr := newTransport()
			_, err := tr.RoundTrip(request(t, address, "q"))
			require.Error(t, err)
			assert.Zero(t, tr.idleCount())
		})
	}
}

func TestHeadersCannotBeInjected(t *testing.T) {
	address, _ := script(t, []string{ok}, []string{ok}, []string{ok})
	tr := newTransport()
	for _, h := range []http.Header{{"X": {"a\r\nEvil: 1"}}, {"X\r\nEvil": {"1"}}, {"X: y": {"1"}}} {
		r := request(t, address, "q")
		r.Header = h
		_, err := tr.RoundTrip(r)
		require.ErrorContains(t, err, "cannot be sent")
	}
}

func TestCancelledRequestClosesItsConnection(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer l.Close()
	closed := make(chan error)
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		c, err := l.Accept()
		if err == nil {
			_, err = http.ReadRequest(bufio.NewReader(c))
		}
		cancel()
		if err == nil {
			_, err = io.Copy(io.Discard, c)
		}
		closed <- err
	}()
	tr := newTransport()
	_, err = tr.RoundTrip(request(t, l.Addr().String(), "").WithContext(ctx))
	require.ErrorIs(t, err, context.Canceled)
	require.NoError(t, <-closed)
}

func TestIdleConnectionsAreClosedInTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tr := newTransport()
		ours, engines := net.Pipe()
		tr.put(&engineConn{Conn: ours, address: "a"})
		time.Sleep(idleTimeout - time.Second)
		late, _ := net.Pipe()
		tr.put(&engineConn{Conn: late, address: "a"})
		assert.Equal(t, 2, tr.idleCount())
		time.Sleep(2 * time.Second)
		synctest.Wait()
		assert.Equal(t, 1, tr.idleCount())
		_, err := engines.Read(make([]byte, 1))
		assert.ErrorIs(t, err, io.EOF)
		time.Sleep(2 * idleTimeout)
		synctest.Wait()
		assert.Zero(t, tr.idleCount())
		assert.Nil(t, tr.sweep, "nothing runs when nothing is idle")
	})
}
