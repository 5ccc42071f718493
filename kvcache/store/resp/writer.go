package resp

import (
	"net"
	"strconv"
	"time"
)

// Replies up to this size are copied together; a longer one is handed to the kernel from where it lies.
const copyBytes = 16 << 10

// writer gathers replies and sends them with as few system calls as there can be.
type writer struct {
	dst     net.Conn
	timeout time.Duration // of each write
	out     []byte
	proto   int // 2 or 3
	sent    int // bytes of values
	parts   [3][]byte
	err     error // the first one; nothing is sent after it
}

func (w *writer) simple(text string) {
	w.out = append(append(append(w.out, '+'), text...), '\r', '\n')
}

func (w *writer) fail(text string) {
	w.out = append(append(append(w.out, '-'), text...), '\r', '\n')
}

func (w *writer) raw(text string) { w.out = append(w.out, text...) }

func (w *writer) integer(n int64) { w.header(':', n) }

func (w *writer) header(kind byte, n int64) {
	w.out = append(strconv.AppendInt(append(w.out, kind), n, 10), '\r', '\n')
}

func (w *writer) text(s string) {
	w.header('$', int64(len(s)))
	w.out = append(append(w.out, s...), '\r', '\n')
}

func (w *writer) array(n int) { w.header('*', int64(n)) }

// pairs begins a map of n pairs, which RESP2 knows as an array.
func (w *writer) pairs(n int) {
	if w.proto == 3 {
		w.header('%', int64(n))
	} else {
		w.array(2 * n)
	}
}

func (w *writer) null() {
	if w.proto == 3 {
		w.out = append(w.out, "_\r\n"...)
	} else {
		w.out = append(w.out, "$-1\r\n"...)
	}
}

var newline = []byte("\r\n")

// bulk replies with a value. A long one is sent at once and not referred to later.
func (w *writer) bulk(value []byte) {
	w.header('$', int64(len(value)))
	w.sent += len(value)
	if len(value) <= copyBytes {
		w.out = append(append(w.out, value...), newline...)
		return
	}
	if w.err != nil {
		return
	}
	w.parts = [3][]byte{w.out, value, newline}
	buffers := net.Buffers(w.parts[:])
	_ = w.dst.SetWriteDeadline(time.Now().Add(w.timeout))
	_, w.err = buffers.WriteTo(w.dst)
	w.parts = [3][]byte{}
	w.out = w.out[:0]
}

// flush sends what has been gathered.
func (w *writer) flush() error {
	if w.err == nil && len(w.out) > 0 {
		_ = w.dst.SetWriteDeadline(time.Now().Add(w.timeout))
		_, w.err = w.dst.Write(w.out)
	}
	w.out = w.out[:0]
	return w.err
}
