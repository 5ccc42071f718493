//go:build !race

// The race detector makes sync.Pool drop what it is given, at random.

package prefix_test

import (
	"context"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/inferloom/inferloom/scheduling"
	"github.com/inferloom/inferloom/scheduling/prefix"
	"github.com/inferloom/inferloom/scheduling/scorer"
)

func TestMediaDoesNotAllocate(t *testing.T) {
	pool, err := scheduling.NewPool(scheduling.PoolOptions{Endpoints: []scheduling.Endpoint{{Address: "10.0.0.1:80"}, {Address: "10.0.0.2:80"}}})
	require.NoError(t, err)
	index, err := prefix.New(prefix.Options{MaxBytes: 16 << 20})
	require.NoError(t, err)
	s, err := scheduling.New(pool, scheduling.Options{Profile: scheduling.Profile{
		Producers: []scheduling.Producer{&prefix.Media{Index: index}}, Scorers: []scheduling.Weighted{{Scorer: scorer.Media{}}},
	}})
	require.NoError(t, err)
	r := &scheduling.Request{Media: []scheduling.Media{{Hash: 1, Size: 1}, {Hash: 2, Size: 1}}}
	require.Zero(t, testing.AllocsPerRun(1000, func() {
		d, err := s.Pick(context.Background(), r)
		if err != nil {
			t.Fatal(err)
		}
		d.Done()
	}))
}
