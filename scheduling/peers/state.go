package peers

import (
	"time"

	"github.com/hashicorp/memberlist"
	"github.com/zeebo/xxh3"

	"github.com/inferloom/inferloom/kvcache"
	"github.com/inferloom/inferloom/scheduling"
)

// peer is another replica and what it has said.
type peer struct {
	name    string
	address memberlist.Address
	member  bool      // memberlist has it as alive
	gone    time.Time // since when it is not

	incarnation uint64
	heard       time.Time
	since       time.Time // it was first heard in this incarnation
	talks       bool      // it has sent packets, so it knows this replica
	leaving     bool      // it said that it will not come back
	loads       map[uint64]latest[loadRecord]
	tenants     map[uint64]*service
	leased      uint64 // sequence of its last lease
	assembly    assembly
	routed      uint64 // the route that it is to be told next
}

// latest is a record and the sequence number that it came with.
type latest[T any] struct {
	record   T
	sequence uint64
}

// service is a tenant's at a peer.
type service struct {
	latest[tenantRecord]
	applied uint64 // of what was served there is accounted for here
}

func newPeer(name string) *peer {
	return &peer{name: name, loads: map[uint64]latest[loadRecord]{}, tenants: map[uint64]*service{}}
}

// begin starts what is known of a new incarnation.
func (p *peer) begin(incarnation uint64) {
	*p = peer{name: p.name, address: p.address, member: p.member, gone: p.gone, routed: p.routed, incarnation: incarnation,
		loads: map[uint64]latest[loadRecord]{}, tenants: map[uint64]*service{}}
}

// hear reports whether a message is of the peer's present incarnation, which begins with the first message of it.
func (p *peer) hear(h *header, now time.Time, expiry time.Duration) bool {
	if h.incarnation != p.incarnation {
		// An earlier one may be a packet that took long; or the peer's clock was set back while it was away.
		if h.incarnation < p.incarnation && now.Sub(p.heard) < expiry {
			return false
		}
		p.begin(h.incarnation)
		p.since = now
	}
	p.heard = now
	p.talks = p.talks || h.sequence > 0
	return true
}

// counts reports whether what the peer has said is good for now.
func (p *peer) counts(now time.Time, expiry time.Duration) bool {
	return p.member && p.incarnation != 0 && now.Sub(p.heard) < expiry
}

// hashOf stands for a name in messages.
func hashOf(name string) uint64 { return xxh3.HashString(name) }

// message takes the records of one message in. It is a visitor; p.mu is held.
type message struct {
	*Peers
	from     *peer
	sequence uint64
	now      time.Time
	fresh    bool // what it says may have been served before this replica listened
}

func (m *message) load(r loadRecord) {
	was, known := m.from.loads[r.endpoint]
	if known && was.sequence >= m.sequence {
		return
	}
	if !known && len(m.from.loads) >= 2*m.o.Pool.MaxEndpoints() {
		return
	}
	m.from.loads[r.endpoint] = latest[loadRecord]{r, m.sequence}
	m.changed = true
}

func (m *message) tenant(r tenantRecord) {
	s := m.from.tenants[r.tenant]
	if s == nil {
		if len(m.from.tenants) >= m.o.MaxTenants {
			return
		}
		s = &service{}
		m.from.tenants[r.tenant] = s
		if m.fresh {
			s.applied = r.served
		}
	} else if s.sequence >= m.sequence {
		return
	}
	s.latest = latest[tenantRecord]{r, m.sequence}
}

func (m *message) lease(r leaseRecord) {
	if r.to != hashOf(m.o.Name) || m.sequence <= m.from.leased {
		return
	}
	m.from.leased = m.sequence
	m.leases.borrow(m.from.name, r.share, m.now.Add(time.Duration(r.milliseconds)*time.Millisecond))
}

func (m *message) route(r routeRecord) {
	if m.o.Index == nil {
		return
	}
	m.from.assembly.add(&r, func(endpoint uint64, chain []uint64) {
		snap := m.o.Pool.Snapshot()
		if slot, ok := m.slots(snap)[endpoint]; ok {
			m.o.Index.Speculate(kvcache.Pod{ID: slot, Generation: snap.Generation(slot)}, chain)
		}
	})
}

func (m *message) latency(statistics []byte) {
	if m.o.Latency == nil {
		return
	}
	if err := m.o.Latency.Merge(m.from.name, statistics); err != nil {
		m.o.Logger.Warn("peers: latency statistics", "peer", m.from.name, "error", err)
	}
}

func (m *message) leave() {
	m.from.leaving = true
	if !m.from.member {
		m.forget(m.from.name)
	}
}

// slots returns the slots of the pool's endpoints by the hash of their IDs.
func (p *Peers) slots(s *scheduling.Snapshot) map[uint64]scheduling.Slot {
	return p.byHash.Of(s, func(s *scheduling.Snapshot) map[uint64]scheduling.Slot {
		slots := make(map[uint64]scheduling.Slot, len(s.Live()))
		for _, slot := range s.Live() {
			slots[hashOf(s.Endpoint(slot).ID)] = slot
		}
		return slots
	})
}
