package store

import (
	"math"
	"sync"
	"time"
)

// Speed is how long a level takes: Latency + bytes / BytesPerSecond.
type Speed struct {
	Latency        time.Duration
	BytesPerSecond float64
	// Measured is the number of operations behind it, 0 if there were none.
	Measured int64
}

// Time to move so many bytes in one operation; ok is false if nothing was measured.
func (s Speed) Time(bytes int64) (t time.Duration, ok bool) {
	if s.Measured == 0 {
		return 0, false
	}
	t = s.Latency
	if s.BytesPerSecond > 0 {
		t += time.Duration(float64(bytes) / s.BytesPerSecond * 1e9)
	}
	return t, true
}

// gauge fits a Speed to operations, with weights that halve every 40 operations or so.
type gauge struct {
	mu      sync.Mutex
	n       int64
	w, x, y float64 // weight, and weighted sums of bytes and seconds
	xx, xy  float64
}

const fadeOfGauge = 0.983

func (g *gauge) add(bytes int64, took time.Duration) {
	x, y := float64(bytes), took.Seconds()
	if took < 0 {
		return
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	g.n++
	g.w = g.w*fadeOfGauge + 1
	g.x = g.x*fadeOfGauge + x
	g.y = g.y*fadeOfGauge + y
	g.xx = g.xx*fadeOfGauge + x*x
	g.xy = g.xy*fadeOfGauge + x*y
}

// perByte is the mean number of seconds for a byte, 0 if nothing was measured.
func (g *gauge) perByte() float64 {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.y / max(g.x, 1)
}

// speed is the least-squares line through the operations. Where sizes hardly differ, or the line makes no sense, bandwidth takes
// all of the time: loading several pages is then as many times as slow as loading one, which is the cautious guess.
func (g *gauge) speed() Speed {
	g.mu.Lock()
	defer g.mu.Unlock()
	s := Speed{Measured: g.n}
	if g.w == 0 {
		return s
	}
	mx, my := g.x/g.w, g.y/g.w
	variance := g.xx/g.w - mx*mx
	slope := (g.xy/g.w - mx*my) / variance
	if base := my - slope*mx; variance > 0.01*mx*mx && slope > 0 && base >= 0 && !math.IsInf(slope, 0) {
		s.Latency, s.BytesPerSecond = time.Duration(base*1e9), 1/slope
		return s
	}
	if mx < 1 {
		s.Latency = time.Duration(my * 1e9)
		return s
	}
	if my > 0 {
		s.BytesPerSecond = mx / my
	}
	return s
}
