package report

import (
	"math"
	"regexp"
	"strings"
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

// place maps a value, which must have one.
func (s *scale) place(v float64) float64 {
	if s.Log {
		return 1000 * math.Log(v/s.low) / math.Log(s.high/s.low)
	}
	return 1000 * (v - s.low) / (s.high - s.low)
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
	at, apart := s.evenTicks, 0.0
	if s.Log {
		at, apart = s.logTicks, 700/float64(about+1) // their distances differ
	}
	var ticks []tick
	for _, v := range at(about) {
		t := tick{Label: short(s.Format(v)), At: round(s.place(v))}
		if n := len(ticks); n > 0 && t.At-ticks[n-1].At < apart {
			continue
		}
		t.CSS = css(t.At)
		ticks = append(ticks, t)
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
	if s.FromZero || s.Room {
		s.low = math.Floor(s.low/unit+1e-9) * unit
	}
	var at []float64
	for k := math.Ceil(s.low/unit - 1e-9); k*unit <= s.high+unit*1e-9; k++ {
		at = append(at, k*unit+0) // not -0
	}
	return at
}

// logTicks are powers of ten, with multiples of them where there are few.
func (s *scale) logTicks(about int) []float64 {
	var at []float64
	for _, multiples := range [][]float64{{1}, {1, 3}, {1, 2, 5}, {1, 1.5, 2, 3, 4, 5, 6, 7, 8, 9}} {
		at = at[:0]
		for e := math.Floor(math.Log10(s.low)); e <= math.Log10(s.high); e++ {
			for _, m := range multiples {
				if v := m * math.Pow(10, e); v >= s.low*(1-1e-9) && v <= s.high*(1+1e-9) {
					at = append(at, v)
				}
			}
		}
		if len(at) >= about/2 {
			return at
		}
	}
	if len(at) < 2 {
		return []float64{s.low, s.high} // a range within which no such number is
	}
	return at
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

var fraction = regexp.MustCompile(`\.\d+`)

// short takes zeros behind a point away, which say how exact a value is, but a tick is exact.
func short(label string) string {
	return fraction.ReplaceAllStringFunc(label, func(f string) string { return strings.TrimRight(strings.TrimRight(f, "0"), ".") })
}
