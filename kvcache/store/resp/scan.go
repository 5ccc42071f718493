package resp

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"path"
	"strconv"
	"sync"
	"time"

	"github.com/inferloom/inferloom/kvcache/store"
)

// Bounds on SCAN.
const (
	maxScans    = 16
	maxScanKeys = 4 << 20
	scanIdle    = time.Minute
	scanCount   = 10 // keys a reply, where COUNT does not say
)

// scans are the SCANs under way: what each found at its beginning and has not told yet.
type scans struct {
	now func() time.Time

	mu   sync.Mutex
	open map[uint64]*scanned
}

type scanned struct {
	namespace string
	keys      []string
	used      time.Time
}

// keep remembers a scan and returns its cursor. The one that has waited longest gives way if there are too many.
func (s *scans) keep(one *scanned) uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	one.used = s.now()
	if s.open == nil {
		s.open = map[uint64]*scanned{}
	}
	oldest, at := uint64(0), one.used
	for cursor, other := range s.open {
		if s.now().Sub(other.used) > scanIdle {
			delete(s.open, cursor)
		} else if other.used.Before(at) {
			oldest, at = cursor, other.used
		}
	}
	if len(s.open) >= maxScans {
		delete(s.open, oldest)
	}
	cursor := rand.Uint64() | 1
	s.open[cursor] = one
	return cursor
}

// take returns a scan by its cursor, which is good for one reply.
func (s *scans) take(cursor uint64, namespace string) *scanned {
	s.mu.Lock()
	defer s.mu.Unlock()
	one := s.open[cursor]
	if one == nil || one.namespace != namespace {
		return nil
	}
	delete(s.open, cursor)
	return one
}

func (c *conn) scan(ctx context.Context, arguments int) error {
	text, err := c.r.arg()
	if err != nil {
		return err
	}
	cursor, err := strconv.ParseUint(string(text), 10, 64)
	if err != nil {
		return reply("ERR invalid cursor")
	}
	pattern, count, err := c.scanOptions(arguments - 1)
	if err != nil {
		return err
	}
	one := c.server.scans.take(cursor, c.namespace())
	switch {
	case cursor == 0:
		if one, err = c.list(ctx); err != nil {
			return err
		}
	case one == nil:
		return reply(fmt.Sprintf("ERR cursor %d is unknown or has waited longer than %v: begin again at 0", cursor, scanIdle))
	}
	n := min(count, len(one.keys))
	page := make([]string, 0, n)
	for _, key := range one.keys[:n] {
		if pattern == "" || match(pattern, key) {
			page = append(page, key)
		}
	}
	next := uint64(0)
	if one.keys = one.keys[n:]; len(one.keys) > 0 {
		next = c.server.scans.keep(one)
	}
	c.w.array(2)
	c.w.text(strconv.FormatUint(next, 10))
	c.w.array(len(page))
	for _, key := range page {
		c.w.text(key)
	}
	return nil
}

func (c *conn) scanOptions(arguments int) (pattern string, count int, err error) {
	count = scanCount
	for ; arguments > 0; arguments -= 2 {
		word, err := c.word()
		if err != nil {
			return "", 0, err
		}
		if arguments == 1 {
			return "", 0, reply("ERR syntax error")
		}
		value, err := c.r.arg()
		if err != nil {
			return "", 0, err
		}
		switch word {
		case "match":
			if pattern = string(value); pattern == "*" {
				pattern = ""
			}
			if _, err := path.Match(slashless(pattern), ""); err != nil {
				return "", 0, reply("ERR syntax error in the pattern")
			}
		case "count":
			n, ok := number(value)
			if !ok || n < 1 {
				return "", 0, reply("ERR value is not an integer or out of range")
			}
			count = n
		case "type":
			if !bytes.EqualFold(value, []byte("string")) {
				pattern, count = "\\", maxScanKeys // there is no other type: nothing matches
			}
		default:
			return "", 0, reply("ERR syntax error")
		}
	}
	return pattern, count, nil
}

// match is Redis' matching of names: as path.Match, but that a star passes slashes.
func match(pattern, name string) bool {
	ok, err := path.Match(slashless(pattern), slashless(name))
	return ok && err == nil
}

// slashless puts what no key of text has in the place of slashes, which mean nothing in keys.
func slashless(text string) string {
	return string(bytes.ReplaceAll([]byte(text), []byte("/"), []byte{0}))
}

// list finds what there is at the beginning of a scan.
func (c *conn) list(ctx context.Context) (*scanned, error) {
	one := &scanned{namespace: c.namespace()}
	for entry, err := range c.server.o.Store.Scan(ctx, one.namespace) {
		if err != nil {
			return nil, reply("ERR " + oneLine(err))
		}
		if len(one.keys) == maxScanKeys {
			return nil, reply(fmt.Sprintf("ERR more than %d keys: too many to scan", maxScanKeys))
		}
		if entry.Key.Group == 0 && entry.Key.Rank == 0 && !c.server.expiry.over(entry.Key) {
			one.keys = append(one.keys, entry.Key.Hash)
		}
	}
	return one, nil
}

func (c *conn) dbsize(ctx context.Context, _ int) error {
	one, err := c.list(ctx)
	if err != nil {
		return err
	}
	c.w.integer(int64(len(one.keys)))
	return nil
}

func (c *conn) flush(ctx context.Context, _ int) error {
	one, err := c.list(ctx)
	if err != nil {
		return err
	}
	for _, hash := range one.keys {
		key := store.Key{Namespace: one.namespace, Hash: hash}
		if err := c.server.o.Store.Delete(ctx, key); err != nil {
			return c.failure(err, key)
		}
		c.server.expiry.set(key, time.Time{})
	}
	c.w.simple("OK")
	return nil
}
