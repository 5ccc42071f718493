package prefix

import (
	"cmp"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"

	"github.com/inferloom/inferloom/kvcache"
	"github.com/inferloom/inferloom/kvcache/blockhash"
	"github.com/inferloom/inferloom/scheduling"
)

// Defaults of Producer, for endpoints that have not said what their cache is like.
const (
	DefaultBlockTokens = 16
	DefaultCacheBlocks = 32768
)

// Producer fills a pick's Match from an index and records the choice in it. Use it by pointer.
type Producer struct {
	// Index is shared by all producers of one pool.
	Index *Index `json:"-"`
	// Costs, if given, make what a slow tier holds count for less than what the GPU holds: Match.Cached is then how many tokens
	// an endpoint need not compute, with the time to load the others taken off.
	Costs *kvcache.Costs `json:"-"`
	// BlockTokens and CacheBlocks stand in for what an endpoint has not said; 0 means the defaults.
	BlockTokens int `json:"blockTokens,omitempty"`
	CacheBlocks int `json:"cacheBlocks,omitempty"`
	// Fixed makes them count whatever endpoints say.
	Fixed bool `json:"fixed,omitempty"`
	// MaxTokens is how much of a prompt counts, from its start; 0 means all of it.
	MaxTokens int `json:"maxTokens,omitempty"`
	// Routed is told of each choice and the block hashes of its prompt, so that other replicas can learn of it; nil means nobody.
	// It must not block, nor keep or change the hashes.
	Routed func(e *scheduling.Endpoint, chain []uint64) `json:"-"`

	members members
	matches sync.Pool // of *kvcache.Matches
}

// members keeps an index up to date with who is in the pool.
type members struct {
	current atomic.Pointer[layout]
	mu      sync.Mutex // held while the next layout is made
}

// layout is what the producer derives from a pool's layout.
type layout struct {
	version     uint64
	current     <-chan struct{} // closed when it is replaced; no other layout, of any pool, has this channel
	sizes       []blockSize
	blockTokens []int // by slot
	generations []uint32
}

// blockSize is the endpoints whose blocks have the same size.
type blockSize struct {
	tokens int
	among  []uint64 // bits by slot
}

// Produce implements scheduling.Producer.
func (p *Producer) Produce(c *scheduling.Cycle) {
	l := p.layout(c.Snapshot)
	c.Match.Known = true
	for i := range l.sizes {
		size := &l.sizes[i]
		if chain := p.chain(c, size.tokens); len(chain) > 0 {
			if p.Costs != nil {
				p.weigh(chain, size, c.Match.Cached)
			} else {
				p.Index.Cached(chain, size.tokens, size.among, c.Match.Cached)
			}
		}
	}
}

// weigh sets cached to what prefixes are worth in the tiers that they are in.
func (p *Producer) weigh(chain []uint64, size *blockSize, cached []int32) {
	m, _ := p.matches.Get().(*kvcache.Matches)
	if m == nil {
		m = new(kvcache.Matches)
	}
	defer p.matches.Put(m)
	p.Index.Match(chain, size.tokens, size.among, m)
	for slot, blocks := range m.Blocks {
		if blocks > 0 && slot < len(cached) {
			cached[slot] = int32(p.Costs.Worth(m, uint32(slot), size.tokens))
		}
	}
}

// Commit implements scheduling.Committer.
func (p *Producer) Commit(c *scheduling.Cycle, chosen scheduling.Slot) {
	l := p.layout(c.Snapshot)
	chain := p.chain(c, l.blockTokens[chosen])
	p.Index.Speculate(pod(c.Snapshot, chosen), chain)
	if p.Routed != nil {
		p.Routed(c.Endpoint(chosen), chain)
	}
}

// Inherit implements scheduling.Inheritor: it goes on with the index of another Producer.
func (p *Producer) Inherit(old any) {
	if o, ok := old.(*Producer); ok && p.Index == nil {
		p.Index, p.Routed = o.Index, o.Routed
	}
}

