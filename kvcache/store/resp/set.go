package resp

import (
	"context"
	"fmt"
	"io"
	"strconv"
	"sync"
	"time"

	"github.com/inferloom/inferloom/kvcache/store"
)

// condition is what a SET asks for beside the value.
type condition struct {
	absent, present bool // NX, XX
	keep, get       bool
	expires         bool
	at              time.Time
}

// plain reports whether the value is all.
func (o condition) plain() bool { return o == condition{} }

func (c *conn) set(ctx context.Context, arguments int) error {
	key, err := c.key()
	if err != nil {
		return err
	}
	size, err := c.r.length()
	if err != nil {
		return err
	}
	if size > c.server.o.MaxValueBytes {
		if err := c.r.skip(size); err != nil {
			return err
		}
		return c.failure(fmt.Errorf("%w: %d bytes, at most %d", store.ErrTooLarge, size, c.server.o.MaxValueBytes), key)
	}
	page, err := store.Create(ctx, c.server.o.Store, key, int64(size), store.Attr{})
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
	wanted, err := c.condition(arguments - 2)
	if err != nil {
		return err
	}
	c.sized(key, size)
	if written != nil {
		return c.failure(written, key)
	}
	return c.commit(ctx, key, page, wanted)
}

func (c *conn) commit(ctx context.Context, key store.Key, page store.Writer, wanted condition) error {
	if !wanted.plain() || !c.server.expiry.of(key).IsZero() {
		defer c.server.lock(key)()
	}
	if wanted.absent || wanted.present || wanted.get {
		done, err := c.decide(ctx, key, wanted)
		if done || err != nil {
			return err
		}
	}
	if err := page.Commit(ctx); err != nil {
		return c.failure(err, key)
	}
	if wanted.expires {
		c.server.expiry.set(key, wanted.at)
	} else if !wanted.keep && !c.server.expiry.of(key).IsZero() {
		c.server.expiry.set(key, time.Time{})
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
