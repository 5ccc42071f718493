package peers

import (
	"context"
	"fmt"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/memberlist"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/inferloom/inferloom/scheduling"
	"github.com/inferloom/inferloom/scheduling/prefix"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// replica is a gateway's state and its peers, on loopback.
type replica struct {
	*Peers
	pool  *scheduling.Pool
	sched *scheduling.Scheduler
	index *prefix.Index
	wire  *wire
}

var fleet = []scheduling.Endpoint{
	{ID: "e0", Address: "10.0.0.1:80", BlockTokens: 16, CacheBlocks: 10_000}, {ID: "e1", Address: "10.0.0.2:80", BlockTokens: 16, CacheBlocks: 10_000},
}

// start makes a replica, with memberlist's times shortened.
func start(t *testing.T, name string, o Options, join ...*replica) *replica {
	t.Helper()
	r := &replica{wire: &wire{}}
	var err error
	r.pool, err = scheduling.NewPool(scheduling.PoolOptions{Endpoints: fleet})
	require.NoError(t, err)
	r.index, err = prefix.New(prefix.Options{})
	require.NoError(t, err)
	producer := &prefix.Producer{Index: r.index}
	r.sched, err = scheduling.New(r.pool, scheduling.Options{Profile: scheduling.Profile{Producers: []scheduling.Producer{producer}}})
	require.NoError(t, err)
	d, err := r.sched.Pick(context.Background(), &scheduling.Request{}) // brings the index up to date with the pool
	require.NoError(t, err)
	d.Done()

	o.Name, o.Bind, o.Pool, o.Index = name, "127.0.0.1:0", r.pool, r.index
	o.Interval, o.Refresh, o.Expiry, o.Lease = 5*time.Millisecond, 100*time.Millisecond, time.Second, 200*time.Millisecond
	o.Probe, o.Sync, o.Rejoin = 100*time.Millisecond, time.Second, 200*time.Millisecond
	if o.Reclaim == 0 {
		o.Reclaim = time.Minute
	}
	for _, j := range join {
		o.Join = append(o.Join, j.Address())
	}
	o.wrap = r.wire.wrap
	r.Peers, err = Start(t.Context(), o)
	require.NoError(t, err)
	producer.Routed = r.Peers.Routed
	t.Cleanup(r.Close)
	return r
}

// pick places a request of so many tokens.
func (r *replica) pick(t *testing.T, tokens ...uint32) scheduling.Decision {
	t.Helper()
	d, err := r.sched.Pick(context.Background(), &scheduling.Request{Prompt: scheduling.Prompt{Tokens: tokens}})
	require.NoError(t, err)
	return d
}

func eventually(t *testing.T, what string, condition func() bool) {
	t.Helper()
	require.Eventually(t, condition, 20*time.Second, 5*time.Millisecond, what)
}

// wire is a replica's network, which can be cut.
type wire struct {
	memberlist.NodeAwareTransport
	mu      sync.Mutex
	blocked map[string]bool // addresses
	packets chan *memberlist.Packet
	done    chan struct{}
}

func (w *wire) wrap(c *memberlist.Config) error {
	inner, err := memberlist.NewNetTransport(&memberlist.NetTransportConfig{BindAddrs: []string{c.BindAddr}, BindPort: c.BindPort, Logger: c.Logger})
	if err != nil {
		return err
	}
	c.BindPort, c.AdvertisePort = inner.GetAutoBindPort(), inner.GetAutoBindPort()
	w.NodeAwareTransport, w.packets, w.done = inner, make(chan *memberlist.Packet), make(chan struct{})
	c.Transport = w
	go func() { // until the transport is shut down
		for {
			select {
			case <-w.done:
				return
			case p := <-inner.PacketCh():
				if w.cut(p.From.String()) {
					continue
				}
				select {
				case w.packets <- p:
				case <-w.done:
					return
				}
			}
		}
	}()
	return nil
}

func (w *wire) cut(address string) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.blocked[address]
}

// block cuts the network to others, both ways if they do so as well.
func (w *wire) block(others ...*replica) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.blocked = map[string]bool{}
	for _, o := range others {
		w.blocked[o.Address()] = true
	}
}

func (w *wire) PacketCh() <-chan *memberlist.Packet { return w.packets }

