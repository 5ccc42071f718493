package peer_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"

	"github.com/inferloom/inferloom/kvcache/store"
	"github.com/inferloom/inferloom/kvcache/store/peer"
	"github.com/inferloom/inferloom/kvcache/store/peer/pagespb"
	"github.com/inferloom/inferloom/kvcache/store/storetest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var plain = grpc.WithTransportCredentials(insecure.NewCredentials())

// serve starts a replica and returns its address and what ends it.
func serve(t *testing.T, o peer.ServerOptions) (address string, stop func()) {
	t.Helper()
	server, err := peer.NewServer(o)
	require.NoError(t, err)
	g := grpc.NewServer()
	server.Register(g)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	done := make(chan struct{})
	go func() { defer close(done); _ = g.Serve(l) }()
	stop = sync.OnceFunc(func() { g.Stop(); <-done })
	t.Cleanup(stop)
	return l.Addr().String(), stop
}

func dial(t *testing.T, address string) *grpc.ClientConn {
	t.Helper()
	conn, err := grpc.NewClient(address, plain)
	require.NoError(t, err)
	t.Cleanup(func() { _ = conn.Close() })
	return conn
}

func newStore(t *testing.T, o peer.ServerOptions) *peer.Store {
	t.Helper()
	address, _ := serve(t, o)
	s, err := peer.New(peer.Options{Conn: dial(t, address), MaxPageBytes: 1 << 20})
	require.NoError(t, err)
	return s
}

func TestStore(t *testing.T) {
	storetest.Run(t, storetest.Options{MaxBytes: 600_000, Operations: 800, New: func(t *testing.T) store.Store {
		return newStore(t, peer.ServerOptions{Store: &storetest.Map{}})
	}})
}

func TestGroup(t *testing.T) {
	for _, copies := range []int{1, 2} {
		t.Run(fmt.Sprint(copies), func(t *testing.T) {
			storetest.Run(t, storetest.Options{Operations: 600, New: func(t *testing.T) store.Store {
				g, err := peer.NewGroup(peer.GroupOptions{Dial: []grpc.DialOption{plain}, Copies: copies})
				require.NoError(t, err)
				var members []string
				for range 3 {
					address, _ := serve(t, peer.ServerOptions{Store: &storetest.Map{}})
					members = append(members, address)
				}
				require.NoError(t, g.Set(members...))
				return g
			}})
		})
	}
}

var key = store.Key{Namespace: "n", Hash: "h"}

// Errors mean at this end what they mean at the other.
func TestErrorsKeepTheirMeaning(t *testing.T) {
	fault := storetest.NewFault(&storetest.Map{})
	s := newStore(t, peer.ServerOptions{Store: fault})
	ctx := t.Context()
	for _, want := range []error{
		store.ErrNotFound, store.ErrCorrupt, store.ErrFull, store.ErrTooLarge, store.ErrQuota, store.ErrShed, store.ErrUnavailable,
		store.ErrUnsupported, store.ErrClosed, store.ErrKey, store.ErrAttr,
	} {
		fault.Fail(fmt.Errorf("shelf 7: %w", want))
		_, get := s.Get(ctx, key)
		_, stat := s.Stat(ctx, key)
		for doing, err := range map[string]error{
			"putting a page": s.Put(ctx, key, []byte("page"), store.Attr{}), "getting a page": get, "deleting a page": s.Delete(ctx, key),
			"pinning a page": s.Pin(ctx, key, time.Second),
		} {
			require.ErrorIs(t, err, want)
			require.EqualError(t, err, "peer: "+doing+": shelf 7: "+want.Error())
		}
		require.ErrorIs(t, stat, want)
	}
	fault.Fail(errors.New("on fire"))
	_, err := s.Get(ctx, key)
	require.ErrorContains(t, err, "on fire")
	require.True(t, store.Broken(err))
}

func TestPinsAreBounded(t *testing.T) {
	pins := &pinned{Store: &storetest.Map{}}
	s := newStore(t, peer.ServerOptions{Store: pins, MaxPin: time.Second})
	for _, lease := range []time.Duration{time.Millisecond, time.Hour, -1} {
		require.NoError(t, s.Pin(t.Context(), key, lease))
	}
	require.Equal(t, []time.Duration{time.Millisecond, time.Second, 0}, pins.leases)
}

type pinned struct {
	store.Store
	leases []time.Duration
}

func (p *pinned) Pin(_ context.Context, _ store.Key, lease time.Duration) error {
	p.leases = append(p.leases, lease)
	return nil
}

func TestNamespacesCanBeForbidden(t *testing.T) {
	s := newStore(t, peer.ServerOptions{Store: &storetest.Map{}, Allow: func(_ context.Context, namespace string) error {
		if namespace != "n" {
			return status.Errorf(codes.PermissionDenied, "namespace %q is not yours", namespace)
		}
		return nil
	}})
	ctx := t.Context()
	require.NoError(t, s.Put(ctx, key, nil, store.Attr{}))
	other := store.Key{Namespace: "o", Hash: "h"}
	require.ErrorContains(t, s.Put(ctx, other, nil, store.Attr{}), `namespace "o" is not yours`)
	_, err := s.Stat(ctx, other)
	require.ErrorContains(t, err, "keys[0]")
	for _, err := range s.Scan(ctx, "") {
		require.ErrorContains(t, err, `namespace "" is not yours`)
	}
}

