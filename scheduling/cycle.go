package scheduling

import (
	"math"
	"math/bits"
	"slices"
	"time"
)

// Cycle is one pick's view of the world, handed to each plugin. It is valid during the call only.
type Cycle struct {
	// Request is what is being placed.
	Request *Request
	// Snapshot is the pool as this pick sees it.
	Snapshot *Snapshot
	// PromptTokens is the prompt's length, estimated where tokens are not known.
	PromptTokens int
	// Peer is the endpoint that the request's KV cache comes from or goes to: the choice of the stage that this one comes
	// after, else Request.Peer. Nil means that there is none.
	Peer *Endpoint
	// Match is what endpoints have cached of the prompt.
	Match Match
	// Source becomes Decision.Source. A Committer that finds one sets it.
	Source Source

	pool       *Pool
	now        int64
	freshAfter int64
	seed       uint64
	draws      uint64
	restarts   int
	produced   int   // stage.produces of what Match is
	legs       []leg // of the stages that have run
	preview    bool  // nothing goes on the ledger
	observers  []Observer
	moments    []Moment // of the legs, where there are observers

	// The ledger as it was frozen, and what was on it at the last report, by slot; nil in a pick that is not observed.
	inFlight []Load
	reported []int

	predicted []Prediction // by slot; empty until a producer asks for them

	stage  *stage // that runs
	slots  []Slot
	full   []Slot // as given to Full
	scores []float64
	sums   []float64
	loads  []load // by slot, frozen at the start of an attempt
	seen   []load // of them what the ledger holds

	elsewhere *elsewhere // what other processes have in flight
	chains    []chain
	keys      []PromptKey
	ranked    [MaxRanked]int
	counted   [counts]bool   // which of counts are made
	counts    [counts]column // of the ledger, made when asked for
}

// Match is how much of a prompt each endpoint has in its KV cache. Producers fill it.
type Match struct {
	// Known says that a producer looked. A match that is not known makes scorers abstain.
	Known bool
	// Cached is the tokens, counted contiguously from the start of the prompt, by slot.
	Cached []int32
	// Media is how much of Request.Media has its embeddings cached, in their unit, by slot. It is empty where no producer
	// looked.
	Media []int32
}

// Source is an endpoint that an engine can fetch KV blocks of the prompt from. The zero Source is none.
type Source struct {
	Endpoint *Endpoint
	// CachedTokens is how much of the prompt it is believed to have.
	CachedTokens int
}

type chain struct {
	blockTokens int
	hashes      []uint64
	filled      bool
}

// Chain returns the block hashes of the request's prompt for a block size: the caller's own if the request came with
// them, else those that hash appends to dst, computed once a pick.
func (c *Cycle) Chain(blockTokens int, hash func(dst []uint64, r *Request, blockTokens int) []uint64) []uint64 {
	for i := range c.Request.Prompt.Chains {
		if own := &c.Request.Prompt.Chains[i]; own.BlockTokens == blockTokens {
			return own.Hashes
		}
	}
	for i := range c.chains {
		if memo := &c.chains[i]; memo.filled && memo.blockTokens == blockTokens {
			return memo.hashes
		}
	}
	for i := range c.chains {
		if memo := &c.chains[i]; !memo.filled {
			memo.hashes = hash(memo.hashes[:0], c.Request, blockTokens)
			memo.blockTokens, memo.filled = blockTokens, true
			return memo.hashes
		}
	}
	c.chains = append(c.chains, chain{blockTokens, hash(nil, c.Request, blockTokens), true})
	return c.chains[len(c.chains)-1].hashes
}

// PromptKey returns what hash makes of the first tokens of the prompt, computed once a pick; ok is false where there is no
// prompt. A plugin that goes by the prompt itself reads it through here, or Chain, so that its choices can be replayed where
// the prompt is not known any more.
func (c *Cycle) PromptKey(tokens int, hash func(r *Request, tokens int) (key uint64, ok bool)) (key uint64, ok bool) {
	for _, memo := range c.keys {
		if memo.Tokens == tokens {
			return memo.Key, true
		}
	}
	if key, ok = hash(c.Request, tokens); ok {
		c.keys = append(c.keys, PromptKey{tokens, key})
	}
	return key, ok
}

