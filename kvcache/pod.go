package kvcache

import (
	"github.com/inferloom/inferloom/kvcache/events"
)

// Pod names a publisher of events: an engine, one data-parallel rank of it, or a store. The caller gives out IDs below
// Options.MaxPods; the scheduler's slots and generations will do. An ID that gets a new generation is another pod.
type Pod struct {
	ID, Generation uint32
}

// PodOptions say what a pod is. The zero value works for Speculate; Apply needs Model.
type PodOptions struct {
	// Name identifies the pod in snapshots, for other processes and after restarts.
	Name string
	// Model is the model that the pod's events are about, as prompts' Spaces name it. An event that names its model itself wins.
	Model string
	// Revision of adapters, as prompts' Spaces have it.
	Revision string
	// Capacity is how many blocks Speculate may believe that the pod holds.
	Capacity int
}

// Group is a group of a model's layers that has blocks of its own.
type Group struct {
	ID          int // as events number them
	BlockTokens int
	Attention   events.Attention
	Window      int // tokens of a sliding window or chunk
}

// Verdict is what became of a batch.
type Verdict uint8

const (
	// Applied in its turn.
	Applied Verdict = iota
	// AppliedAfterGap: batches before it are missing, so what was known of the pod was forgotten first.
	AppliedAfterGap
	// Duplicate of a batch that was applied, or one that a later batch has overtaken; nothing changed.
	Duplicate
	// Closed: the pod is not open under that generation; nothing changed.
	Closed
)

func (v Verdict) String() string {
	return [...]string{"applied", "applied after a gap", "duplicate", "closed"}[min(v, Closed)]
}
