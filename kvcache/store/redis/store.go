package redis

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	goredis "github.com/redis/go-redis/v9"

	"github.com/inferloom/inferloom/kvcache/store"
	"github.com/inferloom/inferloom/kvcache/store/internal/frame"
)

// Defaults of Options.
const (
	DefaultPrefix       = "inferloom/"
	DefaultMaxPageBytes = 64 << 20
)

// Bounds on one round trip of a batch.
const (
	batchBytes = 8 << 20
	batchKeys  = 16
	scanCount  = 256
)

// Options are the parameters of a Store; Client is required.
type Options struct {
	// Client is the caller's: Close leaves it open.
	Client goredis.UniversalClient
	// Prefix is what all names of this store's pages begin with; empty means DefaultPrefix.
	Prefix string
	// TTL is how long the server keeps a page after it was put; 0 means until it is evicted.
	TTL time.Duration
	// MaxPageBytes bounds a page; 0 means DefaultMaxPageBytes. Redis itself takes up to 512 MiB.
	MaxPageBytes int
}

// Store is a store.Store and store.Batcher.
type Store struct {
	o      Options
	closed atomic.Bool
}

// New makes a Store. It does not connect.
func New(o Options) (*Store, error) {
	var problems []error
	if o.Client == nil {
		problems = append(problems, errors.New("client: nil"))
	}
	if o.TTL < 0 {
		problems = append(problems, fmt.Errorf("ttl %v: negative", o.TTL))
	}
	if o.MaxPageBytes < 0 {
		problems = append(problems, fmt.Errorf("max page bytes %d: negative", o.MaxPageBytes))
	}
	if err := errors.Join(problems...); err != nil {
		return nil, err
	}
	if o.Prefix == "" {
		o.Prefix = DefaultPrefix
	}
	if o.MaxPageBytes == 0 {
		o.MaxPageBytes = DefaultMaxPageBytes
	}
	return &Store{o: o}, nil
}

// begin checks what every operation needs.
func (s *Store) begin(ctx context.Context, key store.Key) error {
	if err := key.Validate(); err != nil {
		return err
	}
	return s.open(ctx)
}

func (s *Store) open(ctx context.Context) error {
	if s.closed.Load() {
		return store.ErrClosed
	}
	return ctx.Err()
}

func (s *Store) name(key store.Key) string { return s.o.Prefix + key.String() }

// seal is what is stored of a page.
func (s *Store) seal(ctx context.Context, item *store.Item) ([]byte, error) {
	if err := s.begin(ctx, item.Key); err != nil {
		return nil, err
	}
	if err := item.Attr.Validate(); err != nil {
		return nil, err
	}
	if len(item.Value) > s.o.MaxPageBytes {
		return nil, fmt.Errorf("%w: %d bytes, at most %d", store.ErrTooLarge, len(item.Value), s.o.MaxPageBytes)
	}
	return frame.Seal(make([]byte, 0, frame.Size(item.Key, &item.Attr)+len(item.Value)), item.Key, item.Attr, item.Value), nil
}

// failure says in the words of package store what the server or the way to it answered.
func failure(doing string, err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, goredis.Nil):
		return store.ErrNotFound
	case errors.Is(err, goredis.ErrClosed):
		err = fmt.Errorf("%w: %w", store.ErrClosed, err)
	case strings.HasPrefix(err.Error(), "OOM "):
		err = fmt.Errorf("%w: %w", store.ErrFull, err)
	}
	return fmt.Errorf("redis: %s: %w", doing, err)
}

// Put implements store.Store.
func (s *Store) Put(ctx context.Context, key store.Key, value []byte, attr store.Attr) error {
	sealed, err := s.seal(ctx, &store.Item{Key: key, Value: value, Attr: attr})
	if err != nil {
		return err
	}
	return failure("putting a page", s.o.Client.Set(ctx, s.name(key), sealed, s.o.TTL).Err())
}

// Get implements store.Store.
func (s *Store) Get(ctx context.Context, key store.Key) (store.Page, error) {
	if err := s.begin(ctx, key); err != nil {
		return store.Page{}, err
	}
	sealed, err := s.o.Client.Get(ctx, s.name(key)).Bytes()
	if err != nil {
		return store.Page{}, failure("getting a page", err)
	}
	return s.unseal(ctx, key, sealed)
}

