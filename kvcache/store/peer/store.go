package peer

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"

	"github.com/inferloom/inferloom/kvcache/store"
	"github.com/inferloom/inferloom/kvcache/store/internal/frame"
	"github.com/inferloom/inferloom/kvcache/store/peer/pagespb"
)

// Options are the parameters of a Store; Conn is required.
type Options struct {
	// Conn leads to the peer. It is the caller's: Close leaves it open.
	Conn grpc.ClientConnInterface
	// MaxPageBytes bounds a page; 0 means DefaultMaxPageBytes.
	MaxPageBytes int
}

// Store is a peer's store. It is a store.Store and store.Batcher.
type Store struct {
	pages  pagespb.PagesClient
	most   int
	closed atomic.Bool
}

// New makes a Store.
func New(o Options) (*Store, error) {
	if o.Conn == nil {
		return nil, errors.New("conn: nil")
	}
	if o.MaxPageBytes < 0 {
		return nil, fmt.Errorf("max page bytes %d: negative", o.MaxPageBytes)
	}
	if o.MaxPageBytes == 0 {
		o.MaxPageBytes = DefaultMaxPageBytes
	}
	return &Store{pages: pagespb.NewPagesClient(o.Conn), most: o.MaxPageBytes}, nil
}

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

// failure is what a call has failed with, in the words of package store; a context's end is that of the context.
func failure(ctx context.Context, doing string, err error) error {
	if err == nil {
		return nil
	}
	if ended := ctx.Err(); ended != nil {
		return ended
	}
	return fmt.Errorf("peer: %s: %w", doing, understand(err))
}

// Put implements store.Store.
func (s *Store) Put(ctx context.Context, key store.Key, value []byte, attr store.Attr) error {
	if err := s.begin(ctx, key); err != nil {
		return err
	}
	if err := attr.Validate(); err != nil {
		return err
	}
	if len(value) > s.most {
		return fmt.Errorf("%w: %d bytes, at most %d", store.ErrTooLarge, len(value), s.most)
	}
	return failure(ctx, "putting a page", s.put(ctx, key, value, attr))
}

func (s *Store) put(ctx context.Context, key store.Key, value []byte, attr store.Attr) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel() // ends the stream, whatever comes
	stream, err := s.pages.Put(ctx)
	if err != nil {
		return err
	}
	m := &pagespb.PutRequest{
		Key: keyTo(key), Header: &pagespb.Header{Attr: attrTo(attr), Size: int64(len(value)), Checksum: frame.Checksum(value)},
	}
	for {
		n := min(len(value), chunkBytes)
		m.Bytes, value = value[:n], value[n:]
		if err := stream.Send(m); errors.Is(err, io.EOF) {
			break // the peer has answered already, and says why
		} else if err != nil {
			return err
		}
		if len(value) == 0 {
			break
		}
		m = &pagespb.PutRequest{}
	}
	_, err = stream.CloseAndRecv()
	return err
}

// Get implements store.Store.
func (s *Store) Get(ctx context.Context, key store.Key) (store.Page, error) {
	if err := s.begin(ctx, key); err != nil {
		return store.Page{}, err
	}
	page, err := s.get(ctx, key)
	return page, failure(ctx, "getting a page", err)
}

func (s *Store) get(ctx context.Context, key store.Key) (store.Page, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stream, err := s.pages.Get(ctx, &pagespb.GetRequest{Key: keyTo(key)})
	if err != nil {
		return store.Page{}, err
	}
	m, err := stream.Recv()
	if errors.Is(err, io.EOF) {
		return store.Page{}, io.ErrUnexpectedEOF
	}
	if err != nil {
		return store.Page{}, err
	}
	header := m.Header
	if err := checkHeader(header, s.most); err != nil {
		return store.Page{}, err
	}
	page := make([]byte, 0, header.Size)
	for {
		if len(page)+len(m.Bytes) > cap(page) {
			return store.Page{}, fmt.Errorf("more than the %d bytes that were announced", header.Size)
		}
		page = append(page, m.Bytes...)
		if m, err = stream.Recv(); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			return store.Page{}, err
		}
	}
	if len(page) < int(header.Size) {
		return store.Page{}, io.ErrUnexpectedEOF
	}
	if sum := frame.Checksum(page); sum != header.Checksum {
		return store.Page{}, fmt.Errorf("damaged on the way: checksum is %08x, want %08x", sum, header.Checksum)
	}
	return store.NewPage(page, attrOf(header.Attr), nil, 0), nil
}

