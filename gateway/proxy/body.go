package proxy

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/inferloom/inferloom/gateway/api"
)

const (
	// smallBodyBytes is up to where a body is sent as a *bytes.Reader and left to the garbage collector. net/http
	// knows that type and writes header and body in one system call; for a reader of ours it would flush the header
	// first.
	smallBodyBytes = 16 << 10

	// maxKeptBytes bounds what the pool keeps of one body.
	maxKeptBytes = 1 << 20
)

// sharedBody is the body of a request in memory. A transport may read a body even after it has returned the answer,
// so a large one, whose memory is pooled, counts its readers.
type sharedBody struct {
	bytes []byte
	refs  atomic.Int32
	pool  *sync.Pool // nil if the memory is not to be kept
}

func (p *Proxy) newBody(capacity int) *sharedBody {
	if capacity <= smallBodyBytes {
		return &sharedBody{bytes: make([]byte, 0, capacity)}
	}
	b := p.bodies.Get().(*sharedBody)
	b.bytes = slices.Grow(b.bytes[:0], capacity)
	b.pool = &p.bodies
	b.refs.Store(1)
	return b
}

func (b *sharedBody) release() {
	if b.pool != nil && b.refs.Add(-1) == 0 && cap(b.bytes) <= maxKeptBytes {
		b.pool.Put(b)
	}
}

// reader returns a reader of the body for one sending of it.
func (b *sharedBody) reader() io.ReadCloser {
	if b.pool == nil {
		return io.NopCloser(bytes.NewReader(b.bytes))
	}
	b.refs.Add(1)
	return &bodyReader{body: b}
}

// bodyReader reads a sharedBody until it is closed, which a transport may do while it reads.
type bodyReader struct {
	mu   sync.Mutex
	body *sharedBody // nil once closed
	at   int
}

func (r *bodyReader) Read(p []byte) (int, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.body == nil {
		return 0, http.ErrBodyReadAfterClose
	}
	n := copy(p, r.body.bytes[r.at:])
	if r.at += n; n == 0 && len(p) > 0 {
		return 0, io.EOF
	}
	return n, nil
}

func (r *bodyReader) Close() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.body != nil {
		r.body.release()
		r.body = nil
	}
	return nil
}

// readBody reads the body of a request. Memory grows with what has arrived, not with what a header announces.
func (p *Proxy) readBody(r *http.Request) (*sharedBody, *api.Error) {
	limit := p.options.MaxBodyBytes
	if r.ContentLength > limit {
		return nil, errTooLarge(limit)
	}
	capacity := smallBodyBytes + 1 // of unknown length: in pooled memory, since it may grow
	if r.ContentLength >= 0 {
		capacity = int(min(r.ContentLength, maxKeptBytes)) + 1 // one more, to meet the end without growing
	}
	body := p.newBody(capacity)
	b := body.bytes
	for {
		if len(b) == cap(b) {
			b = slices.Grow(b, len(b))
		}
		n, err := r.Body.Read(b[len(b):cap(b)])
		b = b[:len(b)+n]
		body.bytes = b
		switch {
		case int64(len(b)) > limit:
			body.release()
			return nil, errTooLarge(limit)
		case errors.Is(err, io.EOF):
			return body, nil
		case err != nil:
			body.release()
			return nil, &api.Error{Status: http.StatusBadRequest, Code: "incomplete_body",
				Message: fmt.Sprintf("the body could not be read: %v after %d bytes", err, len(b))}
		}
	}
}

func errTooLarge(limit int64) *api.Error {
	return &api.Error{Status: http.StatusRequestEntityTooLarge, Code: "request_too_large",
		Message: fmt.Sprintf("the body has more than %d bytes", limit)}
}
