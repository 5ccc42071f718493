//go:build !race

// The race detector makes sync.Pool drop what it is given, at random.

package scheduling_test

import (
	"context"
	"strings"
	"testing"

	"github.com/inferloom/inferloom/scheduling"
	"github.com/inferloom/inferloom/scheduling/filter"
	"github.com/inferloom/inferloom/scheduling/picker"
	"github.com/inferloom/inferloom/scheduling/policy"
	"github.com/inferloom/inferloom/scheduling/scorer"
	"github.com/inferloom/inferloom/scheduling/shadow"
	"github.com/stretchr/testify/require"
)

func TestPickDoesNotAllocate(t *testing.T) {
	for _, p := range []scheduling.Picker{
		picker.MaxScore{}, picker.Random{}, picker.WeightedRandom{}, picker.Softmax{Temperature: .5}, picker.PowerOfTwo{}, new(picker.RoundRobin),
	} {
		pool := newPool(t, endpoints(20)...)
		profile := policy.Default(newIndex(t))
		profile.Picker = p
		profile.Filters = []scheduling.Filter{filter.Role{Phase: scheduling.Decode}}
		profile.Scorers = append(profile.Scorers, scheduling.Weighted{Scorer: scorer.Session{}}, scheduling.Weighted{Scorer: scorer.Running{}},
			scheduling.Weighted{Scorer: scorer.InFlightTokens{}})
		s := newScheduler(t, pool, profile)
		req := &scheduling.Request{Model: "m", Session: "s", Prompt: scheduling.Prompt{Text: make([]byte, 10_000)}}
		ctx := context.Background()
		require.Zero(t, testing.AllocsPerRun(1000, func() {
			d, err := s.Pick(ctx, req)
			if err != nil {
				t.Fatal(err)
			}
			d.FirstToken()
			d.Tokens(1)
			d.Done()
		}), "%T", p)
	}
}

func TestStagedPickDoesNotAllocate(t *testing.T) {
	pool := newPool(t, roles()...)
	s := newStaged(t, pool, disaggregated(newIndex(t))...)
	requests := []*scheduling.Request{
		{Model: "m", Modality: scheduling.Image, Prompt: scheduling.Prompt{Text: make([]byte, 10_000)}},
		{Model: "m", Prompt: scheduling.Prompt{Tokens: make([]uint32, 100)}},
	}
	ctx, n := context.Background(), 0
	require.Zero(t, testing.AllocsPerRun(1000, func() {
		n++
		r := requests[n%len(requests)]
		r.Prompt.Salt = salts[n%len(salts)]
		d, err := s.Pick(ctx, r)
		if err != nil {
			t.Fatal(err)
		}
		if prefill, ran := d.Stage("prefill"); ran {
			prefill.Next()
			prefill.FirstToken()
			prefill.Done()
		}
		d.FirstToken()
		d.Done()
	}))
}

var salts = strings.Split("abcdefghijklmnopqrstuvwxyz", "")

// A shadow, too, works in memory that is there already.
func TestAShadowDoesNotAllocate(t *testing.T) {
	pool := newPool(t, endpoints(20)...)
	index := newIndex(t)
	live := newScheduler(t, pool, policy.Default(index))
	s, err := shadow.New(shadow.Options{Scheduler: newScheduler(t, pool, policy.LLMD(index))})
	require.NoError(t, err)
	live.Observe(1, s)
	req := &scheduling.Request{Model: "m", Prompt: scheduling.Prompt{Text: make([]byte, 10_000)}}
	ctx := context.Background()
	require.Zero(t, testing.AllocsPerRun(1000, func() {
		d, err := live.Pick(ctx, req)
		if err != nil {
			t.Fatal(err)
		}
		d.Done()
	}))
	require.Positive(t, s.Stats().Compared())
}
