package storetest

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/inferloom/inferloom/kvcache/store"
)

// Options say what a Store under test is like. New is required.
type Options struct {
	// New makes an empty Store with room for at least 16 pages of MaxBytes. The test closes it.
	New func(t *testing.T) store.Store
	// Forgets is set for a Store that evicts: pages may be missing without having been deleted.
	Forgets bool
	// NoAttr is set for a Store that does not keep Attr.
	NoAttr bool
	// NoPins is set for a Store that cannot pin.
	NoPins bool
	// Keys turns a number into a key, for a Store that does not take all; nil makes keys of all kinds.
	Keys func(n int) store.Key
	// MaxBytes is the size of the largest page; 0 means 64 KiB.
	MaxBytes int
	// Operations are those of the random test, 0 means 2,000, and Seed its first seed.
	Operations int
	Seed       uint64
}

// Run tests a Store.
func Run(t *testing.T, o Options) {
	t.Helper()
	if o.MaxBytes == 0 {
		o.MaxBytes = 64 << 10
	}
	if o.Operations == 0 {
		o.Operations = 2_000
	}
	if o.Keys == nil {
		o.Keys = anyKey
	}
	test := func(name string, f func(*testing.T, Options, store.Store)) {
		t.Run(name, func(t *testing.T) {
			s := o.New(t)
			defer func() {
				if err := s.Close(); err != nil {
					t.Errorf("Close: %v", err)
				}
			}()
			f(t, o, s)
		})
	}
	test("Basics", basics)
	test("Namespaces", namespaces)
	test("InvalidKeys", invalid)
	test("ReadersKeepTheirBytes", readers)
	test("Pins", pins)
	test("Batches", batches)
	test("Streams", streams)
	test("Scan", scan)
	test("EndedContext", ended)
	test("Closed", closed)
	test("AgainstMap", againstMap)
	test("Concurrent", concurrent)
}

// anyKey makes keys that differ in each part, with bytes that need escaping.
func anyKey(n int) store.Key {
	k := store.Key{Namespace: "tenant/a b", Hash: string(binary.BigEndian.AppendUint64(nil, uint64(n/2))), Group: uint32(n % 2)}
	if n%3 == 0 {
		k.Namespace = ".."
	}
	if n%5 == 0 {
		k.Hash += "\x00/\xff model@2@0@ab"
	}
	if n%7 == 0 {
		k.Rank = 1 << 31
	}
	return k
}

// Value is the contents of a page: it tells key, version and size apart at every 8 bytes.
func Value(key store.Key, version, size int) []byte {
	seed := uint64(version)*0x9e3779b97f4a7c15 + uint64(size)
	for _, c := range []byte(key.String()) {
		seed = (seed ^ uint64(c)) * 0x100000001b3
	}
	out := make([]byte, size+8)
	for i := 0; i < size; i += 8 {
		binary.LittleEndian.PutUint64(out[i:], seed+uint64(i)*0xbf58476d1ce4e5b9)
	}
	return out[:size]
}

func attrOf(n int) store.Attr {
	if n%4 == 0 {
		return store.Attr{}
	}
	a := store.Attr{Chained: true, Depth: n, Tokens: 16, Cost: time.Duration(n) * time.Microsecond}
	if n%4 == 2 {
		a.Parent = fmt.Sprintf("parent %d", n)
	}
	return a
}

func check(t *testing.T, o Options, s store.Store, key store.Key, want []byte, attr store.Attr) {
	t.Helper()
	p, err := s.Get(t.Context(), key)
	if err != nil {
		t.Fatalf("Get %v: %v", key, err)
	}
	defer p.Release()
	if !bytes.Equal(p.Bytes(), want) {
		t.Fatalf("Get %v: %d bytes, want %d others", key, len(p.Bytes()), len(want))
	}
	if !o.NoAttr && p.Attr() != attr {
		t.Fatalf("Get %v: attributes %+v, want %+v", key, p.Attr(), attr)
	}
}

func must(t *testing.T, what string, err error) {
	t.Helper()
	if err != nil {
		t.Fatalf("%s: %v", what, err)
	}
}

func wantError(t *testing.T, what string, err, want error) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Fatalf("%s: error %v, want %v", what, err, want)
	}
}

