package peers

import (
	"cmp"
	"context"
	"fmt"
	"math"
	"slices"
	"sync"
	"time"

	"github.com/hashicorp/memberlist"

	"github.com/inferloom/inferloom/scheduling"
)

// Peers is this replica among the others. It is safe for concurrent use.
type Peers struct {
	o       Options
	list    *memberlist.Memberlist
	cancel  context.CancelFunc
	ended   sync.WaitGroup
	wake    chan struct{}
	started time.Time
	address string
	routes  routes
	byHash  scheduling.PerLayout[map[uint64]scheduling.Slot]

	mu       sync.Mutex
	peers    map[string]*peer
	changed  bool // loads of peers, since they were given to the pool
	leases   ledger
	share    float64
	received uint64
	refused  uint64

	// Of the loop alone.
	sequence uint64
	told     map[uint64]loadRecord   // what was last said of endpoints
	said     map[uint64]tenantRecord // and of tenants
	tenants  []Tenant
	remote   []scheduling.RemoteLoad
}

// Member is a replica that is known.
type Member struct {
	Name, Address string
	// Alive members answer memberlist's probes; Heard is when it last said something.
	Alive bool
	Heard time.Time
}

// Stats is what went on.
type Stats struct {
	// Received messages and those of them that were Refused because they made no sense or came from nobody known.
	Received, Refused uint64
}

// Start listens, joins the others and shares until the context ends or Close is called. That no other replica can be reached
// is no error: it is tried again.
func Start(ctx context.Context, o Options) (*Peers, error) {
	if err := o.Validate(); err != nil {
		return nil, fmt.Errorf("peers: %w", err)
	}
	o = o.withDefaults()
	c, err := o.config()
	if err != nil {
		return nil, fmt.Errorf("peers: %w", err)
	}
	p := &Peers{
		o: o, wake: make(chan struct{}, 1), started: time.Now(), peers: map[string]*peer{}, leases: newLedger(), told: map[uint64]loadRecord{},
		said: map[uint64]tenantRecord{},
	}
	d := delegate{p}
	c.Delegate, c.Events = d, d
	if o.wrap != nil {
		if err := o.wrap(c); err != nil {
			return nil, fmt.Errorf("peers: %w", err)
		}
	}
	if p.list, err = memberlist.Create(c); err != nil {
		return nil, fmt.Errorf("peers: %w", err)
	}
	p.address = p.list.LocalNode().Address()
	ctx, p.cancel = context.WithCancel(ctx)
	p.setShare(p.ownedAt(p.started))
	p.ended.Go(func() { p.run(ctx) })
	return p, nil
}

// Address is where others reach this replica.
func (p *Peers) Address() string { return p.address }

// Close leaves the others and waits until all has ended. It may be called more than once.
func (p *Peers) Close() {
	p.cancel()
	p.ended.Wait()
}

// Routed tells others that a prompt went to an endpoint: prefix.Producer calls it.
func (p *Peers) Routed(e *scheduling.Endpoint, chain []uint64) {
	if len(chain) > 0 {
		p.routes.add(hashOf(e.ID), chain)
		p.signal()
	}
}

// Share is the share of the fleet's capacity that this replica may use.
func (p *Peers) Share() float64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.share
}

// Members returns the other replicas that are known, by name.
func (p *Peers) Members() []Member {
	p.mu.Lock()
	defer p.mu.Unlock()
	var members []Member
	for _, q := range p.peers {
		members = append(members, Member{q.name, q.address.Addr, q.member, q.heard})
	}
	slices.SortFunc(members, func(a, b Member) int { return cmp.Compare(a.Name, b.Name) })
	return members
}

// Stats returns what went on so far.
func (p *Peers) Stats() Stats {
	p.mu.Lock()
	defer p.mu.Unlock()
	return Stats{p.received, p.refused}
}

// signal makes the loop look soon.
func (p *Peers) signal() {
	select {
	case p.wake <- struct{}{}:
	default:
	}
}

// run says and hears until the context ends.
func (p *Peers) run(ctx context.Context) {
	defer p.stop()
	p.ended.Go(func() { p.join(ctx) })
	timer := time.NewTimer(0)
	defer timer.Stop()
	var last, refreshed time.Time
	for {
		select {
		case <-ctx.Done():
			return
		case <-p.wake:
			if wait := p.o.Interval - time.Since(last); wait > 0 {
				timer.Reset(wait)
				continue
			}
		case <-timer.C:
		}
		last = time.Now()
		refresh := last.Sub(refreshed) >= p.o.Refresh
		if refresh {
			refreshed = last
		}
		next := p.o.Refresh - last.Sub(refreshed)
		if p.tick(last, refresh) {
			next = p.o.Interval
		}
		timer.Reset(max(next, p.o.Interval))
	}
}

