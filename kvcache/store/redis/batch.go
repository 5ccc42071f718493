package redis

import (
	"context"
	"errors"
	"fmt"

	goredis "github.com/redis/go-redis/v9"

	"github.com/inferloom/inferloom/kvcache/store"
	"github.com/inferloom/inferloom/kvcache/store/internal/frame"
)

// pipe sends commands together and then asks each for its answer. A pipeline's own error is that of its commands.
func (s *Store) pipe(ctx context.Context, fill func(p goredis.Pipeliner)) {
	p := s.o.Client.Pipeline()
	fill(p)
	_, _ = p.Exec(ctx)
}

// PutBatch implements store.Batcher, in as few round trips as bounded memory allows.
func (s *Store) PutBatch(ctx context.Context, items []store.Item, errs []error) {
	for from := 0; from < len(items); {
		to, size := from, 0
		for to < len(items) && (to == from || size+len(items[to].Value) <= batchBytes) {
			size += len(items[to].Value)
			to++
		}
		answers := make([]*goredis.StatusCmd, to-from)
		s.pipe(ctx, func(p goredis.Pipeliner) {
			for i := range answers {
				item := &items[from+i]
				var sealed []byte
				if sealed, errs[from+i] = s.seal(ctx, item); errs[from+i] == nil {
					answers[i] = p.Set(ctx, s.name(item.Key), sealed, s.o.TTL)
				}
			}
		})
		for i, answer := range answers {
			if answer != nil {
				errs[from+i] = failure("putting a page", answer.Err())
			}
		}
		from = to
	}
}

// GetBatch implements store.Batcher.
func (s *Store) GetBatch(ctx context.Context, keys []store.Key, pages []store.Page, errs []error) {
	for from := 0; from < len(keys); from += batchKeys {
		part := keys[from:min(from+batchKeys, len(keys))]
		answers := make([]*goredis.StringCmd, len(part))
		s.pipe(ctx, func(p goredis.Pipeliner) {
			for i, key := range part {
				if errs[from+i] = s.begin(ctx, key); errs[from+i] == nil {
					answers[i] = p.Get(ctx, s.name(key))
				}
			}
		})
		for i, answer := range answers {
			pages[from+i] = store.Page{}
			if answer == nil {
				continue
			}
			sealed, err := answer.Bytes()
			if errs[from+i] = failure("getting a page", err); err == nil {
				pages[from+i], errs[from+i] = s.unseal(ctx, part[i], sealed)
			}
		}
	}
}

// StatBatch implements store.Batcher.
func (s *Store) StatBatch(ctx context.Context, keys []store.Key, infos []store.Info, errs []error) {
	for from := 0; from < len(keys); from += scanCount {
		part := keys[from:min(from+scanCount, len(keys))]
		heads, lengths := make([]*goredis.StringCmd, len(part)), make([]*goredis.IntCmd, len(part))
		s.pipe(ctx, func(p goredis.Pipeliner) {
			for i, key := range part {
				if errs[from+i] = s.begin(ctx, key); errs[from+i] == nil {
					heads[i] = p.GetRange(ctx, s.name(key), 0, frame.MaxHeaderBytes-1)
					lengths[i] = p.StrLen(ctx, s.name(key))
				}
			}
		})
		for i, key := range part {
			if heads[i] != nil {
				infos[from+i], errs[from+i] = s.info(ctx, key, heads[i], lengths[i])
			}
		}
	}
}

// info reads a page's header. The page may have been replaced between the two commands: then it is read once more.
func (s *Store) info(ctx context.Context, key store.Key, head *goredis.StringCmd, length *goredis.IntCmd) (store.Info, error) {
	if err := errors.Join(head.Err(), length.Err()); err != nil {
		return store.Info{}, failure("reading a page's header", err)
	}
	if length.Val() == 0 || head.Val() == "" {
		return store.Info{}, store.ErrNotFound
	}
	h, n, err := frame.Parse([]byte(head.Val()))
	if err == nil && h.Key == key && int64(n)+h.Bytes == length.Val() {
		return store.Info{Bytes: h.Bytes, Attr: h.Attr}, nil
	}
	page, err := s.Get(ctx, key)
	if err != nil {
		return store.Info{}, fmt.Errorf("redis: reading a page's header: %w", err)
	}
	return store.Info{Bytes: int64(len(page.Bytes())), Attr: page.Attr()}, nil
}
