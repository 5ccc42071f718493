package token

import (
	"bytes"
	"fmt"
	"iter"
	"slices"
	"sync"
	"sync/atomic"
)

// DefaultCacheMaxBytes is CacheOptions.MaxBytes when that is 0.
const DefaultCacheMaxBytes = 64 << 20

// CacheOptions are the parameters of a Cache. The zero value works.
type CacheOptions struct {
	// MaxBytes bounds the texts and ids that are kept; 0 means DefaultCacheMaxBytes. A text costs about twice its length.
	MaxBytes int
}

// partBytes is the length of parts, or a little less than it: what is new in a conversation costs that much more to encode.
const partBytes = 1024

// Cache encodes prompts that begin as earlier ones did: of a conversation only the last turn. It is safe for concurrent
// use.
//
// Texts are parted where that changes no id, each part at the first such place behind its 1024th byte, and the ids of each
// part are kept under its text. Equal beginnings are parted alike, so they are found again, whatever follows. A text
// without such places, which no model's chats are, is one part.
type Cache struct {
	t        *Tokenizer
	maxBytes int

	slots []atomic.Pointer[part] // as a clock; what is in a slot is complete

	mu    sync.Mutex
	parts map[partKey]*part
	bytes int
	free  []uint32
	hand  uint32
}

type partKey struct {
	hash          uint64
	special, rest bool
}

// part is a stretch of text and its ids. It does not change once done is closed.
type part struct {
	key  partKey
	text []byte
	ids  []uint32
	slot uint32
	done chan struct{}
	used atomic.Bool   // since the hand last passed
	next atomic.Uint32 // 1 + the slot of a part that followed this one
}

func (p *part) cost() int { return len(p.text) + 4*cap(p.ids) + partOverhead }

// partOverhead is what a part costs beside its text and ids.
const partOverhead = 200

// NewCache returns an empty cache.
func NewCache(t *Tokenizer, o CacheOptions) (*Cache, error) {
	if o.MaxBytes < 0 {
		return nil, fmt.Errorf("MaxBytes: %d is less than 0", o.MaxBytes)
	}
	if o.MaxBytes == 0 {
		o.MaxBytes = DefaultCacheMaxBytes
	}
	c := &Cache{t: t, maxBytes: o.MaxBytes, parts: map[partKey]*part{}}
	c.slots = make([]atomic.Pointer[part], max(1, o.MaxBytes/partBytes))
	c.free = make([]uint32, len(c.slots))
	for i := range c.free {
		c.free[i] = uint32(len(c.slots) - 1 - i)
	}
	return c, nil
}

// Append is Tokenizer.Append.
func (c *Cache) Append(dst []uint32, text []byte) []uint32 { return c.append(dst, text, false) }

// AppendSpecial is Tokenizer.AppendSpecial.
func (c *Cache) AppendSpecial(dst []uint32, text []byte) []uint32 { return c.append(dst, text, true) }

func (c *Cache) append(dst []uint32, text []byte, special bool) []uint32 {
	var before *part
	for i := 0; i < len(text); {
		p := c.find(text, i, special, before)
		dst = append(dst, p.ids...)
		i += len(p.text)
		before = p
	}
	return dst
}

// Parts yields the ids of AppendSpecial part by part, each as soon as it is known, so that blocks can be hashed while the
// rest is encoded. The slices must not be changed.
func (c *Cache) Parts(text []byte) iter.Seq[[]uint32] {
	return func(yield func([]uint32) bool) {
		var before *part
		for i := 0; i < len(text); {
			p := c.find(text, i, true, before)
			if !yield(p.ids) {
				return
			}
			i += len(p.text)
			before = p
		}
	}
}

// find returns the part of the text that begins at i.
func (c *Cache) find(text []byte, i int, special bool, before *part) *part {
	if before != nil {
		// What followed last time follows again, most often: no hash, no lock.
		if n := before.next.Load(); n > 0 {
			p := c.slots[n-1].Load()
			if p != nil && p.key.special == special && p.key.rest && c.fits(p, text, i) {
				p.use()
				return p
			}
		}
	}
	end := i + c.t.part(text[i:], min(partBytes, len(text)-i))
	piece := text[i:end]
	key := partKey{hashBytes(piece), special, i > 0}

	c.mu.Lock()
	p := c.parts[key]
	if p != nil && bytes.Equal(p.text, piece) {
		c.mu.Unlock()
		<-p.done
		p.use()
	} else {
		p = &part{key: key, text: slices.Clone(piece), done: make(chan struct{})}
		c.parts[key] = p
		c.mu.Unlock()
		c.encode(p)
	}
	if before != nil {
		before.next.Store(p.slot + 1)
	}
	return p
}

// fits reports whether p is a part of the text at i: text may be parted behind it.
func (c *Cache) fits(p *part, text []byte, i int) bool {
	if !bytes.HasPrefix(text[i:], p.text) {
		return false
	}
	end := i + len(p.text)
	return end == len(text) || len(p.text) >= partBytes && c.t.joint(text, end)
}

func (p *part) use() {
	// Most often it is set; not to write keeps the line shared between processors.
	if !p.used.Load() {
		p.used.Store(true)
	}
}

// encode completes a part and makes room for it.
func (c *Cache) encode(p *part) {
	s := c.t.borrow()
	s.ids = c.t.append(s, s.ids[:0], p.text, p.key.special, p.key.rest)
	p.ids = slices.Clone(s.ids)
	c.t.giveBack(s)

	c.mu.Lock()
	defer c.mu.Unlock()
	defer close(p.done)
	if c.parts[p.key] != p {
		return // another text has the same hash
	}
	if p.cost() > c.maxBytes {
		delete(c.parts, p.key)
		return
	}
	for c.bytes+p.cost() > c.maxBytes || len(c.free) == 0 {
		c.evict()
	}
	c.bytes += p.cost()
	p.slot = c.free[len(c.free)-1]
	c.free = c.free[:len(c.free)-1]
	c.slots[p.slot].Store(p)
}

// evict frees the slot of the next part that was not used since the hand passed it last.
func (c *Cache) evict() {
	for {
		slot := c.hand
		c.hand = (c.hand + 1) % uint32(len(c.slots))
		p := c.slots[slot].Load()
		if p == nil || p.used.Swap(false) {
			continue
		}
		c.slots[slot].Store(nil)
		c.free = append(c.free, slot)
		c.bytes -= p.cost()
		if c.parts[p.key] == p {
			delete(c.parts, p.key)
		}
		return
	}
}