func basics(t *testing.T, o Options, s store.Store) {
	ctx := t.Context()
	key := o.Keys(1)
	_, err := s.Get(ctx, key)
	wantError(t, "Get of an absent page", err, store.ErrNotFound)
	_, err = s.Stat(ctx, key)
	wantError(t, "Stat of an absent page", err, store.ErrNotFound)
	must(t, "Delete of an absent page", s.Delete(ctx, key))
	for n, size := range []int{o.MaxBytes, 1, 0, 4095, 4096, 4097} {
		key := o.Keys(n)
		size = min(size, o.MaxBytes)
		must(t, "Put", s.Put(ctx, key, Value(key, 0, size), attrOf(n)))
		check(t, o, s, key, Value(key, 0, size), attrOf(n))
		info, err := s.Stat(ctx, key)
		must(t, "Stat", err)
		if info.Bytes != int64(size) || !o.NoAttr && info.Attr != attrOf(n) {
			t.Fatalf("Stat %v: %+v, want %d bytes and %+v", key, info, size, attrOf(n))
		}
		must(t, "Delete", s.Delete(ctx, key))
		_, err = s.Get(ctx, key)
		wantError(t, "Get of a deleted page", err, store.ErrNotFound)
		must(t, "Put again", s.Put(ctx, key, Value(key, 1, size), attrOf(n)))
		check(t, o, s, key, Value(key, 1, size), attrOf(n))
	}
	err = s.Put(ctx, key, nil, store.Attr{Depth: 1})
	wantError(t, "Put with a depth and no chain", err, store.ErrAttr)
}

func namespaces(t *testing.T, o Options, s store.Store) {
	ctx := t.Context()
	a := o.Keys(1)
	b := a
	b.Namespace = "other"
	c := a
	c.Rank++
	must(t, "Put", s.Put(ctx, a, Value(a, 0, 100), store.Attr{}))
	for _, k := range []store.Key{b, c} {
		_, err := s.Get(ctx, k)
		wantError(t, "Get under another namespace or rank", err, store.ErrNotFound)
		must(t, "Delete under another namespace or rank", s.Delete(ctx, k))
	}
	check(t, o, s, a, Value(a, 0, 100), store.Attr{})
}

func invalid(t *testing.T, o Options, s store.Store) {
	ctx := t.Context()
	long := string(make([]byte, store.MaxHashBytes+1))
	for _, k := range []store.Key{{}, {Namespace: "n"}, {Hash: "h"}, {Namespace: "n", Hash: long}, {Namespace: long, Hash: "h"}} {
		wantError(t, "Put", s.Put(ctx, k, nil, store.Attr{}), store.ErrKey)
		_, err := s.Get(ctx, k)
		wantError(t, "Get", err, store.ErrKey)
		_, err = s.Stat(ctx, k)
		wantError(t, "Stat", err, store.ErrKey)
		wantError(t, "Delete", s.Delete(ctx, k), store.ErrKey)
	}
}

// readers reads pages while they are replaced, deleted and pushed out.
func readers(t *testing.T, o Options, s store.Store) {
	ctx := t.Context()
	a, b := o.Keys(1), o.Keys(2)
	want := map[store.Key][]byte{a: Value(a, 0, 1000), b: Value(b, 0, o.MaxBytes)}
	var held []store.Page
	for _, k := range []store.Key{a, b} {
		must(t, "Put", s.Put(ctx, k, want[k], store.Attr{}))
		p, err := s.Get(ctx, k)
		must(t, "Get", err)
		held = append(held, p)
	}
	must(t, "Put over a page that is read", s.Put(ctx, a, Value(a, 0, 1000), store.Attr{}))
	must(t, "Delete of a page that is read", s.Delete(ctx, b))
	for n := range 64 {
		k := o.Keys(10 + n)
		if err := s.Put(ctx, k, Value(k, 0, o.MaxBytes), store.Attr{}); err != nil && !store.Refused(err) {
			t.Fatalf("Put: %v", err)
		}
	}
	for i, k := range []store.Key{a, b} {
		if !bytes.Equal(held[i].Bytes(), want[k]) {
			t.Fatalf("the bytes of %v have changed while they were read", k)
		}
		held[i].Release()
		held[i].Release()
	}
	_, err := s.Get(ctx, b)
	wantError(t, "Get of the deleted page", err, store.ErrNotFound)
}

