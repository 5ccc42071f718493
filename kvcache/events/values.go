package events

import (
	"encoding/binary"
	"math"
	"slices"
)

// hash takes a block hash: a number of either sign, bytes, or hexadecimal digits.
func (d *Decoder) hash() (low uint64, digest []byte) {
	r := &d.r
	at := r.at
	switch c := r.peek(); {
	case c == 0xcf && len(r.b)-at >= 9:
		r.at += 9
		return binary.BigEndian.Uint64(r.b[at+1:]), nil
	case isBytes(c):
		if digest = r.raw(); len(digest) == 0 {
			r.fail(at, "an empty hash")
		}
		for _, v := range digest[max(0, len(digest)-8):] {
			low = low<<8 | uint64(v)
		}
		return low, digest
	case isText(c):
		digits := r.raw()
		if len(digits) == 0 {
			r.fail(at, "an empty hash")
		}
		for i, v := range digits {
			n := hexDigit(v)
			if n > 15 {
				r.fail(at+i, "a hash as text has hexadecimal digits only")
			}
			low = low<<4 | uint64(n)
		}
		return low, nil
	}
	return r.bits(), nil
}

func hexDigit(c byte) byte {
	switch {
	case c >= '0' && c <= '9':
		return c - '0'
	case c|0x20 >= 'a' && c|0x20 <= 'f':
		return c | 0x20 - 'a' + 10
	}
	return 16
}

// room says that n elements follow, each of at least one byte, so that no claimed length asks for more memory than the
// payload's own size justifies.
func (r *reader) room(n int) bool {
	if r.err == nil && n > len(r.b)-r.at {
		r.fail(r.at, truncated)
	}
	return r.err == nil
}

func (d *Decoder) hashes(b *Batch, e *Event) {
	r := &d.r
	n := r.array()
	if !r.room(n) {
		return
	}
	start, digests := len(b.hashes), len(b.digests)
	b.hashes = slices.Grow(b.hashes, n)
	for i := 0; i < n && r.err == nil; i++ {
		low, digest := d.hash()
		if digest != nil {
			for len(b.digests) < digests+i {
				b.digests = append(b.digests, nil)
			}
			b.digests = append(b.digests, digest)
		}
		b.hashes = append(b.hashes, low)
	}
	e.Hashes = b.hashes[start:len(b.hashes):len(b.hashes)]
	if len(b.digests) > digests {
		for len(b.digests) < digests+n && r.err == nil {
			b.digests = append(b.digests, nil)
		}
		e.Digests = b.digests[digests:len(b.digests):len(b.digests)]
	}
}

func (d *Decoder) tokens(b *Batch, e *Event) {
	r := &d.r
	n := r.array()
	if n == 0 || !r.room(n) {
		return
	}
	start := len(b.tokens)
	switch c := r.peek(); {
	case isArray(c):
		d.pairs(b, e, n)
	default:
		b.tokens = slices.Grow(b.tokens, n)
		if d.ids(b.tokens[start : start+n]) {
			b.tokens = b.tokens[:start+n]
		}
	}
	e.Tokens = b.tokens[start:len(b.tokens):len(b.tokens)]
}

// ids fills dst with token ids. It returns false where a token is text, and passes over the rest.
func (d *Decoder) ids(dst []uint32) bool {
	r := &d.r
	p, at := r.b, r.at
	for i := range dst {
		if at+4 < len(p) { // room for the longest usual form
			switch c := p[at]; {
			case c == 0xcd:
				dst[i] = uint32(p[at+1])<<8 | uint32(p[at+2])
				at += 3
				continue
			case c <= 0x7f:
				dst[i] = uint32(c)
				at++
				continue
			case c == 0xce:
				dst[i] = binary.BigEndian.Uint32(p[at+1:])
				at += 5
				continue
			case c == 0xcc:
				dst[i] = uint32(p[at+1])
				at += 2
				continue
			}
		}
		r.at = at
		if isText(r.peek()) {
			for range len(dst) - i {
				r.skip()
			}
			return false
		}
		dst[i] = uint32(r.natural(math.MaxUint32))
		if r.err != nil {
			return false
		}
		at = r.at
	}
	r.at = at
	return true
}

// pairs reads [[a, b], [b, c], ...] as a, b, c.
func (d *Decoder) pairs(b *Batch, e *Event, n int) {
	r := &d.r
	e.Pairs = true
	b.tokens = slices.Grow(b.tokens, n+1)
	for i := range n {
		at := r.at
		if size := r.array(); r.err == nil && size != 2 {
			r.fail(at, "a pair has two tokens")
		}
		first, second := uint32(r.natural(math.MaxUint32)), uint32(r.natural(math.MaxUint32))
		if r.err != nil {
			return
		}
		if i > 0 && b.tokens[len(b.tokens)-1] != first {
			r.fail(at, "the pair does not start where the one before ends")
			return
		}
		if i == 0 {
			b.tokens = append(b.tokens, first)
		}
		b.tokens = append(b.tokens, second)
	}
}
