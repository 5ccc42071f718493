package proxy

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"
)

const (
	dialTimeout    = 5 * time.Second
	maxIdleConns   = 1024 // an engine
	idleTimeout    = 90 * time.Second
	maxHeaderBytes = 1 << 20 // of an answer
	maxInforming   = 5       // 1xx answers that are passed over before the answer
)

// transport is the default way to engines: plain HTTP/1.1 over kept connections. http.Transport gives each connection
// two goroutines, and hands every request and every answer from one to the other; a hand-over may have to wake a thread.
// Here the goroutine of the request writes and reads itself. The parsing is net/http's.
//
// It is an http.RoundTripper for requests with a known length and an absolute http URL, which is what the Proxy makes.
type transport struct {
	dialer net.Dialer

	buffers sync.Pool // *[bufferBytes]byte, of requests on their way

	mu    sync.Mutex
	idle  map[string][]*engineConn // by address; the last one was used last
	sweep *time.Timer              // runs while there are idle connections
}

func newTransport() *transport {
	t := &transport{dialer: net.Dialer{Timeout: dialTimeout, KeepAlive: 30 * time.Second}, idle: map[string][]*engineConn{}}
	t.buffers.New = func() any { return new([bufferBytes]byte) }
	return t
}

// engineConn is a connection to an engine. It belongs to one request, or is idle.
type engineConn struct {
	net.Conn
	address string
	r       *bufio.Reader // of the engineConn itself
	left    int64         // bytes that may still be read
	idle    time.Time     // since when
}

func (c *engineConn) Read(p []byte) (int, error) {
	if c.left <= 0 {
		return 0, errors.New("the header of the answer is too large")
	}
	n, err := c.Conn.Read(p)
	c.left -= int64(n)
	return n, err
}

// RoundTrip sends req and returns when the header of the answer is there.
func (t *transport) RoundTrip(req *http.Request) (*http.Response, error) {
	c, kept, err := t.take(req.Context(), req.URL.Host)
	if err != nil {
		req.Body.Close()
		return nil, err
	}
	resp, err := t.exchange(c, req)
	if !errors.Is(err, errUnanswered) || !kept || req.Context().Err() != nil {
		return resp, err
	}
	// The engine closed the kept connection, as it may at any time, and the request crossed that on its way: an engine
	// that had taken the request would have answered or died, and then the new connection fails.
	body, err := req.GetBody()
	if err != nil {
		return nil, err
	}
	again := *req
	again.Body = body
	if c, err = t.dial(req.Context(), req.URL.Host); err != nil {
		body.Close()
		return nil, err
	}
	return t.exchange(c, &again)
}

// errUnanswered says that a connection broke before anything of an answer had come.
var errUnanswered = errors.New("the engine closed the connection without an answer")

// exchange sends req on c and reads the header of the answer. c then belongs to the answer's body, or is closed.
func (t *transport) exchange(c *engineConn, req *http.Request) (resp *http.Response, err error) {
	ctx := req.Context()
	stop := context.AfterFunc(ctx, func() { c.Conn.Close() })
	defer func() {
		req.Body.Close()
		if err != nil {
			stop()
			c.Conn.Close()
			if ctx.Err() != nil {
				err = ctx.Err()
			}
		}
	}()
	writeErr := t.send(c, req)
	var broken *net.OpError
	if writeErr != nil && !errors.As(writeErr, &broken) {
		return nil, writeErr
	} // or the engine may have answered before it had read everything, and closed
	c.left = maxHeaderBytes
	if _, err := c.r.Peek(1); err != nil {
		if writeErr != nil {
			err = writeErr
		}
		return nil, fmt.Errorf("%w: %w", errUnanswered, err)
	}
	for range maxInforming {
		if resp, err = http.ReadResponse(c.r, req); err != nil {
			return nil, fmt.Errorf("read the header of the answer: %w", err)
		}
		if resp.StatusCode >= 200 {
			c.left = math.MaxInt64
			resp.Body = &engineBody{ReadCloser: resp.Body, t: t, c: c, ctx: ctx, stop: stop, keep: !resp.Close && writeErr == nil}
			return resp, nil
		}
		if resp.StatusCode == http.StatusSwitchingProtocols {
			break
		}
	}
	return nil, fmt.Errorf("unexpected answer %s", resp.Status)
}