func pins(t *testing.T, o Options, s store.Store) {
	ctx := t.Context()
	k := o.Keys(1)
	if o.NoPins {
		wantError(t, "Pin", s.Pin(ctx, k, time.Hour), store.ErrUnsupported)
		return
	}
	wantError(t, "Pin of an absent page", s.Pin(ctx, k, time.Hour), store.ErrNotFound)
	must(t, "Put", s.Put(ctx, k, Value(k, 0, o.MaxBytes), store.Attr{}))
	must(t, "Pin", s.Pin(ctx, k, time.Hour))
	for n := range 256 {
		k := o.Keys(10 + n)
		if err := s.Put(ctx, k, Value(k, 0, o.MaxBytes), store.Attr{}); err != nil && !store.Refused(err) {
			t.Fatalf("Put: %v", err)
		}
	}
	check(t, o, s, k, Value(k, 0, o.MaxBytes), store.Attr{})
	must(t, "Pin for no time", s.Pin(ctx, k, 0))
	must(t, "Delete", s.Delete(ctx, k))
	_, err := s.Get(ctx, k)
	wantError(t, "Get of the deleted page", err, store.ErrNotFound)
}

func batches(t *testing.T, o Options, s store.Store) {
	ctx := t.Context()
	var items []store.Item
	var keys []store.Key
	for n := range 12 {
		k := o.Keys(n)
		keys = append(keys, k)
		if n != 7 {
			items = append(items, store.Item{Key: k, Value: Value(k, 0, 100*n), Attr: attrOf(n)})
		}
	}
	errs := make([]error, len(items))
	store.PutBatch(ctx, s, items, errs)
	must(t, "PutBatch", errors.Join(errs...))
	pages, errs := make([]store.Page, len(keys)), make([]error, len(keys))
	store.GetBatch(ctx, s, keys, pages, errs)
	infos, statErrs := make([]store.Info, len(keys)), make([]error, len(keys))
	store.StatBatch(ctx, s, keys, infos, statErrs)
	for n, k := range keys {
		if n == 7 {
			wantError(t, "GetBatch", errs[n], store.ErrNotFound)
			wantError(t, "StatBatch", statErrs[n], store.ErrNotFound)
			continue
		}
		must(t, "GetBatch", errs[n])
		must(t, "StatBatch", statErrs[n])
		if !bytes.Equal(pages[n].Bytes(), Value(k, 0, 100*n)) || infos[n].Bytes != int64(100*n) {
			t.Fatalf("GetBatch and StatBatch: page %d is not what was put", n)
		}
		pages[n].Release()
	}
	n, err := store.Resident(ctx, s, keys)
	must(t, "Resident", err)
	if n != 7 {
		t.Fatalf("Resident: %d, want 7", n)
	}
	store.GetBatch(ctx, s, nil, nil, nil)
}

func streams(t *testing.T, o Options, s store.Store) {
	ctx := t.Context()
	for n, size := range []int{o.MaxBytes, 5000, 1, 0} {
		k := o.Keys(n)
		want := Value(k, 0, size)
		w, err := store.Create(ctx, s, k, int64(size), attrOf(n))
		must(t, "Create", err)
		for rest := want; len(rest) > 0; {
			part := rest[:min(len(rest), 1500)]
			rest = rest[len(part):]
			_, err := w.Write(part)
			must(t, "Write", err)
		}
		if _, err := w.Write([]byte{1}); err == nil {
			t.Fatal("Write beyond the size that was announced: no error")
		}
		_, err = s.Get(ctx, k)
		wantError(t, "Get before Commit", err, store.ErrNotFound)
		must(t, "Commit", w.Commit(ctx))
		w.Abort()
		check(t, o, s, k, want, attrOf(n))
		r, err := store.Open(ctx, s, k)
		must(t, "Open", err)
		got, err := io.ReadAll(r)
		must(t, "Read", err)
		if !bytes.Equal(got, want) || r.Size() != int64(size) || !o.NoAttr && r.Attr() != attrOf(n) {
			t.Fatalf("Open: %d bytes, size %d, attributes %+v", len(got), r.Size(), r.Attr())
		}
		must(t, "Close of the reader", r.Close())
	}
	k := o.Keys(50)
	w, err := store.Create(ctx, s, k, 10, store.Attr{})
	must(t, "Create", err)
	_, err = w.Write([]byte("123"))
	must(t, "Write", err)
	if w.Commit(ctx) == nil {
		t.Fatal("Commit of a part: no error")
	}
	w.Abort()
	w, err = store.Create(ctx, s, k, 10, store.Attr{})
	must(t, "Create", err)
	w.Abort()
	_, err = s.Get(ctx, k)
	wantError(t, "Get after Abort", err, store.ErrNotFound)
	_, err = store.Open(ctx, s, k)
	wantError(t, "Open of an absent page", err, store.ErrNotFound)
}

