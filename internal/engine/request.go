package engine

import (
	"errors"
	"time"
)

// Submit's refusals, to be tested with errors.Is.
var (
	// ErrInvalid says that the request itself is malformed.
	ErrInvalid = errors.New("invalid request")
	// ErrTooLong says that prompt and output can never fit into this engine.
	ErrTooLong = errors.New("request does not fit the engine")
	// ErrQueueFull says that MaxWaiting requests wait already.
	ErrQueueFull = errors.New("waiting queue is full")
	// ErrNoAdapters says that the engine has no LoRA slots.
	ErrNoAdapters = errors.New("engine serves no adapters")
)

// Request is one generation.
type Request struct {
	// ID names the request in every report. It must be unique among those in the engine.
	ID uint64
	// PromptTokens and OutputTokens are its lengths; both at least 1. The engine produces exactly
	// OutputTokens: where an answer ends is the caller's knowledge.
	PromptTokens, OutputTokens int
	// Blocks are the chained hashes of the full blocks of prompt and output, each covering its
	// block and everything before it. A list that ends early, or a zero hash, leaves the blocks
	// without one out of the prefix cache. The engine reads the slice until the request ends.
	Blocks []uint64
	// LoadedTokens of the prompt come with their KV, transferred from another engine: they take up memory and enter the
	// prefix cache, but need no prefill. The last token of a prompt is computed in any case. A preempted request has lost
	// them.
	LoadedTokens int
	// Adapter is the LoRA adapter; empty for the base model. Blocks must be hashed apart from those
	// of other adapters.
	Adapter string
}

// Reason says why a request ended.
type Reason uint8

const (
	// Completed requests produced all their tokens.
	Completed Reason = iota
	// Cancelled requests were taken out by Cancel.
	Cancelled
	// Lost requests were in the engine when it was restarted.
	Lost
)

// String returns the reason in lower case.
func (r Reason) String() string {
	return [...]string{"completed", "cancelled", "lost"}[r]
}

// Result is the life of a request that ended. A time it never reached is -1.
type Result struct {
	ID     uint64
	Reason Reason
	// PromptTokens of which CachedTokens were found in the prefix cache, or loaded, when it first started.
	PromptTokens, CachedTokens int
	OutputTokens               int // produced
	Preemptions                int
	// Arrived is when it was submitted, Started when it first joined the running set, FirstToken
	// when its first token was there, Finished when it ended.
	Arrived, Started, FirstToken, Finished time.Duration
}

// Hooks are called while the engine advances; nil ones are skipped. Slices are valid during the
// call only. A hook must not call the engine.
type Hooks struct {
	// Started is called when a request joins the running set for the first time; cachedTokens of
	// its prompt need no prefill.
	Started func(at time.Duration, id uint64, cachedTokens int)
	// Tokens is called when a request has n more tokens, the last of them at the given time, and
	// produced in all.
	Tokens func(at time.Duration, id uint64, n, produced int)
	// Preempted is called when a running request loses its memory and returns to the queue.
	Preempted func(at time.Duration, id uint64)
	// Finished is called once for each accepted request.
	Finished func(Result)

	// Stored is called when blocks enter the prefix cache: as vLLM has it, at the start of the step
	// that computes them.
	Stored func(StoredBlocks)
	// Removed is called when the last copy of blocks leaves the prefix cache.
	Removed func(at time.Duration, hashes []uint64)
	// Cleared is called when the whole prefix cache is emptied.
	Cleared func(at time.Duration)
}

// StoredBlocks is a run of consecutive blocks of one request that entered the prefix cache.
type StoredBlocks struct {
	At      time.Duration
	Request uint64
	// First is the position of Hashes[0] in the request's Blocks.
	First  int
	Hashes []uint64
	// Parent is the hash of the block before the first; meaningful if First > 0.
	Parent  uint64
	Adapter string
}
