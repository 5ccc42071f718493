package peer

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sony/gobreaker/v2"
	"github.com/zeebo/xxh3"
	"google.golang.org/grpc"

	"github.com/inferloom/inferloom/kvcache/store"
)

// Defaults of GroupOptions.
const (
	DefaultFailures = 5
	DefaultRetry    = 10 * time.Second
)

// GroupOptions are the parameters of a Group. The zero value works but for Dial, which gRPC wants credentials in.
type GroupOptions struct {
	// Dial is how members are connected to.
	Dial []grpc.DialOption
	// Own is the address of this replica among the members, if it is one: it is not asked, for what it has is in other levels
	// of the same store.
	Own string
	// Copies is how many members keep a page; 0 means one.
	Copies int
	// MaxPageBytes bounds a page; 0 means DefaultMaxPageBytes.
	MaxPageBytes int
	// Failures in a row are what a member is left alone for; 0 means DefaultFailures. Retry is for how long; 0 means
	// DefaultRetry.
	Failures int
	Retry    time.Duration
	// Logger is told of members that come, go and fail; nil means nobody.
	Logger *slog.Logger
}

// Group is a store.Store that is spread over several peers. It is empty until Set or Follow gives it members: pages are
// absent then, and refused.
type Group struct {
	o       GroupOptions
	members atomic.Pointer[[]*member]
	mu      sync.Mutex // held while members change
	closed  atomic.Bool
}

// member is one peer.
type member struct {
	address string
	seed    uint64
	conn    io.Closer
	store   store.Store
	breaker *gobreaker.TwoStepCircuitBreaker[any]
}

// NewGroup makes a Group.
func NewGroup(o GroupOptions) (*Group, error) {
	var problems []error
	for _, bound := range []struct {
		name  string
		value int64
	}{{"copies", int64(o.Copies)}, {"max page bytes", int64(o.MaxPageBytes)}, {"failures", int64(o.Failures)}, {"retry", int64(o.Retry)}} {
		if bound.value < 0 {
			problems = append(problems, fmt.Errorf("%s %d: negative", bound.name, bound.value))
		}
	}
	if err := errors.Join(problems...); err != nil {
		return nil, err
	}
	o.Copies = cmp.Or(o.Copies, 1)
	o.Failures, o.Retry = cmp.Or(o.Failures, DefaultFailures), cmp.Or(o.Retry, DefaultRetry)
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	g := &Group{o: o}
	g.members.Store(&[]*member{})
	return g, nil
}

// Set makes the group consist of exactly these addresses. Connections to members that stay are kept. If an address cannot be
// used nothing changes.
func (g *Group) Set(addresses ...string) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.closed.Load() {
		return store.ErrClosed
	}
	wanted := slices.Compact(slices.Sorted(slices.Values(addresses)))
	old := *g.members.Load()
	var next, fresh []*member
	for _, address := range wanted {
		if i := slices.IndexFunc(old, func(m *member) bool { return m.address == address }); i >= 0 {
			next = append(next, old[i])
			continue
		}
		m, err := g.join(address)
		if err != nil {
			for _, m := range fresh {
				_ = m.conn.Close()
			}
			return fmt.Errorf("member %q: %w", address, err)
		}
		next, fresh = append(next, m), append(fresh, m)
	}
	g.members.Store(&next)
	for _, m := range old {
		if !slices.Contains(next, m) {
			g.o.Logger.Info("a peer leaves", "address", m.address)
			_ = m.conn.Close()
		}
	}
	for _, m := range fresh {
		g.o.Logger.Info("a peer joins", "address", m.address)
	}
	return nil
}

func (g *Group) join(address string) (*member, error) {
	conn, err := grpc.NewClient(address, g.o.Dial...)
	if err != nil {
		return nil, err
	}
	s, err := New(Options{Conn: conn, MaxPageBytes: g.o.MaxPageBytes})
	if err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	return &member{
		address: address, seed: xxh3.HashString(address), conn: conn, store: s,
		breaker: gobreaker.NewTwoStepCircuitBreaker[any](gobreaker.Settings{
			Name: address, Timeout: g.o.Retry,
			ReadyToTrip: func(c gobreaker.Counts) bool { return int(c.ConsecutiveFailures) >= g.o.Failures },
			OnStateChange: func(name string, from, to gobreaker.State) {
				g.o.Logger.Warn("a peer's circuit breaker", "address", name, "from", from.String(), "to", to.String())
			},
		}),
	}, nil
}

// Members are the addresses, sorted.
func (g *Group) Members() []string {
	var addresses []string
	for _, m := range *g.members.Load() {
		addresses = append(addresses, m.address)
	}
	return addresses
}

// keepers are the members that keep a page, by rendezvous hashing: those with the highest hash of member and page, less this
// replica itself. Groups and ranks of a block stay together.
func (g *Group) keepers(key store.Key) []*member {
	page := xxh3.HashString(key.Namespace + "\x00" + key.Hash)
	ranked := slices.Clone(*g.members.Load())
	slices.SortFunc(ranked, func(a, b *member) int {
		return cmp.Or(cmp.Compare(weight(b.seed, page), weight(a.seed, page)), strings.Compare(a.address, b.address))
	})
	ranked = ranked[:min(g.o.Copies, len(ranked))]
	return slices.DeleteFunc(ranked, func(m *member) bool { return m.address == g.o.Own })
}

