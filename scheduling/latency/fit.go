package latency

import "math"

// moments are the sufficient statistics of weighted least squares: sums over observations of the weight times products of
// the terms with each other and with the time. They are in the recursive form of information filters: an observation adds to
// them, forgetting scales them, and those of several replicas are added.
type moments struct {
	XX [terms][terms]float64 // symmetric
	XY vector
	N  float64 // observations, forgotten ones less
}

// observe adds a time y with its terms. Errors count relative to scale.
func (m *moments) observe(x *vector, y, scale, keep float64) {
	weight := 1 / (scale * scale)
	for i := range terms {
		for j := range i + 1 {
			m.XX[i][j] = keep*m.XX[i][j] + weight*x[i]*x[j]
			m.XX[j][i] = m.XX[i][j]
		}
		m.XY[i] = keep*m.XY[i] + weight*x[i]*y
	}
	m.N = keep*m.N + 1
}

func (m *moments) add(o *moments) {
	for i := range terms {
		for j := range terms {
			m.XX[i][j] += o.XX[i][j]
		}
		m.XY[i] += o.XY[i]
	}
	m.N += o.N
}

// valid reports whether the moments can be those of observations.
func (m *moments) valid() bool {
	finite := func(v float64) bool { return !math.IsNaN(v) && math.Abs(v) < 1e60 }
	ok := finite(m.N) && m.N >= 0
	for i := range terms {
		ok = ok && m.XX[i][i] >= 0 && finite(m.XY[i])
		for j := range terms {
			ok = ok && finite(m.XX[i][j]) && m.XX[i][j] == m.XX[j][i]
		}
	}
	return ok
}

const (
	// priorWeight is how many observations, at an error of 100 %, the prior of a term counts as.
	priorWeight = .1
	// mostOfPrior bounds the seconds per unit of a term, in those of the prior.
	mostOfPrior = 1e4
	// fewSweeps follow one more observation: the next one goes on where they end. manySweeps are after a merge.
	fewSweeps  = 5
	manySweeps = 200
	converged  = 1e-6
)

// solve moves w to the seconds per unit, none below zero, that minimise the weighted squared error plus the ridge
//
//	priorWeight · Σ (w/prior - 1)²
//
// by coordinate descent, which finds the one minimum of a convex quadratic function in a box. It starts where w is, so that
// after one more observation a few sweeps do.
func (m *moments) solve(prior, w *vector, sweeps int) {
	for range sweeps {
		moved := 0.0
		for i := range terms {
			ridge := priorWeight / (prior[i] * prior[i])
			rest := m.XY[i] + ridge*prior[i]
			for j := range terms {
				if j != i {
					rest -= m.XX[i][j] * w[j]
				}
			}
			next := min(max(rest/(m.XX[i][i]+ridge), 0), mostOfPrior*prior[i])
			moved = max(moved, math.Abs(next-w[i])/prior[i])
			w[i] = next
		}
		if moved < converged {
			return
		}
	}
}
