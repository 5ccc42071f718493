package s3

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"net/http"
	"strings"
	"sync/atomic"
	"time"

	"github.com/minio/minio-go/v7"

	"github.com/inferloom/inferloom/kvcache/store"
	"github.com/inferloom/inferloom/kvcache/store/internal/frame"
)

// DefaultMaxPageBytes is the bound on pages where Options does not say.
const DefaultMaxPageBytes = 256 << 20

// maxNameBytes is the longest name of an object.
const maxNameBytes = 1024

// Options are the parameters of a Store; Client and Bucket are required.
type Options struct {
	// Client is the caller's.
	Client *minio.Client
	Bucket string
	// Prefix is what all names of this store's objects begin with.
	Prefix string
	// StorageClass of new objects; empty is the bucket's.
	StorageClass string
	// MaxPageBytes bounds a page; 0 means DefaultMaxPageBytes.
	MaxPageBytes int
}

// Store is a store.Store.
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
	if o.Bucket == "" {
		problems = append(problems, errors.New("bucket: empty"))
	}
	if o.MaxPageBytes < 0 {
		problems = append(problems, fmt.Errorf("max page bytes %d: negative", o.MaxPageBytes))
	}
	if len(o.Prefix) > maxNameBytes/2 {
		problems = append(problems, fmt.Errorf("prefix of %d bytes: want at most %d", len(o.Prefix), maxNameBytes/2))
	}
	if err := errors.Join(problems...); err != nil {
		return nil, err
	}
	if o.MaxPageBytes == 0 {
		o.MaxPageBytes = DefaultMaxPageBytes
	}
	return &Store{o: o}, nil
}

// name checks what every operation needs, and returns the object's name.
func (s *Store) name(ctx context.Context, key store.Key) (string, error) {
	if err := key.Validate(); err != nil {
		return "", err
	}
	name := s.o.Prefix + key.String()
	if len(name) > maxNameBytes {
		return "", fmt.Errorf("%w: its object's name has %d bytes, S3 takes %d", store.ErrKey, len(name), maxNameBytes)
	}
	return name, s.open(ctx)
}

func (s *Store) open(ctx context.Context) error {
	if s.closed.Load() {
		return store.ErrClosed
	}
	return ctx.Err()
}

// failure says in the words of package store what the service or the way to it answered.
func failure(doing string, err error) error {
	if err == nil {
		return nil
	}
	switch answer := minio.ToErrorResponse(err); {
	case answer.Code == "NoSuchKey", answer.Code == "NotFound" && answer.StatusCode == http.StatusNotFound:
		return store.ErrNotFound
	case answer.Code == "EntityTooLarge":
		err = fmt.Errorf("%w: %w", store.ErrTooLarge, err)
	case answer.Code == "XMinioStorageFull", answer.Code == "QuotaExceeded":
		err = fmt.Errorf("%w: %w", store.ErrFull, err)
	}
	return fmt.Errorf("s3: %s: %w", doing, err)
}

// Put implements store.Store.
func (s *Store) Put(ctx context.Context, key store.Key, value []byte, attr store.Attr) error {
	name, err := s.name(ctx, key)
	if err != nil {
		return err
	}
	if err := attr.Validate(); err != nil {
		return err
	}
	if len(value) > s.o.MaxPageBytes {
		return fmt.Errorf("%w: %d bytes, at most %d", store.ErrTooLarge, len(value), s.o.MaxPageBytes)
	}
	sealed := frame.Seal(make([]byte, 0, frame.Size(key, &attr)+len(value)), key, attr, value)
	_, err = s.o.Client.PutObject(ctx, s.o.Bucket, name, bytes.NewReader(sealed), int64(len(sealed)), minio.PutObjectOptions{
		ContentType: "application/octet-stream", StorageClass: s.o.StorageClass, DisableMultipart: true,
	})
	return failure("putting a page", err)
}

