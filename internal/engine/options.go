package engine

import (
	"errors"
	"fmt"
	"math"
	"time"
)

// Options describe the geometry and the speed of an engine. The zero value of each field means its
// default, so the zero Options is an 8-billion-parameter dense model in bf16 on one H100-class GPU.
//
// The default speeds are modelled, not measured: 16 GB of weights at 80 % of 3.35 TB/s are read in
// about 6 ms, and 1.5 ms of launch and scheduling comes on top, so StepTime is 7.5 ms; the KV of a
// token (32 layers, 8 KV heads of 128, 2 bytes: 131,072 B) is read in 49 ns at the same rate; 16
// GFLOP for a prompt token at 40 % of 990 TFLOP/s give 25,000 tokens/s, and 524,288 FLOP for each
// token that it looks back on (4 x 32 layers x 32 heads of 128) 7.5e11 pairs/s. 80 GB of memory at 90 %
// less weights and activations leave 56 GB: about 27,000 blocks of 16 tokens.
type Options struct {
	// BlockTokens is the number of tokens in a KV block. Default 16.
	BlockTokens int
	// Blocks is the KV capacity in blocks. Default 27,000. Memory: 40 to 60 bytes a block.
	Blocks int
	// MaxContextTokens bounds prompt plus output of a request (vLLM: max_model_len). Default
	// 131,072; what Blocks can hold is a bound as well.
	MaxContextTokens int
	// MaxRunning bounds the requests in the running set (vLLM: max_num_seqs). Default 256.
	MaxRunning int
	// MaxWaiting bounds the queue; Submit fails with ErrQueueFull beyond it. Default 0: no bound.
	MaxWaiting int
	// MaxBatchTokens is the token budget of a step, shared by decodes (one token each) and prefill
	// chunks (vLLM: max_num_batched_tokens). Default 8192.
	MaxBatchTokens int

	// A step takes
	//
	//	StepTime + decoding sequences × StepTimePerSequence + their context tokens × StepTimePerKVToken
	//	+ prefill tokens / PrefillRate + attention pairs / AttentionRate
	//	+ ExpertTime × (1 − (1 − ExpertShare)^tokens) + adapters loaded × AdapterLoad

	// PrefillRate is the speed of prefill in tokens a second, without attention. Default 25,000.
	PrefillRate float64
	// AttentionRate is the speed of attention in prefill, in pairs of a prompt token and a token that it looks back on,
	// itself included, a second: what makes a long prompt cost more than in proportion. Default 7.5e11; +Inf is free.
	AttentionRate float64
	// StepTime is what each step costs before any token: weights, launch, scheduling. Default 7.5 ms.
	StepTime time.Duration
	// StepTimePerSequence is added for each decoding sequence. Default 15 µs.
	StepTimePerSequence time.Duration
	// StepTimePerKVToken is added for each token of context that the decoding sequences read.
	// Default 49 ns.
	StepTimePerKVToken time.Duration
	// ExpertTime is for a mixture of experts: what a step takes longer if its tokens touch all experts. They touch
	// 1 − (1 − ExpertShare)^tokens of them, ExpertShare being the experts a token goes to over all there are: a small
	// batch reads few weights, a large one all. Default 0: a dense model.
	ExpertTime  time.Duration
	ExpertShare float64

	// MaxAdapters is the number of LoRA slots (vLLM: max_loras). Default 0: requests that name an
	// adapter are rejected.
	MaxAdapters int
	// AdapterLoad is how long bringing an adapter into a slot takes; as in vLLM it delays the whole
	// step. Default 200 ms when MaxAdapters is set.
	AdapterLoad time.Duration

	// StartUp is the time after New or Restart in which requests are queued and not run. Default 0.
	StartUp time.Duration
}

func (o Options) withDefaults() Options {
	def := func(v *int, d int) {
		if *v == 0 {
			*v = d
		}
	}
	defDuration := func(v *time.Duration, d time.Duration) {
		if *v == 0 {
			*v = d
		}
	}
	def(&o.BlockTokens, 16)
	def(&o.Blocks, 27_000)
	def(&o.MaxContextTokens, 131_072)
	def(&o.MaxRunning, 256)
	def(&o.MaxBatchTokens, 8192)
	if o.PrefillRate == 0 {
		o.PrefillRate = 25_000
	}
	if o.AttentionRate == 0 {
		o.AttentionRate = 7.5e11
	}
	defDuration(&o.StepTime, 7500*time.Microsecond)
	defDuration(&o.StepTimePerSequence, 15*time.Microsecond)
	defDuration(&o.StepTimePerKVToken, 49*time.Nanosecond)
	if o.MaxAdapters > 0 {
		defDuration(&o.AdapterLoad, 200*time.Millisecond)
	}
	return o
}

// validate reports every field that is out of range, in one error.
func (o Options) validate() error {
	var errs []error
	atLeast := func(field string, v, low int) {
		if v < low {
			errs = append(errs, fmt.Errorf("%s is %d, want at least %d", field, v, low))
		}
	}
	notNegative := func(field string, v time.Duration) {
		if v < 0 {
			errs = append(errs, fmt.Errorf("%s is %v, want zero or more", field, v))
		}
	}
	atLeast("BlockTokens", o.BlockTokens, 1)
	atLeast("Blocks", o.Blocks, 1)
	if o.Blocks > math.MaxInt32/2 {
		errs = append(errs, fmt.Errorf("Blocks is %d, want at most %d", o.Blocks, math.MaxInt32/2))
	}
	atLeast("MaxContextTokens", o.MaxContextTokens, 2)
	atLeast("MaxRunning", o.MaxRunning, 1)
	atLeast("MaxWaiting", o.MaxWaiting, 0)
	atLeast("MaxBatchTokens", o.MaxBatchTokens, 1)
	// A decode takes one token of the budget, so a larger running set could never be served.
	if o.MaxBatchTokens < o.MaxRunning {
		errs = append(errs, fmt.Errorf("MaxBatchTokens is %d, want at least MaxRunning (%d)", o.MaxBatchTokens, o.MaxRunning))
	}
	if !(o.PrefillRate > 0) || math.IsInf(o.PrefillRate, 0) {
		errs = append(errs, fmt.Errorf("PrefillRate is %v tokens/s, want a finite number above zero", o.PrefillRate))
	}
	if !(o.AttentionRate > 0) {
		errs = append(errs, fmt.Errorf("AttentionRate is %v pairs/s, want a number above zero", o.AttentionRate))
	}
	notNegative("ExpertTime", o.ExpertTime)
	if !(o.ExpertShare >= 0 && o.ExpertShare <= 1) {
		errs = append(errs, fmt.Errorf("ExpertShare is %v, want 0 to 1", o.ExpertShare))
	}
	if o.StepTime <= 0 {
		errs = append(errs, fmt.Errorf("StepTime is %v, want more than zero", o.StepTime))
	}
	notNegative("StepTimePerSequence", o.StepTimePerSequence)
	notNegative("StepTimePerKVToken", o.StepTimePerKVToken)
	atLeast("MaxAdapters", o.MaxAdapters, 0)
	notNegative("AdapterLoad", o.AdapterLoad)
	notNegative("StartUp", o.StartUp)
	return errors.Join(errs...)
}
