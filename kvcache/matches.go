package kvcache

import (
	"slices"

	"github.com/inferloom/inferloom/kvcache/events"
)

// Tier is where a block is, fastest first. Guessed is not known: the pod was sent a prompt with the block.
type Tier uint8

// The tiers.
const (
	GPU Tier = iota
	CPU
	Disk
	Remote
	Guessed

	Tiers = iota
)

func (t Tier) String() string {
	return [...]string{"gpu", "cpu", "disk", "remote", "guessed", "?"}[min(int(t), Tiers)]
}

func tierOf(t events.Tier) (Tier, bool) {
	return Tier(t - events.GPU), t >= events.GPU && t <= events.Remote
}

// Matches is what pods hold of a prompt. All slices are by Pod.ID and reused from match to match; those of pods that were
// not asked for are zero.
type Matches struct {
	// Blocks is the longest prefix that the pod can use.
	Blocks []int32
	// Gap is the first block that the pod does not hold for full attention, in any tier. It is beyond Blocks only in models
	// of several groups.
	Gap []int32
	// Tiers counts the blocks of the usable prefix by the fastest tier that has them; they add up to Blocks.
	Tiers [Tiers][]int32
	// Depths is the longest prefix within one tier alone.
	Depths [Tiers][]int32
}

func (m *Matches) reset(pods int) {
	one := func(s *[]int32) {
		*s = slices.Grow((*s)[:0], pods)[:pods]
		clear(*s)
	}
	one(&m.Blocks)
	one(&m.Gap)
	for t := range m.Tiers {
		one(&m.Tiers[t])
		one(&m.Depths[t])
	}
}

// Block is what a pod holds of one block of a prompt.
type Block struct {
	// Known says that the index knows the block at all, whoever holds it.
	Known bool
	// Held is a set of bits by Tier, of full attention.
	Held uint8
	// Engine is the pod's own hash of the block, if HasEngine.
	Engine    uint64
	HasEngine bool
}
