package resp

import (
	"context"
	"crypto/subtle"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/inferloom/inferloom/kvcache/store"
)

// Defaults of Options.
const (
	DefaultNamespace      = "resp"
	DefaultReadLease      = 10 * time.Second
	DefaultMaxValueBytes  = 512 << 20
	DefaultMaxConnections = 10_000
	DefaultTimeout        = 30 * time.Second
)

// Options are the parameters of a Server; Store is required.
type Options struct {
	Store store.Store
	// Namespace is where the pages of clients are that need not authenticate; empty means DefaultNamespace.
	Namespace string
	// Authenticate tells the namespace of an account, and whether the password is its own; the name of an account that a client did not
	// name is "default". Nil means that nobody needs to authenticate. Accounts makes one.
	Authenticate func(user, password string) (namespace string, ok bool)
	// ReadLease is how long a page stays that EXISTS has found; 0 means DefaultReadLease, less means not at all.
	ReadLease time.Duration
	// MaxValueBytes bounds a value; 0 means DefaultMaxValueBytes.
	MaxValueBytes int
	// MaxConnections bounds the connections; 0 means DefaultMaxConnections.
	MaxConnections int
	// Timeout bounds how long a client may take to send the rest of a command or to accept a piece of a reply, and the store to
	// answer; 0 means DefaultTimeout. A connection that is idle between commands may stay so.
	Timeout time.Duration
	// Observer is told of every command; nil means nobody.
	Observer Observer
	// Logger is told of what goes wrong with connections; nil means nobody.
	Logger *slog.Logger
	// Now is the clock of times to live; nil means time.Now.
	Now func() time.Time
}

// Observer is told of commands. It must be safe for concurrent use and must not wait.
type Observer interface {
	// Command is told of a command that was answered: its name in lower case, "other" if there is none such, the bytes of values that
	// came in and went out, and what it failed with, or nil. A miss is store.ErrNotFound.
	Command(name string, in, out int, took time.Duration, err error)
}

// Account is who may connect.
type Account struct {
	Password string
	// Namespace is where the account's pages are.
	Namespace string
}

// Accounts is an Options.Authenticate of fixed accounts by name. Those who name none are "default".
func Accounts(accounts map[string]Account) func(user, password string) (namespace string, ok bool) {
	return func(user, password string) (string, bool) {
		a, ok := accounts[user]
		same := subtle.ConstantTimeCompare([]byte(a.Password), []byte(password)) == 1
		return a.Namespace, ok && same
	}
}

// Server serves a store. It is safe for concurrent use.
type Server struct {
	o       Options
	started time.Time
	expiry  expiry
	scans   scans
	sizes   sync.Map       // of the native client's values, by namespace
	stripes [64]sync.Mutex // of keys: held while NX, XX and times to live are decided

	mu        sync.Mutex
	listeners map[net.Listener]bool
	conns     map[*conn]bool
	draining  bool
	closing   chan struct{} // closed when draining is set
	handlers  sync.WaitGroup
	ids       atomic.Int64
	commands  atomic.Int64
}

// NewServer makes a Server.
func NewServer(o Options) (*Server, error) {
	var problems []error
	if o.Store == nil {
		problems = append(problems, errors.New("store: nil"))
	}
	for _, bound := range []struct {
		name  string
		value int
	}{{"max value bytes", o.MaxValueBytes}, {"max connections", o.MaxConnections}, {"timeout", int(o.Timeout)}} {
		if bound.value < 0 {
			problems = append(problems, fmt.Errorf("%s %d: negative", bound.name, bound.value))
		}
	}
	if len(o.Namespace) > store.MaxNamespaceBytes-maxSuffixBytes {
		problems = append(problems, fmt.Errorf("namespace of %d bytes: want at most %d", len(o.Namespace), store.MaxNamespaceBytes-maxSuffixBytes))
	}
	if err := errors.Join(problems...); err != nil {
		return nil, err
	}
	if o.Namespace == "" {
		o.Namespace = DefaultNamespace
	}
	if o.ReadLease == 0 {
		o.ReadLease = DefaultReadLease
	}
	if o.MaxValueBytes == 0 {
		o.MaxValueBytes = DefaultMaxValueBytes
	}
	if o.MaxConnections == 0 {
		o.MaxConnections = DefaultMaxConnections
	}
	if o.Timeout == 0 {
		o.Timeout = DefaultTimeout
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	s := &Server{o: o, started: o.Now(), listeners: map[net.Listener]bool{}, conns: map[*conn]bool{}, closing: make(chan struct{})}
	s.expiry = expiry{now: o.Now, expire: s.expire, due: map[store.Key]*deadline{}}
	s.scans.now = o.Now
	return s, nil
}

// ErrServerClosed is what Serve returns after Shutdown.
var ErrServerClosed = errors.New("resp: server closed")

// Serve accepts connections until the listener fails or the server is shut down. It closes the listener.
func (s *Server) Serve(l net.Listener) error {
	s.mu.Lock()
	if s.draining {
		s.mu.Unlock()
		_ = l.Close()
		return ErrServerClosed
	}
	s.listeners[l] = true
	s.mu.Unlock()
	defer func() {
		_ = l.Close()
		s.mu.Lock()
		delete(s.listeners, l)
		s.mu.Unlock()
	}()
	wait := time.Duration(0)
	for {
		nc, err := l.Accept()
		switch {
		case err == nil:
			wait = 0
			s.accept(nc)
			continue
		case errors.Is(err, syscall.EMFILE), errors.Is(err, syscall.ENFILE), errors.Is(err, syscall.ECONNABORTED): // these pass
			wait = min(max(2*wait, 5*time.Millisecond), time.Second)
			s.o.Logger.Warn("accepting a connection", "err", err, "again_in", wait)
		}
		select {
		case <-s.closing:
			return ErrServerClosed
		default:
		}
		if wait == 0 {
			return err
		}
		select {
		case <-s.closing:
			return ErrServerClosed
		case <-time.After(wait):
		}
	}
}

func (s *Server) accept(nc net.Conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.draining {
		_ = nc.Close()
		return
	}
	if len(s.conns) >= s.o.MaxConnections {
		_ = nc.SetWriteDeadline(time.Now().Add(time.Second))
		_, _ = io.WriteString(nc, "-ERR max number of clients reached\r\n")
		_ = nc.Close()
		return
	}
	c := newConn(s, nc)
	s.conns[c] = true
	s.handlers.Go(func() {
		c.serve()
		s.mu.Lock()
		delete(s.conns, c)
		s.mu.Unlock()
	})
}

// Shutdown stops accepting, lets commands that have begun be answered, and closes connections. When the context ends it closes
// what is left and returns the context's error. The store stays open.
func (s *Server) Shutdown(ctx context.Context) error {
	s.mu.Lock()
	if !s.draining {
		s.draining = true
		close(s.closing)
	}
	for l := range s.listeners {
		_ = l.Close()
	}
	for c := range s.conns {
		c.link.drain()
	}
	s.mu.Unlock()
	s.expiry.stop()
	done := make(chan struct{})
	go func() { s.handlers.Wait(); close(done) }()
	select {
	case <-done:
		return nil
	case <-ctx.Done():
	}
	s.mu.Lock()
	for c := range s.conns {
		_ = c.link.Close()
	}
	s.mu.Unlock()
	<-done
	return ctx.Err()
}

// expires reports whether a page has a time to live.
func (s *Server) expires(key store.Key) bool { return !s.expiry.of(key).IsZero() }

// Connections is how many there are.
func (s *Server) Connections() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.conns)
}
