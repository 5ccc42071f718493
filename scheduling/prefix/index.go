package prefix

import "github.com/inferloom/inferloom/kvcache"

// Defaults of Options.
const (
	DefaultMaxBytes     = 64 << 20
	DefaultMaxEndpoints = 1024
)

// Options are the parameters of New. The zero value works.
type Options struct {
	// MaxBytes bounds the index's memory; 0 means DefaultMaxBytes. About 12 bytes a block where prompts are long.
	MaxBytes int
	// MaxEndpoints is the pool's maximum; 0 means DefaultMaxEndpoints.
	MaxEndpoints int
}

// Index is what a Producer asks: New makes one for guesses alone, kvcache.New one that knows what engines hold.
type Index = kvcache.Index

// New makes an index of what was routed where, without events from engines.
func New(o Options) (*Index, error) {
	if o.MaxBytes == 0 {
		o.MaxBytes = DefaultMaxBytes
	}
	if o.MaxEndpoints == 0 {
		o.MaxEndpoints = DefaultMaxEndpoints
	}
	return kvcache.New(kvcache.Options{MaxBytes: o.MaxBytes, MaxPods: o.MaxEndpoints, GuessesOnly: true})
}
