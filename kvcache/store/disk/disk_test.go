package disk

import (
	"testing"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/inferloom/inferloom/kvcache/store"
	"github.com/inferloom/inferloom/kvcache/store/storetest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestConformance(t *testing.T) {
	for name, o := range map[string]Options{
		"direct":   {CapacityBytes: 64 << 20},
		"buffered": {CapacityBytes: 8 << 20, SegmentBytes: 256 << 10, Buffered: true},
	} {
		t.Run(name, func(t *testing.T) {
			storetest.Run(t, storetest.Options{Forgets: true, Operations: 600, New: func(t *testing.T) store.Store {
				o := o
				o.Dir = t.TempDir()
				s, err := Open(t.Context(), o)
				require.NoError(t, err)
				return s
			}})
		})
	}
}
