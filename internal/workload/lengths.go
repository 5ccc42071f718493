package workload

import (
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
)

// Lengths is a distribution of token counts. The zero value stands for the one that the field's comment names.
type Lengths struct {
	// Mean is the mean in tokens, and CV the coefficient of variation, of a log-normal distribution. With CV 0 all lengths
	// are Mean.
	Mean, CV float64
	// Values is an empirical distribution instead: each is equally likely.
	Values []int
	// Max cuts off what is longer; 0 means maxTokens. The mean is then lower than Mean.
	Max int
}

const (
	// maxTokens bounds a length: more is no request that an engine could be sent.
	maxTokens = 1 << 27
	// maxCV bounds how bursty arrivals and how spread lengths can be.
	maxCV = 50
)

func (l Lengths) isZero() bool { return l.Mean == 0 && l.CV == 0 && l.Max == 0 && len(l.Values) == 0 }

func (l Lengths) validate(name string) error {
	if l.isZero() {
		return nil
	}
	var errs []error
	switch {
	case len(l.Values) > 0 && (l.Mean != 0 || l.CV != 0):
		errs = append(errs, fmt.Errorf("%s has Values and also Mean or CV, want one of them", name))
	case len(l.Values) == 0 && !(l.Mean >= 1 && l.Mean <= maxTokens):
		errs = append(errs, fmt.Errorf("%s.Mean is %v, want 1 to %d", name, l.Mean, maxTokens))
	}
	if !(l.CV >= 0 && l.CV <= maxCV) {
		errs = append(errs, fmt.Errorf("%s.CV is %v, want 0 to %d", name, l.CV, maxCV))
	}
	if l.Max < 0 || l.Max > maxTokens {
		errs = append(errs, fmt.Errorf("%s.Max is %d, want 0 to %d", name, l.Max, maxTokens))
	}
	for i, v := range l.Values {
		if v < 1 || v > maxTokens {
			errs = append(errs, fmt.Errorf("%s.Values[%d] is %d, want 1 to %d", name, i, v, maxTokens))
			break
		}
	}
	return errors.Join(errs...)
}

// draw returns a length of at least 1; otherwise is what the zero value stands for.
func (l *Lengths) draw(r *rand.Rand, otherwise distribution) int {
	var tokens float64
	switch {
	case l.isZero():
		return otherwise.drawTokens(r)
	case len(l.Values) > 0:
		tokens = float64(l.Values[r.IntN(len(l.Values))])
	case l.CV == 0:
		tokens = l.Mean
	default:
		variance := math.Log(1 + l.CV*l.CV)
		tokens = l.Mean * math.Exp(math.Sqrt(variance)*r.NormFloat64()-variance/2)
	}
	longest := maxTokens
	if l.Max > 0 {
		longest = l.Max
	}
	return int(min(max(1, math.Round(tokens)), float64(longest)))
}

// quantile says that a share of the values is at most value.
type quantile struct{ share, value float64 }

// distribution is a distribution known by some of its quantiles, from share 0 to 1. Between two it is log-uniform, since
// lengths and times span decades.
type distribution []quantile

// at returns the value that a share of the values stays below.
func (d distribution) at(share float64) float64 {
	for i := 1; i < len(d); i++ {
		low, high := d[i-1], d[i]
		if share <= high.share {
			part := (share - low.share) / (high.share - low.share)
			return low.value * math.Pow(high.value/low.value, part)
		}
	}
	return d[len(d)-1].value
}

func (d distribution) draw(r *rand.Rand) float64 { return d.at(r.Float64()) }

func (d distribution) drawTokens(r *rand.Rand) int { return max(1, int(math.Round(d.draw(r)))) }
