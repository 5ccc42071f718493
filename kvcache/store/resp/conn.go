package resp

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"time"

	"github.com/inferloom/inferloom/kvcache/store"
)

// maxSuffixBytes is the longest that a database adds to a namespace.
const maxSuffixBytes = 3

// databases is how many a client can SELECT from.
const databases = 16

// conn is one client's connection. It is served by one goroutine.
type conn struct {
	server *Server
	id     int64
	link   link
	r      reader
	w      writer

	account  string // namespace of it; empty as long as it is needed and not given
	database int
	name     string
	// introduced is set once the client has said anything that LMCache's native client does not know.
	introduced bool
	doing      string // the command's name
	in         int    // bytes of values that this command brought
}

func newConn(s *Server, nc net.Conn) *conn {
	c := &conn{server: s, id: s.ids.Add(1)}
	c.link.Conn, c.link.replies, c.link.timeout = nc, &c.w, s.o.Timeout
	c.r.src = bufio.NewReaderSize(&c.link, 64<<10)
	c.w.dst, c.w.timeout = nc, s.o.Timeout
	c.reset()
	return c
}

// reset is how a connection begins.
func (c *conn) reset() {
	c.w.proto, c.database, c.name, c.account = 2, 0, "", ""
	if c.server.o.Authenticate == nil {
		c.account = c.server.o.Namespace
	}
}

// errQuit ends a connection as its client wishes; errSilence because it would misunderstand any answer.
var (
	errQuit    = errors.New("quit")
	errSilence = errors.New("no answer that the client would understand")
)

func (c *conn) serve() {
	defer c.link.Close()
	for {
		err := c.command()
		if !c.link.end() && err == nil {
			err = errQuit
		}
		if err == nil {
			continue
		}
		_ = c.w.flush() // or the reply before this one is lost
		if !errors.Is(err, io.EOF) && !errors.Is(err, errQuit) {
			c.server.o.Logger.Info("a connection ends", "client", c.link.RemoteAddr().String(), "err", err)
		}
		return
	}
}

// command answers one command. An error ends the connection.
func (c *conn) command() error {
	if _, err := c.r.src.Peek(1); err != nil {
		return err
	}
	c.link.begin()
	arguments, err := c.r.begin()
	if err == nil && arguments > 0 {
		err = c.answer(arguments)
	}
	if err == nil {
		err = c.r.finish()
	}
	if violation, ok := errors.AsType[protocolError](err); ok {
		c.w.fail("ERR " + violation.Error())
	}
	return err
}

func (c *conn) answer(arguments int) error {
	began := time.Now()
	word, err := c.r.arg()
	if err != nil {
		return err
	}
	name := "other"
	c.in, c.w.sent = 0, 0
	command, known := commands[string(bytes.ToLower(word))]
	if known {
		name = command.name
	}
	var outcome error
	switch arguments--; {
	case !known:
		outcome = reply(fmt.Sprintf("ERR unknown command %.64q", word))
	case arguments < command.least, arguments > command.most && command.most >= 0:
		outcome = reply(fmt.Sprintf("ERR wrong number of arguments for '%s' command", name))
	case c.account == "" && !command.open:
		outcome = reply("NOAUTH Authentication required.")
	default:
		c.doing = name
		c.introduced = c.introduced || !command.native
		ctx, cancel := context.WithTimeout(context.Background(), c.server.o.Timeout)
		outcome = command.run(c, ctx, arguments)
		cancel()
	}
	c.server.commands.Add(1)
	harmless, ok := errors.AsType[*failed](outcome)
	if ok && harmless.told != "" {
		c.w.fail(harmless.told)
	}
	if c.server.o.Observer != nil {
		c.server.o.Observer.Command(name, c.in, c.w.sent, time.Since(began), outcome)
	}
	if ok {
		return nil
	}
	return outcome
}

// failed is a command that has failed without harm to the connection.
type failed struct {
	told  string // to the client; empty if it has got an answer already
	cause error  // may be nil
}

func (f *failed) Error() string {
	if f.cause != nil {
		return f.cause.Error()
	}
	return f.told
}

func (f *failed) Unwrap() error { return f.cause }

// reply is what the client is told of a mistake of its own.
func reply(text string) error { return &failed{told: text} }

// answered is an error behind an answer that has been given, such as a null.
func answered(err error) error { return &failed{cause: err} }

// key reads the next argument as a key.
func (c *conn) key() (store.Key, error) {
	text, err := c.r.arg()
	if err != nil {
		return store.Key{}, err
	}
	k := store.Key{Namespace: c.namespace(), Hash: string(text)}
	if err := k.Validate(); err != nil {
		return k, reply(fmt.Sprintf("ERR key of %d bytes: want 1 to %d", len(text), store.MaxHashBytes))
	}
	return k, nil
}

// namespace is where the keys of the connection's account and database are.
func (c *conn) namespace() string {
	if c.database == 0 {
		return c.account
	}
	return c.account + "#" + strconv.Itoa(c.database)
}

// failure is the answer to a client whose command the store has refused or failed.
func (c *conn) failure(err error, key store.Key) error {
	if c.native(key) {
		return c.misfit(err)
	}
	told := "ERR " + oneLine(err)
	if store.Refused(err) && !errors.Is(err, store.ErrTooLarge) {
		told = "OOM " + oneLine(err)
	}
	return &failed{told, err}
}

// oneLine is an error's text as a reply can hold it.
func oneLine(err error) string {
	text := []byte(err.Error())
	for i, b := range text {
		if b < ' ' {
			text[i] = ' '
		}
	}
	return string(text)
}
