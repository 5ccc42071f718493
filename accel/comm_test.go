package accel

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func ranks(t *testing.T, system string, n int) Group {
	s, err := Builtin().System(system)
	require.NoError(t, err)
	g, err := s.Group(n)
	require.NoError(t, err)
	return g
}

func TestReduce(t *testing.T) {
	assert.Zero(t, ranks(t, "h100-sxm", 1).reduceSeconds())
	assert.InEpsilon(t, 2*7./8/450e9, ranks(t, "h100-sxm", 8).reduceSeconds(), 1e-9)
	// Two nodes: each reduces, then eight pairs exchange an eighth each over their own NICs.
	assert.InEpsilon(t, 2*7./8/450e9+2*.5/8/50e9, ranks(t, "h100-sxm", 16).reduceSeconds(), 1e-9)
	assert.InEpsilon(t, 2*15./16/900e9, ranks(t, "gb200-nvl72", 16).reduceSeconds(), 1e-9)
}

func TestGather(t *testing.T) {
	assert.Zero(t, ranks(t, "h100-sxm", 1).gatherSeconds())
	assert.InEpsilon(t, 7/450e9, ranks(t, "h100-sxm", 8).gatherSeconds(), 1e-9)
	assert.InEpsilon(t, 8/50e9, ranks(t, "h100-sxm", 16).gatherSeconds(), 1e-9)
}

// Low-latency kernels of DeepEP, as fitted to measurements of the aiconfigurator project: hidden size 7168, top 8, an FP8
// dispatch with scales and a BF16 combine.
func TestExchangeAgainstMeasuredKernels(t *testing.T) {
	const dispatch, combine = 8 * (7168 + 7168/32), 8 * 7168 * 2
	for _, row := range []struct {
		system      string
		ranks       int
		call, token float64 // microseconds, dispatch and combine together
	}{
		{"h100-sxm", 8, 14.2 + 10.0, .2108 + .4934},
		{"h100-sxm", 16, 19.0 + 25.9, .6431 + 1.2166},
		{"h100-sxm", 32, 25.2 + 26.5, .9241 + 1.8671},
		{"h100-sxm", 64, 27.7 + 25.2, 1.0744 + 2.1715},
		{"b200-sxm", 8, 21.0 + 20.9, .1000 + .1634},
		{"b300-sxm", 8, 20.8 + 21.8, .1015 + .1633},
		{"gb200-nvl72", 4, 16.3 + 16.3, .0895 + .1487},
	} {
		call, token := ranks(t, row.system, row.ranks).exchange(DeepEPLowLatency, 8, 0, dispatch, combine)
		for _, tokens := range []float64{64, 128} {
			measured := row.call + tokens*row.token
			assert.InEpsilon(t, measured, (call+tokens*token)*1e6, .2, "%s, %d ranks, %v tokens", row.system, row.ranks, tokens)
		}
	}
}

func TestDistinctDomains(t *testing.T) {
	for _, row := range []struct{ domains, want float64 }{{1, 1}, {2, 1.99}, {4, 3.60}, {8, 5.25}, {16, 6.45}} {
		assert.InDelta(t, row.want, distinct(row.domains, 8, 0), .01)
	}
	assert.Equal(t, 4., distinct(16, 8, 4), "a token that may choose from four groups goes to four nodes at most")
	low, lowToken := ranks(t, "h100-sxm", 64).exchange(DeepEPLowLatency, 8, 0, 1e6, 1e6)
	high, highToken := ranks(t, "h100-sxm", 64).exchange(DeepEPHighThroughput, 8, 4, 1e6, 1e6)
	assert.Equal(t, low, high)
	assert.Less(t, highToken, lowToken, "one copy a node is less than one an expert")
}