// Whoever speaks the protocol wrongly is told what is wrong, and nothing is stored.
func TestViolations(t *testing.T) {
	pages := &storetest.Map{}
	address, _ := serve(t, peer.ServerOptions{Store: pages, MaxPageBytes: 100})
	client := pagespb.NewPagesClient(dial(t, address))
	wire := &pagespb.Key{Namespace: "n", Hash: []byte("h")}
	for name, row := range map[string]struct {
		messages []*pagespb.PutRequest
		want     string
	}{
		"nothing":    {nil, "no message"},
		"no key":     {[]*pagespb.PutRequest{{}}, "Namespace has 0 bytes"},
		"no header":  {[]*pagespb.PutRequest{{Key: wire}}, "no header"},
		"negative":   {[]*pagespb.PutRequest{{Key: wire, Header: &pagespb.Header{Size: -1}}}, "header.size is -1"},
		"large":      {[]*pagespb.PutRequest{{Key: wire, Header: &pagespb.Header{Size: 101}}}, "101 bytes, at most 100"},
		"attributes": {[]*pagespb.PutRequest{{Key: wire, Header: &pagespb.Header{Attr: &pagespb.Attr{Depth: 1}}}}, "Depth"},
		"short":      {[]*pagespb.PutRequest{{Key: wire, Header: &pagespb.Header{Size: 5}, Bytes: []byte("1234")}}, ""},
		"long":       {[]*pagespb.PutRequest{{Key: wire, Header: &pagespb.Header{Size: 1}, Bytes: []byte("12")}}, "2 bytes written of a page of 1"},
		"damaged":    {[]*pagespb.PutRequest{{Key: wire, Header: &pagespb.Header{Size: 1}, Bytes: []byte("1")}}, "checksum"},
	} {
		t.Run(name, func(t *testing.T) {
			stream, err := client.Put(t.Context())
			require.NoError(t, err)
			for _, m := range row.messages {
				require.NoError(t, stream.Send(m))
			}
			_, err = stream.CloseAndRecv()
			require.ErrorContains(t, err, row.want)
			_, err = pages.Get(t.Context(), key)
			require.ErrorIs(t, err, store.ErrNotFound)
		})
	}
	_, err := client.Stat(t.Context(), &pagespb.StatRequest{Keys: make([]*pagespb.Key, 10_001)})
	require.ErrorContains(t, err, "10001 keys: at most 10000")
}

// liar is a peer that answers a Get with what it likes.
type liar struct {
	pagespb.UnimplementedPagesServer
	replies []*pagespb.GetReply
}

func (l *liar) Get(_ *pagespb.GetRequest, stream grpc.ServerStreamingServer[pagespb.GetReply]) error {
	for _, r := range l.replies {
		if err := stream.Send(r); err != nil {
			return err
		}
	}
	return nil
}

func TestPeersAreNotBelieved(t *testing.T) {
	l := &liar{}
	g := grpc.NewServer()
	pagespb.RegisterPagesServer(g, l)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	go func() { _ = g.Serve(listener) }()
	defer g.Stop()
	s, err := peer.New(peer.Options{Conn: dial(t, listener.Addr().String()), MaxPageBytes: 100})
	require.NoError(t, err)
	for name, row := range map[string]struct {
		replies []*pagespb.GetReply
		want    string
	}{
		"nothing":   {nil, "unexpected EOF"},
		"no header": {[]*pagespb.GetReply{{Bytes: []byte("1")}}, "no header"},
		"large":     {[]*pagespb.GetReply{{Header: &pagespb.Header{Size: 1 << 40}}}, "too large"},
		"negative":  {[]*pagespb.GetReply{{Header: &pagespb.Header{Size: -1 << 40}}}, "negative"},
		"short":     {[]*pagespb.GetReply{{Header: &pagespb.Header{Size: 2}, Bytes: []byte("1")}}, "unexpected EOF"},
		"long":      {[]*pagespb.GetReply{{Header: &pagespb.Header{Size: 2}, Bytes: []byte("1")}, {Bytes: []byte("23")}}, "more than the 2 bytes"},
		"damaged":   {[]*pagespb.GetReply{{Header: &pagespb.Header{Size: 2}, Bytes: []byte("12")}}, "damaged on the way"},
	} {
		l.replies = row.replies
		_, err := s.Get(t.Context(), key)
		require.ErrorContains(t, err, row.want, name)
		require.NotErrorIs(t, err, store.ErrNotFound)
	}
}

