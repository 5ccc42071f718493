// Package ledger keeps account of what a level holds: bytes by namespace, and in which order pages are to be evicted. Namespaces
// with a quota are partitions of their own, each with its policy, so that a tenant that is at its limit evicts its own pages.
// A Ledger is used under its level's lock.
package ledger

import (
	"hash/maphash"

	"github.com/zeebo/xxh3"

	"github.com/inferloom/inferloom/kvcache/store"
	"github.com/inferloom/inferloom/kvcache/store/evict"
)

// Ledger holds the partitions. Partition 0 is shared by all namespaces without a quota.
type Ledger struct {
	policy     evict.Kind
	quota      func(namespace string) int64
	partitions []partition
	numbers    map[string]uint32
	pages      int64
	bytes      int64
}

type partition struct {
	policy      evict.Policy
	limit, used int64
}

// New makes a ledger of a level's capacity. quota returns the bytes that a namespace may use, 0 for no limit; it may be nil.
func New(kind evict.Kind, capacity int64, quota func(string) int64) (*Ledger, error) {
	p, err := evict.New(kind, capacity)
	if err != nil {
		return nil, err
	}
	return &Ledger{policy: kind, quota: quota, partitions: []partition{{p, capacity, 0}}, numbers: map[string]uint32{}}, nil
}

// Partition returns the number of a namespace's partition.
func (l *Ledger) Partition(namespace string) uint32 {
	if l.quota == nil {
		return 0
	}
	if n, ok := l.numbers[namespace]; ok {
		return n
	}
	limit := l.quota(namespace)
	if limit <= 0 {
		return 0
	}
	p, err := evict.New(l.policy, limit)
	if err != nil {
		return 0
	}
	n := uint32(len(l.partitions))
	l.partitions = append(l.partitions, partition{p, limit, 0})
	l.numbers[namespace] = n
	return n
}

// Excess is by how many bytes a page of a size would exceed its partition's limit.
func (l *Ledger) Excess(part uint32, size int64) int64 {
	p := &l.partitions[part]
	return p.used + size - p.limit
}

// Limit is the limit of a partition.
func (l *Ledger) Limit(part uint32) int64 { return l.partitions[part].limit }

// Add enters a page: size is what it takes of the capacity, bytes what it holds.
func (l *Ledger) Add(part uint32, id evict.ID, size, bytes int64, m evict.Meta) {
	l.partitions[part].policy.Add(id, m)
	l.partitions[part].used += size
	l.pages++
	l.bytes += bytes
}

// Hit notes a use.
func (l *Ledger) Hit(part uint32, id evict.ID) { l.partitions[part].policy.Hit(id) }

// Remove strikes a page that is deleted.
func (l *Ledger) Remove(part uint32, id evict.ID, size, bytes int64) {
	l.partitions[part].policy.Remove(id)
	l.Evicted(part, size, bytes)
}

// Evicted strikes a page that Victim chose.
func (l *Ledger) Evicted(part uint32, size, bytes int64) {
	l.partitions[part].used -= size
	l.pages--
	l.bytes -= bytes
}

// Victim chooses a page of a partition to evict. The policy has forgotten it: Evicted must follow.
func (l *Ledger) Victim(part uint32, skip func(evict.ID) bool) (evict.ID, bool) {
	return l.partitions[part].policy.Evict(skip)
}

// AnyVictim chooses a page of any partition, of those that are fullest by their own limit first.
func (l *Ledger) AnyVictim(skip func(evict.ID) bool) (evict.ID, uint32, bool) {
	// There are few partitions, and the fullest nearly always has a page to give.
	last, lastShare := -1, 2.0
	for range l.partitions {
		fullest, share := -1, -1.0
		for i := range l.partitions {
			s := float64(l.partitions[i].used) / float64(l.partitions[i].limit)
			if (s < lastShare || s == lastShare && i > last) && s > share {
				fullest, share = i, s
			}
		}
		if fullest < 0 {
			break
		}
		if id, ok := l.partitions[fullest].policy.Evict(skip); ok {
			return id, uint32(fullest), true
		}
		last, lastShare = fullest, share
	}
	return 0, 0, false
}

// Usage is what the ledger has counted.
func (l *Ledger) Usage() store.Usage {
	u := store.Usage{Pages: l.pages, Bytes: l.bytes, CapacityBytes: l.partitions[0].limit}
	for i := range l.partitions {
		u.UsedBytes += l.partitions[i].used
	}
	return u
}

// Hasher turns keys into IDs. Clients choose keys, so the hash is seeded by chance: whom they collide with, they cannot choose.
type Hasher struct{ seed uint64 }

// NewHasher makes a Hasher like no other.
func NewHasher() Hasher { return Hasher{maphash.Comparable(maphash.MakeSeed(), 0)} }

// ID of a key.
func (h Hasher) ID(key *store.Key) evict.ID {
	seed := h.seed ^ (uint64(key.Group)<<32|uint64(key.Rank))*0x9e3779b97f4a7c15
	return evict.ID(xxh3.HashStringSeed(key.Hash, xxh3.HashStringSeed(key.Namespace, seed)))
}

// Meta is what a policy needs to know of a page.
func (h Hasher) Meta(key store.Key, attr *store.Attr, bytes int64) evict.Meta {
	m := evict.Meta{Bytes: bytes, Depth: attr.Depth, Cost: attr.Cost.Seconds()}
	if attr.Chained && attr.Parent != "" {
		key.Hash = attr.Parent
		m.Parent, m.HasParent = h.ID(&key), true
	}
	return m
}