func scan(t *testing.T, o Options, s store.Store) {
	ctx := t.Context()
	want := map[store.Key]int{}
	namespaces := map[string]int{}
	for n := range 12 {
		k := o.Keys(n)
		must(t, "Put", s.Put(ctx, k, Value(k, 0, n+1), attrOf(n)))
		want[k] = n
		namespaces[k.Namespace]++
	}
	list := func(namespace string) int {
		got := map[store.Key]bool{}
		for e, err := range s.Scan(ctx, namespace) {
			must(t, "Scan", err)
			n, ok := want[e.Key]
			if !ok || got[e.Key] || namespace != "" && e.Key.Namespace != namespace {
				t.Fatalf("Scan of %q lists %v: unknown, twice, or of another namespace", namespace, e.Key)
			}
			if e.Info.Bytes != int64(n+1) || !o.NoAttr && e.Info.Attr != attrOf(n) {
				t.Fatalf("Scan lists %v with %+v", e.Key, e.Info)
			}
			got[e.Key] = true
		}
		return len(got)
	}
	if n := list(""); n != len(want) {
		t.Fatalf("Scan lists %d pages, want %d", n, len(want))
	}
	for namespace, n := range namespaces {
		if got := list(namespace); got != n {
			t.Fatalf("Scan of %q lists %d pages, want %d", namespace, got, n)
		}
	}
	if n := list("nobody's"); n != 0 {
		t.Fatalf("Scan of an empty namespace lists %d pages", n)
	}
	for range s.Scan(ctx, "") {
		break
	}
	// A page can be removed while it is listed.
	for e, err := range s.Scan(ctx, "") {
		must(t, "Scan", err)
		must(t, "Delete", s.Delete(ctx, e.Key))
	}
	if n := list(""); n != 0 {
		t.Fatalf("%d pages after all were deleted", n)
	}
}

func ended(t *testing.T, o Options, s store.Store) {
	k := o.Keys(1)
	must(t, "Put", s.Put(t.Context(), k, Value(k, 0, 10), store.Attr{}))
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	wantError(t, "Put", s.Put(ctx, o.Keys(2), nil, store.Attr{}), context.Canceled)
	_, err := s.Get(ctx, k)
	wantError(t, "Get", err, context.Canceled)
	_, err = s.Stat(ctx, k)
	wantError(t, "Stat", err, context.Canceled)
	wantError(t, "Delete", s.Delete(ctx, k), context.Canceled)
	last := error(nil)
	for _, err := range s.Scan(ctx, "") {
		last = err
	}
	wantError(t, "Scan", last, context.Canceled)
	check(t, o, s, k, Value(k, 0, 10), store.Attr{})
}

func closed(t *testing.T, o Options, s store.Store) {
	ctx := t.Context()
	k := o.Keys(1)
	must(t, "Put", s.Put(ctx, k, Value(k, 0, 10), store.Attr{}))
	must(t, "Close", s.Close())
	wantError(t, "Put", s.Put(ctx, k, nil, store.Attr{}), store.ErrClosed)
	_, err := s.Get(ctx, k)
	wantError(t, "Get", err, store.ErrClosed)
	_, err = s.Stat(ctx, k)
	wantError(t, "Stat", err, store.ErrClosed)
	wantError(t, "Delete", s.Delete(ctx, k), store.ErrClosed)
	last := error(nil)
	for _, err := range s.Scan(ctx, "") {
		last = err
	}
	wantError(t, "Scan", last, store.ErrClosed)
}