// Stat implements store.Store.
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
	_, err := s.pages.Delete(ctx, &pagespb.DeleteRequest{Keys: []*pagespb.Key{keyTo(key)}})
	return failure(ctx, "deleting a page", err)
}

// Pin implements store.Store. The peer bounds the lease.
func (s *Store) Pin(ctx context.Context, key store.Key, lease time.Duration) error {
	if err := s.begin(ctx, key); err != nil {
		return err
	}
	_, err := s.pages.Pin(ctx, &pagespb.PinRequest{Key: keyTo(key), LeaseNanos: int64(lease)})
	return failure(ctx, "pinning a page", err)
}

// Scan implements store.Store.
func (s *Store) Scan(ctx context.Context, namespace string) iter.Seq2[store.Entry, error] {
	return func(yield func(store.Entry, error) bool) {
		if err := s.open(ctx); err != nil {
			yield(store.Entry{}, err)
			return
		}
		ctx, cancel := context.WithCancel(ctx)
		defer cancel()
		stream, err := s.pages.Scan(ctx, &pagespb.ScanRequest{Namespace: namespace})
		for err == nil {
			var m *pagespb.ScanReply
			if m, err = stream.Recv(); errors.Is(err, io.EOF) {
				return
			}
			for _, e := range m.GetEntries() {
				if !yield(store.Entry{Key: keyOf(e.Key), Info: store.Info{Bytes: e.Size, Attr: attrOf(e.Attr), Level: e.Level}}, nil) {
					return
				}
			}
		}
		yield(store.Entry{}, failure(ctx, "listing pages", err))
	}
}

// Close implements store.Store.
func (s *Store) Close() error {
	s.closed.Store(true)
	return nil
}

// single is a store without its batches.
type single struct{ store.Store }

// PutBatch implements store.Batcher: a call a page, some at once.
func (s *Store) PutBatch(ctx context.Context, items []store.Item, errs []error) {
	store.PutBatch(ctx, single{s}, items, errs)
}

// GetBatch implements store.Batcher: a call a page, some at once.
func (s *Store) GetBatch(ctx context.Context, keys []store.Key, pages []store.Page, errs []error) {
	store.GetBatch(ctx, single{s}, keys, pages, errs)
}

// StatBatch implements store.Batcher, in few calls.
func (s *Store) StatBatch(ctx context.Context, keys []store.Key, infos []store.Info, errs []error) {
	for from := 0; from < len(keys); from += maxKeys {
		to := min(from+maxKeys, len(keys))
		s.statSome(ctx, keys[from:to], infos[from:to], errs[from:to])
	}
}

func (s *Store) statSome(ctx context.Context, keys []store.Key, infos []store.Info, errs []error) {
	asked := make([]int, 0, len(keys))
	valid := make([]store.Key, 0, len(keys))
	for i, key := range keys {
		if errs[i] = s.begin(ctx, key); errs[i] == nil {
			asked, valid = append(asked, i), append(valid, key)
		}
	}
	if len(valid) == 0 {
		return
	}
	reply, err := s.pages.Stat(ctx, &pagespb.StatRequest{Keys: keysTo(valid)})
	if err == nil && len(reply.Infos) != len(valid) {
		err = fmt.Errorf("%d answers to %d keys", len(reply.Infos), len(valid))
	}
	for n, i := range asked {
		if err != nil {
			errs[i] = failure(ctx, "reading a page's header", err)
			continue
		}
		switch info := reply.Infos[n]; {
		case info.Failure != nil:
			errs[i] = fmt.Errorf("peer: reading a page's header: %w", errorOf(info.Failure))
		case !info.Found:
			errs[i] = store.ErrNotFound
		default:
			infos[i] = store.Info{Bytes: info.Size, Attr: attrOf(info.Attr), Level: info.Level}
		}
	}
}
