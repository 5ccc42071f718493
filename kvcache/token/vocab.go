package token

import (
	"encoding/binary"
	"fmt"
	"math/bits"
)

// maxID bounds ids, and with them what a hostile file can make a loader allocate.
const maxID = 1<<22 - 1

// vocab maps tokens to ids and back. Ids may have holes.
type vocab struct {
	data  []byte
	spans []span   // by id
	index []uint32 // open addressing: id+1, or 0
	count int
}

type span struct{ start, end uint32 } // end < start: no token has this id

func (v *vocab) add(token []byte, id uint32) error {
	if id > maxID {
		return fmt.Errorf("%q: id %d is above %d", token, id, maxID)
	}
	if v.count*2 >= len(v.index) {
		v.grow()
	}
	for uint32(len(v.spans)) <= id {
		v.spans = append(v.spans, span{start: 1})
	}
	slot := v.slot(token)
	if old := v.index[slot]; old == 0 {
		v.count++
	} else {
		v.spans[old-1] = span{start: 1} // the last of two equal keys holds
	}
	start := uint32(len(v.data))
	v.data = append(v.data, token...)
	v.spans[id] = span{start, uint32(len(v.data))}
	v.index[slot] = id + 1
	return nil
}

func (v *vocab) grow() {
	old := v.index
	v.index = make([]uint32, max(1024, 2*len(old)))
	for _, i := range old {
		if i != 0 {
			v.index[v.slot(v.token(i-1))] = i
		}
	}
}

// slot returns where the token is, or where it would be put.
func (v *vocab) slot(token []byte) int {
	mask := len(v.index) - 1
	for i := int(hashBytes(token)) & mask; ; i = (i + 1) & mask {
		if id := v.index[i]; id == 0 || string(v.token(id-1)) == string(token) {
			return i
		}
	}
}

func (v *vocab) find(token []byte) (uint32, bool) {
	if len(v.index) == 0 {
		return 0, false
	}
	id := v.index[v.slot(token)]
	return id - 1, id != 0
}

// token returns what an id stands for, nil when it stands for nothing.
func (v *vocab) token(id uint32) []byte {
	if int(id) >= len(v.spans) || v.spans[id].end < v.spans[id].start {
		return nil
	}
	s := v.spans[id]
	return v.data[s.start:s.end:s.end]
}

const multiplier = 0x9e3779b97f4a7c15

func mix(a, b uint64) uint64 {
	high, low := bits.Mul64(a^multiplier, b^0xe7037ed1a0b428db)
	return high ^ low
}

func hashBytes(b []byte) uint64 {
	h := uint64(len(b))
	for len(b) > 8 {
		h = mix(h, binary.LittleEndian.Uint64(b))
		b = b[8:]
	}
	return mix(h, word(b))
}

// word returns up to eight bytes as a number.
func word(b []byte) uint64 {
	switch n := len(b); {
	case n >= 8:
		return binary.LittleEndian.Uint64(b)
	case n >= 4:
		return uint64(binary.LittleEndian.Uint32(b)) | uint64(binary.LittleEndian.Uint32(b[n-4:]))<<(8*(n-4))
	case n > 0:
		return uint64(b[0]) | uint64(b[n/2])<<(8*(n/2)) | uint64(b[n-1])<<(8*(n-1))
	}
	return 0
}