func (w *wire) Shutdown() error {
	defer close(w.done) // the inner transport does not end while a packet of it is not taken
	return w.NodeAwareTransport.Shutdown()
}

func (w *wire) WriteToAddress(b []byte, a memberlist.Address) (time.Time, error) {
	if w.cut(a.Addr) {
		return time.Now(), nil
	}
	return w.NodeAwareTransport.WriteToAddress(b, a)
}

func (w *wire) DialAddressTimeout(a memberlist.Address, d time.Duration) (net.Conn, error) {
	if w.cut(a.Addr) {
		return nil, fmt.Errorf("no route to %s", a.Addr)
	}
	return w.NodeAwareTransport.DialAddressTimeout(a, d)
}

func TestReplicasSeeEachOthersLoad(t *testing.T) {
	a := start(t, "a", Options{})
	b := start(t, "b", Options{}, a)
	c := start(t, "c", Options{}, a)
	d := a.pick(t, make([]uint32, 100)...)
	want := scheduling.Load{Requests: 1, PrefillTokens: 100, KVTokens: 100}
	slot := d.Slot()
	for _, other := range []*replica{b, c} {
		eventually(t, "the load is seen", func() bool { return other.pool.Remote(slot) == want })
		require.Zero(t, other.pool.Total())
		elsewhere := other.pick(t, 1)
		require.NotEqual(t, slot, elsewhere.Slot(), "and avoided")
		elsewhere.Done()
	}
	require.Zero(t, a.pool.Remote(slot), "nobody counts its own")
	e := b.pick(t, make([]uint32, 50)...)
	f := c.pick(t, make([]uint32, 7)...)
	eventually(t, "sums", func() bool { return c.pool.Remote(0).KVTokens+c.pool.Remote(1).KVTokens == 150 })
	d.FirstToken()
	d.Tokens(5)
	eventually(t, "progress", func() bool { return b.pool.Remote(slot).KVTokens >= 105 && c.pool.Remote(slot).PrefillTokens < 100 })
	for _, d := range []scheduling.Decision{d, e, f} {
		d.Done()
	}
	for _, r := range []*replica{a, b, c} {
		eventually(t, "all is over", func() bool { return r.pool.Remote(0) == scheduling.Load{} && r.pool.Remote(1) == scheduling.Load{} })
		require.Len(t, r.Members(), 2)
	}
}

func TestReplicasLearnRoutes(t *testing.T) {
	a := start(t, "a", Options{})
	b := start(t, "b", Options{}, a)
	prompt := make([]uint32, 16*400) // several packets
	for i := range prompt {
		prompt[i] = uint32(i)
	}
	d := a.pick(t, prompt...)
	d.Done()
	held := func(r *replica) int {
		tokens := make([]int32, 2)
		chain := chainOf(t, r, prompt)
		r.index.Cached(chain, 16, []uint64{3}, tokens)
		return int(tokens[d.Slot()])
	}
	eventually(t, "b knows what a routed", func() bool { return held(b) == len(prompt) })
	c := start(t, "c", Options{}, b)
	eventually(t, "c is told when it joins", func() bool { return held(c) == len(prompt) })
}

// chainOf returns the block hashes that a's producer makes of a prompt.
func chainOf(t *testing.T, r *replica, prompt []uint32) []uint64 {
	t.Helper()
	index, err := prefix.New(prefix.Options{})
	require.NoError(t, err)
	var chain []uint64
	producer := &prefix.Producer{Index: index, Routed: func(_ *scheduling.Endpoint, hashes []uint64) { chain = append(chain, hashes...) }}
	s, err := scheduling.New(r.pool, scheduling.Options{Profile: scheduling.Profile{Producers: []scheduling.Producer{producer}}})
	require.NoError(t, err)
	d, err := s.Pick(context.Background(), &scheduling.Request{Prompt: scheduling.Prompt{Tokens: prompt}})
	require.NoError(t, err)
	d.Done()
	return chain
}