// againstMap does random operations on the store and on a map. Sizes, attributes and versions of a key vary, so that an old
// page in a new one's place shows.
func againstMap(t *testing.T, o Options, s store.Store) {
	ctx := t.Context()
	random := rand.New(rand.NewPCG(o.Seed, 1))
	type page struct{ version, size, attr int }
	model := map[store.Key]page{}
	for op := range o.Operations {
		n := random.IntN(40)
		k := o.Keys(n)
		was, there := model[k]
		switch random.IntN(10) {
		case 0, 1, 2, 3:
			size := random.IntN(o.MaxBytes/4 + 1)
			if random.IntN(8) == 0 {
				size = o.MaxBytes - random.IntN(2)
			}
			next := page{op, size, random.IntN(9)}
			if there {
				// A store may keep the page that is there, so only after a delete is it clear which one it has.
				must(t, "Delete", s.Delete(ctx, k))
			}
			err := s.Put(ctx, k, Value(k, next.version, next.size), attrOf(next.attr))
			if err != nil && !(o.Forgets && store.Refused(err)) {
				t.Fatalf("operation %d: Put %v of %d bytes: %v", op, k, size, err)
			}
			if delete(model, k); err == nil {
				model[k] = next
			}
		case 4, 5, 6, 7:
			p, err := s.Get(ctx, k)
			if errors.Is(err, store.ErrNotFound) && (o.Forgets || !there) {
				delete(model, k)
				continue
			}
			if err != nil || !there {
				t.Fatalf("operation %d: Get %v: error %v, put before: %v", op, k, err, there)
			}
			if !bytes.Equal(p.Bytes(), Value(k, was.version, was.size)) || !o.NoAttr && p.Attr() != attrOf(was.attr) {
				t.Fatalf("operation %d: Get %v: not what was put last", op, k)
			}
			p.Release()
		case 8:
			info, err := s.Stat(ctx, k)
			if errors.Is(err, store.ErrNotFound) && (o.Forgets || !there) {
				continue
			}
			if err != nil || !there || info.Bytes != int64(was.size) {
				t.Fatalf("operation %d: Stat %v: %+v, error %v, put before: %v", op, k, info, err, there)
			}
		case 9:
			must(t, "Delete", s.Delete(ctx, k))
			delete(model, k)
		}
	}
}

// concurrent reads, writes, pins and deletes the same few keys from several goroutines. Whatever is read must be one of the
// values that are put under its key.
func concurrent(t *testing.T, o Options, s store.Store) {
	ctx := t.Context()
	const keys, versions = 10, 3
	size := func(n, version int) int { return (n*977 + version*4099) % (o.MaxBytes + 1) }
	var want [keys][versions][]byte
	for n := range keys {
		for v := range versions {
			want[n][v] = Value(o.Keys(n), v, size(n, v))
		}
	}
	var failed atomic.Bool
	var all sync.WaitGroup
	for g := range 4 {
		all.Go(func() {
			random := rand.New(rand.NewPCG(o.Seed, uint64(100+g)))
			for range o.Operations / 8 {
				if failed.Load() {
					return
				}
				n := random.IntN(keys)
				k := o.Keys(n)
				var err error
				switch random.IntN(8) {
				case 0, 1:
					err = s.Put(ctx, k, want[n][random.IntN(versions)], attrOf(n))
					if store.Refused(err) {
						err = nil
					}
				case 2:
					err = s.Delete(ctx, k)
				case 3:
					if o.NoPins {
						continue
					}
					if err = s.Pin(ctx, k, time.Duration(random.IntN(2))*time.Millisecond); errors.Is(err, store.ErrNotFound) {
						err = nil
					}
				default:
					p, e := s.Get(ctx, k)
					if errors.Is(e, store.ErrNotFound) {
						continue
					}
					if err = e; err != nil {
						break
					}
					ok := false
					for v := range versions {
						ok = ok || bytes.Equal(p.Bytes(), want[n][v])
					}
					if !ok {
						err = fmt.Errorf("Get %v: %d bytes that were never put", k, len(p.Bytes()))
					}
					p.Release()
				}
				if err != nil {
					failed.Store(true)
					t.Errorf("%v", err)
					return
				}
			}
		})
	}
	all.Wait()
}
