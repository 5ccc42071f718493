// Package zmtp speaks ZMTP 3.0 and 3.1 (ZeroMQ RFC 23 and 37) with the NULL mechanism over any net.Conn: one connection, whole
// messages in and out. Sockets, their queues and reconnection are the caller's.
package zmtp

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"time"
)

// The socket types that this package is used for.
const (
	Pub    = "PUB"
	Sub    = "SUB"
	Dealer = "DEALER"
	Router = "ROUTER"
)

// peers lists which types may talk to which.
var peers = map[string][]string{
	Pub:    {"SUB", "XSUB"},
	Sub:    {"PUB", "XPUB"},
	Dealer: {"REP", "DEALER", "ROUTER"},
	Router: {"REQ", "DEALER", "ROUTER"},
}

// The flags of a frame.
const (
	flagMore    = 1
	flagLong    = 2
	flagCommand = 4
)

const (
	maxFrames  = 64
	maxCommand = 1 << 16
	step       = 1 << 20 // a frame's memory grows with what has arrived, not with what was announced
)

// ErrTooLarge is a message beyond the limit.
var ErrTooLarge = errors.New("zmtp: the message is larger than allowed")

// Conn is a connection after the handshake. One goroutine may read while others write.
type Conn struct {
	nc    net.Conn
	r     *bufio.Reader
	limit int
	buf   []byte
	ends  []int
	parts [][]byte
	long  [8]byte // a frame's length; a local would be allocated

	mu sync.Mutex // guards w
	w  *bufio.Writer
}

// Handshake greets the peer as a socket of the given type and waits for its greeting. Messages read may have up to limit bytes.
// The deadline covers the handshake only.
func Handshake(nc net.Conn, socket string, limit int, deadline time.Time) (*Conn, error) {
	c := &Conn{nc: nc, r: bufio.NewReaderSize(nc, 64<<10), w: bufio.NewWriterSize(nc, 16<<10), limit: limit}
	if err := nc.SetDeadline(deadline); err != nil {
		return nil, err
	}
	if err := c.handshake(socket); err != nil {
		return nil, fmt.Errorf("zmtp handshake: %w", err)
	}
	return c, nc.SetDeadline(time.Time{})
}

func (c *Conn) handshake(socket string) error {
	// The minor version 0 asks peers to send subscriptions as messages; both forms are understood all the same.
	var hello [64]byte
	hello[0], hello[9], hello[10] = 0xff, 0x7f, 3
	copy(hello[12:], "NULL")
	ready := property(nil, "Socket-Type", socket)
	if socket == Dealer || socket == Router {
		ready = property(ready, "Identity", "")
	}
	if _, err := c.w.Write(hello[:]); err != nil {
		return err
	}
	if err := c.command("READY", ready); err != nil {
		return err
	}
	var theirs [64]byte
	if _, err := io.ReadFull(c.r, theirs[:]); err != nil {
		return err
	}
	mechanism := strings.TrimRight(string(theirs[12:32]), "\x00")
	switch {
	case theirs[0] != 0xff || theirs[9]&1 == 0:
		return errors.New("the peer does not speak ZMTP")
	case theirs[10] < 3:
		return fmt.Errorf("the peer speaks ZMTP %d, want 3", theirs[10])
	case mechanism != "NULL":
		return fmt.Errorf("the peer wants the mechanism %q, only NULL is supported", mechanism)
	}
	name, data, err := c.firstCommand()
	switch {
	case err != nil:
		return err
	case name == "ERROR":
		return fmt.Errorf("the peer refuses: %q", data)
	case name != "READY":
		return fmt.Errorf("the peer begins with %q, want READY", name)
	}
	theirType := ""
	for len(data) > 0 {
		n := int(data[0])
		if len(data) < 1+n+4 {
			return errors.New("the peer's properties are cut off")
		}
		key, rest := string(data[1:1+n]), data[1+n:]
		size := binary.BigEndian.Uint32(rest)
		if uint64(size) > uint64(len(rest)-4) {
			return errors.New("the peer's properties are cut off")
		}
		if strings.EqualFold(key, "Socket-Type") {
			theirType = string(rest[4 : 4+size])
		}
		data = rest[4+size:]
	}
	for _, ok := range peers[socket] {
		if ok == theirType {
			return nil
		}
	}
	return fmt.Errorf("a %s cannot talk to the peer's %q", socket, theirType)
}

func property(dst []byte, key, value string) []byte {
	dst = append(append(dst, byte(len(key))), key...)
	return append(binary.BigEndian.AppendUint32(dst, uint32(len(value))), value...)
}

func (c *Conn) firstCommand() (string, []byte, error) {
	flags, size, err := c.header()
	if err != nil {
		return "", nil, err
	}
	if flags&flagCommand == 0 {
		return "", nil, errors.New("the peer sends a message before READY")
	}
	body, err := c.commandBody(size)
	if err != nil {
		return "", nil, err
	}
	return splitCommand(body)
}

