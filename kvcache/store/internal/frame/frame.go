// Package frame is the form in which a page leaves the process: a header that names it, and checksums, so that whatever a disk,
// a network or another writer makes of it is found out. Levels on disks, shared file systems and in object stores use it.
//
//	 0  magic "ILKV"            4  version, flags (1: chained), two zeros    8  length of the header
//	12  CRC-32C of the header  16  length of the page                       24  CRC-32C of the page
//	28  group                  32  rank                                     36  depth
//	40  tokens                 44  lengths of namespace, hash and parent    50  zeros
//	56  stamp                  64  cost in nanoseconds                      72  namespace, hash, parent, zeros
//
// Numbers are little-endian. The header is a multiple of 64 bytes long. Its checksum is computed with zeros in its place.
package frame

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"time"

	"github.com/inferloom/inferloom/kvcache/store"
)

const (
	fixed   = 72
	align   = 64
	version = 1
	chained = 1
)

// MaxHeaderBytes is the length of the longest header.
const MaxHeaderBytes = (fixed + store.MaxNamespaceBytes + 2*store.MaxHashBytes + align - 1) / align * align

// ErrShort says that the bytes end before the header does.
var ErrShort = errors.New("header is cut short")

var (
	magic      = [4]byte{'I', 'L', 'K', 'V'}
	castagnoli = crc32.MakeTable(crc32.Castagnoli)
)

// Header is what is written before a page.
type Header struct {
	Key      store.Key
	Attr     store.Attr
	Bytes    int64  // of the page
	Checksum uint32 // of the page
	Stamp    uint64 // a number of the writer's
}

// Checksum is that of a page.
func Checksum(page []byte) uint32 { return crc32.Checksum(page, castagnoli) }

// Extend is the checksum of what was summed up to now and more.
func Extend(sum uint32, more []byte) uint32 { return crc32.Update(sum, castagnoli, more) }

// Size is the length of a header.
func Size(key store.Key, attr *store.Attr) int {
	return (fixed + len(key.Namespace) + len(key.Hash) + len(attr.Parent) + align - 1) / align * align
}

// Append writes a header. Key and Attr must be valid.
func Append(dst []byte, h *Header) []byte {
	start, n := len(dst), Size(h.Key, &h.Attr)
	dst = append(dst, magic[:]...)
	flags := byte(0)
	if h.Attr.Chained {
		flags = chained
	}
	le := binary.LittleEndian
	dst = append(dst, version, flags, 0, 0)
	dst = le.AppendUint32(dst, uint32(n))
	dst = le.AppendUint32(dst, 0)
	dst = le.AppendUint64(dst, uint64(h.Bytes))
	dst = le.AppendUint32(dst, h.Checksum)
	dst = le.AppendUint32(dst, h.Key.Group)
	dst = le.AppendUint32(dst, h.Key.Rank)
	dst = le.AppendUint32(dst, uint32(h.Attr.Depth))
	dst = le.AppendUint32(dst, uint32(h.Attr.Tokens))
	dst = le.AppendUint16(dst, uint16(len(h.Key.Namespace)))
	dst = le.AppendUint16(dst, uint16(len(h.Key.Hash)))
	dst = le.AppendUint16(dst, uint16(len(h.Attr.Parent)))
	dst = append(dst, 0, 0, 0, 0, 0, 0)
	dst = le.AppendUint64(dst, h.Stamp)
	dst = le.AppendUint64(dst, uint64(h.Attr.Cost))
	dst = append(dst, h.Key.Namespace...)
	dst = append(dst, h.Key.Hash...)
	dst = append(dst, h.Attr.Parent...)
	for len(dst) < start+n {
		dst = append(dst, 0)
	}
	le.PutUint32(dst[start+12:], Checksum(dst[start:]))
	return dst
}

