package report

import (
	"math"
)

// scale maps values of an axis to thousandths of its length.
type scale struct {
	Axis
	low, high float64
	used      bool
}

func newScale(a Axis) *scale {
	if a.Format == nil {
		a.Format = Plain
	}
	return &scale{Axis: a, low: math.Inf(1), high: math.Inf(-1)}
}

// shows reports whether a value has a place on the axis.
func (s *scale) shows(v float64) bool {
	return !math.IsNaN(v) && !math.IsInf(v, 0) && (!s.Log || v > 0)
}

func (s *scale) include(v float64) {
	s.low, s.high, s.used = min(s.low, v), max(s.high, v), true
}

// finish rounds the range, and returns about so many ticks.
func (s *scale) finish(about int) []tick {
	if s.FromZero && !s.Log {
		s.low = min(s.low, 0)
	}
	s.high = max(s.high, s.To)
	if s.low == s.high {
		spread := max(math.Abs(s.low)/10, 1e-9)
		if s.Log {
			s.low, s.high = s.low/1.2, s.high*1.2
		} else {
			s.low, s.high = s.low-spread, s.high+spread
		}
	}
	var at []float64
	if s.Log {
		at = s.logTicks(about)
	} else {
		at = s.evenTicks(about)
	}
	ticks := make([]tick, len(at))
	for i, v := range at {
		ticks[i] = tick{Label: s.Format(v), At: round(s.place(v))}
		ticks[i].CSS = css(ticks[i].At)
	}
	return ticks
}

// evenTicks are multiples of 1, 2 or 5 times a power of ten. The axis ends at the first one beyond the values, unless that is
// its natural end already.
func (s *scale) evenTicks(about int) []float64 {
	unit := niceStep((s.high - s.low) / float64(about))
	if s.To == 0 || s.high > s.To {
		s.high = math.Ceil(s.high/unit-1e-9) * unit
	}
	if s.FromZero {
		s.low = math.Floor(s.low/unit+1e-9) * unit
	}
	var at []float64
	for k := math.Ceil(s.low/unit - 1e-9); k*unit <= s.high+unit*1e-9; k++ {
		at = append(at, k*unit+0) // not -0
	}
	return at
}

// logTicks are powers of ten, with 2 and 5 times of them where there are few.
func (s *scale) logTicks(about int) []float64 {
	for _, multiples := range [][]float64{{1}, {1, 3}, {1, 2, 5}, {1, 1.5, 2, 3, 4, 5, 6, 7, 8, 9}} {
		var at []float64
		for e := math.Floor(math.Log10(s.low)); e <= math.Log10(s.high); e++ {
			for _, m := range multiples {
				if v := m * math.Pow(10, e); v >= s.low*(1-1e-9) && v <= s.high*(1+1e-9) {
					at = append(at, v)
				}
			}
		}
		if len(at) >= about/2 || len(multiples) == 10 {
			every := (len(at) + about) / (about + 1)
			var thin []float64
			for i := 0; i < len(at); i += max(1, every) {
				thin = append(thin, at[i])
			}
			return thin
		}
	}
	return nil // not reached: the last multiples are always taken
}

// niceStep is the smallest of 1, 2 and 5 times a power of ten that is not below v.
func niceStep(v float64) float64 {
	power := math.Pow(10, math.Floor(math.Log10(v)))
	for _, m := range []float64{1, 2, 5} {
		if m*power >= v*0.999 {
			return m * power
		}
	}
	return 10 * power
}

// place maps a value, which must have one.
func (s *scale) place(v float64) float64 {
	if s.Log {
		return 1000 * math.Log(v/s.low) / math.Log(s.high/s.low)
	}
	return 1000 * (v - s.low) / (s.high - s.low)
}
