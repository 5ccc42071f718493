package flow

import (
	"cmp"
	"slices"
	"time"
)

// band is a priority.
type band struct {
	Band
	priority int
	rank     int // 0 is the highest
	root     *node
	ttl      time.Duration

	waiting int
	bytes   int64
	queued  int64       // cost
	credit  int64       // service that the floor is owed
	hoards  heap[*node] // tenants by what they have waiting for their weight, the most first
}

// band returns the band of a priority, made at its first request.
func (c *Controller) band(priority int) *band {
	at, found := slices.BinarySearchFunc(c.bands, priority, func(b *band, p int) int { return cmp.Compare(p, b.priority) })
	switch {
	case found:
		return c.bands[at]
	case len(c.bands) >= c.o.MaxBands:
		return c.bands[min(at, len(c.bands)-1)]
	}
	b := &band{Band: Band{Priority: priority}, priority: priority, ttl: c.o.TTL}
	for _, o := range c.o.Bands {
		if o.Priority == priority {
			b.Band = o
		}
	}
	if b.TTL != 0 {
		b.ttl = b.TTL
	}
	b.root = &node{band: b, place: -1}
	c.bands = slices.Insert(c.bands, at, b)
	for i, b := range c.bands {
		b.rank = i
	}
	return b
}

// spent accounts for service of a band. While a band with a floor waits, it is owed its share of all service; what it is
// served beyond that earns it no debt of more than a request.
func (c *Controller) spent(b *band, cost int64) {
	for _, x := range c.bands {
		if x.Floor > 0 && x.waiting > 0 {
			x.credit += int64(x.Floor * float64(cost))
		}
	}
	if b.Floor > 0 {
		b.credit = max(b.credit-cost, -cost)
	}
}

// hoarding keeps a node's place among those of its band up to date with what it has waiting.
func (n *node) hoarding() {
	h := &n.band.hoards
	switch key := -n.Scaled(n.queued); {
	case n.place < 0 && n.queued > 0:
		n.place = h.push(key, 0, n)
	case n.place >= 0 && n.queued == 0:
		h.remove(n.place)
		n.place = -1
	case n.place >= 0:
		h.set(n.place, key)
	}
}
