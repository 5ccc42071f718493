package resp

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"strconv"
	"sync"
	"time"

	"github.com/inferloom/inferloom/kvcache/store"
)

// A store may keep a page that is there, for it takes equal keys for equal pages. This protocol promises the value that was set
// last, so a page is removed before it is written anew.

func (c *conn) set(ctx context.Context, arguments int) error {
	key, err := c.key()
	if err != nil {
		return err
	}
	size, err := c.r.length()
	if err != nil {
		return err
	}
	c.sized(key, size)
	if size > c.server.o.MaxValueBytes {
		if err := c.r.skip(size); err != nil {
			return err
		}
		return c.failure(fmt.Errorf("%w: %d bytes, at most %d", store.ErrTooLarge, size, c.server.o.MaxValueBytes), key)
	}
	if arguments > 2 || c.server.expires(key) {
		return c.setIf(ctx, key, size, arguments-2)
	}
	page, err := c.create(ctx, key, size)
	if err != nil {
		if err := c.r.skip(size); err != nil {
			return err
		}
		return c.failure(err, key)
	}
	defer page.Abort()
	written, err := c.r.copy(page, size)
	if err != nil {
		return err
	}
	c.in = size
	if written == nil {
		written = page.Commit(ctx)
	}
	if written != nil {
		return c.failure(written, key)
	}
	c.w.simple("OK")
	return nil
}

func (c *conn) create(ctx context.Context, key store.Key, size int) (store.Writer, error) {
	if err := c.remove(ctx, key); err != nil {
		return nil, err
	}
	return store.Create(ctx, c.server.o.Store, key, int64(size), store.Attr{})
}

func (c *conn) remove(ctx context.Context, key store.Key) error {
	if _, err := c.server.o.Store.Stat(ctx, key); errors.Is(err, store.ErrNotFound) {
		return nil
	}
	return c.server.o.Store.Delete(ctx, key)
}

// condition is what a SET asks for beside the value.
type condition struct {
	absent, present bool // NX, XX
	keep, get       bool
	expires         bool
	at              time.Time
}

// setIf sets a value whose conditions come behind it, so that it has to be kept until they are known.
func (c *conn) setIf(ctx context.Context, key store.Key, size, options int) error {
	var value bytes.Buffer // grows with what comes, not with what was announced
	if _, err := c.r.copy(&value, size); err != nil {
		return err
	}
	c.in = size
	wanted, err := c.condition(options)
	if err != nil {
		return err
	}
	defer c.server.lock(key)()
	if wanted.absent || wanted.present || wanted.get {
		done, err := c.decide(ctx, key, wanted)
		if done || err != nil {
			return err
		}
	}
	if err = c.remove(ctx, key); err == nil {
		err = c.server.o.Store.Put(ctx, key, value.Bytes(), store.Attr{})
	}
	if err != nil {
		return c.failure(err, key)
	}
	if !wanted.keep {
		c.server.expiry.set(key, wanted.at)
	}
	if !wanted.get {
		c.w.simple("OK")
	}
	return nil
}

// decide answers what SET tells of the value before, and whether it must not be replaced.
func (c *conn) decide(ctx context.Context, key store.Key, wanted condition) (done bool, err error) {
	old, err := c.read(ctx, key)
	if store.Broken(err) {
		return true, c.failure(err, key)
	}
	there := err == nil
	defer old.Release()
	done = wanted.absent && there || wanted.present && !there
	switch {
	case wanted.get && there:
		c.w.bulk(old.Bytes())
	case wanted.get || done:
		c.w.null()
	}
	return done, nil
}

// condition reads what comes behind the value of a SET.
func (c *conn) condition(arguments int) (condition, error) {
	var o condition
	malformed := reply("ERR syntax error")
	for ; arguments > 0; arguments-- {
		word, err := c.word()
		if err != nil {
			return o, err
		}
		switch word {
		case "nx":
			o.absent = true
		case "xx":
			o.present = true
		case "get":
			o.get = true
		case "keepttl":
			o.keep = true
		case "ex", "px", "exat", "pxat":
			if arguments--; arguments == 0 || o.expires {
				return o, malformed
			}
			text, err := c.r.arg()
			if err != nil {
				return o, err
			}
			unit := time.Second
			if word[0] == 'p' {
				unit = time.Millisecond
			}
			n, err := strconv.ParseInt(string(text), 10, 64)
			if err != nil || n <= 0 || n > maxTTL(unit) {
				return o, reply("ERR invalid expire time in 'set' command")
			}
			o.expires, o.at = true, c.server.o.Now().Add(time.Duration(n)*unit)
			if len(word) == 4 {
				o.at = time.Unix(0, 0).Add(time.Duration(n) * unit)
			}
		default:
			return o, malformed
		}
	}
	if o.absent && o.present || o.keep && o.expires {
		return o, malformed
	}
	return o, nil
}

var buffers = sync.Pool{New: func() any { return new([256 << 10]byte) }}

// copy reads an argument into a page, and returns apart what the page and what the connection failed with.
func (r *reader) copy(page io.Writer, size int) (written, err error) {
	if len(r.inline) > 0 {
		_, written = page.Write(r.inline[0])
		return written, r.skip(size)
	}
	if direct, ok := page.(io.ReaderFrom); ok {
		n, err := direct.ReadFrom(io.LimitReader(r.src, int64(size)))
		if err != nil || n < int64(size) {
			return nil, unexpected(cmpError(err, io.EOF))
		}
		return nil, r.newline()
	}
	buffer := buffers.Get().(*[256 << 10]byte)
	defer buffers.Put(buffer)
	for left := size; left > 0; {
		piece := buffer[:min(left, len(buffer))]
		if _, err := io.ReadFull(r.src, piece); err != nil {
			return nil, unexpected(err)
		}
		if written == nil {
			_, written = page.Write(piece)
		}
		left -= len(piece)
	}
	return written, r.newline()
}

func cmpError(err, otherwise error) error {
	if err != nil {
		return err
	}
	return otherwise
}