// Full says that these endpoints would do but for want of room. A filter calls it before it leaves none because of that: the
// pick then fails with ErrFull in place of ErrNoEndpoint, and whoever asked knows what to wait for.
func (c *Cycle) Full(slots []Slot) { c.full = append(c.full[:0], slots...) }

// Endpoint returns the endpoint in a slot.
func (c *Cycle) Endpoint(slot Slot) *Endpoint { return c.Snapshot.endpoints[slot] }

// Requests is how many requests this process, and others as far as Pool.SetRemote told, have in flight on a slot.
func (c *Cycle) Requests(slot Slot) int { return c.loads[slot].requests() }

// PrefillTokens is how many prompt tokens these requests have still to be prefilled.
func (c *Cycle) PrefillTokens(slot Slot) int { return c.loads[slot].prefill() }

// KVTokens is how many tokens of KV memory these requests take up.
func (c *Cycle) KVTokens(slot Slot) int {
	if c.inFlight != nil {
		return c.inFlight[slot].KVTokens
	}
	n := c.pool.ledger.kvTokens(slot)
	if c.elsewhere != nil {
		n += c.elsewhere.at(slot, c.Snapshot.generations[slot]).KVTokens
	}
	return n
}

// Unreported is how many more requests this process has in flight on a slot than when the engine last reported its load: what
// its metrics cannot show yet.
func (c *Cycle) Unreported(slot Slot) int {
	if c.reported != nil {
		return max(0, c.Requests(slot)-c.reported[slot])
	}
	return max(0, c.seen[slot].requests()-int(c.Snapshot.baseline[slot]))
}

// Uncached is how many tokens of the prompt would have to be prefilled on a slot.
func (c *Cycle) Uncached(slot Slot) int {
	if !c.Match.Known {
		return c.PromptTokens
	}
	return max(0, c.PromptTokens-int(c.Match.Cached[slot]))
}

// Charge is what the ledger would hold more of for a slot if it were chosen: prompt tokens to prefill, and tokens of KV memory.
// It says less than the whole prompt where another stage takes over, and where some of it is cached.
func (c *Cycle) Charge(slot Slot) (prefill, kv int) {
	if c.stage == nil {
		return c.Uncached(slot), c.PromptTokens
	}
	return c.stage.charges(c, slot, c.prefillTaken())
}

// Metric returns the column of a metric, or of a count of the ledger.
func (c *Cycle) Metric(m Metric) Column {
	if m >= metrics {
		return c.count(m)
	}
	return Column{c.Snapshot.values[m], c.freshAfter}
}

// count makes a column of the ledger, frozen like loads, once an attempt.
func (c *Cycle) count(m Metric) Column {
	which := m - metrics
	memo := &c.counts[which]
	if !c.counted[which] {
		c.counted[which] = true
		memo.values, memo.at = resize(memo.values, len(c.loads)), resize(memo.at, len(c.loads))
		for i, l := range c.loads {
			memo.at[i] = math.MaxInt64
			switch m {
			case InFlightRequests:
				memo.values[i] = float64(l.requests())
			case InFlightPrefillTokens:
				memo.values[i] = float64(l.prefill())
			default:
				memo.values[i] = float64(c.KVTokens(Slot(i)))
			}
		}
	}
	return Column{*memo, c.freshAfter}
}

// Now is the time of the pick.
func (c *Cycle) Now() time.Time { return time.Unix(0, c.now) }

// Column is one metric of all endpoints.
type Column struct {
	column
	freshAfter int64
}

// At returns an endpoint's value. ok is false where it is missing or stale.
func (m Column) At(slot Slot) (value float64, ok bool) {
	return m.values[slot], m.at[slot] > m.freshAfter
}

// Others returns the view of requests that other processes placed on endpoints and that Requests does not count.
func (c *Cycle) Others() OthersColumn {
	return OthersColumn{c.Metric(Running), c.Metric(Waiting), c.Snapshot.baseline, c.reported, c.loads, c.seen}
}

// OthersColumn is what endpoints have to do for other processes.
type OthersColumn struct {
	running, waiting Column
	baseline         []uint16
	reported         []int // in place of baseline, where a choice is weighed again
	loads, seen      []load
}

