package store

import (
	"hash/maphash"
	"math/bits"
	"sync"
)

// Sightings counts how often keys were seen lately, in a count-min sketch of 4-bit counters that are halved from time to time:
// 15 is the most, and with many more keys than it was made for, counts come out too high. It serves to store only what
// comes back. It is safe for concurrent use.
type Sightings struct {
	seed maphash.Seed

	mu       sync.Mutex
	counters []uint8 // two a byte; a row is a quarter
	mask     uint64
	seen     int
	most     int
}

// NewSightings makes a counter for about so many keys.
func NewSightings(keys int) *Sightings {
	row := 1 << bits.Len(uint(max(keys, 64)-1)) * 2
	return &Sightings{seed: maphash.MakeSeed(), counters: make([]uint8, 4*row/2), mask: uint64(row - 1), most: 10 * row / 2}
}

// Saw counts a key and returns how often it was seen, this time included.
func (s *Sightings) Saw(key Key) int {
	h := maphash.Comparable(s.seed, key)
	s.mu.Lock()
	defer s.mu.Unlock()
	least := s.least(h)
	if least == 15 {
		return 15
	}
	// Only the smallest are raised: the others are too high already.
	for row := range uint64(4) {
		if i, shift := s.place(h, row); s.counters[i]>>shift&15 == least {
			s.counters[i] += 1 << shift
		}
	}
	if s.seen++; s.seen >= s.most {
		s.seen /= 2
		for i, c := range s.counters {
			s.counters[i] = c >> 1 & 0x77
		}
	}
	return int(least) + 1
}

// Seen returns how often a key was seen.
func (s *Sightings) Seen(key Key) int {
	h := maphash.Comparable(s.seed, key)
	s.mu.Lock()
	defer s.mu.Unlock()
	return int(s.least(h))
}

func (s *Sightings) least(h uint64) uint8 {
	least := uint8(15)
	for row := range uint64(4) {
		i, shift := s.place(h, row)
		least = min(least, s.counters[i]>>shift&15)
	}
	return least
}

func (s *Sightings) place(h, row uint64) (i uint64, shift uint) {
	n := (h + row*(h>>32|1)) & s.mask
	return (row*(s.mask+1) + n) / 2, uint(n&1) * 4
}
