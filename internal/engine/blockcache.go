package engine

// A blockCache is paged KV memory in which full blocks are found by the hash of their content.
//
// A block is held by as many sequences as refer to it. When the last lets go it joins the list of
// free blocks as the newest, content and hash intact; whoever needs a block takes the oldest free
// one, and only then is its content forgotten. So the free list is the LRU list of the cache, and a
// match needs no copy: it takes the block off that list again. A block that nobody can find, such as
// one that was not filled, joins the list as the oldest instead: it is worth nothing.
type blockCache struct {
	blocks         []block
	index          hashIndex
	oldest, newest int32 // ends of the free list
	free           int
	cached         int      // distinct hashes in the index
	evicted        []uint64 // hashes that left the index since the owner last looked
}

type block struct {
	hash         uint64 // of this and all earlier blocks of its sequence; 0: not in the index
	refs         int32
	older, newer int32 // neighbours in the free list
	twin         int32 // next block of the same hash
}

const none int32 = -1

func newBlockCache(blocks int) *blockCache {
	c := &blockCache{}
	c.blocks = make([]block, blocks)
	c.clear()
	return c
}

// clear forgets all content. No block may be in use.
func (c *blockCache) clear() {
	c.index = newHashIndex(c.index, c.blocks)
	c.oldest, c.newest, c.free, c.cached = none, none, 0, 0
	for b := range c.blocks {
		c.blocks[b] = block{twin: none}
		c.pushNewest(int32(b))
	}
}

// match appends the cached blocks of the hashes, from the first up to the first gap, to an empty
// table, and returns how many of them are free at the moment. They are not held until shared.
func (c *blockCache) match(table []int32, hashes []uint64) (matched []int32, free int) {
	for _, h := range hashes {
		b := c.lookup(h)
		if b == none {
			break
		}
		if c.blocks[b].refs == 0 {
			free++
		}
		table = append(table, b)
	}
	return table, free
}

// share holds matched blocks for one more sequence.
func (c *blockCache) share(table []int32) {
	for _, b := range table {
		if c.blocks[b].refs == 0 {
			c.unlink(b)
		}
		c.blocks[b].refs++
	}
}

// allocate appends n empty blocks to a sequence's table; the caller knows that n are free.
func (c *blockCache) allocate(table []int32, n int) []int32 {
	for ; n > 0; n-- {
		b := c.oldest
		c.unlink(b)
		c.forget(b)
		c.blocks[b].refs = 1
		table = append(table, b)
	}
	return table
}

// store makes a full block findable. It reports whether the hash is new; another block of the same
// content, computed at the same time, may be there already.
func (c *blockCache) store(b int32, hash uint64) bool {
	c.blocks[b].hash = hash
	place, found := c.index.find(hash)
	if found {
		first := c.index.at(place)
		c.blocks[b].twin = c.blocks[first].twin
		c.blocks[first].twin = b
		return false
	}
	c.index.put(place, hash, b)
	c.cached++
	return true
}

// release lets go of a sequence's table, last block first: the tail of a prefix is of no use
// without its head, so it has to be evicted before it.
func (c *blockCache) release(table []int32) {
	for i := len(table) - 1; i >= 0; i-- {
		b := table[i]
		switch c.blocks[b].refs--; {
		case c.blocks[b].refs > 0:
		case c.blocks[b].hash == 0:
			c.pushOldest(b)
		default:
			c.pushNewest(b)
		}
	}
}

// forget takes a block out of the index, leaving the place to a twin if there is one.
func (c *blockCache) forget(b int32) {
	blk := &c.blocks[b]
	if blk.hash == 0 {
		return
	}
	place, _ := c.index.find(blk.hash)
	switch first := c.index.at(place); {
	case first != b:
		for c.blocks[first].twin != b {
			first = c.blocks[first].twin
		}
		c.blocks[first].twin = blk.twin
	case blk.twin != none:
		c.index.put(place, blk.hash, blk.twin)
	default:
		c.index.remove(place)
		c.cached--
		c.evicted = append(c.evicted, blk.hash)
	}
	blk.hash, blk.twin = 0, none
}

func (c *blockCache) lookup(hash uint64) int32 {
	if hash == 0 {
		return none
	}
	if place, found := c.index.find(hash); found {
		return c.index.at(place)
	}
	return none
}

func (c *blockCache) pushNewest(b int32) {
	c.blocks[b].older, c.blocks[b].newer = c.newest, none
	if c.newest == none {
		c.oldest = b
	} else {
		c.blocks[c.newest].newer = b
	}
	c.newest = b
	c.free++
}

func (c *blockCache) pushOldest(b int32) {
	c.blocks[b].older, c.blocks[b].newer = none, c.oldest
	if c.oldest == none {
		c.newest = b
	} else {
		c.blocks[c.oldest].older = b
	}
	c.oldest = b
	c.free++
}

func (c *blockCache) unlink(b int32) {
	older, newer := c.blocks[b].older, c.blocks[b].newer
	if older == none {
		c.oldest = newer
	} else {
		c.blocks[older].newer = newer
	}
	if newer == none {
		c.newest = older
	} else {
		c.blocks[newer].older = older
	}
	c.free--
}
