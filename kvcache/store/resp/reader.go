package resp

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
)

// Bounds on what a client may send. Values have their own, Options.MaxValueBytes.
const (
	maxArguments     = 1 << 20
	maxArgumentBytes = 64 << 10
	maxCommandBytes  = 16 << 20 // all arguments of a command together, values aside
	maxLineBytes     = 32 << 10
)

// protocolError is a violation after which a connection cannot be read any further.
type protocolError string

func (e protocolError) Error() string { return "Protocol error: " + string(e) }

// reader pulls commands off a connection, argument by argument, so that a value goes straight from the socket to where it is
// to be kept.
type reader struct {
	src  *bufio.Reader
	left int // arguments of the command that have not been begun
	// inline are the arguments of a command that came as a plain line.
	inline [][]byte
	// scratch holds the arguments of the command that arg has returned.
	scratch []byte
}

// begin waits for the next command and returns how many arguments it has, its name among them; 0 is no command.
func (r *reader) begin() (int, error) {
	r.scratch = r.scratch[:0]
	line, err := r.line()
	if err != nil {
		return 0, err
	}
	if len(line) == 0 || line[0] != '*' {
		r.inline = bytes.Fields(bytes.Clone(line))
		r.left = len(r.inline)
		return r.left, nil
	}
	n, ok := number(line[1:])
	if !ok || n > maxArguments {
		return 0, protocolError("invalid multibulk length")
	}
	r.left, r.inline = max(n, 0), nil
	return r.left, nil
}

// arg returns the next argument, which is valid until the next command.
func (r *reader) arg() ([]byte, error) {
	n, err := r.length()
	if err != nil {
		return nil, err
	}
	if n > maxArgumentBytes || len(r.scratch)+n > maxCommandBytes {
		return nil, protocolError(fmt.Sprintf("invalid bulk length: an argument of %d bytes", n))
	}
	at := len(r.scratch)
	if cap(r.scratch) < at+n {
		// Earlier arguments stay where they are, in the old array.
		r.scratch = make([]byte, 0, max(2*cap(r.scratch), n, 1024))
		at = 0
	}
	r.scratch = r.scratch[:at+n]
	arg := r.scratch[at : at+n : at+n]
	return arg, r.value(arg)
}

// length begins the next argument and returns its length; value or skip must follow.
func (r *reader) length() (int, error) {
	if r.left == 0 {
		return 0, errArguments
	}
	r.left--
	if len(r.inline) > 0 {
		return len(r.inline[0]), nil
	}
	line, err := r.line()
	if err != nil {
		return 0, unexpected(err)
	}
	if len(line) == 0 || line[0] != '$' {
		return 0, protocolError(fmt.Sprintf("expected '$', got %.1q", line))
	}
	n, ok := number(line[1:])
	if !ok || n < 0 {
		return 0, protocolError("invalid bulk length")
	}
	return n, nil
}

// errArguments is the end of a command where an argument was wanted. Handlers check the number of arguments first.
var errArguments = errors.New("too few arguments")

// value reads an argument whose length the caller knows from length.
func (r *reader) value(dst []byte) error {
	if len(r.inline) > 0 {
		copy(dst, r.inline[0])
		r.inline = r.inline[1:]
		return nil
	}
	if _, err := io.ReadFull(r.src, dst); err != nil {
		return unexpected(err)
	}
	return r.newline()
}

// skip passes over an argument of n bytes.
func (r *reader) skip(n int) error {
	if len(r.inline) > 0 {
		r.inline = r.inline[1:]
		return nil
	}
	if _, err := io.CopyN(io.Discard, r.src, int64(n)); err != nil {
		return unexpected(err)
	}
	return r.newline()
}

// finish passes over what the command's handler has left, so that the next command can be read.
func (r *reader) finish() error {
	for r.left > 0 {
		n, err := r.length()
		if err != nil {
			return err
		}
		if err := r.skip(n); err != nil {
			return err
		}
	}
	if cap(r.scratch) > maxArgumentBytes {
		r.scratch = nil
	}
	return nil
}

func (r *reader) newline() error {
	var end [2]byte
	if _, err := io.ReadFull(r.src, end[:]); err != nil {
		return unexpected(err)
	}
	if end != [2]byte{'\r', '\n'} {
		return protocolError("an argument does not end where its length says")
	}
	return nil
}

// line returns a line without its end, valid until the next read.
func (r *reader) line() ([]byte, error) {
	line, err := r.src.ReadSlice('\n')
	if errors.Is(err, bufio.ErrBufferFull) || len(line) > maxLineBytes {
		return nil, protocolError("too big a line")
	}
	if err != nil {
		if len(line) > 0 {
			err = unexpected(err)
		}
		return nil, err
	}
	return bytes.TrimSuffix(line[:len(line)-1], []byte{'\r'}), nil
}

// unexpected is an end in the middle of a command.
func unexpected(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}

// number reads a decimal number of at most ten digits; only -1 may be negative.
func number(text []byte) (int, bool) {
	if string(text) == "-1" {
		return -1, true
	}
	if len(text) == 0 || len(text) > 10 {
		return 0, false
	}
	n := 0
	for _, c := range text {
		if c < '0' || c > '9' {
			return 0, false
		}
		n = 10*n + int(c-'0')
	}
	return n, true
}