// Parse reads the header at the start of b and returns its length. It is ErrShort if b is too short to tell, and
// store.ErrCorrupt if no header was written there.
func Parse(b []byte) (h Header, n int, err error) {
	if len(b) < fixed {
		return h, 0, ErrShort
	}
	le := binary.LittleEndian
	wrong := func(format string, args ...any) (Header, int, error) {
		return Header{}, 0, fmt.Errorf("%w: "+format, append([]any{store.ErrCorrupt}, args...)...)
	}
	if [4]byte(b) != magic || b[4] != version {
		return wrong("no header of version %d", version)
	}
	n = int(le.Uint32(b[8:]))
	namespace, hash, parent := int(le.Uint16(b[44:])), int(le.Uint16(b[46:])), int(le.Uint16(b[48:]))
	if want := (fixed + namespace + hash + parent + align - 1) / align * align; n != want || n > MaxHeaderBytes {
		return wrong("header of %d bytes", n)
	}
	if len(b) < n {
		return h, 0, ErrShort
	}
	sum := Extend(Extend(Checksum(b[:12]), []byte{0, 0, 0, 0}), b[16:n])
	if sum != le.Uint32(b[12:]) {
		return wrong("checksum of the header")
	}
	text := string(b[fixed : fixed+namespace+hash+parent])
	h = Header{
		Key: store.Key{
			Namespace: text[:namespace], Hash: text[namespace : namespace+hash],
			Group: le.Uint32(b[28:]), Rank: le.Uint32(b[32:]),
		},
		Attr: store.Attr{
			Chained: b[5]&chained != 0, Parent: text[namespace+hash:],
			Depth: int(le.Uint32(b[36:])), Tokens: int(le.Uint32(b[40:])), Cost: time.Duration(le.Uint64(b[64:])),
		},
		Bytes: int64(le.Uint64(b[16:])), Checksum: le.Uint32(b[24:]), Stamp: le.Uint64(b[56:]),
	}
	if err := errors.Join(h.Key.Validate(), h.Attr.Validate()); err != nil {
		return wrong("%v", err)
	}
	if h.Bytes < 0 {
		return wrong("page of %d bytes", h.Bytes)
	}
	return h, n, nil
}

// Names reports whether a header, which is known to be whole, is that of a key. It allocates nothing.
func Names(b []byte, key *store.Key) bool {
	le := binary.LittleEndian
	namespace, hash := len(key.Namespace), len(key.Hash)
	return int(le.Uint16(b[44:])) == namespace && int(le.Uint16(b[46:])) == hash &&
		le.Uint32(b[28:]) == key.Group && le.Uint32(b[32:]) == key.Rank &&
		string(b[fixed:fixed+namespace]) == key.Namespace && string(b[fixed+namespace:fixed+namespace+hash]) == key.Hash
}

// Check reports whether a page is the one that the header was written for.
func (h *Header) Check(page []byte) error {
	if int64(len(page)) != h.Bytes {
		return fmt.Errorf("%w: %d bytes, want %d", store.ErrCorrupt, len(page), h.Bytes)
	}
	if sum := Checksum(page); sum != h.Checksum {
		return fmt.Errorf("%w: checksum is %08x, want %08x", store.ErrCorrupt, sum, h.Checksum)
	}
	return nil
}

// Seal appends a page with its header.
func Seal(dst []byte, key store.Key, attr store.Attr, page []byte) []byte {
	dst = Append(dst, &Header{Key: key, Attr: attr, Bytes: int64(len(page)), Checksum: Checksum(page)})
	return append(dst, page...)
}

// Unseal returns the page in what Seal made, if it is whole and that of the key.
func Unseal(b []byte, key store.Key) (page []byte, attr store.Attr, err error) {
	h, n, err := Parse(b)
	switch {
	case errors.Is(err, ErrShort):
		return nil, attr, fmt.Errorf("%w: %w", store.ErrCorrupt, err)
	case err != nil:
		return nil, attr, err
	case h.Key != key:
		return nil, attr, fmt.Errorf("%w: holds the page of %v", store.ErrCorrupt, h.Key)
	}
	if err := h.Check(b[n:]); err != nil {
		return nil, attr, err
	}
	return b[n:], h.Attr, nil
}
