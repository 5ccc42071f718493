package kvcache

import (
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

	all   []int32 // all of these, one behind the other
	dirty bool    // some are not zero
	seen  uint8   // tiers that Tiers counts
}

// reset makes all numbers zero.
func (m *Matches) reset(pods int) {
	const slices = 2 + 2*Tiers
	if len(m.Blocks) == pods && len(m.all) == slices*pods {
		if m.dirty {
			clear(m.all)
			m.dirty = false
		}
		return
	}
	m.dirty = false
	if cap(m.all) < slices*pods {
		m.all = make([]int32, slices*pods)
	}
	m.all = m.all[:slices*pods]
	clear(m.all)
	rest := m.all
	next := func() (one []int32) {
		one, rest = rest[:pods:pods], rest[pods:]
		return one
	}
	m.Blocks, m.Gap = next(), next()
	for t := range Tiers {
		m.Tiers[t], m.Depths[t] = next(), next()
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
