package engine

// Stats is what an engine tells about itself at one moment.
type Stats struct {
	Waiting, Running int
	// BlocksUsed are held by running requests, out of BlocksTotal; KVUsage is their ratio.
	// BlocksCached are distinct blocks in the prefix cache, used or free.
	BlocksUsed, BlocksCached, BlocksTotal int
	KVUsage                               float64 // 0..1
	// RunningAdapters and WaitingAdapters are those of running and waiting requests,
	// ResidentAdapters those in slots.
	RunningAdapters, WaitingAdapters, ResidentAdapters []string
	Totals                                             Totals
}

// Totals only grow, over restarts too.
type Totals struct {
	// PrefixQueries are prompt tokens looked up in the prefix cache, PrefixHits those found there;
	// a preempted request counts once.
	PrefixQueries, PrefixHits uint64
	// PromptTokens are counted with the first token of their answer, GenerationTokens one by one.
	PromptTokens, GenerationTokens uint64
	Preemptions, Steps             uint64
	Completed, Cancelled, Lost     uint64
}

// Stats returns the state at Now.
func (e *Engine) Stats() Stats {
	used := e.o.Blocks - e.cache.free
	s := Stats{
		Waiting: e.waiting.len, Running: len(e.running),
		BlocksUsed: used, BlocksCached: e.cache.cached, BlocksTotal: e.o.Blocks,
		KVUsage: float64(used) / float64(e.o.Blocks),
		Totals:  e.totals,
	}
	for _, a := range e.adapters.known {
		if a.running > 0 {
			s.RunningAdapters = append(s.RunningAdapters, a.name)
		}
		if a.waiting > 0 {
			s.WaitingAdapters = append(s.WaitingAdapters, a.name)
		}
	}
	for _, i := range e.adapters.resident {
		s.ResidentAdapters = append(s.ResidentAdapters, e.adapters.known[i].name)
	}
	return s
}
