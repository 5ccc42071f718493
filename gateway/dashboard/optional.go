package dashboard

import (
	"math"
	"strconv"
	"time"
)

// optional is a number that may be absent, which is null in JSON. The zero value is the number 0.
type optional float64

var absent = optional(math.NaN())

// MarshalJSON writes four digits, which is more than a page shows and keeps the document small.
func (v optional) MarshalJSON() ([]byte, error) {
	f := float64(v)
	if math.IsNaN(f) || math.IsInf(f, 0) {
		return []byte("null"), nil
	}
	if f == math.Trunc(f) && math.Abs(f) < 1e15 {
		return strconv.AppendInt(nil, int64(f), 10), nil
	}
	return strconv.AppendFloat(nil, f, 'g', 4, 64), nil
}

// millisOf is d in milliseconds; absent if it is 0, which is how a Record says that it never came.
func millisOf(d time.Duration) optional {
	if d <= 0 {
		return absent
	}
	return optional(float64(d) / float64(time.Millisecond))
}