// What a replica said counts no longer when it leaves, or dies; and when it comes back, it begins anew.
func TestReplicasThatGo(t *testing.T) {
	a := start(t, "a", Options{})
	b := start(t, "b", Options{}, a)
	c := start(t, "c", Options{}, a)
	for _, r := range []*replica{b, c} {
		r.pick(t, 1, 2, 3) // and never ends
	}
	remote := func() int { return a.pool.Remote(0).Requests + a.pool.Remote(1).Requests }
	eventually(t, "both are seen", func() bool { return remote() == 2 })
	b.Close()
	eventually(t, "b has left", func() bool { return remote() == 1 && len(a.Members()) == 1 })
	c.wire.block(a) // it hangs, as seen from a
	a.wire.block(c)
	eventually(t, "c is lost", func() bool { return remote() == 0 })
	eventually(t, "and known as such", func() bool { return len(a.Members()) == 1 && !a.Members()[0].Alive })
	again := start(t, "b", Options{}, a)
	again.pick(t, 1)
	eventually(t, "b is back", func() bool { return remote() == 1 })
}

func TestPartitionHeals(t *testing.T) {
	a := start(t, "a", Options{})
	b := start(t, "b", Options{}, a)
	c := start(t, "c", Options{}, a)
	for _, r := range []*replica{a, b, c} {
		r.pick(t, 1)
	}
	remote := func(r *replica) int { return r.pool.Remote(0).Requests + r.pool.Remote(1).Requests }
	all := []*replica{a, b, c}
	for _, r := range all {
		eventually(t, "all see all", func() bool { return remote(r) == 2 })
	}
	a.wire.block(b, c)
	b.wire.block(a)
	c.wire.block(a)
	eventually(t, "a is alone", func() bool { return remote(a) == 0 })
	for _, r := range all[1:] {
		eventually(t, "the others see each other", func() bool { return remote(r) == 1 })
	}
	for _, r := range all {
		r.wire.block()
	}
	for _, r := range all {
		eventually(t, "healed", func() bool { return remote(r) == 2 })
	}
}

// Without the key nobody joins; with any of the keys one does.
func TestKeys(t *testing.T) {
	one, two := []byte(strings.Repeat("1", 16)), []byte(strings.Repeat("2", 32))
	a := start(t, "a", Options{Keys: [][]byte{one, two}})
	start(t, "stranger", Options{Label: ""}, a)
	b := start(t, "b", Options{Keys: [][]byte{two, one}}, a)
	b.pick(t, 1)
	eventually(t, "b is heard", func() bool { return a.pool.Remote(0).Requests+a.pool.Remote(1).Requests == 1 })
	require.Len(t, a.Members(), 1)
	require.Equal(t, "b", a.Members()[0].Name)
}

// learner is a Latency.
type learner struct {
	mu     sync.Mutex
	own    string
	others map[string]string
}

func (l *learner) Statistics() []byte { return []byte(l.own) }
func (l *learner) Merge(replica string, statistics []byte) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.others[replica] = string(statistics)
	return nil
}
func (l *learner) Forget(replica string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.others, replica)
}
func (l *learner) of(replica string) string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.others[replica]
}

func TestLatencyStatistics(t *testing.T) {
	x, y := &learner{own: "x", others: map[string]string{}}, &learner{own: "y", others: map[string]string{}}
	a := start(t, "a", Options{Latency: x})
	b := start(t, "b", Options{Latency: y}, a)
	eventually(t, "a has b's", func() bool { return x.of("b") == "y" })
	eventually(t, "b has a's", func() bool { return y.of("a") == "x" })
	b.Close()
	eventually(t, "and forgets them", func() bool { return x.of("b") == "" })
}

func TestOptionsAreChecked(t *testing.T) {
	_, err := Start(context.Background(), Options{
		Name: strings.Repeat("x", 65), Bind: "nowhere", Advertise: "x:0", Keys: [][]byte{{1}}, Label: strings.Repeat("x", 300), Interval: -1, Refresh: -1,
		Expiry: -1, Lease: 2 * time.Hour, Reclaim: -1, Replicas: -1, Rejoin: -1, Probe: -1, Sync: -1, MaxPeers: -1, MaxTenants: -1,
	})
	for _, field := range []string{"name", "bind", "advertise", "keys[0]: 1 bytes", "label", "pool: nil", "interval", "refresh", "expiry", "lease 2h", "reclaim", "replicas", "rejoin", "probe", "sync", "max peers", "max tenants"} {
		require.ErrorContains(t, err, field)
	}
	pool, err := scheduling.NewPool(scheduling.PoolOptions{})
	require.NoError(t, err)
	_, err = Start(context.Background(), Options{Name: "a", Bind: "256.0.0.1:1", Pool: pool})
	require.Error(t, err)
}
