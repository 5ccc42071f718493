package disk

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/inferloom/inferloom/kvcache/store"
	"github.com/inferloom/inferloom/kvcache/store/storetest"
)

var crashSeeds = flag.Int("crashes", 1, "workloads of which every crash is tried")

// promised is what a store owes after a crash. It follows the store's own changes, so that what was evicted is not owed.
type promised struct {
	mu       sync.Mutex
	versions map[store.Key]int // of the pages that are resident, or were
	resident map[store.Key]bool
	removed  map[store.Key]bool // since the last flush began
	flushed  map[store.Key]int  // versions of the pages that were flushed and not removed since
}

func newPromised() *promised {
	return &promised{versions: map[store.Key]int{}, resident: map[store.Key]bool{}, removed: map[store.Key]bool{}, flushed: map[store.Key]int{}}
}

func (p *promised) Changed(c store.Change) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if c.Removed {
		delete(p.resident, c.Key)
		delete(p.flushed, c.Key)
		p.removed[c.Key] = true
		return
	}
	p.resident[c.Key] = true
}

// beginFlush returns what is owed if the flush succeeds, but for what is removed meanwhile.
func (p *promised) beginFlush() map[store.Key]int {
	p.mu.Lock()
	defer p.mu.Unlock()
	owed := map[store.Key]int{}
	for k := range p.resident {
		owed[k] = p.versions[k]
	}
	clear(p.removed)
	return owed
}

func (p *promised) endFlush(owed map[store.Key]int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for k := range p.removed {
		delete(owed, k)
	}
	p.flushed = owed
}

// next is the version to put: a page that is resident is never changed.
func (p *promised) next(k store.Key, op int) int {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.resident[k] {
		p.versions[k] = op
	}
	return p.versions[k]
}

// TestCrashes runs a workload again and again, and lets the process or the machine die at each of its writes, syncs, creations
// and removals.
func TestCrashes(t *testing.T) {
	for seed := range *crashSeeds {
		for _, machine := range []bool{false, true} {
			t.Run(fmt.Sprintf("seed=%d/machine=%v", seed, machine), func(t *testing.T) {
				steps := 0
				for until := 0; until == 0 || until <= steps; until += crashStride {
					f := newFaulty()
					f.until = until
					p := workload(t, f, uint64(seed))
					if until == 0 {
						steps = f.steps
						require.Greater(t, steps, 100)
						continue
					}
					afterCrash(t, f.crash(machine, rand.New(rand.NewPCG(uint64(seed), uint64(until)))), p, until)
				}
			})
		}
	}
}

const (
	crashOps  = 110
	crashKeys = 50
)

var crashOptions = Options{CapacityBytes: 10 * minSegment, SegmentBytes: minSegment, Depth: 4}

func crashKey(n int) store.Key { return store.Key{Namespace: "n", Hash: fmt.Sprint(n)} }

func crashValue(n, version int) []byte {
	return storetest.Value(crashKey(n), version, 3000*(1+(n+version)%5))
}

// workload puts, deletes and flushes until it is done or the machine is down.
func workload(t *testing.T, f *faulty, seed uint64) *promised {
	p := newPromised()
	o := crashOptions
	o.Watcher = p
	require.NoError(t, o.validateForTest())
	s, err := openFiles(t.Context(), o, f)
	if err != nil {
		require.ErrorIs(t, err, errCrashed)
		return p
	}
	defer s.Close()
	random := rand.New(rand.NewPCG(seed, 0))
	for op := range crashOps {
		n := random.IntN(crashKeys)
		k := crashKey(n)
		var err error
		switch random.IntN(8) {
		case 0:
			err = s.Delete(t.Context(), k)
		case 1:
			owed := p.beginFlush()
			if err = s.Flush(t.Context()); err == nil {
				p.endFlush(owed)
			}
		default:
			err = s.Put(t.Context(), k, crashValue(n, p.next(k, op)), store.Attr{})
		}
		if errors.Is(err, errCrashed) {
			break
		}
		require.True(t, err == nil || store.Refused(err), "%v", err)
	}
	return p
}

// afterCrash opens what is left and looks at every page.
func afterCrash(t *testing.T, f *faulty, p *promised, until int) {
	o := crashOptions
	again := newPromised()
	o.Watcher = again
	require.NoError(t, o.validateForTest())
	s, err := openFiles(t.Context(), o, f)
	require.NoError(t, err, "crash at %d", until)
	for n := range crashKeys {
		k := crashKey(n)
		page, err := s.Get(t.Context(), k)
		version, owed := p.flushed[k]
		switch {
		case err == nil:
			ok := false
			for v := range crashOps {
				ok = ok || bytes.Equal(page.Bytes(), crashValue(n, v))
			}
			require.True(t, ok, "crash at %d: page %d was never put", until, n)
			require.True(t, !owed || bytes.Equal(page.Bytes(), crashValue(n, version)), "crash at %d: page %d is an old one", until, n)
			page.Release()
		case errors.Is(err, store.ErrNotFound) || errors.Is(err, store.ErrCorrupt):
			require.False(t, owed && !again.removed[k], "crash at %d: page %d was flushed and is lost: %v", until, n, err)
		default:
			t.Fatalf("crash at %d: page %d: %v", until, n, err)
		}
	}
	// The store works.
	require.NoError(t, s.Put(t.Context(), crashKey(1000), crashValue(1000, 0), store.Attr{}))
	require.NoError(t, s.Flush(t.Context()))
	require.NoError(t, s.Close())
}

func (o *Options) validateForTest() error {
	o.Dir = "unused"
	return o.validate()
}
