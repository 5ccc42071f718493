package resp

import (
	"bytes"
	"context"
	"errors"
	"strconv"
	"time"

	"github.com/inferloom/inferloom/kvcache/store"
)

// command is one of the protocol's. It pulls its arguments itself, and may leave some.
type command struct {
	name        string
	least, most int  // arguments behind the name; most is -1 for any number
	open        bool // to those who have not authenticated
	native      bool // one that LMCache's native client sends
	run         func(c *conn, ctx context.Context, arguments int) error
}

var commands = index(
	command{name: "get", least: 1, most: 1, native: true, run: (*conn).get},
	command{name: "set", least: 2, most: -1, native: true, run: (*conn).set},
	command{name: "mget", least: 1, most: -1, native: true, run: (*conn).mget},
	command{name: "exists", least: 1, most: -1, native: true, run: (*conn).exists},
	command{name: "del", least: 1, most: -1, native: true, run: (*conn).del},
	command{name: "unlink", least: 1, most: -1, run: (*conn).del},
	command{name: "getrange", least: 3, most: 3, run: (*conn).getRange},
	command{name: "strlen", least: 1, most: 1, run: (*conn).strlen},
	command{name: "type", least: 1, most: 1, run: (*conn).kind},
	command{name: "ttl", least: 1, most: 1, run: ttl(time.Second)},
	command{name: "pttl", least: 1, most: 1, run: ttl(time.Millisecond)},
	command{name: "expire", least: 2, most: 2, run: expire(time.Second)},
	command{name: "pexpire", least: 2, most: 2, run: expire(time.Millisecond)},
	command{name: "persist", least: 1, most: 1, run: (*conn).persist},
	command{name: "scan", least: 1, most: -1, run: (*conn).scan},
	command{name: "dbsize", run: (*conn).dbsize},
	command{name: "flushdb", most: 1, run: (*conn).flush},

	command{name: "hello", most: -1, open: true, run: (*conn).hello},
	command{name: "auth", least: 1, most: 2, open: true, native: true, run: (*conn).auth},
	command{name: "quit", most: -1, open: true, run: (*conn).quit},
	command{name: "reset", open: true, run: (*conn).restart},
	command{name: "ping", most: 1, run: (*conn).ping},
	command{name: "echo", least: 1, most: 1, run: (*conn).echo},
	command{name: "select", least: 1, most: 1, run: (*conn).choose},
	command{name: "client", least: 1, most: -1, run: (*conn).client},
	command{name: "command", most: -1, run: (*conn).describe},
	command{name: "config", least: 1, most: -1, run: (*conn).config},
	command{name: "info", most: -1, run: (*conn).info},
)

func index(all ...command) map[string]command {
	byName := make(map[string]command, len(all))
	for _, c := range all {
		byName[c.name] = c
	}
	return byName
}

func (c *conn) get(ctx context.Context, _ int) error {
	key, err := c.key()
	if err != nil {
		return err
	}
	page, err := c.read(ctx, key)
	if err != nil {
		if c.native(key) || store.Broken(err) && !errors.Is(err, store.ErrCorrupt) {
			return c.failure(err, key)
		}
		c.w.null()
		return answered(err)
	}
	c.sized(key, len(page.Bytes()))
	c.w.bulk(page.Bytes())
	page.Release()
	return nil
}

// read gets a page whose time to live is not over.
func (c *conn) read(ctx context.Context, key store.Key) (store.Page, error) {
	if c.server.expiry.over(key) {
		return store.Page{}, store.ErrNotFound
	}
	return c.server.o.Store.Get(ctx, key)
}

// stat tells of a page whose time to live is not over.
func (c *conn) stat(ctx context.Context, key store.Key) (store.Info, error) {
	if c.server.expiry.over(key) {
		return store.Info{}, store.ErrNotFound
	}
	return c.server.o.Store.Stat(ctx, key)
}

// mget answers key by key, so that no more than one page is held at a time. What is broken is a miss to the client, which
// has no other way to see it; the first of them is told to the observer.
func (c *conn) mget(ctx context.Context, arguments int) error {
	keys, err := c.keys(arguments)
	if err != nil {
		return err
	}
	c.w.array(len(keys))
	missed := error(nil)
	for _, key := range keys {
		page, err := c.read(ctx, key)
		if err != nil {
			c.w.null()
			if missed == nil || errors.Is(missed, store.ErrNotFound) {
				missed = err
			}
			continue
		}
		c.w.bulk(page.Bytes())
		page.Release()
	}
	if missed != nil {
		return answered(missed)
	}
	return nil
}

func (c *conn) keys(n int) ([]store.Key, error) {
	keys := make([]store.Key, 0, min(n, 1024))
	for range n {
		key, err := c.key()
		if err != nil {
			return nil, err
		}
		keys = append(keys, key)
	}
	return keys, nil
}

func (c *conn) exists(ctx context.Context, arguments int) error {
	keys, err := c.keys(arguments)
	if err != nil {
		return err
	}
	infos, errs := make([]store.Info, len(keys)), make([]error, len(keys))
	store.StatBatch(ctx, c.server.o.Store, keys, infos, errs)
	found := 0
	for i, err := range errs {
		switch {
		case err == nil && !c.server.expiry.over(keys[i]):
			found++
			if c.server.o.ReadLease > 0 {
				// A store that cannot pin keeps the page about as long anyway.
				_ = c.server.o.Store.Pin(ctx, keys[i], c.server.o.ReadLease)
			}
		case store.Broken(err):
			return c.failure(err, keys[i])
		}
	}
	c.w.integer(int64(found))
	return nil
}

