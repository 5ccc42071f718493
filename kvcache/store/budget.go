package store

import (
	"sync"
	"time"
)

// budget is a token bucket of bytes: what a disk may be written a day, so that it lasts. It holds an hour's worth.
type budget struct {
	perSecond float64
	now       func() time.Time

	mu   sync.Mutex
	left float64
	last time.Time
}

func newBudget(bytesPerDay int64, now func() time.Time) *budget {
	b := &budget{perSecond: float64(bytesPerDay) / (24 * 60 * 60), now: now, last: now()}
	b.left = b.most()
	return b
}

func (b *budget) most() float64 { return b.perSecond * 60 * 60 }

// take reports whether so many bytes may be written now. A page larger than an hour's budget may when the bucket is full.
func (b *budget) take(bytes int64) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	now := b.now()
	b.left = min(b.left+max(now.Sub(b.last).Seconds(), 0)*b.perSecond, b.most())
	b.last = now
	if b.left < min(float64(bytes), b.most()) {
		return false
	}
	b.left -= float64(bytes)
	return true
}