// Validate implements scheduling.Validator.
func (p *Producer) Validate() error {
	var problems []error
	if p.Index == nil {
		problems = append(problems, errors.New("index: nil"))
	}
	for _, field := range []struct {
		name  string
		value int
	}{{"blockTokens", p.BlockTokens}, {"cacheBlocks", p.CacheBlocks}, {"maxTokens", p.MaxTokens}} {
		if field.value < 0 {
			problems = append(problems, fmt.Errorf("%s %d: negative", field.name, field.value))
		}
	}
	if p.Costs != nil {
		if err := p.Costs.Validate(); err != nil {
			problems = append(problems, fmt.Errorf("costs: %w", err))
		}
	}
	return errors.Join(problems...)
}

func (p *Producer) chain(c *scheduling.Cycle, blockTokens int) []uint64 {
	chain := c.Chain(blockTokens, hashPrompt)
	if p.MaxTokens > 0 {
		chain = chain[:min(len(chain), p.MaxTokens/blockTokens)]
	}
	return chain
}

// pod is what the index knows the endpoint in a slot as.
func pod(s *scheduling.Snapshot, slot scheduling.Slot) kvcache.Pod {
	return kvcache.Pod{ID: slot, Generation: s.Generation(slot)}
}

func hashPrompt(dst []uint64, r *scheduling.Request, blockTokens int) []uint64 {
	start := blockhash.Start(r.Model, r.Adapter, r.Prompt.Salt, blockTokens)
	if len(r.Prompt.Tokens) > 0 {
		return blockhash.AppendTokens(dst, start, r.Prompt.Tokens, blockTokens)
	}
	return blockhash.AppendText(dst, start, r.Prompt.Text, blockTokens*scheduling.BytesPerToken)
}

func (p *Producer) layout(s *scheduling.Snapshot) *layout {
	return p.members.layout(s, p.Index, func(e *scheduling.Endpoint) (blockTokens, cacheBlocks int) {
		if p.Fixed {
			return cmp.Or(p.BlockTokens, DefaultBlockTokens), cmp.Or(p.CacheBlocks, DefaultCacheBlocks)
		}
		return cmp.Or(e.BlockTokens, p.BlockTokens, DefaultBlockTokens), cmp.Or(e.CacheBlocks, p.CacheBlocks, DefaultCacheBlocks)
	})
}

// layout returns what fits the snapshot, bringing the index up to date with the pool if it changed.
func (m *members) layout(s *scheduling.Snapshot, index *Index, geometry func(*scheduling.Endpoint) (blockTokens, cacheBlocks int)) *layout {
	if l := m.current.Load(); l != nil && l.current == s.Changed() {
		return l
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	old := m.current.Load()
	if old != nil && old.current == s.Changed() {
		return old
	}
	next := &layout{version: s.Layout(), current: s.Changed(), blockTokens: make([]int, s.Len()), generations: make([]uint32, s.Len())}
	for _, slot := range s.Live() {
		next.generations[slot] = s.Generation(slot)
		next.blockTokens[slot], _ = geometry(s.Endpoint(slot))
		next.size(next.blockTokens[slot])[slot/64] |= 1 << (slot % 64)
	}
	if old != nil && old.version > s.Layout() {
		return next // a pick that began before the latest change; the index has moved on
	}
	if old != nil {
		for slot, generation := range old.generations {
			if slot >= len(next.generations) || next.generations[slot] != generation {
				index.Close(kvcache.Pod{ID: uint32(slot), Generation: generation})
			}
		}
	}
	for _, slot := range s.Live() {
		_, cacheBlocks := geometry(s.Endpoint(slot))
		e := s.Endpoint(slot)
		_ = index.Open(pod(s, slot), kvcache.PodOptions{Name: e.ID, Model: e.Model, Capacity: cacheBlocks}) // slots beyond the index's match nothing
	}
	m.current.Store(next)
	return next
}

// size returns the bits of the endpoints with a block size.
func (l *layout) size(tokens int) []uint64 {
	for _, s := range l.sizes {
		if s.tokens == tokens {
			return s.among
		}
	}
	l.sizes = append(l.sizes, blockSize{tokens, make([]uint64, (len(l.blockTokens)+63)/64)})
	return l.sizes[len(l.sizes)-1].among
}