// stop leaves the others.
func (p *Peers) stop() {
	p.mu.Lock()
	to := p.hearers(time.Now())
	p.mu.Unlock()
	p.send([][]byte{appendLeave(nil), appendLeave(nil)}, to)
	// Others take a replica that does not leave for dead some seconds later.
	if err := p.list.Leave(time.Second); err != nil {
		p.o.Logger.Debug("peers: leave", "error", err)
	}
	if err := p.list.Shutdown(); err != nil {
		p.o.Logger.Warn("peers: shut down", "error", err)
	}
	p.o.Pool.SetRemote(nil)
}

// join tries to reach replicas, at the start and whenever some are missing.
func (p *Peers) join(ctx context.Context) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
		}
		if missing := p.missing(); len(missing) > 0 {
			if _, err := p.list.Join(missing); err != nil && ctx.Err() == nil {
				p.o.Logger.Debug("peers: join", "error", err)
			}
		}
		timer.Reset(p.o.Rejoin)
	}
}

// missing returns addresses to try: all of Join while fewer replicas are there than that, and those that are gone.
func (p *Peers) missing() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	alive := 0
	var addresses []string
	for _, q := range p.peers {
		if q.member {
			alive++
		} else {
			addresses = append(addresses, q.address.Addr)
		}
	}
	if alive < max(len(p.o.Join), p.o.Replicas-1) {
		addresses = append(addresses, p.o.Join...)
	}
	return addresses
}

// tick says what has changed, or all, and goes by what others said. It reports whether there may be more to say soon.
func (p *Peers) tick(now time.Time, refresh bool) bool {
	var packets packer
	busy := p.loads(&packets, refresh)
	p.service(&packets, refresh)
	p.mu.Lock()
	to := p.hearers(now)
	for lender, lent := range p.divide(now, to) {
		packets.add((&leaseRecord{hashOf(lender), lent, uint64(p.o.Lease.Milliseconds())}).append(nil))
		busy = true
	}
	if p.changed || refresh {
		p.changed = false
		p.sum(now)
	}
	p.mu.Unlock()
	if refresh {
		packets.add(nil) // at least to be heard
	}
	p.send(packets.packets, to)
	return p.tellRoutes(to) || busy
}

// hearer is a peer to send to.
type hearer struct {
	*peer
	address memberlist.Address
}

// hearers returns the peers that are members, and forgets those that have been gone for long.
func (p *Peers) hearers(now time.Time) (to []hearer) {
	for name, q := range p.peers {
		if q.member {
			to = append(to, hearer{q, q.address})
		} else if now.Sub(q.gone) > p.o.Reclaim {
			p.forget(name)
		}
	}
	slices.SortFunc(to, func(a, b hearer) int { return cmp.Compare(a.name, b.name) })
	return to
}

func (p *Peers) forget(name string) {
	delete(p.peers, name)
	p.changed = true
	if p.o.Latency != nil {
		p.o.Latency.Forget(name)
	}
}

// loads packs what this replica has in flight. It reports whether anything is.
func (p *Peers) loads(packets *packer, all bool) (busy bool) {
	snap := p.o.Pool.Snapshot()
	slots := p.slots(snap)
	for endpoint, slot := range slots {
		l := p.o.Pool.InFlight(slot)
		r := loadRecord{endpoint, uint64(min(l.Requests, maxRequests)), uint64(min(l.PrefillTokens, maxTokens)), uint64(min(l.KVTokens, maxTokens))}
		busy = busy || l.Requests > 0
		was, said := p.told[endpoint]
		if r == was || !said && l == (scheduling.Load{}) {
			if !all || !said {
				continue
			}
		}
		p.told[endpoint] = r
		packets.add(r.append(nil))
	}
	for endpoint := range p.told {
		if _, there := slots[endpoint]; !there {
			delete(p.told, endpoint)
			packets.add((&loadRecord{endpoint: endpoint}).append(nil))
		}
	}
	return busy
}

