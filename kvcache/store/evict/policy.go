package evict

import (
	"fmt"
	"strings"
)

// ID stands for a page.
type ID uint64

// Meta is what a Policy is told of a page. Only PrefixCost looks at more than Bytes.
type Meta struct {
	Bytes int64
	// Parent is the page of the block before, if HasParent is set; it need not be resident.
	Parent    ID
	HasParent bool
	// Depth is the number of blocks before it.
	Depth int
	// Cost is the seconds that it takes to compute the page again, or any unit that is the same for all pages; 0 is unknown.
	Cost float64
}

// Policy keeps the order in which pages are to be evicted.
type Policy interface {
	// Add says that a page is now resident. A page that already is counts as hit.
	Add(id ID, m Meta)
	// Hit says that a page was used. A page that is not resident is passed over.
	Hit(id ID)
	// Remove says that a page is gone for another reason than Evict, such as a delete: it leaves no history.
	Remove(id ID)
	// Evict chooses a page, which is then no longer resident, and reports false if it may take none. Pages for which skip
	// returns true stay; skip may be nil.
	Evict(skip func(ID) bool) (ID, bool)
	// Len is the number of resident pages.
	Len() int
}

// Kind names a policy.
type Kind uint8

// The policies. LRU is the zero value: with small pages and no prefixes, the one that surprises least.
const (
	LRU Kind = iota
	SIEVE
	S3FIFO
	WTinyLFU
	ARC
	PrefixCost
)

var kinds = [...]string{"lru", "sieve", "s3-fifo", "w-tinylfu", "arc", "prefix-cost"}

// Kinds are all policies.
func Kinds() []Kind { return []Kind{LRU, SIEVE, S3FIFO, WTinyLFU, ARC, PrefixCost} }

func (k Kind) String() string {
	if int(k) < len(kinds) {
		return kinds[k]
	}
	return fmt.Sprintf("Kind(%d)", uint8(k))
}

// ParseKind is the inverse of String.
func ParseKind(s string) (Kind, error) {
	for i, name := range kinds {
		if s == name {
			return Kind(i), nil
		}
	}
	return 0, fmt.Errorf("policy is %q, want one of %s", s, strings.Join(kinds[:], ", "))
}

// New makes a policy for a store of about so many bytes. A capacity that turns out to be another does no harm: policies that
// divide it, divide what is resident.
func New(k Kind, capacityBytes int64) (Policy, error) {
	if capacityBytes <= 0 {
		return nil, fmt.Errorf("capacity is %d bytes, want more than 0", capacityBytes)
	}
	switch k {
	case LRU:
		return newLRU(), nil
	case SIEVE:
		return newSieve(), nil
	case S3FIFO:
		return newS3FIFO(), nil
	case WTinyLFU:
		return newTinyLFU(capacityBytes), nil
	case ARC:
		return newARC(), nil
	case PrefixCost:
		return newPrefixCost(), nil
	}
	return nil, fmt.Errorf("policy is %v, want one of %s", k, strings.Join(kinds[:], ", "))
}
