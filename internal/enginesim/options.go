package enginesim

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"strings"
	"time"

	"github.com/inferloom/inferloom/internal/engine"
	"github.com/inferloom/inferloom/kvcache/events"
)

// Options configure a Server. Only Model is required.
type Options struct {
	// Engine is the engine's geometry and speed. If Adapters are given, MaxAdapters defaults to 4.
	Engine engine.Options
	// Model is the name of the base model.
	Model string
	// Adapters are the names of LoRA adapters, served as models of their own.
	Adapters []string
	// TimeScale is how many simulated seconds pass in one of the clock. Default 1.
	TimeScale float64
	// MinSleep is the shortest sleep of the driver, in real time: it bounds both the CPU that an
	// engine with short steps takes and the lateness of a token. Default 1 ms.
	MinSleep time.Duration
	// MinFlush is the shortest real time between two writes to one stream; the first token and the
	// last are never held back. Default 0 (a write for each token) up to TimeScale 1, 4 ms above.
	MinFlush time.Duration
	// MaxBodyBytes bounds a request body. Default 32 MiB.
	MaxBodyBytes int64
	// Seed determines the answers and the chances of faults.
	Seed uint64
	// Tokenizer makes the tokens of prompts; nil makes pseudo-tokens of four bytes. What it refuses, the server refuses.
	Tokenizer Tokenizer
	// Logger receives what goes wrong; nil discards it.
	Logger *slog.Logger

	// Events is told what enters and leaves the prefix cache, as vLLM publishes it: with tokens, adapter and salt. Who makes the
	// publisher serves it. Nil publishes nothing.
	Events *events.Publisher

	// Stored, Removed and Cleared are called, if set, when the content of the prefix cache changes,
	// in order and before any client sees the effect. They run inside the driver: they must be
	// quick and must not call the server. Times are simulated.
	Stored  func(StoredBlocks)
	Removed func(at time.Duration, hashes []uint64)
	Cleared func(at time.Duration)
}

// Tokenizer makes the token ids of a request's prompt from its body.
type Tokenizer interface {
	AppendChat(ctx context.Context, dst []uint32, body []byte) ([]uint32, error)
	AppendCompletion(ctx context.Context, dst []uint32, body []byte) ([]uint32, error)
}

// StoredBlocks is a run of blocks that entered the prefix cache, with the tokens in them.
type StoredBlocks struct {
	engine.StoredBlocks
	// Tokens are the token ids, four bytes each, little endian. Valid during the call.
	Tokens []byte
}

func (o Options) withDefaults() Options {
	if o.TimeScale == 0 {
		o.TimeScale = 1
	}
	if o.MinSleep == 0 {
		o.MinSleep = time.Millisecond
	}
	if o.MinFlush == 0 && o.TimeScale > 1 {
		o.MinFlush = 4 * time.Millisecond
	}
	if o.MaxBodyBytes == 0 {
		o.MaxBodyBytes = 32 << 20
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if len(o.Adapters) > 0 && o.Engine.MaxAdapters == 0 {
		o.Engine.MaxAdapters = 4
	}
	return o
}

// validate reports every problem with the server's own options.
func (o Options) validate() error {
	var errs []error
	if o.Model == "" {
		errs = append(errs, errors.New("Model is empty"))
	}
	seen := map[string]bool{o.Model: true}
	for i, a := range o.Adapters {
		switch {
		case a == "" || strings.Contains(a, ","):
			errs = append(errs, fmt.Errorf("Adapters[%d] is %q, want a name without comma", i, a))
		case seen[a]:
			errs = append(errs, fmt.Errorf("Adapters[%d] is %q, which is a model already", i, a))
		}
		seen[a] = true
	}
	if !(o.TimeScale > 0) || math.IsInf(o.TimeScale, 0) {
		errs = append(errs, fmt.Errorf("TimeScale is %v, want a finite number above zero", o.TimeScale))
	}
	if o.MinSleep < 0 {
		errs = append(errs, fmt.Errorf("MinSleep is %v, want zero or more", o.MinSleep))
	}
	if o.MinFlush < 0 {
		errs = append(errs, fmt.Errorf("MinFlush is %v, want zero or more", o.MinFlush))
	}
	if o.MaxBodyBytes < 0 {
		errs = append(errs, fmt.Errorf("MaxBodyBytes is %d, want zero or more", o.MaxBodyBytes))
	}
	return errors.Join(errs...)
}
