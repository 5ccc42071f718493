package prefix_test

import (
	"context"
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/inferloom/inferloom/scheduling"
	"github.com/inferloom/inferloom/scheduling/prefix"
)

type held map[string]int32

func (h held) Produce(c *scheduling.Cycle) {
	c.Match.Known = true
	for _, slot := range c.Snapshot.Live() {
		c.Match.Cached[slot] = h[c.Endpoint(slot).ID]
	}
}

type only string

func (id only) Filter(c *scheduling.Cycle, slots []scheduling.Slot) []scheduling.Slot {
	for _, slot := range slots {
		if c.Endpoint(slot).ID == string(id) {
			return append(slots[:0], slot)
		}
	}
	return nil
}

func TestSource(t *testing.T) {
	var list []scheduling.Endpoint
	for i, id := range []string{"a", "b", "c", "d"} {
		list = append(list, scheduling.Endpoint{ID: id, Address: fmt.Sprintf("10.0.0.%d:80", i+1), BlockTokens: 64})
	}
	pool, err := scheduling.NewPool(scheduling.PoolOptions{Endpoints: list})
	require.NoError(t, err)
	require.NoError(t, pool.Report(scheduling.State{Endpoint: "c", Values: []scheduling.Value{{Metric: scheduling.Waiting, Value: 3}}}))
	for _, row := range []struct {
		name   string
		held   held
		chosen string
		source prefix.Source
		want   map[string]float64 // probability
	}{
		{"nobody has any of it", held{}, "a", prefix.Source{}, nil},
		{"the chosen one has the most", held{"a": 640, "b": 640}, "a", prefix.Source{}, nil},
		{"the gain is too small", held{"a": 600, "b": 640}, "a", prefix.Source{MinGain: 41}, nil},
		{"the gain is just enough", held{"a": 600, "b": 640}, "a", prefix.Source{MinGain: 40}, map[string]float64{"b": 1}},
		{"one that waits less is likelier", held{"b": 640, "c": 640}, "a", prefix.Source{}, map[string]float64{"b": .8, "c": .2}},
		{"within a block", held{"b": 640, "c": 576, "d": 575}, "a", prefix.Source{}, map[string]float64{"b": .8, "c": .2}},
	} {
		t.Run(row.name, func(t *testing.T) {
			s, err := scheduling.New(pool, scheduling.Options{Seed: 1, Profile: scheduling.Profile{
				Producers: []scheduling.Producer{row.held, row.source}, Filters: []scheduling.Filter{only(row.chosen)},
			}})
			require.NoError(t, err)
			const n = 2000
			got := map[string]int{}
			for range n {
				d, err := s.Pick(context.Background(), &scheduling.Request{Prompt: scheduling.Prompt{Tokens: make([]uint32, 1000)}})
				require.NoError(t, err)
				if d.Source.Endpoint != nil {
					got[d.Source.Endpoint.ID]++
					require.EqualValues(t, row.held[d.Source.Endpoint.ID], d.Source.CachedTokens)
				}
				d.Done()
			}
			require.Len(t, got, len(row.want))
			for id, p := range row.want {
				require.InDelta(t, p*n, got[id], .04*n, id)
			}
		})
	}
	_, err = scheduling.New(pool, scheduling.Options{Profile: scheduling.Profile{Producers: []scheduling.Producer{prefix.Source{MinGain: -1}}}})
	require.ErrorContains(t, err, "profile.producers[0] (prefix.Source): minCachedTokenDelta -1: negative")

	// A request that moves on has another source.
	s, err := scheduling.New(pool, scheduling.Options{Profile: scheduling.Profile{Producers: []scheduling.Producer{held{"b": 640}, prefix.Source{}}}})
	require.NoError(t, err)
	d, err := s.Pick(context.Background(), &scheduling.Request{Prompt: scheduling.Prompt{Tokens: make([]uint32, 1000)}})
	require.NoError(t, err)
	for {
		if d.Endpoint.ID == "b" {
			require.Nil(t, d.Source.Endpoint)
		} else {
			require.Equal(t, "b", d.Source.Endpoint.ID)
		}
		if !d.Next() {
			break
		}
	}
}
