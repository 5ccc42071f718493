package peers

import (
	"encoding/binary"
	"math/bits"
	"slices"
	"sync"
)

// routes is a ring of the latest routes of this replica: what peers are told of, and one that joins first.
type routes struct {
	mu   sync.Mutex
	ring []route
	next uint64 // number of the one that comes
}

// route is a prompt's block hashes and where it went.
type route struct {
	endpoint uint64
	chain    []uint64
}

const (
	// routesKept is how many routes are kept, and chainKept how many block hashes of each: 4 MB at most.
	routesKept = 512
	chainKept  = 1024
	// pieceHashes is how many go into each piece but the last: as many as a packet holds beside headers.
	pieceHashes = 125
)

func (r *routes) add(endpoint uint64, chain []uint64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.ring == nil {
		r.ring = make([]route, routesKept)
	}
	at := &r.ring[r.next%routesKept]
	at.endpoint, at.chain = endpoint, append(at.chain[:0], chain[:min(len(chain), chainKept)]...)
	r.next++
}

// pieces hands out routes from number from on in records of at most maxPacket bytes, and returns the next number. It stops where
// send returns false.
func (r *routes) pieces(from uint64, send func(*routeRecord) bool) uint64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.next > routesKept {
		from = max(from, r.next-routesKept)
	}
	var hashes []byte
	for ; from < r.next; from++ {
		one := &r.ring[from%routesKept]
		for offset := 0; offset < len(one.chain); offset += pieceHashes {
			part := one.chain[offset:min(offset+pieceHashes, len(one.chain))]
			hashes = hashes[:0]
			for _, h := range part {
				hashes = binary.LittleEndian.AppendUint64(hashes, h)
			}
			if !send(&routeRecord{one.endpoint, from, uint64(offset), offset+len(part) == len(one.chain), hashes}) {
				return from
			}
		}
	}
	return from
}

// assembly puts the pieces of one origin's routes together. They come in any order: memberlist handles what waits last in, first
// out.
type assembly struct {
	partial []partial // oldest first
}

// partial is a route of which some pieces have come.
type partial struct {
	endpoint, id uint64
	chain        []uint64
	got          uint64 // a bit a piece
	pieces       int    // how many there are, once the last one has come
}

// maxPartial is how many routes of an origin may wait for pieces.
const maxPartial = 32

// add takes a piece in. done is called with each route that is complete, and with the beginning of one that is given up.
func (a *assembly) add(r *routeRecord, done func(endpoint uint64, chain []uint64)) {
	n, at := len(r.hashes)/8, int(r.offset/pieceHashes)
	if r.offset%pieceHashes != 0 || n == 0 || n > pieceHashes || n < pieceHashes && !r.last || int(r.offset)+n > chainKept {
		return
	}
	i := slices.IndexFunc(a.partial, func(p partial) bool { return p.id == r.id && p.endpoint == r.endpoint })
	if i < 0 {
		if len(a.partial) == maxPartial {
			a.partial[0].finish(done)
			a.partial = slices.Delete(a.partial, 0, 1)
		}
		i = len(a.partial)
		a.partial = append(a.partial, partial{endpoint: r.endpoint, id: r.id})
	}
	p := &a.partial[i]
	for len(p.chain) < int(r.offset)+n {
		p.chain = append(p.chain, 0)
	}
	for j := range n {
		p.chain[int(r.offset)+j] = binary.LittleEndian.Uint64(r.hashes[8*j:])
	}
	p.got |= 1 << at
	if r.last {
		p.pieces = at + 1
	}
	if p.pieces > 0 && p.got == 1<<p.pieces-1 {
		p.finish(done)
		a.partial = slices.Delete(a.partial, i, i+1)
	}
}

// finish hands out what there is of a route from its beginning.
func (p *partial) finish(done func(endpoint uint64, chain []uint64)) {
	if n := min(bits.TrailingZeros64(^p.got)*pieceHashes, len(p.chain)); n > 0 {
		done(p.endpoint, p.chain[:n])
	}
}