// weight mixes two hashes (the finaliser of MurmurHash3, by A. Appleby).
func weight(seed, page uint64) uint64 {
	x := seed ^ page
	x ^= x >> 33
	x *= 0xff51afd7ed558ccd
	x ^= x >> 33
	x *= 0xc4ceb9fe1a85ec53
	return x ^ x>>33
}

// errAlone says that a member is left alone for now.
var errAlone = fmt.Errorf("peer: left alone for a while: %w", store.ErrUnavailable)

// ask calls a member, unless it is left alone.
func (m *member) ask(ctx context.Context, f func(store.Store) error) error {
	done, err := m.breaker.Allow()
	if err != nil {
		return errAlone
	}
	err = f(m.store)
	// A caller that gives up early says nothing about the member; one that waited in vain does.
	broken := store.Broken(err) && !errors.Is(err, context.Canceled)
	done(!broken)
	if broken && ctx.Err() == nil {
		return fmt.Errorf("%s: %w", m.address, err)
	}
	return err
}

// begin checks what every operation needs.
func (g *Group) begin(ctx context.Context, key store.Key) error {
	if err := key.Validate(); err != nil {
		return err
	}
	if g.closed.Load() {
		return store.ErrClosed
	}
	return ctx.Err()
}

// first asks the keepers of a page one after another until one has it. A member that fails counts as one that has not.
func (g *Group) first(ctx context.Context, key store.Key, f func(store.Store) error) error {
	if err := g.begin(ctx, key); err != nil {
		return err
	}
	for _, m := range g.keepers(key) {
		err := m.ask(ctx, f)
		if err == nil || ctx.Err() != nil || errors.Is(err, store.ErrUnsupported) {
			return err
		}
		if store.Broken(err) && !errors.Is(err, store.ErrUnavailable) {
			g.o.Logger.Debug("a peer fails", "address", m.address, "err", err)
		}
	}
	return store.ErrNotFound
}

// Put implements store.Store. It succeeds if one keeper has taken the page.
func (g *Group) Put(ctx context.Context, key store.Key, value []byte, attr store.Attr) error {
	if err := g.begin(ctx, key); err != nil {
		return err
	}
	if err := attr.Validate(); err != nil {
		return err
	}
	taken, refused := false, error(nil)
	for _, m := range g.keepers(key) {
		err := m.ask(ctx, func(s store.Store) error { return s.Put(ctx, key, value, attr) })
		if ctx.Err() != nil {
			return ctx.Err()
		}
		taken = taken || err == nil
		if store.Refused(err) {
			refused = err
		}
	}
	switch {
	case taken:
		return nil
	case refused != nil:
		return refused
	}
	return fmt.Errorf("peer: no member takes the page: %w", store.ErrShed)
}

// Get implements store.Store.
func (g *Group) Get(ctx context.Context, key store.Key) (page store.Page, err error) {
	err = g.first(ctx, key, func(s store.Store) (err error) { page, err = s.Get(ctx, key); return err })
	return page, err
}

// Stat implements store.Store.
func (g *Group) Stat(ctx context.Context, key store.Key) (info store.Info, err error) {
	err = g.first(ctx, key, func(s store.Store) (err error) { info, err = s.Stat(ctx, key); return err })
	return info, err
}

// Pin implements store.Store: at the first keeper that has the page.
func (g *Group) Pin(ctx context.Context, key store.Key, lease time.Duration) error {
	return g.first(ctx, key, func(s store.Store) error { return s.Pin(ctx, key, lease) })
}

// Delete implements store.Store. It is an error if a keeper cannot be reached, for it may still have the page.
func (g *Group) Delete(ctx context.Context, key store.Key) error {
	if err := g.begin(ctx, key); err != nil {
		return err
	}
	var failed error
	for _, m := range g.keepers(key) {
		failed = errors.Join(failed, m.ask(ctx, func(s store.Store) error { return s.Delete(ctx, key) }))
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	return failed
}

// Scan implements store.Store. A page with several copies is listed once; a member that fails is passed over, and the error is
// the last thing that is listed.
func (g *Group) Scan(ctx context.Context, namespace string) iter.Seq2[store.Entry, error] {
	return func(yield func(store.Entry, error) bool) {
		if g.closed.Load() {
			yield(store.Entry{}, store.ErrClosed)
			return
		}
		if err := ctx.Err(); err != nil {
			yield(store.Entry{}, err)
			return
		}
		seen := map[store.Key]bool{}
		var failed error
		for _, m := range *g.members.Load() {
			if m.address == g.o.Own {
				continue
			}
			stopped := false
			failed = errors.Join(failed, m.ask(ctx, func(s store.Store) error {
				for e, err := range s.Scan(ctx, namespace) {
					if err != nil {
						return err
					}
					if g.o.Copies > 1 {
						if seen[e.Key] {
							continue
						}
						seen[e.Key] = true
					}
					if stopped = !yield(e, nil); stopped {
						return nil
					}
				}
				return nil
			}))
			if stopped {
				return
			}
			if err := ctx.Err(); err != nil {
				failed = err
				break
			}
		}
		if failed != nil {
			yield(store.Entry{}, failed)
		}
	}
}

// Close implements store.Store, and closes the connections.
func (g *Group) Close() error {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.closed.Store(true)
	var failed error
	for _, m := range *g.members.Swap(&[]*member{}) {
		failed = errors.Join(failed, m.conn.Close())
	}
	return failed
}
