package prefix

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"sync"

	"github.com/inferloom/inferloom/scheduling"
)

// DefaultMediaItems is how many embeddings an endpoint is believed to cache where Media does not say.
const DefaultMediaItems = 2048

// Media fills a pick's Match.Media: which endpoints were sent the request's images, sounds and films before, and so have their
// embeddings in the encoder's cache. Each endpoint keeps those that it was sent last. scorer.Media goes by it. Use it by
// pointer.
//
// With scorer.Media it is llm-d's mm-embeddings-cache-producer, whose cache counts as 2 MB an item.
type Media struct {
	// Index is of this producer alone: what it holds is no prefixes.
	Index *Index `json:"-"`
	// Items is how many pieces an endpoint caches; 0 means DefaultMediaItems.
	Items int `json:"items,omitempty"`

	members members
	scratch sync.Pool // of *[]int32
}

func (p *Media) layout(s *scheduling.Snapshot) *layout {
	return p.members.layout(s, p.Index, func(*scheduling.Endpoint) (blockTokens, cacheBlocks int) {
		return 1, cmp.Or(p.Items, DefaultMediaItems)
	})
}

// Produce implements scheduling.Producer.
func (p *Media) Produce(c *scheduling.Cycle) {
	if len(c.Request.Media) == 0 {
		return
	}
	n := c.Snapshot.Len()
	media := slices.Grow(c.Match.Media[:0], n)[:n]
	clear(media)
	c.Match.Media = media
	has, _ := p.scratch.Get().(*[]int32)
	if has == nil {
		has = new([]int32)
	}
	defer p.scratch.Put(has)
	*has = slices.Grow((*has)[:0], n)[:n]
	l := p.layout(c.Snapshot)
	for i := range c.Request.Media {
		item := &c.Request.Media[i]
		clear(*has)
		for _, size := range l.sizes { // there is one, or none in an empty pool
			p.Index.Cached([]uint64{item.Hash}, 1, size.among, *has)
		}
		for slot, found := range *has {
			media[slot] += found * max(item.Size, 0)
		}
	}
}

// Commit implements scheduling.Committer.
func (p *Media) Commit(c *scheduling.Cycle, chosen scheduling.Slot) {
	for i := range c.Request.Media {
		p.Index.Speculate(pod(c.Snapshot, chosen), []uint64{c.Request.Media[i].Hash})
	}
}

// Inherit implements scheduling.Inheritor: it goes on with the index of another Media.
func (p *Media) Inherit(old any) {
	if o, ok := old.(*Media); ok && p.Index == nil {
		p.Index = o.Index
	}
}

// Validate implements scheduling.Validator.
func (p *Media) Validate() error {
	var problems []error
	if p.Index == nil {
		problems = append(problems, errors.New("index: nil"))
	}
	if p.Items < 0 {
		problems = append(problems, fmt.Errorf("items %d: negative", p.Items))
	}
	return errors.Join(problems...)
}
