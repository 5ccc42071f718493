package resp

import (
	"net"
	"sync"
	"time"
)

// link is the reading side of a connection. Before it waits for the client, it sends what the client may be waiting for. Within a
// command a read has a time limit; between two commands it has none, and draining ends it.
type link struct {
	net.Conn
	replies *writer
	timeout time.Duration

	mu      sync.Mutex
	working bool // on a command
	ending  bool
}

func (l *link) Read(p []byte) (int, error) {
	if err := l.replies.flush(); err != nil {
		return 0, err
	}
	l.mu.Lock()
	if l.working {
		_ = l.SetReadDeadline(time.Now().Add(l.timeout))
	}
	l.mu.Unlock()
	return l.Conn.Read(p)
}

// begin says that a command has begun.
func (l *link) begin() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.working = true
}

// end says that the command has been answered, and returns whether there may be another.
func (l *link) end() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.working = false
	if l.ending {
		return false
	}
	_ = l.SetReadDeadline(time.Time{})
	return true
}

// drain lets the connection end as soon as it has no command.
func (l *link) drain() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.ending = true
	if !l.working {
		_ = l.SetReadDeadline(time.Unix(1, 0))
	}
}