// send writes the request, a small one in one system call.
func (t *transport) send(c *engineConn, req *http.Request) error {
	buffer := t.buffers.Get().(*[bufferBytes]byte)
	defer t.buffers.Put(buffer)
	b, err := appendRequest(buffer[:0], req)
	if err != nil {
		return err
	}
	for left := req.ContentLength; ; {
		if len(b) == cap(b) || left == 0 {
			if _, err := c.Conn.Write(b); err != nil || left == 0 {
				return err
			}
			b = b[:0]
		}
		n, err := req.Body.Read(b[len(b):min(int64(cap(b)), int64(len(b))+left)])
		b = b[:len(b)+n]
		if left -= int64(n); err != nil && left > 0 {
			return fmt.Errorf("read the body to send: %w", err)
		}
	}
}

func appendRequest(b []byte, req *http.Request) ([]byte, error) {
	b = append(b, req.Method...)
	b = append(b, ' ')
	b = append(b, req.URL.RequestURI()...)
	b = append(b, " HTTP/1.1\r\nHost: "...)
	b = append(b, req.URL.Host...)
	b = append(b, "\r\nContent-Length: "...)
	b = strconv.AppendInt(b, req.ContentLength, 10)
	b = append(b, "\r\n"...)
	for name, values := range req.Header {
		for _, value := range values {
			if strings.ContainsAny(name, "\r\n: ") || strings.ContainsAny(value, "\r\n\x00") {
				return nil, fmt.Errorf("header %q has a value that cannot be sent", name)
			}
			b = append(b, name...)
			b = append(b, ": "...)
			b = append(b, value...)
			b = append(b, "\r\n"...)
		}
	}
	return append(b, "\r\n"...), nil
}

// engineBody is the body of an answer. At its end the connection is free for the next request; if it is closed before,
// so is the connection, by which the engine knows that nobody wants the rest.
type engineBody struct {
	io.ReadCloser
	t    *transport
	c    *engineConn // nil once given up
	ctx  context.Context
	stop func() bool
	keep bool
}

func (b *engineBody) Read(p []byte) (int, error) {
	if b.c == nil {
		return 0, io.EOF
	}
	n, err := b.ReadCloser.Read(p)
	if err != nil {
		if err != io.EOF && b.ctx.Err() != nil {
			err = b.ctx.Err()
		}
		b.finish(err == io.EOF)
	}
	return n, err
}

func (b *engineBody) Close() error {
	b.finish(false)
	return nil
}

func (b *engineBody) finish(whole bool) {
	if b.c == nil {
		return
	}
	if b.stop() && whole && b.keep && b.c.r.Buffered() == 0 {
		b.t.put(b.c)
	} else {
		b.c.Conn.Close()
	}
	b.c = nil
}

func (t *transport) take(ctx context.Context, address string) (c *engineConn, kept bool, err error) {
	t.mu.Lock()
	if conns := t.idle[address]; len(conns) > 0 {
		c = conns[len(conns)-1]
		conns[len(conns)-1] = nil
		t.idle[address] = conns[:len(conns)-1]
	}
	t.mu.Unlock()
	if c != nil {
		return c, true, nil
	}
	c, err = t.dial(ctx, address)
	return c, false, err
}

func (t *transport) dial(ctx context.Context, address string) (*engineConn, error) {
	conn, err := t.dialer.DialContext(ctx, "tcp", address)
	if err != nil {
		return nil, err
	}
	c := &engineConn{Conn: conn, address: address}
	c.r = bufio.NewReader(c)
	return c, nil
}

func (t *transport) put(c *engineConn) {
	c.idle = time.Now()
	t.mu.Lock()
	conns := t.idle[c.address]
	full := len(conns) >= maxIdleConns
	if !full {
		t.idle[c.address] = append(conns, c)
		if t.sweep == nil {
			t.sweep = time.AfterFunc(idleTimeout, t.closeStale)
		}
	}
	t.mu.Unlock()
	if full {
		c.Conn.Close()
	}
}

// closeStale closes the connections that nobody has used for idleTimeout. It goes on until there are none, and then
// rests: an idle process does nothing.
func (t *transport) closeStale() {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.sweep != nil {
		t.sweep = nil
		t.closeIdleSince(time.Now().Add(-idleTimeout))
		if len(t.idle) > 0 {
			t.sweep = time.AfterFunc(idleTimeout/4, t.closeStale)
		}
	}
}

// closeAll closes the idle connections.
func (t *transport) closeAll() {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.sweep != nil {
		t.sweep.Stop()
		t.sweep = nil
	}
	t.closeIdleSince(time.Now())
}

func (t *transport) closeIdleSince(limit time.Time) {
	for address, conns := range t.idle {
		stale := 0 // the oldest come first
		for stale < len(conns) && !conns[stale].idle.After(limit) {
			conns[stale].Conn.Close()
			stale++
		}
		if conns = append(conns[:0], conns[stale:]...); len(conns) == 0 {
			delete(t.idle, address)
		} else {
			t.idle[address] = conns
		}
	}
}
