package peers

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
)

// A message is
//
//	version | origin (length and bytes) | incarnation | sequence | records
//
// and a record its kind, the length of what follows, and that. Records of a kind that is not known are passed over, so that
// newer replicas can talk to older ones. Numbers are unsigned varints, hashes 8 bytes in little endian.
const (
	version    = 1
	maxPacket  = 1200 // bytes of a message that goes by UDP
	maxOrigin  = 64
	maxRecord  = 1 << 20
	maxMessage = 8 << 20
)

// kind is what a record is about.
type kind uint8

const (
	kindLoad kind = iota + 1
	kindTenant
	kindLease
	kindRoute
	kindLatency
	kindLeave
)

var errMessage = errors.New("peers: not a message")

// header is who says something, and when.
type header struct {
	origin      string
	incarnation uint64 // of this life of the origin: later ones are higher
	sequence    uint64
}

func (h *header) append(dst []byte) []byte {
	dst = append(dst, version, byte(len(h.origin)))
	dst = append(dst, h.origin...)
	dst = binary.AppendUvarint(dst, h.incarnation)
	return binary.AppendUvarint(dst, h.sequence)
}

// loadRecord is what the origin has in flight on an endpoint.
type loadRecord struct {
	endpoint              uint64
	requests, prefill, kv uint64
}

// tenantRecord is what a tenant was served by the origin, since the origin began, and has waiting there.
type tenantRecord struct {
	tenant         uint64
	served, queued uint64
	weight         float64
}

// leaseRecord is what the origin lends to another replica for a time.
type leaseRecord struct {
	to           uint64
	share        float64 // of the whole
	milliseconds uint64
}

// routeRecord is a piece of the block hashes of a prompt and where it went.
type routeRecord struct {
	endpoint uint64
	id       uint64 // of the origin's routes
	offset   uint64 // of the piece
	last     bool
	hashes   []byte // 8 bytes each
}

func appendRecord(dst []byte, k kind, fill func([]byte) []byte) []byte {
	dst = append(dst, byte(k), 0, 0, 0)
	start := len(dst)
	dst = fill(dst)
	n := len(dst) - start
	dst[start-3], dst[start-2], dst[start-1] = byte(n), byte(n>>8), byte(n>>16)
	return dst
}

func (r *loadRecord) append(dst []byte) []byte {
	return appendRecord(dst, kindLoad, func(dst []byte) []byte {
		dst = binary.LittleEndian.AppendUint64(dst, r.endpoint)
		dst = binary.AppendUvarint(dst, r.requests)
		dst = binary.AppendUvarint(dst, r.prefill)
		return binary.AppendUvarint(dst, r.kv)
	})
}

func (r *tenantRecord) append(dst []byte) []byte {
	return appendRecord(dst, kindTenant, func(dst []byte) []byte {
		dst = binary.LittleEndian.AppendUint64(dst, r.tenant)
		dst = binary.AppendUvarint(dst, r.served)
		dst = binary.AppendUvarint(dst, r.queued)
		return binary.LittleEndian.AppendUint64(dst, math.Float64bits(r.weight))
	})
}

func (r *leaseRecord) append(dst []byte) []byte {
	return appendRecord(dst, kindLease, func(dst []byte) []byte {
		dst = binary.LittleEndian.AppendUint64(dst, r.to)
		dst = binary.LittleEndian.AppendUint64(dst, math.Float64bits(r.share))
		return binary.AppendUvarint(dst, r.milliseconds)
	})
}

func (r *routeRecord) append(dst []byte) []byte {
	return appendRecord(dst, kindRoute, func(dst []byte) []byte {
		dst = binary.LittleEndian.AppendUint64(dst, r.endpoint)
		dst = binary.AppendUvarint(dst, r.id)
		dst = binary.AppendUvarint(dst, r.offset)
		last := byte(0)
		if r.last {
			last = 1
		}
		return append(append(dst, last), r.hashes...)
	})
}

func appendLatency(dst, statistics []byte) []byte {
	return appendRecord(dst, kindLatency, func(dst []byte) []byte { return append(dst, statistics...) })
}

// appendLeave says that the origin will not come back.
func appendLeave(dst []byte) []byte {
	return appendRecord(dst, kindLeave, func(dst []byte) []byte { return dst })
}

