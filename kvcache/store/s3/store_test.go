package s3_test

import (
	"context"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/inferloom/inferloom/kvcache/store"
	"github.com/inferloom/inferloom/kvcache/store/s3"
	"github.com/inferloom/inferloom/kvcache/store/storetest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func newStore(t *testing.T, b *bucket) *s3.Store {
	t.Helper()
	s, err := s3.New(s3.Options{Client: b.start(t), Bucket: "pages-of-kv", Prefix: "pages/", MaxPageBytes: 1 << 20})
	require.NoError(t, err)
	return s
}

func TestStore(t *testing.T) {
	storetest.Run(t, storetest.Options{New: func(t *testing.T) store.Store { return newStore(t, &bucket{}) }})
}

var key = store.Key{Namespace: "n", Hash: "h"}

func TestFaults(t *testing.T) {
	b := &bucket{}
	s := newStore(t, b)
	ctx := t.Context()
	require.NoError(t, s.Put(ctx, key, []byte(strings.Repeat("page", 1000)), store.Attr{}))

	get := func(fault func(w http.ResponseWriter, r *http.Request) bool) error {
		b.set(fault)
		defer b.set(nil)
		_, err := s.Get(ctx, key)
		require.Error(t, err)
		return err
	}
	t.Run("a service that is ill", func(t *testing.T) {
		err := get(func(w http.ResponseWriter, _ *http.Request) bool {
			fail(w, http.StatusServiceUnavailable, "SlowDown")
			return true
		})
		require.True(t, store.Broken(err), err)
		require.ErrorContains(t, err, "s3: getting a page")
	})
	t.Run("an answer that ends early", func(t *testing.T) {
		err := get(func(w http.ResponseWriter, r *http.Request) bool {
			headers(w, "4000")
			_, _ = w.Write(make([]byte, 1000))
			return true
		})
		require.True(t, store.Broken(err), err)
		require.NotErrorIs(t, err, store.ErrCorrupt)
	})
	t.Run("an answer without end", func(t *testing.T) {
		err := get(func(w http.ResponseWriter, r *http.Request) bool {
			headers(w, "1099511627776")
			return true
		})
		require.ErrorIs(t, err, store.ErrTooLarge)
	})
	t.Run("a bucket that is missing", func(t *testing.T) {
		err := get(func(w http.ResponseWriter, _ *http.Request) bool {
			fail(w, http.StatusNotFound, "NoSuchBucket")
			return true
		})
		require.True(t, store.Broken(err), err)
	})
	t.Run("a service that hangs", func(t *testing.T) {
		hang := make(chan struct{})
		b.set(func(http.ResponseWriter, *http.Request) bool { <-hang; return true })
		defer func() { close(hang); b.set(nil) }()
		short, cancel := context.WithTimeout(ctx, 20*time.Millisecond)
		defer cancel()
		_, err := s.Get(short, key)
		require.ErrorIs(t, err, context.DeadlineExceeded)
	})
	t.Run("full", func(t *testing.T) {
		b.set(func(w http.ResponseWriter, _ *http.Request) bool {
			fail(w, http.StatusInsufficientStorage, "XMinioStorageFull")
			return true
		})
		defer b.set(nil)
		require.ErrorIs(t, s.Put(ctx, key, nil, store.Attr{}), store.ErrFull)
	})
	page, err := s.Get(ctx, key)
	require.NoError(t, err, "nothing of this has cost the page")
	page.Release()
	require.ErrorIs(t, s.Put(ctx, key, make([]byte, 1<<20+1), store.Attr{}), store.ErrTooLarge)
	long := store.Key{Namespace: strings.Repeat("n", 200), Hash: strings.Repeat("h", 450)}
	require.ErrorIs(t, s.Put(ctx, long, nil, store.Attr{}), store.ErrKey)
}

func headers(w http.ResponseWriter, length string) {
	w.Header().Set("ETag", `"e"`)
	w.Header().Set("Last-Modified", "Wed, 25 Nov 2026 00:00:00 GMT")
	w.Header().Set("Content-Length", length)
}

func TestDamagedObjectsAreRemoved(t *testing.T) {
	for name, damage := range map[string]func(object []byte) []byte{
		"a bit":  func(b []byte) []byte { b[len(b)-1] ^= 4; return b },
		"header": func(b []byte) []byte { b[20] ^= 1; return b },
		"cut":    func(b []byte) []byte { return b[:len(b)-1] },
		"empty":  func([]byte) []byte { return []byte("x") },
	} {
		t.Run(name, func(t *testing.T) {
			b := &bucket{}
			s := newStore(t, b)
			require.NoError(t, s.Put(t.Context(), key, []byte("page"), store.Attr{}))
			b.mu.Lock()
			for name, object := range b.objects {
				b.objects[name] = damage(object)
			}
			b.mu.Unlock()
			_, err := s.Get(t.Context(), key)
			require.ErrorIs(t, err, store.ErrCorrupt)
			_, err = s.Get(t.Context(), key)
			require.ErrorIs(t, err, store.ErrNotFound)
		})
	}
}

func TestScanPassesOverWhatIsNotOurs(t *testing.T) {
	b := &bucket{}
	s := newStore(t, b)
	require.NoError(t, s.Put(t.Context(), key, nil, store.Attr{}))
	b.mu.Lock()
	b.objects["pages/readme.txt"], b.objects["else/"+key.String()] = nil, []byte("x")
	b.mu.Unlock()
	var found []store.Key
	for e, err := range s.Scan(t.Context(), "") {
		require.NoError(t, err)
		found = append(found, e.Key)
	}
	require.Equal(t, []store.Key{key}, found)
}

func TestOptionsAreChecked(t *testing.T) {
	_, err := s3.New(s3.Options{MaxPageBytes: -1, Prefix: strings.Repeat("p", 513)})
	require.EqualError(t, err, "client: nil\nbucket: empty\nmax page bytes -1: negative\nprefix of 513 bytes: want at most 512")
}
