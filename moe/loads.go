package moe

import (
	"fmt"
	"math"
)

// maxLoad keeps sums of loads finite in float32.
const maxLoad = 1e30

// Loads is how many tokens each expert of each layer gets, in any unit: a count, a rate or a share.
type Loads struct {
	Layers, Experts int
	// Tokens is a matrix of Layers rows of Experts values. Values are finite, not negative and at most 1e30.
	Tokens []float64
	// Absent marks values that are not known; nil means that all are. An absent value counts as the mean of the layer's
	// known ones, and a layer without any as uniform.
	Absent []bool
}

// LoadsOf makes Loads from rows. Rows must be equally long.
func LoadsOf(rows ...[]float64) (Loads, error) {
	l := Loads{Layers: len(rows)}
	var p problems
	for i, row := range rows {
		if i == 0 {
			l.Experts = len(row)
		} else if len(row) != l.Experts {
			p.add(fmt.Sprintf("Loads row %d", i), len(row), fmt.Sprintf("must be as long as row 0: %d", l.Experts))
		}
		l.Tokens = append(l.Tokens, row...)
	}
	if err := p.err(); err != nil {
		return Loads{}, err
	}
	return l, nil
}

// At returns one value, and whether it is known.
func (l Loads) At(layer, expert int) (tokens float64, known bool) {
	i := layer*l.Experts + expert
	if l.Absent != nil && l.Absent[i] {
		return 0, false
	}
	return l.Tokens[i], true
}

func (l Loads) check(p *problems) {
	if !l.checkShape(p) {
		return
	}
	if n := l.Layers * l.Experts; len(l.Tokens) != n {
		p.add("len(Loads.Tokens)", len(l.Tokens), fmt.Sprintf("must be Layers x Experts: %d", n))
	} else if l.Absent != nil && len(l.Absent) != n {
		p.add("len(Loads.Absent)", len(l.Absent), fmt.Sprintf("must be Layers x Experts: %d, or 0", n))
	} else {
		for i, v := range l.Tokens {
			if (l.Absent == nil || !l.Absent[i]) && !(v >= 0 && v <= maxLoad) {
				p.add(fmt.Sprintf("Loads.Tokens[%d][%d]", i/l.Experts, i%l.Experts), v, "must be from 0 to 1e30")
			}
		}
	}
}

func (l Loads) checkShape(p *problems) bool {
	if l.Layers < 1 {
		p.add("Loads.Layers", l.Layers, "must be at least 1")
	}
	if l.Experts < 1 {
		p.add("Loads.Experts", l.Experts, "must be at least 1")
	}
	if l.Layers < 1 || l.Experts < 1 {
		return false
	}
	if l.Layers > math.MaxInt32/l.Experts {
		p.add("Loads.Layers", l.Layers, "has too many experts in all")
		return false
	}
	return true
}

// row writes a layer's loads with absent ones filled in.
func (l Loads) row(layer int, into []float64) {
	from := layer * l.Experts
	for e, v := range l.Tokens[from : from+l.Experts] {
		into[e] = v + 0 // -0 becomes 0
	}
	if l.Absent == nil {
		return
	}
	mean := l.assumed(layer)
	for e := range into {
		if l.Absent[from+e] {
			into[e] = mean
		}
	}
}

// resize returns s with n elements, reusing its memory. Contents are not specified.
func resize[T any](s []T, n int) []T {
	if cap(s) < n {
		return make([]T, n)
	}
	return s[:n]
}

// assumed is what an absent value of a layer counts as.
func (l Loads) assumed(layer int) float64 {
	sum, known := 0.0, 0
	for e := range l.Experts {
		if v, ok := l.At(layer, e); ok {
			sum += v
			known++
		}
	}
	if known == 0 {
		return 1
	}
	return sum / float64(known)
}
