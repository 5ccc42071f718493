package enginemetrics

import (
	"math"
	"strconv"

	"github.com/inferloom/inferloom/scheduling"
)

// Page is what a Parser found in a metrics page. Its zero value is empty; one that is parsed into again and again allocates
// nothing. Not safe for concurrent use.
type Page struct {
	ranks []rank // in order of appearance

	lora   loraSeries
	loraAt float64 // the value of the newest series of adapters, NaN if there was none
}

// noRank is the rank of series without a label that names one.
const noRank = -1

// rank is what the series of one data-parallel rank said.
type rank struct {
	number int
	values [numbers]float64 // NaN is absent
	better [numbers]uint16  // the rule that a value comes from
}

// loraSeries keeps the state of adapters as long as the page says the same.
type loraSeries struct {
	running, waiting, max []byte // as they stood
	state                 *scheduling.AdapterState
}

func (p *Page) reset() {
	p.ranks = p.ranks[:0]
	p.loraAt = math.NaN()
}

// rank returns the numbers of a rank, new ones if it has not appeared.
func (p *Page) rank(number int) *rank {
	for i := range p.ranks {
		if p.ranks[i].number == number {
			return &p.ranks[i]
		}
	}
	p.ranks = append(p.ranks, rank{number: number})
	r := &p.ranks[len(p.ranks)-1]
	for i := range r.values {
		r.values[i] = math.NaN()
	}
	return r
}

// note keeps a number unless a better rule's is there; those of one rule are added, or the greatest counts.
func (r *rank) note(q quantity, rule uint16, v float64, sum bool) {
	if !(v >= 0) || math.IsInf(v, 0) {
		return
	}
	switch known := r.values[q]; {
	case math.IsNaN(known) || rule < r.better[q]:
		r.values[q], r.better[q] = v, rule
	case rule > r.better[q]:
	case sum:
		r.values[q] = known + v
	default:
		r.values[q] = max(known, v)
	}
}

// Empty reports whether the page said nothing that is of use.
func (p *Page) Empty() bool {
	for i := range p.ranks {
		for _, v := range p.ranks[i].values {
			if v >= 0 {
				return false
			}
		}
	}
	return math.IsNaN(p.loraAt)
}

// State fills s with what the page says of a data-parallel rank or, with all set, of all ranks together: the sum of requests,
// the mean of cache usage, the KV cache of one. It appends to s.Values. Numbers without a rank count for every rank of a cache's
// geometry, and for requests only with all.
func (p *Page) State(s *scheduling.State, number int, all bool) {
	for q := range firstOther {
		if v := p.value(q, number, all); v >= 0 {
			s.Values = append(s.Values, scheduling.Value{Metric: scheduling.Metric(q), Value: v})
		}
	}
	s.BlockTokens = whole(p.shared(blockTokens, number))
	s.CacheBlocks = whole(p.shared(cacheBlocks, number))
	if s.CacheBlocks == 0 && s.BlockTokens > 0 {
		s.CacheBlocks = whole(p.shared(cacheTokens, number)) / s.BlockTokens
	}
	if !math.IsNaN(p.loraAt) {
		s.Adapters = p.lora.state
	}
}

// value is a number of one rank or of all, NaN where the page has none.
func (p *Page) value(q quantity, number int, all bool) float64 {
	total, n := 0.0, 0
	for i := range p.ranks {
		r := &p.ranks[i]
		if v := r.values[q]; v >= 0 && (all || r.number == number) {
			total += v
			n++
		}
	}
	switch {
	case n == 0:
		return math.NaN()
	case q == kvUsage:
		return total / float64(n)
	}
	return total
}

// shared is a number of a rank, or else of the whole page, or else of the first rank that has it.
func (p *Page) shared(q quantity, number int) float64 {
	found := math.NaN()
	for i := range p.ranks {
		r := &p.ranks[i]
		switch v := r.values[q]; {
		case !(v >= 0):
		case r.number == number:
			return v
		case math.IsNaN(found) || r.number == noRank:
			found = v
		}
	}
	return found
}

// whole is a number as an int, 0 where it is none or absurd.
func whole(v float64) int {
	if !(v >= 0 && v <= math.MaxInt32) {
		return 0
	}
	return int(v)
}

// noteAdapters keeps a series of adapters if it is the newest.
func (p *Page) noteAdapters(running, waiting, most []byte, at float64) {
	if !(at >= 0) || math.IsInf(at, 0) || p.loraAt >= at {
		return
	}
	p.loraAt = at
	l := &p.lora
	if l.state != nil && string(l.running) == string(running) && string(l.waiting) == string(waiting) && string(l.max) == string(most) {
		return
	}
	l.running, l.waiting, l.max = append(l.running[:0], running...), append(l.waiting[:0], waiting...), append(l.max[:0], most...)
	l.state = &scheduling.AdapterState{Active: names(running), Waiting: names(waiting)}
	if n, err := strconv.Atoi(string(most)); err == nil && n > 0 {
		l.state.Max = n
	}
}