// At returns how many requests of other processes an engine ran and queued when it last reported: those beyond what this process
// had there then, and what others told it of (Pool.SetRemote). queued of them waited, if they wait as often as this process's. What an engine does not report counts as 0.
func (o *OthersColumn) At(slot Slot) (requests, queued float64) {
	waiting, all := 0.0, 0.0
	if o.waiting.at[slot] > o.waiting.freshAfter {
		waiting = o.waiting.values[slot]
		all = waiting
	}
	if o.running.at[slot] > o.running.freshAfter {
		all += o.running.values[slot]
	}
	own := 0
	if o.reported != nil {
		own = o.reported[slot]
	} else {
		own = int(o.baseline[slot]) + o.loads[slot].requests() - o.seen[slot].requests()
	}
	if requests = all - float64(own); requests <= 0 {
		return 0, 0
	}
	return requests, requests * waiting / all
}

// Residency says how ready an endpoint is to run a LoRA adapter.
type Residency uint8

// From not at all to running already.
const (
	ResidencyUnknown Residency = iota // no fresh word from the engine
	NotResident                       // and no slot is free
	AdapterWaiting                    // requests for it wait already
	AdapterFree                       // not there, but a slot is free
	AdapterActive                     // requests for it are running
)

// Adapter returns the view of the request's adapter, for all endpoints.
func (c *Cycle) Adapter() AdapterColumn {
	lora := c.Snapshot.lora
	name := c.Request.Adapter
	return AdapterColumn{lora.at, lora.slots(lora.active, name), lora.slots(lora.waiting, name), lora.free, c.freshAfter}
}

// AdapterColumn is one adapter's state on all endpoints.
type AdapterColumn struct {
	at                    []int64
	active, waiting, free bitset
	freshAfter            int64
}

// At returns the adapter's state on an endpoint.
func (a AdapterColumn) At(slot Slot) Residency {
	if a.at[slot] <= a.freshAfter {
		return ResidencyUnknown
	}
	return residencies[a.active.bit(slot)<<2|a.free.bit(slot)<<1|a.waiting.bit(slot)]
}

// residencies is indexed by the bits active, free and waiting.
var residencies = [8]Residency{
	NotResident, AdapterWaiting, AdapterFree, AdapterFree, AdapterActive, AdapterActive, AdapterActive, AdapterActive,
}

// Random returns 64 random bits; the same for the same scheduler seed and the same sequence of picks.
func (c *Cycle) Random() uint64 {
	c.draws++
	return mix(c.seed + c.draws)
}

// IntN returns a random number below n, which must be positive.
func (c *Cycle) IntN(n int) int {
	hi, _ := bits.Mul64(c.Random(), uint64(n))
	return int(hi)
}

// Float64 returns a random number in [0, 1).
func (c *Cycle) Float64() float64 { return float64(c.Random()>>11) / (1 << 53) }

// mix is the finaliser of SplitMix64 (Steele, Lea, Flood 2014).
func mix(x uint64) uint64 {
	x *= 0x9e3779b97f4a7c15
	x ^= x >> 30
	x *= 0xbf58476d1ce4e5b9
	x ^= x >> 27
	x *= 0x94d049bb133111eb
	return x ^ x>>31
}

// Rank appends the positions with the highest scores to ranked, best first, until it is full, leaving out those that it
// holds already. Ties go to the fewest requests in flight, then the fewest tokens to prefill, then at random.
func (c *Cycle) Rank(slots []Slot, scores []float64, ranked []int) []int {
	held, room := len(ranked), cap(ranked)
	if held == room {
		return ranked
	}
	draw := c.Random()
	better := func(i, j int) bool {
		if scores[i] != scores[j] {
			return scores[i] > scores[j]
		}
		if a, b := c.loads[slots[i]].counters(), c.loads[slots[j]].counters(); a != b {
			return a < b
		}
		return mix(draw+uint64(i)) < mix(draw+uint64(j))
	}
	worst := math.Inf(-1) // of a full ranking
	for i, score := range scores {
		if score < worst || slices.Contains(ranked[:held], i) {
			continue
		}
		if len(ranked) < room {
			ranked = append(ranked, i)
		} else if better(i, ranked[room-1]) {
			ranked[room-1] = i
		} else {
			continue
		}
		for at := len(ranked) - 1; at > held && better(ranked[at], ranked[at-1]); at-- {
			ranked[at], ranked[at-1] = ranked[at-1], ranked[at]
		}
		if len(ranked) == room {
			worst = scores[ranked[room-1]]
		}
	}
	return ranked
}