// visitor is handed a message's records in order. What they refer to is valid during the call only.
type visitor interface {
	load(loadRecord)
	tenant(tenantRecord)
	lease(leaseRecord)
	route(routeRecord)
	latency(statistics []byte)
	leave()
}

// reader takes values off a message; the first that is not there makes it fail.
type reader struct {
	rest   []byte
	failed bool
}

func (r *reader) bytes(n int) []byte {
	if n < 0 || n > len(r.rest) {
		r.failed, r.rest = true, nil
		return nil
	}
	b := r.rest[:n]
	r.rest = r.rest[n:]
	return b
}

func (r *reader) byte() byte {
	if b := r.bytes(1); b != nil {
		return b[0]
	}
	return 0
}

func (r *reader) uint64() uint64 {
	if b := r.bytes(8); b != nil {
		return binary.LittleEndian.Uint64(b)
	}
	return 0
}

func (r *reader) uvarint() uint64 {
	v, n := binary.Uvarint(r.rest)
	if n <= 0 {
		r.failed, r.rest = true, nil
		return 0
	}
	r.rest = r.rest[n:]
	return v
}

// decodeHeader reads who speaks. What follows are records.
func decodeHeader(data []byte) (h header, records []byte, err error) {
	if len(data) > maxMessage {
		return h, nil, fmt.Errorf("%w: %d bytes", errMessage, len(data))
	}
	r := reader{rest: data}
	if v := r.byte(); v != version {
		return h, nil, fmt.Errorf("%w: version %d, want %d", errMessage, v, version)
	}
	n := int(r.byte())
	if n == 0 || n > maxOrigin {
		return h, nil, fmt.Errorf("%w: origin of %d bytes, want 1 to %d", errMessage, n, maxOrigin)
	}
	h.origin = string(r.bytes(n))
	h.incarnation, h.sequence = r.uvarint(), r.uvarint()
	if r.failed {
		return h, nil, fmt.Errorf("%w: cut off", errMessage)
	}
	return h, r.rest, nil
}

// decodeRecords hands out records. At one that makes no sense it stops with an error.
func decodeRecords(data []byte, v visitor) error {
	all := reader{rest: data}
	for len(all.rest) > 0 {
		k := kind(all.byte())
		size := all.bytes(3)
		if all.failed {
			return fmt.Errorf("%w: cut off", errMessage)
		}
		n := int(size[0]) | int(size[1])<<8 | int(size[2])<<16
		if n > maxRecord {
			return fmt.Errorf("%w: record of %d bytes", errMessage, n)
		}
		r := reader{rest: all.bytes(n)}
		if all.failed {
			return fmt.Errorf("%w: cut off", errMessage)
		}
		ok := true
		switch k {
		case kindLoad:
			l := loadRecord{r.uint64(), r.uvarint(), r.uvarint(), r.uvarint()}
			if ok = !r.failed && l.requests <= maxRequests && l.prefill <= maxTokens && l.kv <= maxTokens; ok {
				v.load(l)
			}
		case kindTenant:
			t := tenantRecord{r.uint64(), r.uvarint(), r.uvarint(), math.Float64frombits(r.uint64())}
			if ok = !r.failed && t.served <= math.MaxInt64 && t.queued <= math.MaxInt64 && t.weight > 0 && t.weight <= maxWeight; ok {
				v.tenant(t)
			}
		case kindLease:
			l := leaseRecord{r.uint64(), math.Float64frombits(r.uint64()), r.uvarint()}
			if ok = !r.failed && l.share >= 0 && l.share <= 1 && l.milliseconds <= maxLease; ok {
				v.lease(l)
			}
		case kindRoute:
			p := routeRecord{endpoint: r.uint64(), id: r.uvarint(), offset: r.uvarint(), last: r.byte() == 1}
			p.hashes = r.rest
			if ok = !r.failed && len(p.hashes)%8 == 0 && p.offset <= maxRoute && uint64(len(p.hashes)/8)+p.offset <= maxRoute; ok {
				v.route(p)
			}
		case kindLatency:
			v.latency(r.rest)
		case kindLeave:
			v.leave()
		}
		if !ok {
			return fmt.Errorf("%w: a record of kind %d makes no sense", errMessage, k)
		}
	}
	return nil
}

// Bounds of what is believed.
const (
	maxRequests = 1 << 16
	maxTokens   = 1 << 40
	maxWeight   = 1e9
	maxLease    = 3_600_000
	maxRoute    = 1 << 16 // block hashes
)
