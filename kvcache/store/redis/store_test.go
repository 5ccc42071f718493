package redis_test

import (
	"bytes"
	"context"
	"errors"
	"net"
	"strings"
	"testing"
	"time"

	goredis "github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/inferloom/inferloom/kvcache/store"
	"github.com/inferloom/inferloom/kvcache/store/redis"
	"github.com/inferloom/inferloom/kvcache/store/resp"
	"github.com/inferloom/inferloom/kvcache/store/storetest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// serve is a server of the Redis protocol in this process; the end-to-end tests do the same against redis-server.
func serve(t testing.TB, pages store.Store) *goredis.Client {
	t.Helper()
	server, err := resp.NewServer(resp.Options{Store: pages})
	require.NoError(t, err)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	go func() { _ = server.Serve(l) }()
	client := goredis.NewClient(&goredis.Options{Addr: l.Addr().String(), ContextTimeoutEnabled: true})
	t.Cleanup(func() {
		_ = client.Close()
		require.NoError(t, server.Shutdown(context.Background()))
	})
	return client
}

func newStore(t testing.TB, o redis.Options) *redis.Store {
	t.Helper()
	s, err := redis.New(o)
	require.NoError(t, err)
	return s
}

func TestStore(t *testing.T) {
	storetest.Run(t, storetest.Options{NoPins: true, Keys: fitting, New: func(t *testing.T) store.Store {
		return newStore(t, redis.Options{Client: serve(t, &storetest.Map{})})
	}})
}

// fitting keeps to keys whose names are short enough for package resp, which the names of Redis need not be.
func fitting(n int) store.Key {
	return store.Key{Namespace: "tenant/a b"[:4+n%7], Hash: strings.Repeat("\xff/", 1+n/7%3) + string(rune('a'+n%50)), Group: uint32(n / 100), Rank: uint32(n % 3)}
}

func TestDamagedPagesAreRemoved(t *testing.T) {
	client := serve(t, &storetest.Map{})
	s := newStore(t, redis.Options{Client: client, Prefix: "p[*]/"})
	ctx := t.Context()
	key := store.Key{Namespace: "n", Hash: "h"}
	for name, damage := range map[string]func(sealed []byte) []byte{
		"a bit":    func(b []byte) []byte { b[len(b)-1] ^= 4; return b },
		"cut":      func(b []byte) []byte { return b[:len(b)-1] },
		"header":   func(b []byte) []byte { b[20] ^= 1; return b },
		"nothing":  func([]byte) []byte { return []byte{0} },
		"another":  func(b []byte) []byte { return append(b, 0) },
		"text":     func([]byte) []byte { return []byte("some other program's") },
		"of other": func([]byte) []byte { return other(t, ctx, client) },
	} {
		t.Run(name, func(t *testing.T) {
			require.NoError(t, s.Put(ctx, key, []byte("page"), store.Attr{}))
			raw := "p[*]/" + key.String()
			sealed, err := client.Get(ctx, raw).Bytes()
			require.NoError(t, err)
			require.NoError(t, client.Set(ctx, raw, damage(bytes.Clone(sealed)), 0).Err())
			listed := 0
			for range s.Scan(ctx, "n") {
				listed++
			}
			require.LessOrEqual(t, listed, 1)
			require.NoError(t, client.Set(ctx, raw, damage(bytes.Clone(sealed)), 0).Err())
			_, err = s.Get(ctx, key)
			require.ErrorIs(t, err, store.ErrCorrupt)
			_, err = s.Get(ctx, key)
			require.ErrorIs(t, err, store.ErrNotFound)
		})
	}
}

// other is what is stored for a page of the same contents under another key.
func other(t *testing.T, ctx context.Context, client *goredis.Client) []byte {
	s := newStore(t, redis.Options{Client: client})
	key := store.Key{Namespace: "n", Hash: "i"}
	require.NoError(t, s.Put(ctx, key, []byte("page"), store.Attr{}))
	sealed, err := client.Get(ctx, redis.DefaultPrefix+key.String()).Bytes()
	require.NoError(t, err)
	return sealed
}

func TestPrefixesAreApart(t *testing.T) {
	client := serve(t, &storetest.Map{})
	a, b := newStore(t, redis.Options{Client: client, Prefix: "a*/"}), newStore(t, redis.Options{Client: client, Prefix: "ab/"})
	ctx := t.Context()
	key := store.Key{Namespace: "n", Hash: "h"}
	require.NoError(t, b.Put(ctx, key, nil, store.Attr{}))
	require.NoError(t, client.Set(ctx, "a*/some/thing/else", "x", 0).Err())
	for e, err := range a.Scan(ctx, "") {
		t.Fatal(e, err)
	}
	_, err := a.Get(ctx, key)
	require.ErrorIs(t, err, store.ErrNotFound)
}

func TestPagesEndWithTheirTimeToLive(t *testing.T) {
	s := newStore(t, redis.Options{Client: serve(t, &storetest.Map{}), TTL: 20 * time.Millisecond})
	key := store.Key{Namespace: "n", Hash: "h"}
	require.NoError(t, s.Put(t.Context(), key, []byte("page"), store.Attr{}))
	require.Eventually(t, func() bool {
		_, err := s.Get(t.Context(), key)
		return errors.Is(err, store.ErrNotFound)
	}, 10*time.Second, 5*time.Millisecond)
}

func TestFaults(t *testing.T) {
	fault := storetest.NewFault(&storetest.Map{})
	client := serve(t, fault)
	s := newStore(t, redis.Options{Client: client, MaxPageBytes: 10})
	ctx := t.Context()
	key := store.Key{Namespace: "n", Hash: "h"}
	require.ErrorIs(t, s.Put(ctx, key, make([]byte, 11), store.Attr{}), store.ErrTooLarge)

	fault.Fail(store.ErrFull)
	require.ErrorIs(t, s.Put(ctx, key, []byte("page"), store.Attr{}), store.ErrFull)
	fault.Fail(errors.New("on fire"))
	for doing, err := range map[string]error{
		"putting a page":          s.Put(ctx, key, []byte("page"), store.Attr{}),
		"getting a page":          second(s.Get(ctx, key)),
		"reading a page's header": second(s.Stat(ctx, key)),
		"deleting a page":         s.Delete(ctx, key),
	} {
		require.ErrorContains(t, err, "redis: "+doing+": ERR on fire")
		require.True(t, store.Broken(err))
	}
	hang := make(chan struct{})
	fault.Before(func(context.Context, string) error { <-hang; return nil })
	short, cancel := context.WithTimeout(ctx, 20*time.Millisecond)
	defer cancel()
	_, err := s.Get(short, key)
	require.ErrorIs(t, err, context.DeadlineExceeded)
	close(hang)
	require.NoError(t, client.Close())
	_, err = s.Get(ctx, key)
	require.ErrorIs(t, err, store.ErrClosed)
}

func second[T any](_ T, err error) error { return err }

func TestOptionsAreChecked(t *testing.T) {
	_, err := redis.New(redis.Options{TTL: -1, MaxPageBytes: -2})
	require.EqualError(t, err, "client: nil\nttl -1ns: negative\nmax page bytes -2: negative")
}