func (s *Store) unseal(ctx context.Context, key store.Key, sealed []byte) (store.Page, error) {
	page, attr, err := frame.Unseal(sealed, key)
	if err != nil {
		return store.Page{}, s.damaged(ctx, key, err)
	}
	return store.NewPage(page, attr, nil, 0), nil
}

// damaged removes a page that is not what was put.
func (s *Store) damaged(ctx context.Context, key store.Key, err error) error {
	if removing := s.o.Client.Unlink(ctx, s.name(key)).Err(); removing != nil {
		err = fmt.Errorf("%w; removing it: %w", err, removing)
	}
	return fmt.Errorf("redis: getting a page: %w", err)
}

// Stat implements store.Store. It reads the page's header.
func (s *Store) Stat(ctx context.Context, key store.Key) (store.Info, error) {
	infos, errs := make([]store.Info, 1), make([]error, 1)
	s.StatBatch(ctx, []store.Key{key}, infos, errs)
	return infos[0], errs[0]
}

// Delete implements store.Store.
func (s *Store) Delete(ctx context.Context, key store.Key) error {
	if err := s.begin(ctx, key); err != nil {
		return err
	}
	return failure("deleting a page", s.o.Client.Unlink(ctx, s.name(key)).Err())
}

// Pin implements store.Store: it cannot be promised.
func (s *Store) Pin(context.Context, store.Key, time.Duration) error {
	return fmt.Errorf("redis: pinning a page: %w", store.ErrUnsupported)
}

// Close implements store.Store.
func (s *Store) Close() error {
	s.closed.Store(true)
	return nil
}

// Scan implements store.Store. It lists names page by page, and reads a header for each.
func (s *Store) Scan(ctx context.Context, namespace string) iter.Seq2[store.Entry, error] {
	return func(yield func(store.Entry, error) bool) {
		if err := s.open(ctx); err != nil {
			yield(store.Entry{}, err)
			return
		}
		nodes, err := s.nodes(ctx)
		if err != nil {
			yield(store.Entry{}, failure("listing a cluster", err))
			return
		}
		seen := map[store.Key]bool{} // the server may tell a name twice
		for _, node := range nodes {
			for cursor, more := uint64(0), true; more; more = cursor != 0 {
				var names []string
				var err error
				names, cursor, err = node.Scan(ctx, cursor, literal(s.o.Prefix+store.Prefix(namespace))+"*", scanCount).Result()
				if err != nil {
					yield(store.Entry{}, failure("listing pages", err))
					return
				}
				if !s.list(ctx, names, seen, yield) {
					return
				}
			}
		}
	}
}

// nodes are the servers that names have to be listed on.
func (s *Store) nodes(ctx context.Context) ([]goredis.Cmdable, error) {
	cluster, ok := s.o.Client.(*goredis.ClusterClient)
	if !ok {
		return []goredis.Cmdable{s.o.Client}, nil
	}
	var mu sync.Mutex
	var nodes []goredis.Cmdable
	err := cluster.ForEachMaster(ctx, func(_ context.Context, node *goredis.Client) error {
		mu.Lock()
		defer mu.Unlock()
		nodes = append(nodes, node)
		return nil
	})
	return nodes, err
}

// list yields the pages of some names, leaving out what is not a page and what has gone meanwhile.
func (s *Store) list(ctx context.Context, names []string, seen map[store.Key]bool, yield func(store.Entry, error) bool) bool {
	var keys []store.Key
	for _, name := range names {
		key, err := store.ParseKey(strings.TrimPrefix(name, s.o.Prefix))
		if err == nil && !seen[key] {
			seen[key] = true
			keys = append(keys, key)
		}
	}
	infos, errs := make([]store.Info, len(keys)), make([]error, len(keys))
	s.StatBatch(ctx, keys, infos, errs)
	for i, key := range keys {
		switch err := errs[i]; {
		case err == nil:
			if !yield(store.Entry{Key: key, Info: infos[i]}, nil) {
				return false
			}
		case !errors.Is(err, store.ErrNotFound) && !errors.Is(err, store.ErrCorrupt):
			yield(store.Entry{}, err)
			return false
		}
	}
	return true
}

// literal quotes what means something in a pattern.
func literal(text string) string {
	return strings.NewReplacer(`\`, `\\`, `*`, `\*`, `?`, `\?`, `[`, `\[`, `]`, `\]`, `^`, `\^`).Replace(text)
}
