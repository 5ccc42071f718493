package latency

import (
	"math"

	"github.com/inferloom/inferloom/scheduling"
)

// Places of scheduling.Basis.Values: what is known of a request and an endpoint at the pick, this request not counted.
const (
	prompt   = iota // tokens
	uncached        // of them, to be prefilled
	ahead           // prompt tokens of others that are still to be prefilled
	requests        // in flight
	kvTokens        // of KV memory in use
	waiting         // requests in the engine's queue
	over            // tokens by which this prompt exceeds the KV cache
	traffic         // prompt tokens per second that lately came
	kvUsage         // used fraction of the KV cache, 0 to 1

	counts
)

// fullCache is the used fraction of a KV cache from which engines let requests wait.
const fullCache = .95

// terms is how many a time is the sum of.
const terms = 8

// vector is one number a term.
type vector [terms]float64

func (v *vector) dot(w *vector) float64 {
	return v[0]*w[0] + v[1]*w[1] + v[2]*w[2] + v[3]*w[3] + v[4]*w[4] + v[5]*w[5] + v[6]*w[6] + v[7]*w[7]
}

// The two times that are predicted.
const (
	ttft = iota
	tpot

	targets
)

// expand returns the counts whose seconds per unit a time is made of. firstWait is where the terms begin that are spent waiting
// for others.
func expand(target int, v *[counts]float32) vector {
	if target == tpot {
		return vector{1, float64(v[requests]), float64(v[kvTokens]), float64(v[ahead]), float64(v[waiting]), float64(v[over]), float64(v[traffic]), 0}
	}
	u := float64(v[uncached])
	return vector{
		1, u, u * (float64(v[prompt]) - u/2), float64(v[requests]), float64(v[kvTokens]),
		float64(v[ahead]), float64(v[waiting]), float64(v[over]),
	}
}

// waits is the part of a time that is spent on others' work.
func waits(target int, x, w *vector) float64 {
	if target == tpot {
		return x[3]*w[3] + x[4]*w[4] + x[5]*w[5] + x[6]*w[6]
	}
	return x[5]*w[5] + x[6]*w[6] + x[7]*w[7]
}

// view is what the counts of a pick are read from.
type view struct {
	c                    *scheduling.Cycle
	waiting, running, kv scheduling.Column
}

func viewOf(c *scheduling.Cycle) view {
	return view{c, c.Metric(scheduling.Waiting), c.Metric(scheduling.Running), c.Metric(scheduling.KVUsage)}
}

// most bounds what is believed of an engine, so that counts stay finite in single precision.
const most = math.MaxInt32

// read sets a slot's counts. Where the engine has not spoken lately they are the ledger's alone.
func (v *view) read(values *[counts]float32, slot scheduling.Slot, rate float64) {
	c := v.c
	n, kv, beyond := float64(c.Requests(slot)), float64(c.KVTokens(slot)), 0.
	queued, heard := v.waiting.At(slot)
	if !heard {
		queued = 0
	} else if running, ok := v.running.At(slot); ok {
		n = max(n, running+queued+float64(c.Unreported(slot)))
	}
	e := c.Endpoint(slot)
	used, said := v.kv.At(slot)
	if !said {
		used = 0
	}
	used = min(used, 1)
	if room := float64(e.BlockTokens) * float64(e.CacheBlocks); room > 0 {
		kv = max(kv, used*room)
		used = max(used, min(kv/room, 1))
		beyond = max(0, kv+float64(c.PromptTokens)-fullCache*room)
	}
	values[prompt] = float32(min(c.PromptTokens, most))
	values[uncached] = float32(min(c.Uncached(slot), most))
	values[ahead] = float32(min(c.PrefillTokens(slot), most))
	values[requests] = float32(min(n, most))
	values[kvTokens] = float32(min(kv, most))
	values[waiting] = float32(min(queued, most))
	values[over] = float32(min(beyond, most))
	values[traffic] = float32(min(rate, most))
	values[kvUsage] = float32(used)
}
