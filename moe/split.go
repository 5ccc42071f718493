package moe

import "fmt"

// Splitter divides each expert's tokens over its replicas. The zero value works; it is not safe for concurrent use.
//
// It finds the split whose sorted GPU loads are least, the greatest first: no other split has a lower greatest load, and among
// those none a lower second, and so on. That is the lexicographically optimal base of Fujishige (1980), found by his
// decomposition: try to give all GPUs their mean with augmenting paths, a maximum flow. If it fails, the minimum cut parts the
// GPUs in those that stay above the mean, whose experts have no replica elsewhere, and the rest; then do the same for each.
type Splitter struct {
	tokens []float64 // by slot
	load   []float64 // by GPU
	part   []int32   // GPUs that may still exchange tokens
	queue  []int32   // GPUs
	seen   []int32   // by GPU: the visit in which it was reached
	visit  int32
	out    []int32 // by GPU: the slot from which it was reached
	in     []int32 // and its own slot of the same expert
	weight []float64
	open   []int32 // parts that are not known to be level

	at    []int32 // expert of a slot
	first []int32 // as in Placement
	slots []int32
	per   int
}

// Split writes how many of a layer's tokens each slot gets, and returns into[:Cluster.Slots()].
func (s *Splitter) Split(p *Placement, layer int, loads Loads, into []float64) ([]float64, error) {
	var bad problems
	loads.check(&bad)
	if loads.Layers != p.Layers || loads.Experts != p.Experts {
		bad.add("Loads", fmt.Sprintf("%d x %d", loads.Layers, loads.Experts), fmt.Sprintf("must be as the placement: %d x %d", p.Layers, p.Experts))
	}
	if layer < 0 || layer >= p.Layers {
		bad.add("layer", layer, fmt.Sprintf("must be from 0 to %d", p.Layers-1))
	}
	if err := bad.err(); err != nil {
		return nil, err
	}
	s.weight = resize(s.weight, p.Experts)
	loads.row(layer, s.weight)
	n := p.Cluster.Slots()
	s.at, s.per = p.Row(layer), p.Cluster.SlotsPerGPU
	s.first = p.First[layer*(p.Experts+1) : (layer+1)*(p.Experts+1)]
	s.slots = p.LogicalToPhysical[layer*n : (layer+1)*n]
	s.part = resize(s.part, p.Cluster.GPUs)
	for g := range s.part {
		s.part[g] = 0
	}
	for _, g := range p.Cluster.Dead {
		s.part[g] = -1
	}
	s.solve()
	into = resize(into, n)
	copy(into, s.tokens)
	s.at, s.first, s.slots = nil, nil, nil
	return into, nil
}

// solve starts from the even split.
func (s *Splitter) solve() {
	s.tokens, s.load = resize(s.tokens, len(s.at)), resize(s.load, len(s.part))
	s.seen, s.queue = resize(s.seen, len(s.part)), resize(s.queue, len(s.part))
	s.in, s.out = resize(s.in, len(s.part)), resize(s.out, len(s.part))
	clear(s.load)
	clear(s.seen)
	s.visit = 0
	for slot, e := range s.at {
		s.tokens[slot] = 0
		if e != Empty {
			s.tokens[slot] = s.weight[e] / float64(s.first[e+1]-s.first[e])
			s.load[slot/s.per] += s.tokens[slot]
		}
	}
	s.open = append(s.open[:0], 0)
	for next := int32(1); len(s.open) > 0; {
		part := s.open[len(s.open)-1]
		if s.level(part, next) {
			s.open = s.open[:len(s.open)-1]
			continue
		}
		s.open = append(s.open, next)
		next++
	}
}

// level gives every GPU of a part the same load. If it cannot, it moves those that must stay above the mean to part high.
func (s *Splitter) level(part, high int32) bool {
	sum, n := 0.0, 0
	for g, p := range s.part {
		if p == part {
			sum += s.load[g]
			n++
		}
	}
	if n == 0 {
		return true
	}
	mean := sum / float64(n)
	small := 1e-12 * mean
	for {
		s.visit++
		queue := s.queue[:0]
		for g, p := range s.part {
			if p == part && s.load[g] > mean+float64(n)*small {
				queue = append(queue, int32(g))
				s.seen[g], s.out[g] = s.visit, -1
			}
		}
		if len(queue) == 0 || len(queue) == n {
			return true
		}
		light := s.reach(&queue, part, mean-small, small)
		if light < 0 {
			for _, g := range queue {
				s.part[g] = high
			}
			return len(queue) == n
		}
		s.augment(light, mean)
	}
}

// reach searches breadth first for a GPU below the mean to which those in the queue can pass tokens.
func (s *Splitter) reach(queue *[]int32, part int32, mean, small float64) int {
	for i := 0; i < len(*queue); i++ {
		g := int((*queue)[i])
		for slot := g * s.per; slot < (g+1)*s.per; slot++ {
			e := s.at[slot]
			if e == Empty || s.tokens[slot] <= small {
				continue
			}
			for _, other := range s.slots[s.first[e]:s.first[e+1]] {
				to := int(other) / s.per
				if s.part[to] != part || s.seen[to] == s.visit {
					continue
				}
				s.seen[to], s.out[to], s.in[to] = s.visit, int32(slot), other
				*queue = append(*queue, int32(to))
				if s.load[to] < mean {
					return to
				}
			}
		}
	}
	return -1
}

// augment passes tokens along the path that was found.
func (s *Splitter) augment(light int, mean float64) {
	amount, g := mean-s.load[light], light
	for s.out[g] >= 0 {
		amount = min(amount, s.tokens[s.out[g]])
		g = int(s.out[g]) / s.per
	}
	amount = min(amount, s.load[g]-mean)
	s.load[light] += amount
	s.load[g] -= amount
	for g = light; s.out[g] >= 0; g = int(s.out[g]) / s.per {
		s.tokens[s.in[g]] += amount
		s.tokens[s.out[g]] -= amount
	}
}

// Balance is the mean over layers of mean over greatest GPU load if tokens are split so.
func (s *Splitter) Balance(p *Placement, loads Loads) (float64, error) {
	total := 0.0
	for l := range p.Layers {
		if _, err := s.Split(p, l, loads, nil); err != nil {
			return 0, err
		}
		total += balance(s.load, p.Cluster.live())
	}
	return total / float64(p.Layers), nil
}
