package enginemetrics

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"slices"
	"time"

	"github.com/inferloom/inferloom/scheduling"
)

// target is a page and the endpoints that it is about. A worker owns it while it is busy, the Scraper otherwise.
type target struct {
	url       string
	address   *url.URL
	endpoints []endpoint
	due       time.Time
	interval  time.Duration
	busy      bool
	gone      bool

	// Of the worker.
	conn    net.Conn
	request []byte
	page    Page
	last    []rank // what the page said the time before
	values  []scheduling.Value
	changed bool
	took    time.Duration
	bytes   int
	err     error
}

type endpoint struct {
	id   string
	slot scheduling.Slot
	rank int
}

func (t *target) remove(slot scheduling.Slot) {
	t.endpoints = slices.DeleteFunc(t.endpoints, func(e endpoint) bool { return e.slot == slot })
}

func (t *target) close() {
	if t.conn != nil {
		_ = t.conn.Close()
		t.conn = nil
	}
}

// appendStates appends what the page says of each endpoint. Their values are good until the next call.
func (t *target) appendStates(states []scheduling.State) []scheduling.State {
	t.values = t.values[:0]
	for _, e := range t.endpoints {
		first := len(t.values)
		s := scheduling.State{Endpoint: e.id, Values: t.values}
		t.page.State(&s, e.rank, len(t.endpoints) == 1)
		t.values = s.Values
		s.Values = s.Values[first:]
		states = append(states, s)
	}
	return states
}

// reader is the memory of a worker. A page that has arrived whole is read at once.
type reader struct {
	in   *bufio.Reader
	body []byte
}

func newReader() *reader { return &reader{in: bufio.NewReaderSize(nil, 64<<10)} }

// read fetches and parses the page.
func (t *target) read(ctx context.Context, o *Options, p *Parser, r *reader) {
	start := time.Now()
	err := t.fetch(ctx, o, start.Add(o.Timeout), r)
	body := r.body
	if err == nil {
		p.Parse(body, &t.page)
		if t.page.Empty() {
			err = ErrNothing
		}
	}
	t.took, t.bytes, t.err = time.Since(start), len(body), nil
	if err != nil {
		t.err = fmt.Errorf("%s: %w", t.url, err)
		t.close()
		return
	}
	t.changed = !slices.EqualFunc(t.page.ranks, t.last, func(a, b rank) bool { return a.number == b.number && equalNumbers(&a, &b) })
	t.last = append(t.last[:0], t.page.ranks...)
}

func equalNumbers(a, b *rank) bool {
	for i, v := range a.values {
		if w := b.values[i]; v != w && (v == v || w == w) {
			return false
		}
	}
	return true
}

// errStale is what becomes of a connection that the server closed while it was not in use.
var errStale = errors.New("the connection was closed")

// fetch reads the page's bytes into r.body.
func (t *target) fetch(ctx context.Context, o *Options, deadline time.Time, r *reader) error {
	kept := t.conn != nil
	err := t.exchange(ctx, o, deadline, r)
	if kept && errors.Is(err, errStale) {
		t.close()
		err = t.exchange(ctx, o, deadline, r)
	}
	return err
}

func (t *target) exchange(ctx context.Context, o *Options, deadline time.Time, r *reader) error {
	r.body = r.body[:0]
	if t.conn == nil {
		if err := t.dial(ctx, o, deadline); err != nil {
			return err
		}
	}
	conn := t.conn
	if err := conn.SetDeadline(deadline); err != nil {
		return err
	}
	defer context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })()
	r.in.Reset(conn)
	if _, err := conn.Write(t.request); err != nil {
		return errors.Join(errStale, err)
	}
	if _, err := r.in.Peek(1); err != nil {
		if errors.Is(err, io.EOF) || isReset(err) {
			err = errors.Join(errStale, err)
		}
		return err
	}
	response, err := http.ReadResponse(r.in, nil)
	if err != nil {
		return err
	}
	r.body, err = readAll(io.LimitReader(response.Body, o.MaxPageBytes+1), r.body)
	switch {
	case err != nil:
		return fmt.Errorf("reading the page: %w", err)
	case response.StatusCode != http.StatusOK:
		return fmt.Errorf("status %s", response.Status)
	case int64(len(r.body)) > o.MaxPageBytes:
		return fmt.Errorf("the page is longer than %d bytes", o.MaxPageBytes)
	}
	if response.Close || r.in.Buffered() > 0 {
		t.close()
	}
	return nil
}

func isReset(err error) bool {
	var op *net.OpError
	return errors.As(err, &op) && !op.Timeout()
}

func (t *target) dial(ctx context.Context, o *Options, deadline time.Time) error {
	u := t.address
	if u == nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
		return errors.New("want http or https and a host")
	}
	port := u.Port()
	if port == "" {
		port = map[string]string{"http": "80", "https": "443"}[u.Scheme]
	}
	dialer := net.Dialer{Deadline: deadline}
	conn, err := dialer.DialContext(ctx, "tcp", net.JoinHostPort(u.Hostname(), port))
	if err != nil {
		return err
	}
	if u.Scheme == "https" {
		config := &tls.Config{}
		if o.TLS != nil {
			config = o.TLS.Clone()
		}
		if config.ServerName == "" {
			config.ServerName = u.Hostname()
		}
		secure := tls.Client(conn, config)
		if err = conn.SetDeadline(deadline); err == nil {
			err = secure.HandshakeContext(ctx)
		}
		if err != nil {
			_ = conn.Close()
			return err
		}
		conn = secure
	}
	t.conn = conn
	if t.request == nil {
		t.request = appendRequest(nil, u, o.Header)
	}
	return nil
}

// appendRequest writes the request, which is the same each time. Pages are wanted in the text format and not compressed: that
// would cost both sides more than the bytes do.
func appendRequest(b []byte, u *url.URL, header http.Header) []byte {
	b = fmt.Appendf(b, "GET %s HTTP/1.1\r\nHost: %s\r\nAccept: text/plain;version=0.0.4\r\nAccept-Encoding: identity\r\n", u.RequestURI(), u.Host)
	var more headerWriter = func(p []byte) { b = append(b, p...) }
	_ = header.Write(more)
	return append(b, "\r\n"...)
}

type headerWriter func([]byte)

func (w headerWriter) Write(p []byte) (int, error) { w(p); return len(p), nil }

// readAll is io.ReadAll into a buffer.
func readAll(r io.Reader, b []byte) ([]byte, error) {
	for {
		if len(b) == cap(b) {
			b = slices.Grow(b, max(64<<10, len(b)))
		}
		n, err := r.Read(b[len(b):cap(b)])
		b = b[:len(b)+n]
		if err != nil {
			if errors.Is(err, io.EOF) {
				err = nil
			}
			return b, err
		}
	}
}