func splitCommand(body []byte) (string, []byte, error) {
	if len(body) == 0 || len(body) < 1+int(body[0]) {
		return "", nil, errors.New("zmtp: a command without a name")
	}
	return string(body[1 : 1+body[0]]), body[1+body[0]:], nil
}

func (c *Conn) commandBody(size uint64) ([]byte, error) {
	if size > maxCommand {
		return nil, ErrTooLarge
	}
	body := make([]byte, size)
	_, err := io.ReadFull(c.r, body)
	return body, err
}

func (c *Conn) header() (flags byte, size uint64, err error) {
	if flags, err = c.r.ReadByte(); err != nil {
		return 0, 0, err
	}
	if flags > 7 || flags&(flagCommand|flagMore) == flagCommand|flagMore {
		return 0, 0, fmt.Errorf("zmtp: frame flags %#x", flags)
	}
	if flags&flagLong == 0 {
		short, err := c.r.ReadByte()
		return flags, uint64(short), err
	}
	_, err = io.ReadFull(c.r, c.long[:])
	return flags, binary.BigEndian.Uint64(c.long[:]), err
}

// Read returns the frames of the next message; they are valid until the next Read. Heartbeats are answered and unknown commands
// passed over. A subscription that comes as a command is returned as the message that it stands for.
func (c *Conn) Read() ([][]byte, error) {
	c.buf, c.ends = c.buf[:0], c.ends[:0]
	for {
		flags, size, err := c.header()
		if err != nil {
			return nil, err
		}
		if flags&flagCommand != 0 {
			if len(c.ends) > 0 {
				return nil, errors.New("zmtp: a command within a message")
			}
			if c.parts, err = c.handle(size); err != nil || c.parts != nil {
				return c.parts, err
			}
			continue
		}
		if size > uint64(c.limit-len(c.buf)) || len(c.ends) == maxFrames {
			return nil, ErrTooLarge
		}
		for left := int(size); left > 0; {
			n := min(left, step)
			at := len(c.buf)
			if cap(c.buf)-at < n {
				c.buf = append(make([]byte, 0, 2*cap(c.buf)+n), c.buf...)
			}
			c.buf = c.buf[:at+n]
			if _, err := io.ReadFull(c.r, c.buf[at:]); err != nil {
				return nil, err
			}
			left -= n
		}
		c.ends = append(c.ends, len(c.buf))
		if flags&flagMore == 0 {
			break
		}
	}
	c.parts = c.parts[:0]
	start := 0
	for _, end := range c.ends {
		c.parts = append(c.parts, c.buf[start:end:end])
		start = end
	}
	return c.parts, nil
}

func (c *Conn) handle(size uint64) ([][]byte, error) {
	body, err := c.commandBody(size)
	if err != nil {
		return nil, err
	}
	name, data, err := splitCommand(body)
	if err != nil {
		return nil, err
	}
	switch name {
	case "PING":
		if len(data) >= 2 {
			return nil, c.command("PONG", data[2:min(len(data), 18)])
		}
	case "SUBSCRIBE":
		return [][]byte{append([]byte{1}, data...)}, nil
	case "CANCEL":
		return [][]byte{append([]byte{0}, data...)}, nil
	case "ERROR":
		return nil, fmt.Errorf("zmtp: the peer ends: %q", data)
	}
	return nil, nil
}

func (c *Conn) command(name string, data []byte) error {
	body := append(append([]byte{byte(len(name))}, name...), data...)
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := c.frame(flagCommand, body); err != nil {
		return err
	}
	return c.w.Flush()
}

// Write sends one message.
func (c *Conn) Write(frames ...[]byte) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	for i, f := range frames {
		flags := byte(0)
		if i < len(frames)-1 {
			flags = flagMore
		}
		if err := c.frame(flags, f); err != nil {
			return err
		}
	}
	return c.w.Flush()
}

func (c *Conn) frame(flags byte, body []byte) error {
	var header [9]byte
	n := 2
	if len(body) > 255 {
		header[0] = flags | flagLong
		binary.BigEndian.PutUint64(header[1:], uint64(len(body)))
		n = 9
	} else {
		header[0], header[1] = flags, byte(len(body))
	}
	if _, err := c.w.Write(header[:n]); err != nil {
		return err
	}
	_, err := c.w.Write(body)
	return err
}

// Subscribe asks a PUB for all messages whose first frame starts with prefix.
func (c *Conn) Subscribe(prefix string) error { return c.Write(append([]byte{1}, prefix...)) }

// Subscription reads a message of a SUB: whether it adds the prefix or cancels it. Other messages give ok false.
func Subscription(frames [][]byte) (prefix []byte, add, ok bool) {
	if len(frames) != 1 || len(frames[0]) == 0 || frames[0][0] > 1 {
		return nil, false, false
	}
	return bytes.Clone(frames[0][1:]), frames[0][0] == 1, true
}

// Close closes the connection; a Read under way ends.
func (c *Conn) Close() error { return c.nc.Close() }

// SetReadDeadline limits how long a Read waits.
func (c *Conn) SetReadDeadline(t time.Time) error { return c.nc.SetReadDeadline(t) }
