package filter_test

import (
	"context"
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/inferloom/inferloom/scheduling"
	"github.com/inferloom/inferloom/scheduling/filter"
)

func TestRole(t *testing.T) {
	roles := map[string]scheduling.Role{
		"any": 0, "p": scheduling.Prefill, "d": scheduling.Decode, "pd": scheduling.Prefill | scheduling.Decode, "e": scheduling.Encode,
	}
	var list []scheduling.Endpoint
	for id, role := range roles {
		list = append(list, scheduling.Endpoint{ID: id, Address: fmt.Sprintf("10.0.0.%d:80", len(list)+1), Role: role})
	}
	pool, err := scheduling.NewPool(scheduling.PoolOptions{Endpoints: list})
	require.NoError(t, err)
	for phase, want := range map[scheduling.Role][]string{
		scheduling.Prefill: {"any", "p", "pd"}, scheduling.Decode: {"any", "d", "pd"}, scheduling.Encode: {"any", "e"},
	} {
		sched, err := scheduling.New(pool, scheduling.Options{Profile: scheduling.Profile{Filters: []scheduling.Filter{filter.Role{Phase: phase}}}})
		require.NoError(t, err)
		d, err := sched.Pick(context.Background(), &scheduling.Request{Explain: true})
		require.NoError(t, err)
		var got []string
		for _, c := range d.Explanation.Candidates {
			got = append(got, c.Endpoint)
		}
		require.ElementsMatch(t, want, got)
		for _, r := range d.Explanation.Removed {
			require.Equal(t, "filter.Role", r.Filter)
		}
	}
	pool.Remove("any", "e")
	sched, err := scheduling.New(pool, scheduling.Options{Profile: scheduling.Profile{Filters: []scheduling.Filter{filter.Role{Phase: scheduling.Encode}}}})
	require.NoError(t, err)
	_, err = sched.Pick(context.Background(), &scheduling.Request{})
	require.EqualError(t, err, `no endpoint available for model "": filter.Role left none`)
}
