package disk

import (
	"encoding/binary"
	"fmt"
	"strconv"
	"strings"

	"github.com/inferloom/inferloom/kvcache/store"
	"github.com/inferloom/inferloom/kvcache/store/internal/frame"
)

// segment is one file of the log. Records begin at its start, each a header and a page, padded to whole blocks. A full segment
// ends with a footer, which has the place and the header of every record, and in its last block the trailer, which tells where
// the footer is. A tombstone, which says that a key was deleted, is a header alone.
type segment struct {
	number  uint64
	file    file
	size    int64
	end     int64 // where the next record goes
	live    int64 // bytes of records that are resident
	headers []byte
	coming  int // bytes that records under way will add to headers

	writing, reading int
	first            uint64 // least stamp of its records, all ones without any
	failed           bool   // a write has failed: the records after it would not be found by a scan
	dirty            bool   // written to since the last sync
	sealed           bool
	dropped          bool // closed when the last reader is done
}

// fits reports whether a record has room, with its entry in the footer.
func (g *segment) fits(length int64, header int) bool {
	return g.end+length+footerBytes(len(g.headers)+g.coming+entryPrefix+header) <= g.size
}

func nameOf(number uint64) string { return fmt.Sprintf("segment-%016x", number) }

func numberOf(name string) (uint64, bool) {
	hex, ok := strings.CutPrefix(name, "segment-")
	if !ok || len(hex) != 16 {
		return 0, false
	}
	n, err := strconv.ParseUint(hex, 16, 64)
	return n, err == nil && nameOf(n) == name
}

// tombstone is the bit of a header's stamp that makes it one. The others count what was put and deleted, and so tell which of
// two records of a key is the newer.
const tombstone = 1 << 63

// An entry of a footer is the record's offset in blocks, and its header.
const entryPrefix = 4

func appendEntry(dst []byte, offset int64, header []byte) []byte {
	return append(binary.LittleEndian.AppendUint32(dst, uint32(offset/block)), header...)
}

// entry is one of a footer's, with its own place in the headers.
type entry struct {
	at     int
	offset int64
	header frame.Header
	size   int // of the header
}

func (e *entry) grave() bool   { return e.header.Stamp&tombstone != 0 }
func (e *entry) stamp() uint64 { return e.header.Stamp &^ tombstone }
func (e *entry) length() int64 { return blocks(int64(e.size) + e.header.Bytes) }

// entries calls f for each.
func entries(headers []byte, f func(e entry)) error {
	for at := 0; at < len(headers); {
		if len(headers)-at < entryPrefix {
			return fmt.Errorf("%w: footer is cut short", store.ErrCorrupt)
		}
		place := binary.LittleEndian.Uint32(headers[at:])
		h, n, err := frame.Parse(headers[at+entryPrefix:])
		if err != nil {
			return fmt.Errorf("%w: entry of the footer: %w", store.ErrCorrupt, err)
		}
		f(entry{at + entryPrefix, int64(place) * block, h, n})
		at += entryPrefix + n
	}
	return nil
}

// trailerMagic begins the last block of a sealed segment; length and checksum of the headers, a version, and the block's own
// checksum follow.
var trailerMagic = [8]byte{'I', 'L', 'K', 'V', 's', 'e', 'a', 'l'}

// appendFooter returns what ends a segment: headers and trailer, in whole blocks.
func appendFooter(dst []byte, headers []byte) []byte {
	le := binary.LittleEndian
	dst = append(dst, headers...)
	dst = append(dst, make([]byte, int(blocks(int64(len(dst))))-len(dst))...)
	start := len(dst)
	dst = append(dst, trailerMagic[:]...)
	dst = le.AppendUint64(dst, uint64(len(headers)))
	dst = le.AppendUint32(dst, frame.Checksum(headers))
	dst = le.AppendUint32(dst, 1)
	dst = le.AppendUint32(dst, frame.Checksum(dst[start:]))
	return append(dst, make([]byte, start+block-len(dst))...)
}

func footerBytes(headers int) int64 { return blocks(int64(headers)) + block }

// parseTrailer returns the length and checksum of the headers.
func parseTrailer(b []byte) (headers int64, sum uint32, ok bool) {
	le := binary.LittleEndian
	if [8]byte(b) != trailerMagic || le.Uint32(b[20:]) != 1 || le.Uint32(b[24:]) != frame.Checksum(b[:24]) {
		return 0, 0, false
	}
	return int64(le.Uint64(b[8:])), le.Uint32(b[16:]), true
}

// readFooter returns the headers of a sealed segment. It is store.ErrCorrupt if the segment is not sealed, or damaged.
func readFooter(f file, size int64) ([]byte, error) {
	if size < 2*block || size%block != 0 {
		return nil, fmt.Errorf("%w: segment of %d bytes", store.ErrCorrupt, size)
	}
	last := aligned(block)
	if _, err := f.ReadAt(last, size-block); err != nil {
		return nil, err
	}
	n, sum, ok := parseTrailer(last)
	if !ok || n < 0 || n > size-block {
		return nil, fmt.Errorf("%w: no footer", store.ErrCorrupt)
	}
	b := aligned(int(blocks(n)))
	if _, err := f.ReadAt(b, size-block-blocks(n)); err != nil {
		return nil, err
	}
	if b = b[:n]; frame.Checksum(b) != sum {
		return nil, fmt.Errorf("%w: checksum of the footer", store.ErrCorrupt)
	}
	return b, nil
}