// Members that come and go take only their share along, and those that vanish hold nobody up for long.
func TestMembersComeAndGo(t *testing.T) {
	g, err := peer.NewGroup(peer.GroupOptions{Dial: []grpc.DialOption{plain}, Failures: 2, Retry: time.Hour})
	require.NoError(t, err)
	defer g.Close()
	ctx := t.Context()
	require.ErrorIs(t, g.Put(ctx, key, nil, store.Attr{}), store.ErrShed, "no members")
	var members []string
	stops := map[string]func(){}
	for range 4 {
		address, stop := serve(t, peer.ServerOptions{Store: &storetest.Map{}})
		members, stops[address] = append(members, address), stop
	}
	require.NoError(t, g.Set(members[:3]...))
	const pages = 300
	keyOf := func(n int) store.Key { return store.Key{Namespace: "n", Hash: fmt.Sprint(n)} }
	for n := range pages {
		require.NoError(t, g.Put(ctx, keyOf(n), []byte("page"), store.Attr{}))
	}
	found := func() (n int) {
		for i := range pages {
			if _, err := g.Get(ctx, keyOf(i)); err == nil {
				n++
			} else {
				require.ErrorIs(t, err, store.ErrNotFound)
			}
		}
		return n
	}
	require.Equal(t, pages, found())
	require.NoError(t, g.Set(members...))
	require.InDelta(t, pages*3/4, found(), pages/10, "a fourth member takes its share")
	require.NoError(t, g.Set(members[:3]...))
	require.Equal(t, pages, found(), "and gives it back")

	stops[members[0]]()
	require.InDelta(t, pages*2/3, found(), pages/8, "a member vanishes")
	refused := 0
	for n := range pages {
		if err := g.Put(ctx, keyOf(n), []byte("page"), store.Attr{}); err != nil {
			require.ErrorIs(t, err, store.ErrShed)
			refused++
		}
	}
	require.InDelta(t, pages/3, refused, pages/8)
	listed, last := 0, error(nil)
	for _, err := range g.Scan(ctx, "n") {
		if last = err; err == nil {
			listed++
		}
	}
	require.Equal(t, pages-refused, listed)
	require.ErrorIs(t, last, store.ErrUnavailable)
	require.ErrorContains(t, g.Set("\x00"), "member")
	require.Len(t, g.Members(), 3)
}

func TestCopiesSurviveAMember(t *testing.T) {
	g, err := peer.NewGroup(peer.GroupOptions{Dial: []grpc.DialOption{plain}, Copies: 2})
	require.NoError(t, err)
	defer g.Close()
	var members []string
	stops := map[string]func(){}
	for range 3 {
		address, stop := serve(t, peer.ServerOptions{Store: &storetest.Map{}})
		members, stops[address] = append(members, address), stop
	}
	require.NoError(t, g.Set(members...))
	for n := range 100 {
		require.NoError(t, g.Put(t.Context(), store.Key{Namespace: "n", Hash: fmt.Sprint(n)}, []byte("page"), store.Attr{}))
	}
	stops[members[1]]()
	for n := range 100 {
		page, err := g.Get(t.Context(), store.Key{Namespace: "n", Hash: fmt.Sprint(n)})
		require.NoError(t, err)
		page.Release()
	}
}

// A replica finds the others by the same choice as they do, and does not ask itself.
func TestOwnShareIsInOtherLevels(t *testing.T) {
	own := &storetest.Map{}
	address, _ := serve(t, peer.ServerOptions{Store: own})
	g, err := peer.NewGroup(peer.GroupOptions{Dial: []grpc.DialOption{plain}, Own: address})
	require.NoError(t, err)
	defer g.Close()
	require.NoError(t, g.Set(address))
	require.ErrorIs(t, g.Put(t.Context(), key, nil, store.Attr{}), store.ErrShed)
	require.NoError(t, own.Put(t.Context(), key, nil, store.Attr{}))
	_, err = g.Get(t.Context(), key)
	require.ErrorIs(t, err, store.ErrNotFound)
}

func TestFollowsAName(t *testing.T) {
	address, _ := serve(t, peer.ServerOptions{Store: &storetest.Map{}})
	g, err := peer.NewGroup(peer.GroupOptions{Dial: []grpc.DialOption{plain}})
	require.NoError(t, err)
	defer g.Close()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	require.ErrorContains(t, g.Follow(ctx, "nobody"), `address "nobody": want name:port`)
	done := make(chan error, 1)
	go func() { done <- g.Follow(ctx, address) }()
	require.Eventually(t, func() bool { return g.Put(ctx, key, []byte("page"), store.Attr{}) == nil }, 10*time.Second, 5*time.Millisecond)
	require.Equal(t, []string{address}, g.Members())
	cancel()
	require.NoError(t, <-done)
}

func TestOptionsAreChecked(t *testing.T) {
	_, err := peer.NewServer(peer.ServerOptions{MaxPageBytes: -1, MaxPin: -2})
	require.EqualError(t, err, "store: nil\nmax page bytes -1: negative\nmax pin -2ns: negative")
	_, err = peer.New(peer.Options{})
	require.EqualError(t, err, "conn: nil")
	_, err = peer.NewGroup(peer.GroupOptions{Copies: -1, Failures: -3})
	require.True(t, strings.Contains(err.Error(), "copies -1") && strings.Contains(err.Error(), "failures -3"), err)
}
