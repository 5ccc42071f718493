package prefix_test

import (
	"context"
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/inferloom/inferloom/scheduling"
	"github.com/inferloom/inferloom/scheduling/prefix"
	"github.com/inferloom/inferloom/scheduling/scorer"
)

func TestMedia(t *testing.T) {
	var list []scheduling.Endpoint
	for i, id := range []string{"a", "b", "c"} {
		list = append(list, scheduling.Endpoint{ID: id, Address: fmt.Sprintf("10.0.0.%d:80", i+1), CacheBlocks: 1})
	}
	pool, err := scheduling.NewPool(scheduling.PoolOptions{Endpoints: list})
	require.NoError(t, err)
	index, err := prefix.New(prefix.Options{MaxBytes: 16 << 20})
	require.NoError(t, err)
	media := &prefix.Media{Index: index, Items: 3}
	pick := func(id string, items ...scheduling.Media) map[string]float64 {
		t.Helper()
		profile := scheduling.Profile{Producers: []scheduling.Producer{media}, Scorers: []scheduling.Weighted{{Scorer: scorer.Media{}}}}
		if id != "" {
			profile.Filters = []scheduling.Filter{only(id)}
		}
		s, err := scheduling.New(pool, scheduling.Options{Profile: profile})
		require.NoError(t, err)
		d, err := s.Pick(context.Background(), &scheduling.Request{Media: items, Explain: true})
		require.NoError(t, err)
		d.Done()
		got := map[string]float64{}
		for _, c := range d.Explanation.Candidates {
			if !c.Scores[0].Abstained {
				got[c.Endpoint] = c.Scores[0].Score
			}
		}
		return got
	}
	cat, dog, film := scheduling.Media{Hash: 0, Size: 100}, scheduling.Media{Hash: 1 << 63, Size: 300}, scheduling.Media{Hash: 7, Size: 600}
	require.Empty(t, pick(""), "no media, no opinion")
	require.Equal(t, map[string]float64{"a": 0}, pick("a", cat))
	require.Equal(t, map[string]float64{"b": 0}, pick("b", dog, film))
	// Nothing is yet known of c, which this goes to, and then it has all.
	all := []scheduling.Media{cat, dog, film}
	require.Equal(t, map[string]float64{"c": 0}, pick("c", all...))
	require.Equal(t, map[string]float64{"a": .1, "b": .9, "c": 1}, pick("", all...))
	// Four other pictures drive out what b has: it keeps three.
	for i := range 3 {
		pick("b", scheduling.Media{Hash: uint64(100 + i), Size: 1})
	}
	require.Equal(t, map[string]float64{"a": .1, "b": 0, "c": 1}, pick("", all...))
	// An endpoint that was replaced has nothing.
	require.NoError(t, pool.Upsert(scheduling.Endpoint{ID: "c", Address: "10.9.9.9:80"}))
	require.Equal(t, map[string]float64{"a": .1, "b": 0, "c": 0}, pick("", all...))
	require.Empty(t, pick("", scheduling.Media{Hash: 5, Size: -1}), "sizes that say nothing")

	_, err = scheduling.New(pool, scheduling.Options{Profile: scheduling.Profile{Producers: []scheduling.Producer{&prefix.Media{Items: -1}}}})
	require.ErrorContains(t, err, "index: nil\nitems -1: negative")
}
