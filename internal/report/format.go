package report

import (
	"encoding/json"
	"fmt"
	"math"
	"strconv"

	"github.com/inferloom/inferloom/internal/stats"
)

// Absent is what stands for a value that is not known.
const Absent = "–"

// Number is a figure for JSON: null where it is NaN or infinite, five significant digits where it is not.
type Number float64

// MarshalJSON implements json.Marshaler.
func (n Number) MarshalJSON() ([]byte, error) {
	v := float64(n)
	if math.IsNaN(v) || math.IsInf(v, 0) {
		return []byte("null"), nil
	}
	short, err := strconv.ParseFloat(strconv.FormatFloat(v, 'g', 5, 64), 64)
	if err != nil {
		return nil, err
	}
	return json.Marshal(short)
}

// UnmarshalJSON implements json.Unmarshaler.
func (n *Number) UnmarshalJSON(b []byte) error {
	if string(b) == "null" {
		*n = Number(math.NaN())
		return nil
	}
	return json.Unmarshal(b, (*float64)(n))
}

// A Format writes a value with its unit.
type Format func(v float64) string

func known(f Format) Format {
	return func(v float64) string {
		if math.IsNaN(v) || math.IsInf(v, 0) {
			return Absent
		}
		return f(v)
	}
}

// Seconds writes a time in seconds as milliseconds or seconds, with three significant digits.
var Seconds = known(func(v float64) string {
	switch a := math.Abs(v); {
	case a == 0:
		return "0 ms"
	case a < 0.99995e-3:
		return fmt.Sprintf("%.3g µs", v*1e6)
	case a < 0.9995:
		return digits(v*1e3) + " ms"
	default:
		return digits(v) + " s"
	}
})

// Percent writes a share as a percentage.
var Percent = known(func(v float64) string { return strconv.FormatFloat(100*v, 'f', decimals(100*v, 1), 64) + " %" })

// Change writes a ratio to a baseline as what it adds or takes away, in per cent.
var Change = known(func(v float64) string {
	p := 100 * (v - 1)
	if math.Abs(p) < 0.05 {
		p = 0
	}
	return fmt.Sprintf("%+.*f %%", decimals(p, 1), p)
})

// Points writes a difference of shares in percentage points.
var Points = known(func(v float64) string { return fmt.Sprintf("%+.*f pp", decimals(100*v, 1), 100*v) })

// Plain writes a number with three significant digits, and all of those before the point.
var Plain = known(digits)

// Times writes a factor.
var Times = known(func(v float64) string { return digits(v) + "×" })

// PerSecond writes a rate.
var PerSecond = known(func(v float64) string { return digits(v) + "/s" })

// decimals is how many to write of v: fewer for large values.
func decimals(v float64, most int) int {
	if math.Abs(v) >= 99.95 {
		return 0
	}
	return most
}

func digits(v float64) string {
	switch a := math.Abs(v); {
	case a == 0:
		return "0"
	case a >= 99.95:
		return group(strconv.FormatFloat(v, 'f', 0, 64))
	case a >= 9.995:
		return strconv.FormatFloat(v, 'f', 1, 64)
	case a >= 0.0009995:
		return strconv.FormatFloat(v, 'f', 2-int(math.Floor(math.Log10(a*1.0005))), 64)
	default:
		return strconv.FormatFloat(v, 'g', 3, 64)
	}
}

// Count writes a whole number with its thousands apart.
func Count(n int) string { return group(strconv.Itoa(n)) }

func group(s string) string {
	start := 0
	if s[0] == '-' {
		start = 1
	}
	for i := len(s) - 3; i > start; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}

// Between writes the range of an interval.
func Between(i stats.Interval, f Format) string {
	if !i.Known() {
		return Absent
	}
	return f(i.Low) + " to " + f(i.High)
}
