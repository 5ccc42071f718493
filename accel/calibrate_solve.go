package accel

import "math"

// profile is a symmetric positive definite matrix, of which each row is kept from its first entry to the diagonal. With
// fine effects ordered before those that they refine, most rows are short, and factoring does not make them longer.
type profile struct {
	first []int
	rows  [][]float64
}

func newProfile(n int) *profile {
	p := &profile{first: make([]int, n), rows: make([][]float64, n)}
	for i := range p.first {
		p.first[i] = i
	}
	return p
}

// reserve makes room for all pairs of columns.
func (p *profile) reserve(columns []int) {
	least := len(p.first)
	for _, c := range columns {
		least = min(least, c)
	}
	for _, c := range columns {
		p.first[c] = min(p.first[c], least)
	}
}

func (p *profile) allocate() {
	for i, f := range p.first {
		p.rows[i] = make([]float64, i-f+1)
	}
}

// add adds to an entry, j <= i.
func (p *profile) add(i, j int, v float64) { p.rows[i][j-p.first[i]] += v }

// solve replaces b by the solution, and the matrix by its Cholesky factor.
func (p *profile) solve(b []float64) {
	for i, row := range p.rows {
		for j := p.first[i]; j < i; j++ {
			row[j-p.first[i]] = (row[j-p.first[i]] - p.dot(i, j)) / p.rows[j][j-p.first[j]]
		}
		d := row[i-p.first[i]] - p.dot(i, i)
		row[i-p.first[i]] = math.Sqrt(max(d, 1e-12))
	}
	for i, row := range p.rows {
		for j := p.first[i]; j < i; j++ {
			b[i] -= row[j-p.first[i]] * b[j]
		}
		b[i] /= row[i-p.first[i]]
	}
	for i := len(p.rows) - 1; i >= 0; i-- {
		row := p.rows[i]
		b[i] /= row[i-p.first[i]]
		for j := p.first[i]; j < i; j++ {
			b[j] -= row[j-p.first[i]] * b[i]
		}
	}
}

// dot is the product of rows i and j before column j.
func (p *profile) dot(i, j int) float64 {
	from := max(p.first[i], p.first[j])
	x, y := p.rows[i][from-p.first[i]:j-p.first[i]], p.rows[j][from-p.first[j]:j-p.first[j]]
	sum := 0.
	for k, v := range x {
		sum += v * y[k]
	}
	return sum
}