// sum gives the pool what the others have in flight.
func (p *Peers) sum(now time.Time) {
	snap := p.o.Pool.Snapshot()
	slots := p.slots(snap)
	by := map[scheduling.Slot]*scheduling.RemoteLoad{}
	p.remote = p.remote[:0]
	for _, q := range p.peers {
		if !q.counts(now, p.o.Expiry) {
			continue
		}
		for endpoint, l := range q.loads {
			slot, ok := slots[endpoint]
			if !ok {
				continue
			}
			at := by[slot]
			if at == nil {
				at = &scheduling.RemoteLoad{Slot: slot, Generation: snap.Generation(slot)}
				by[slot] = at
			}
			at.Requests += int(l.record.requests)
			at.PrefillTokens += int(l.record.prefill)
			at.KVTokens += int(l.record.kv)
		}
	}
	for _, l := range by {
		p.remote = append(p.remote, *l)
	}
	p.o.Pool.SetRemote(p.remote)
}

// service packs what tenants were served here, and charges what they were served elsewhere.
func (p *Peers) service(packets *packer, all bool) {
	if p.o.Fairness == nil {
		return
	}
	p.tenants = p.o.Fairness.Tenants(p.tenants[:0])
	if len(p.tenants) > p.o.MaxTenants {
		p.tenants = p.tenants[:p.o.MaxTenants]
	}
	if len(p.said) > 2*len(p.tenants)+64 {
		clear(p.said) // of tenants that are forgotten here
	}
	now := time.Now()
	for i := range p.tenants {
		t := &p.tenants[i]
		r := recordOf(t)
		if p.said[r.tenant] != r || all {
			p.said[r.tenant] = r
			packets.add(r.append(nil))
		}
		p.mu.Lock()
		more := uint64(0)
		for _, q := range p.peers {
			if s := q.tenants[r.tenant]; s != nil && q.counts(now, p.o.Expiry) && s.record.served > s.applied {
				more += s.record.served - s.applied
				s.applied = s.record.served
			}
		}
		p.mu.Unlock()
		if more > 0 {
			p.o.Fairness.ServedElsewhere(t.Name, int64(min(more, math.MaxInt64)))
		}
	}
}

func recordOf(t *Tenant) tenantRecord {
	weight := t.Weight
	if !(weight > 0 && weight <= maxWeight) {
		weight = 1
	}
	return tenantRecord{hashOf(t.Name), uint64(max(t.Served, 0)), uint64(max(t.Queued, 0)), weight}
}

// ownedAt is the share that this replica owns.
func (p *Peers) ownedAt(now time.Time) float64 {
	if len(p.o.Join) > 0 && now.Sub(p.started) < p.o.Lease {
		return 0 // until the others have heard of it
	}
	return 1 / float64(max(1+len(p.peers), p.o.Replicas))
}

// divide sets this replica's share of the capacity, and returns what it lends to others.
func (p *Peers) divide(now time.Time, to []hearer) map[string]float64 {
	if p.o.Capacity == nil {
		return nil
	}
	owned := p.ownedAt(now)
	waiting := claims{p.o.Name: nil}
	for i := range p.tenants {
		waiting[p.o.Name] = append(waiting[p.o.Name], recordOf(&p.tenants[i]))
	}
	for _, q := range to {
		if !q.counts(now, p.o.Expiry) {
			continue // it does not hear either, perhaps: nothing is lent to it
		}
		waiting[q.name] = nil
		for _, s := range q.tenants {
			waiting[q.name] = append(waiting[q.name], s.record)
		}
	}
	var lent map[string]float64
	sum := 0.
	if wanted := targets(waiting); wanted != nil {
		for name := range waiting {
			wanted[name] += 0 // those that want nothing have something to lend
		}
		lent, sum = offers(p.o.Name, owned, wanted)
	}
	// What is to be lent is given up first, and lent as it becomes free.
	free := max(0, owned-max(0, p.o.Capacity.Used()))
	for name := range lent {
		lent[name] *= min(1, free/sum)
	}
	p.leases.fit(lent, owned, now)
	for name := range waiting {
		if name != p.o.Name {
			p.leases.lend(name, lent[name], now, p.o.Lease)
		}
	}
	p.setShare(max(0, owned-max(sum, p.leases.out(now))+p.leases.in(now)))
	return lent
}

func (p *Peers) setShare(share float64) {
	p.share = share
	if p.o.Capacity != nil {
		p.o.Capacity.SetShare(share)
	}
}