// Get implements store.Store.
func (s *Store) Get(ctx context.Context, key store.Key) (store.Page, error) {
	name, err := s.name(ctx, key)
	if err != nil {
		return store.Page{}, err
	}
	sealed, err := s.read(ctx, name, minio.GetObjectOptions{})
	if err != nil {
		return store.Page{}, failure("getting a page", err)
	}
	page, attr, err := frame.Unseal(sealed, key)
	if err == nil {
		return store.NewPage(page, attr, nil, 0), nil
	}
	if removing := s.o.Client.RemoveObject(ctx, s.o.Bucket, name, minio.RemoveObjectOptions{}); removing != nil {
		err = fmt.Errorf("%w; removing it: %w", err, removing)
	}
	return store.Page{}, fmt.Errorf("s3: getting a page: %w", err)
}

// read returns an object or the part that was asked for, whole.
func (s *Store) read(ctx context.Context, name string, o minio.GetObjectOptions) ([]byte, error) {
	core := minio.Core{Client: s.o.Client}
	body, info, _, err := core.GetObject(ctx, s.o.Bucket, name, o)
	if err != nil {
		return nil, err
	}
	defer body.Close()
	if info.Size < 0 {
		return nil, errors.New("the answer does not say its length")
	}
	if info.Size > int64(s.o.MaxPageBytes)+frame.MaxHeaderBytes {
		return nil, fmt.Errorf("%w: object of %d bytes, at most %d", store.ErrTooLarge, info.Size, s.o.MaxPageBytes)
	}
	sealed := make([]byte, info.Size)
	if _, err := io.ReadFull(body, sealed); err != nil {
		return nil, err
	}
	return sealed, nil
}

// Stat implements store.Store. It reads the page's header.
func (s *Store) Stat(ctx context.Context, key store.Key) (store.Info, error) {
	name, err := s.name(ctx, key)
	if err != nil {
		return store.Info{}, err
	}
	var o minio.GetObjectOptions
	if err := o.SetRange(0, frame.MaxHeaderBytes-1); err != nil {
		return store.Info{}, err
	}
	head, err := s.read(ctx, name, o)
	if err != nil {
		return store.Info{}, failure("reading a page's header", err)
	}
	h, _, err := frame.Parse(head)
	if err != nil || h.Key != key {
		page, err := s.Get(ctx, key) // which says what is wrong, and removes the page
		return store.Info{Bytes: int64(len(page.Bytes())), Attr: page.Attr()}, err
	}
	return store.Info{Bytes: h.Bytes, Attr: h.Attr}, nil
}

// Delete implements store.Store.
func (s *Store) Delete(ctx context.Context, key store.Key) error {
	name, err := s.name(ctx, key)
	if err != nil {
		return err
	}
	err = failure("deleting a page", s.o.Client.RemoveObject(ctx, s.o.Bucket, name, minio.RemoveObjectOptions{}))
	if errors.Is(err, store.ErrNotFound) {
		return nil
	}
	return err
}

// Pin implements store.Store. This level evicts nothing, so a pin is kept by doing nothing.
func (s *Store) Pin(ctx context.Context, key store.Key, _ time.Duration) error {
	_, err := s.Stat(ctx, key)
	return err
}

// Close implements store.Store.
func (s *Store) Close() error {
	s.closed.Store(true)
	return nil
}

// Scan implements store.Store. It lists names, a thousand a request, and reads a header for each.
func (s *Store) Scan(ctx context.Context, namespace string) iter.Seq2[store.Entry, error] {
	return func(yield func(store.Entry, error) bool) {
		if err := s.open(ctx); err != nil {
			yield(store.Entry{}, err)
			return
		}
		ctx, cancel := context.WithCancel(ctx)
		listed := s.o.Client.ListObjects(ctx, s.o.Bucket, minio.ListObjectsOptions{Prefix: s.o.Prefix + store.Prefix(namespace), Recursive: true})
		defer func() { // the client's goroutine ends with the context, once it has been listened to
			cancel()
			for range listed {
			}
		}()
		for object := range listed {
			if object.Err != nil {
				yield(store.Entry{}, failure("listing pages", object.Err))
				return
			}
			key, err := store.ParseKey(strings.TrimPrefix(object.Key, s.o.Prefix))
			if err != nil {
				continue // not ours
			}
			info, err := s.Stat(ctx, key)
			if errors.Is(err, store.ErrNotFound) || errors.Is(err, store.ErrCorrupt) {
				continue
			}
			if !yield(store.Entry{Key: key, Info: info}, err) || err != nil {
				return
			}
		}
	}
}
