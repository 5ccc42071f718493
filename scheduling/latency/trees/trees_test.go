package trees_test

import (
	"bytes"
	"encoding/json"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/inferloom/inferloom/scheduling/latency/trees"
)

// golden is a model that XGBoost 3.2 has trained and what it predicts.
type golden struct {
	Model json.RawMessage
	Rows  [][]*float32
	Want  []float64
}

func load(t testing.TB, name string) golden {
	t.Helper()
	data, err := os.ReadFile(filepath.Join("testdata", name+".json"))
	require.NoError(t, err)
	var g golden
	require.NoError(t, json.Unmarshal(data, &g))
	return g
}

func row(values []*float32) []float32 {
	x := make([]float32, len(values))
	for i, v := range values {
		x[i] = float32(math.NaN())
		if v != nil {
			x[i] = *v
		}
	}
	return x
}

func TestPredictsAsXGBoost(t *testing.T) {
	for _, name := range []string{"numeric", "categorical", "gamma"} {
		t.Run(name, func(t *testing.T) {
			g := load(t, name)
			m, err := trees.Load(bytes.NewReader(g.Model))
			require.NoError(t, err)
			for i, values := range g.Rows {
				require.InEpsilon(t, g.Want[i], m.Predict(row(values)), 1e-5, "row %d", i)
			}
		})
	}
}

func TestNames(t *testing.T) {
	m, err := trees.Load(bytes.NewReader(load(t, "categorical").Model))
	require.NoError(t, err)
	require.Equal(t, []string{"len", "pod_type"}, m.Features)
	for i, name := range []string{"decode", "prefill", "x"} {
		v, ok := m.Category(1, name)
		require.True(t, ok)
		require.Equal(t, float32(i), v)
	}
	for feature, name := range map[int]string{0: "decode", 1: "none", 2: "decode", -1: "decode"} {
		_, ok := m.Category(feature, name)
		require.False(t, ok)
	}
	left, right := m.Predict([]float32{1, 1e9}), m.Predict([]float32{1, -5})
	require.Equal(t, left, right, "categories that were never seen go the same way")
}

func TestRefuses(t *testing.T) {
	good := string(load(t, "categorical").Model)
	for _, r := range []struct{ name, old, new, want string }{
		{"another booster", `"gbtree"`, `"gblinear"`, "gradient_booster.name"},
		{"another objective", `reg:squarederror`, `multi:softmax`, "objective.name"},
		{"classes", `"num_class": "0"`, `"num_class": "3"`, "learner_model_param.num_class"},
		{"features", `"num_feature": "2", "num_target"`, `"num_feature": "-1", "num_target"`, "learner_model_param.num_feature"},
		{"names", `"len"`, `"len", "more"`, "feature_names"},
		{"base", `"base_score": "[`, `"base_score": "x[`, "learner_model_param.base_score"},
		{"a cycle", `"left_children": [1, 3`, `"left_children": [1, 0`, "trees[0]: node 0 is out of range, reached twice"},
		{"no such node", `"left_children": [1, 3`, `"left_children": [1, 99`, "trees[0]: node 99 is out of range"},
		{"fewer conditions", `"split_conditions": [473.08893, `, `"split_conditions": [`, "trees[0]: split_conditions: 14 of them for 15 nodes"},
		{"no such feature", `"split_indices": [0`, `"split_indices": [7`, "split_indices 7, want 0 to 1"},
		{"no categories", `"categories_nodes": [1`, `"categories_nodes": [2`, "node 1: no categories"},
		{"categories out of range", `"categories_segments": [0`, `"categories_segments": [9`, "node 1: categories 9 to 11 of 6"},
		{"a negative category", `"categories": [0`, `"categories": [-7`, "node 1: a category is not in 0.."},
		{"no JSON", `{`, ``, "trees: "},
	} {
		t.Run(r.name, func(t *testing.T) {
			bad := strings.Replace(good, r.old, r.new, 1)
			require.NotEqual(t, good, bad)
			_, err := trees.Load(strings.NewReader(bad))
			require.ErrorContains(t, err, r.want)
		})
	}
}

func TestPredictDoesNotAllocate(t *testing.T) {
	g := load(t, "numeric")
	m, err := trees.Load(bytes.NewReader(g.Model))
	require.NoError(t, err)
	x := row(g.Rows[1])
	require.Zero(t, testing.AllocsPerRun(100, func() { m.Predict(x) }))
}

// What loads predicts a number for everything, in bounded time.
func FuzzLoad(f *testing.F) {
	for _, name := range []string{"numeric", "categorical", "gamma"} {
		f.Add([]byte(load(f, name).Model))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		m, err := trees.Load(bytes.NewReader(data))
		if err != nil {
			return
		}
		x := make([]float32, m.Count)
		for _, v := range []float32{0, -1, 1e9, float32(math.NaN()), float32(math.Inf(1))} {
			for i := range x {
				x[i] = v
			}
			require.False(t, math.IsNaN(m.Predict(x)))
		}
	})
}
