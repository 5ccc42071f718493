package kvcache

import (
	"errors"
	"fmt"
	"time"
)

// Defaults of Options.
const (
	DefaultMaxBytes = 256 << 20
	DefaultMaxPods  = 1024
)

// Options are the parameters of an Index. The zero value works.
type Options struct {
	// MaxBytes bounds the index's memory; 0 means DefaultMaxBytes. It is reserved at once and becomes resident as the index
	// fills, with 27 to 35 bytes a block where chains are long, whoever holds it.
	MaxBytes int
	// MaxPods is above all pods' IDs; 0 means DefaultMaxPods.
	MaxPods int
	// GuessesOnly is for an index without events: it takes 10 bytes a block.
	GuessesOnly bool
	// GuessFor is how long a guess is believed that no event has settled; 0 means for ever, within the pod's capacity.
	GuessFor time.Duration
	// Now is the clock of GuessFor; nil means time.Now.
	Now func() time.Time
}

func (o *Options) validate() error {
	var problems []error
	if o.MaxBytes < 0 {
		problems = append(problems, fmt.Errorf("max bytes %d: negative", o.MaxBytes))
	}
	if o.MaxPods < 0 || o.MaxPods > 1<<16 {
		problems = append(problems, fmt.Errorf("max pods %d: want 1 to %d", o.MaxPods, 1<<16))
	}
	if o.GuessFor < 0 {
		problems = append(problems, fmt.Errorf("guess for %v: negative", o.GuessFor))
	}
	return errors.Join(problems...)
}

// ErrClosed is returned for a pod that is not open under its generation.
var ErrClosed = errors.New("kvcache: pod is not open under that generation")

// Stats is the size of an index and what it has seen.
type Stats struct {
	// Blocks counts a block once for each pod that holds it, in whatever tiers and groups. Guesses counts guesses likewise.
	Blocks, Guesses int
	// Distinct is the number of different blocks; Runs is the number of pieces that they are stored in.
	Distinct, Runs int
	// Waiting is the number of blocks whose parent is not known, or of which only the engine's hash is known.
	Waiting int
	Pods    int
	// Bytes is the memory in use, MaxBytes its bound.
	Bytes, MaxBytes int

	Stored, Removed, Cleared uint64 // blocks, blocks, pods
	Spliced                  uint64 // blocks whose parent has appeared
	Unknown                  uint64 // removals of blocks that the pod is not known to hold
	Skipped                  uint64 // stored blocks that cannot be placed: partial ones, unknown tiers or places, too many groups
	Gaps, Duplicates         uint64 // batches
	Late                     uint64 // batches and events for past generations
	Forgotten                uint64 // blocks that gave way to others
}
