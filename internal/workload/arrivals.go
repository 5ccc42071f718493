package workload

import (
	"cmp"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"time"
)

// Arrivals is a random process of arrivals. The zero value is a Poisson process at the rate of the field that holds it.
//
// Gaps between arrivals are drawn at a constant rate, and time is then stretched where the rate is low and compressed
// where it is high. A Poisson process becomes the inhomogeneous Poisson process of that rate; a bursty one keeps its
// bursts.
type Arrivals struct {
	// CV is the coefficient of variation of gaps, which follow a gamma distribution; 0 means 1, which is a Poisson process.
	// Above 1 arrivals come in bursts, below 1 they are more regular.
	CV float64
	// Curve is how the rate changes, in steps that follow each other and begin again after the last; none means that it
	// does not. See [Diurnal].
	Curve []Step
	// On and Off are the mean lengths of times with and without arrivals, both exponentially distributed; both 0 means
	// always on. The rate in the times with arrivals is higher, so that the mean rate stays.
	On, Off time.Duration
}

// Step is a time at a rate.
type Step struct {
	For time.Duration
	// Factor is what the rate is multiplied with; a curve keeps the mean rate if its factors are 1 on average over time.
	Factor float64
}

const (
	// shortest and maxFactor bound how much time may pass in how many steps without an arrival.
	shortest  = time.Millisecond
	maxFactor = 1e3
)

// diurnalSteps is how finely Diurnal approximates its curve: a quarter of an hour for a day.
const diurnalSteps = 96

// Diurnal is a curve that follows a sine about 1, beginning at its lowest: 1-swing, half a period later 1+swing.
func Diurnal(period time.Duration, swing float64) []Step {
	curve := make([]Step, diurnalSteps)
	const width = 2 * math.Pi / diurnalSteps
	for i := range curve {
		low := width * float64(i)
		mean := (math.Sin(low+width) - math.Sin(low)) / width // of the cosine over the step
		curve[i] = Step{period / diurnalSteps, 1 - swing*mean}
	}
	return curve
}

func (a Arrivals) validate(name string) error {
	var errs []error
	if !(a.CV >= 0 && a.CV <= maxCV) {
		errs = append(errs, fmt.Errorf("%s.CV is %v, want 0 to %d", name, a.CV, maxCV))
	}
	work, length := 0.0, time.Duration(0)
	for i, s := range a.Curve {
		if s.For < shortest || s.For > endOfTime {
			errs = append(errs, fmt.Errorf("%s.Curve[%d].For is %v, want at least %v", name, i, s.For, shortest))
		}
		if !(s.Factor >= 0 && s.Factor <= maxFactor) {
			errs = append(errs, fmt.Errorf("%s.Curve[%d].Factor is %v, want 0 to %v", name, i, s.Factor, maxFactor))
		}
		work += s.Factor * s.For.Seconds()
		length = later(length, s.For)
	}
	if len(a.Curve) > 0 && !(work >= length.Seconds()/maxFactor) {
		errs = append(errs, fmt.Errorf("%s.Curve is %v on average, want at least %v", name, work/length.Seconds(), 1/maxFactor))
	}
	if a.On != 0 || a.Off != 0 {
		if a.On < shortest || a.Off < shortest || a.On > endOfTime || a.Off > endOfTime {
			errs = append(errs, fmt.Errorf("%s.On and Off are %v and %v, want at least %v, or 0 for both", name, a.On, a.Off, shortest))
		}
	}
	return errors.Join(errs...)
}

// process is a run of Arrivals. Times are in seconds.
type process struct {
	Arrivals
	r    *rand.Rand
	rate float64

	at      float64 // the latest arrival
	step    int     // of the curve
	stepEnd float64
	off     bool
	flip    float64 // when off changes
}

func (a Arrivals) start(rate float64, r *rand.Rand) *process {
	p := &process{Arrivals: a, r: r, rate: rate, stepEnd: math.Inf(1), flip: math.Inf(1)}
	if len(p.Curve) > 0 {
		p.stepEnd = p.Curve[0].For.Seconds()
	}
	if p.Off > 0 {
		p.rate *= (p.On + p.Off).Seconds() / p.On.Seconds()
		p.flip = r.ExpFloat64() * p.On.Seconds()
	}
	return p
}

// next returns the gap to the next arrival.
func (p *process) next() time.Duration {
	began := p.at
	for work := p.gap(); ; { // the arrivals at rate 1 that the gap is worth
		rate := p.rate
		if len(p.Curve) > 0 {
			rate *= p.Curve[p.step].Factor
		}
		if p.off {
			rate = 0
		}
		end := min(p.stepEnd, p.flip)
		if done := p.at + work/rate; rate > 0 && done <= end {
			p.at = done
			return seconds(p.at - began)
		}
		if math.IsInf(end, 1) {
			return endOfTime
		}
		work -= (end - p.at) * rate
		p.at = end
		if end == p.stepEnd {
			p.step = (p.step + 1) % len(p.Curve)
			p.stepEnd += p.Curve[p.step].For.Seconds()
		}
		if end == p.flip {
			p.off = !p.off
			mean := p.On
			if p.off {
				mean = p.Off
			}
			p.flip += p.r.ExpFloat64() * mean.Seconds()
		}
	}
}

// gap draws a gap with mean 1.
func (p *process) gap() float64 {
	cv := cmp.Or(p.CV, 1)
	if cv == 1 {
		return p.r.ExpFloat64()
	}
	shape := 1 / (cv * cv)
	return gamma(p.r, shape) / shape
}

// gamma draws from the gamma distribution with scale 1 (Marsaglia and Tsang, "A simple method for generating gamma
// variables", 2000).
func gamma(r *rand.Rand, shape float64) float64 {
	if shape < 1 {
		return gamma(r, shape+1) * math.Pow(1-r.Float64(), 1/shape)
	}
	d := shape - 1.0/3
	c := 1 / math.Sqrt(9*d)
	for {
		x := r.NormFloat64()
		v := 1 + c*x
		if v <= 0 {
			continue
		}
		v = v * v * v
		if u := 1 - r.Float64(); math.Log(u) < x*x/2+d-d*v+d*math.Log(v) {
			return d * v
		}
	}
}

// endOfTime is later than any workload lasts: 73 years.
const endOfTime = time.Duration(1 << 61)

// seconds returns a time of at most endOfTime.
func seconds(s float64) time.Duration {
	return time.Duration(min(s*float64(time.Second), float64(endOfTime)))
}

// later adds two times of at most endOfTime, and is at most that too.
func later(at, by time.Duration) time.Duration { return min(at+by, endOfTime) }