func (c *conn) del(ctx context.Context, arguments int) error {
	keys, err := c.keys(arguments)
	if err != nil {
		return err
	}
	gone := 0
	for _, key := range keys {
		_, err := c.stat(ctx, key)
		if err == nil {
			gone++
		} else if store.Broken(err) && !errors.Is(err, store.ErrCorrupt) {
			return c.failure(err, key)
		}
		unlock := c.server.lock(key)
		err = c.server.o.Store.Delete(ctx, key)
		c.server.expiry.set(key, time.Time{})
		unlock()
		if err != nil {
			return c.failure(err, key)
		}
	}
	c.w.integer(int64(gone))
	return nil
}

func (c *conn) getRange(ctx context.Context, _ int) error {
	key, err := c.key()
	if err != nil {
		return err
	}
	var ends [2]int
	for i := range ends {
		text, err := c.r.arg()
		if err != nil {
			return err
		}
		if ends[i], err = strconv.Atoi(string(text)); err != nil {
			return reply("ERR value is not an integer or out of range")
		}
	}
	page, err := c.read(ctx, key)
	if store.Broken(err) && !errors.Is(err, store.ErrCorrupt) {
		return c.failure(err, key)
	}
	defer page.Release()
	value := page.Bytes()
	for i, end := range ends { // negative ones count from the value's end
		if end < 0 {
			ends[i] = max(0, end+len(value))
		}
	}
	first, behind := min(ends[0], len(value)), min(ends[1], len(value)-1)+1
	c.w.bulk(value[first:max(first, behind)])
	if err != nil {
		return answered(err)
	}
	return nil
}

func (c *conn) strlen(ctx context.Context, _ int) error {
	key, err := c.key()
	if err != nil {
		return err
	}
	info, err := c.stat(ctx, key)
	if store.Broken(err) {
		return c.failure(err, key)
	}
	c.w.integer(info.Bytes)
	if err != nil {
		return answered(err)
	}
	return nil
}

func (c *conn) kind(ctx context.Context, _ int) error {
	key, err := c.key()
	if err != nil {
		return err
	}
	switch _, err := c.stat(ctx, key); {
	case err == nil:
		c.w.simple("string")
	case store.Broken(err):
		return c.failure(err, key)
	default:
		c.w.simple("none")
	}
	return nil
}

func ttl(unit time.Duration) func(*conn, context.Context, int) error {
	return func(c *conn, ctx context.Context, _ int) error {
		key, err := c.key()
		if err != nil {
			return err
		}
		at := c.server.expiry.of(key)
		switch _, err := c.stat(ctx, key); {
		case store.Broken(err):
			return c.failure(err, key)
		case err != nil:
			c.w.integer(-2)
		case at.IsZero():
			c.w.integer(-1)
		default:
			c.w.integer(int64((at.Sub(c.server.o.Now()) + unit/2) / unit))
		}
		return nil
	}
}

func expire(unit time.Duration) func(*conn, context.Context, int) error {
	return func(c *conn, ctx context.Context, _ int) error {
		key, err := c.key()
		if err != nil {
			return err
		}
		text, err := c.r.arg()
		if err != nil {
			return err
		}
		n, err := strconv.ParseInt(string(text), 10, 64)
		if err != nil || n > maxTTL(unit) {
			return reply("ERR value is not an integer or out of range")
		}
		return c.revise(ctx, key, func(time.Time) (time.Time, bool) {
			return c.server.o.Now().Add(time.Duration(max(n, 0)) * unit), true
		})
	}
}

// maxTTL is the longest time to live, a hundred years, in units.
func maxTTL(unit time.Duration) int64 { return int64(100 * 365 * 24 * time.Hour / unit) }

func (c *conn) persist(ctx context.Context, _ int) error {
	key, err := c.key()
	if err != nil {
		return err
	}
	return c.revise(ctx, key, func(at time.Time) (time.Time, bool) { return time.Time{}, !at.IsZero() })
}

// revise changes the time to live of a page that is there, and answers whether it did.
func (c *conn) revise(ctx context.Context, key store.Key, change func(at time.Time) (time.Time, bool)) error {
	defer c.server.lock(key)()
	_, err := c.stat(ctx, key)
	if store.Broken(err) {
		return c.failure(err, key)
	}
	at, ok := change(c.server.expiry.of(key))
	if ok = ok && err == nil; ok {
		c.server.expiry.set(key, at)
	}
	if ok {
		c.w.integer(1)
	} else {
		c.w.integer(0)
	}
	return nil
}

// lock is held while a key's time to live is changed or what is done depends on it. It returns what ends it.
func (s *Server) lock(key store.Key) (unlock func()) {
	h := uint32(2166136261)
	for i := range len(key.Hash) {
		h = (h ^ uint32(key.Hash[i])) * 16777619
	}
	m := &s.stripes[h%uint32(len(s.stripes))]
	m.Lock()
	return m.Unlock
}

// expire removes a page whose time to live is over.
func (s *Server) expire(key store.Key) {
	defer s.lock(key)()
	if !s.expiry.forget(key) {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), s.o.Timeout)
	defer cancel()
	if err := s.o.Store.Delete(ctx, key); err != nil {
		s.o.Logger.Warn("removing a page whose time to live is over", "key", key.String(), "err", err)
	}
}

// word reads the next argument in lower case.
func (c *conn) word() (string, error) {
	text, err := c.r.arg()
	return string(bytes.ToLower(text)), err
}