// tellRoutes sends each peer the routes that it was not told. It reports whether some are left.
func (p *Peers) tellRoutes(to []hearer) bool {
	const most = 32 // packets to one peer at a time
	more := false
	for _, q := range to {
		var packets packer
		p.mu.Lock()
		from, talks := q.routed, q.talks
		p.mu.Unlock()
		if !talks {
			continue // it would not know from whom they are
		}
		next := p.routes.pieces(from, func(r *routeRecord) bool {
			packets.add(r.append(nil))
			return len(packets.packets) <= most
		})
		p.mu.Lock()
		q.routed = next
		p.mu.Unlock()
		more = more || len(packets.packets) > most
		p.send(packets.packets, []hearer{q})
	}
	return more
}

// send sends packets of records, each as a message of its own.
func (p *Peers) send(packets [][]byte, to []hearer) {
	if len(to) == 0 {
		return
	}
	for _, records := range packets {
		p.sequence++
		data := append(p.header().append(nil), records...)
		for _, q := range to {
			if err := p.list.SendToAddress(q.address, data); err != nil {
				p.o.Logger.Debug("peers: send", "peer", q.name, "error", err)
			}
		}
	}
}

func (p *Peers) header() *header {
	return &header{p.o.Name, uint64(p.started.UnixNano()), p.sequence}
}

// packer gathers records into packets.
type packer struct{ packets [][]byte }

func (p *packer) add(record []byte) {
	if n := len(p.packets); n > 0 && len(p.packets[n-1])+len(record) <= maxPacket-maxOrigin-24 {
		p.packets[n-1] = append(p.packets[n-1], record...)
		return
	}
	p.packets = append(p.packets, record)
}

// delegate is what memberlist calls. It copies what it is given of nodes at once: memberlist changes them later without a lock
// that callers could take (its issue 306).
type delegate struct{ *Peers }

func (d delegate) NotifyJoin(n *memberlist.Node) { d.member(n, "joined") }

func (d delegate) NotifyUpdate(n *memberlist.Node) { d.member(n, "changed") }

func (d delegate) member(n *memberlist.Node, what string) {
	if n.Name == d.o.Name {
		return
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	q := d.peers[n.Name]
	if q == nil {
		if len(d.peers) >= d.o.MaxPeers {
			d.o.Logger.Warn("peers: too many", "peer", n.Name)
			return
		}
		q = newPeer(n.Name)
		d.peers[n.Name] = q
	}
	if !q.member {
		q.routed, q.talks, q.leaving = 0, false, false // it may have missed some
	}
	q.member, q.address = true, memberlist.Address{Addr: n.Address(), Name: n.Name}
	d.changed = true
	d.o.Logger.Info("peers: "+what, "peer", n.Name, "address", q.address.Addr)
	d.signal()
}

func (d delegate) NotifyLeave(n *memberlist.Node) {
	d.mu.Lock()
	defer d.mu.Unlock()
	q := d.peers[n.Name]
	if q == nil {
		return
	}
	q.member, q.gone, d.changed = false, time.Now(), true
	what := "lost"
	if q.leaving { // memberlist knows too, but does not tell
		what = "left"
		d.forget(n.Name)
	}
	d.o.Logger.Info("peers: "+what, "peer", n.Name)
	d.signal()
}

func (d delegate) NodeMeta(int) []byte { return nil }

func (d delegate) NotifyMsg(data []byte) { d.hear(data) }

func (d delegate) GetBroadcasts(int, int) [][]byte { return nil }

// LocalState says all but routes, in one message.
func (d delegate) LocalState(bool) []byte {
	data := (&header{d.o.Name, uint64(d.started.UnixNano()), 0}).append(nil)
	if d.o.Latency != nil {
		if statistics := d.o.Latency.Statistics(); len(statistics) < maxRecord {
			data = appendLatency(data, statistics)
		}
	}
	return data
}

func (d delegate) MergeRemoteState(data []byte, _ bool) { d.hear(data) }

// hear takes a message in.
func (p *Peers) hear(data []byte) {
	h, records, err := decodeHeader(data)
	p.mu.Lock()
	defer p.mu.Unlock()
	p.received++
	q := p.peers[h.origin]
	now := time.Now()
	if err != nil || q == nil || !q.hear(&h, now, p.o.Expiry) {
		p.refused++
		return
	}
	m := message{Peers: p, from: q, sequence: h.sequence, now: now, fresh: now.Sub(q.since) < 2*p.o.Refresh}
	if err := decodeRecords(records, &m); err != nil {
		p.refused++
	}
	p.signal()
}
