package dashboard

import (
	"math"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// A quantile is within 5% of the nearest-rank quantile of the values themselves.
func TestHistogramQuantiles(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		exponents := rapid.SliceOfN(rapid.Float64Range(math.Log(1.1e5), math.Log(9.9e11)), 1, 300).Draw(t, "log of nanoseconds")
		q := rapid.Float64Range(0, 1).Draw(t, "quantile")
		var h histogram
		var values []time.Duration
		for _, x := range exponents {
			v := time.Duration(math.Exp(x))
			h.record(v)
			values = append(values, v)
		}
		slices.Sort(values)
		want := values[max(int(math.Ceil(q*float64(len(values))))-1, 0)]
		got, ok := h.quantile(q)
		if off := math.Abs(float64(got)/float64(want) - 1); !ok || off > 0.05 {
			t.Fatalf("quantile %v of %v is %v, want %v", q, values, got, want)
		}
	})
}

func TestHistogramBounds(t *testing.T) {
	for _, row := range []struct {
		name    string
		v       time.Duration
		low, up time.Duration // what the estimate is between
	}{
		{"below", time.Nanosecond, 100 * time.Microsecond, 110 * time.Microsecond},
		{"above", 24 * time.Hour, 1000 * time.Second, 1100 * time.Second},
	} {
		var h histogram
		h.record(row.v)
		if got, ok := h.quantile(0.5); !ok || got < row.low || got > row.up {
			t.Errorf("%s: %v is not between %v and %v", row.name, got, row.low, row.up)
		}
	}
	var h histogram
	if _, ok := h.quantile(0.5); ok {
		t.Error("a quantile of nothing")
	}
}
