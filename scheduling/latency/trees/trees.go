// Package trees runs boosted regression trees that XGBoost has trained and saved as JSON: those of llm-d's latency predictor,
// say.
//
//	model, err := trees.Load(file)
//	y := model.Predict(x) // x in the order of model.Features, NaN where a value is missing
//
// It takes models of the booster gbtree with one output: numerical and categorical splits, values that are missing, and
// objectives whose prediction is the sum of leaves or its exponential. Others are refused.
package trees

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
	"strconv"
	"strings"
)

// Model is an ensemble of regression trees. It is immutable, and safe for concurrent use.
type Model struct {
	// Features are the names of what it goes by, in order; empty if the file does not say. It must not be changed.
	Features []string
	// Count is how many there are.
	Count int

	base       float64
	exp        bool
	roots      []int32
	nodes      []node
	categories []uint32 // bit sets of the nodes with categorical splits
	names      []map[string]float32
}

// node is a split, or a leaf whose feature is -1 and whose value is the leaf's.
type node struct {
	value       float32
	feature     int32
	left, right int32
	set, words  int32 // of categories that go right; words is 0 for a numerical split
	missingLeft bool
}

// Limits of what is read, so that a file cannot make a process run out of memory or time.
const (
	maxBytes    = 256 << 20
	maxNodes    = 8 << 20
	maxFeatures = 4096
	maxCategory = 1 << 16
	maxDepth    = 512
)

// file is what is read of a saved model. Numbers of parameters are strings there.
type file struct {
	Learner struct {
		FeatureNames []string `json:"feature_names"`
		Objective    struct {
			Name string `json:"name"`
		} `json:"objective"`
		Param struct {
			BaseScore string `json:"base_score"`
			Features  string `json:"num_feature"`
			Classes   string `json:"num_class"`
			Targets   string `json:"num_target"`
		} `json:"learner_model_param"`
		Booster struct {
			Name  string `json:"name"`
			Model struct {
				Trees []tree `json:"trees"`
				Cats  struct {
					Encodings []struct {
						Offsets []int           `json:"offsets"`
						Values  json.RawMessage `json:"values"`
					} `json:"enc"`
				} `json:"cats"`
			} `json:"model"`
		} `json:"gradient_booster"`
	} `json:"learner"`
}

type tree struct {
	Left       []int32   `json:"left_children"`
	Right      []int32   `json:"right_children"`
	Features   []int32   `json:"split_indices"`
	Conditions []float32 `json:"split_conditions"` // of a leaf its value
	Default    []int     `json:"default_left"`
	Types      []int     `json:"split_type"` // 1 is categorical
	Categories []int     `json:"categories"`
	Nodes      []int32   `json:"categories_nodes"`
	Segments   []int     `json:"categories_segments"`
	Sizes      []int     `json:"categories_sizes"`
	Param      struct {
		Leaf string `json:"size_leaf_vector"`
	} `json:"tree_param"`
}

// exponential says of each objective that is known whether predictions are exponentials.
var exponential = map[string]bool{
	"reg:squarederror": false, "reg:linear": false, "reg:absoluteerror": false, "reg:pseudohubererror": false, "reg:quantileerror": false,
	"reg:gamma": true, "reg:tweedie": true, "count:poisson": true,
}

// Load reads a model that XGBoost has saved as JSON.
func Load(r io.Reader) (*Model, error) {
	var f file
	if err := json.NewDecoder(io.LimitReader(r, maxBytes)).Decode(&f); err != nil {
		return nil, fmt.Errorf("trees: %w", err)
	}
	m, err := f.model()
	if err != nil {
		return nil, fmt.Errorf("trees: %w", err)
	}
	return m, nil
}

func (f *file) model() (*Model, error) {
	l := &f.Learner
	if l.Booster.Name != "gbtree" {
		return nil, fmt.Errorf("gradient_booster.name %q: want gbtree", l.Booster.Name)
	}
	exp, known := exponential[l.Objective.Name]
	if !known {
		return nil, fmt.Errorf("objective.name %q: not a regression that is known", l.Objective.Name)
	}
	for _, single := range []struct{ field, value string }{{"num_class", l.Param.Classes}, {"num_target", l.Param.Targets}} {
		if v := single.value; v != "" && v != "0" && v != "1" {
			return nil, fmt.Errorf("learner_model_param.%s %q: want one output", single.field, v)
		}
	}
	features, err := strconv.Atoi(l.Param.Features)
	if err != nil || features < 1 || features > maxFeatures {
		return nil, fmt.Errorf("learner_model_param.num_feature %q: want 1 to %d", l.Param.Features, maxFeatures)
	}
	if n := len(l.FeatureNames); n != 0 && n != features {
		return nil, fmt.Errorf("feature_names: %d of them for %d features", n, features)
	}
	base, err := strconv.ParseFloat(strings.Trim(l.Param.BaseScore, "[]"), 64)
	if err != nil || math.IsNaN(base) || math.IsInf(base, 0) || exp && base <= 0 {
		return nil, fmt.Errorf("learner_model_param.base_score %q: want a number, above 0 if predictions are exponentials", l.Param.BaseScore)
	}
	m := &Model{Features: l.FeatureNames, Count: features, base: base, exp: exp}
	if exp {
		m.base = math.Log(base)
	}
	for i := range l.Booster.Model.Trees {
		if err := m.add(&l.Booster.Model.Trees[i]); err != nil {
			return nil, fmt.Errorf("trees[%d]: %w", i, err)
		}
	}
	for _, e := range l.Booster.Model.Cats.Encodings {
		m.names = append(m.names, categoryNames(e.Offsets, e.Values))
	}
	return m, nil
}

// categoryNames reads the names of a feature's categories, which are strings one behind the other; nil where they are none.
func categoryNames(offsets []int, values json.RawMessage) map[string]float32 {
	var text []byte
	var codes []int
	if json.Unmarshal(values, &codes) != nil {
		return nil
	}
	for _, c := range codes {
		text = append(text, byte(c))
	}
	names := map[string]float32{}
	for i := range len(offsets) - 1 {
		from, to := offsets[i], offsets[i+1]
		if from < 0 || to < from || to > len(text) {
			return nil
		}
		names[string(text[from:to])] = float32(i)
	}
	return names
}

// add appends a tree, checked: no node is reached twice, so that each prediction ends.
func (m *Model) add(t *tree) error {
	n := len(t.Left)
	for field, length := range map[string]int{
		"right_children": len(t.Right), "split_indices": len(t.Features), "split_conditions": len(t.Conditions), "default_left": len(t.Default),
	} {
		if length != n {
			return fmt.Errorf("%s: %d of them for %d nodes", field, length, n)
		}
	}
	if n == 0 || len(t.Types) != 0 && len(t.Types) != n {
		return fmt.Errorf("%d nodes and %d split types", n, len(t.Types))
	}
	if len(m.nodes)+n > maxNodes {
		return fmt.Errorf("more than %d nodes", maxNodes)
	}
	if v := t.Param.Leaf; v != "" && v != "0" && v != "1" {
		return fmt.Errorf("size_leaf_vector %q: want one output", v)
	}
	if len(t.Nodes) != len(t.Segments) || len(t.Nodes) != len(t.Sizes) {
		return errors.New("categories: their nodes, segments and sizes differ in number")
	}
	seen := make([]bool, n)
	var visit func(id int32, depth int) (int32, error)
	visit = func(id int32, depth int) (int32, error) {
		if id < 0 || int(id) >= n || seen[id] || depth > maxDepth {
			return 0, fmt.Errorf("node %d is out of range, reached twice, or too deep", id)
		}
		seen[id] = true
		at := int32(len(m.nodes))
		m.nodes = append(m.nodes, node{value: t.Conditions[id], feature: -1})
		if t.Left[id] < 0 {
			if v := float64(t.Conditions[id]); math.IsNaN(v) || math.IsInf(v, 0) {
				return 0, fmt.Errorf("node %d: a leaf of %v", id, v)
			}
			return at, nil
		}
		if t.Features[id] < 0 || int(t.Features[id]) >= m.Count {
			return 0, fmt.Errorf("node %d: split_indices %d, want 0 to %d", id, t.Features[id], m.Count-1)
		}
		if len(t.Types) > 0 && t.Types[id] == 1 {
			if err := m.categorical(t, id, at); err != nil {
				return 0, err
			}
		}
		left, err := visit(t.Left[id], depth+1)
		if err != nil {
			return 0, err
		}
		right, err := visit(t.Right[id], depth+1)
		if err != nil {
			return 0, err
		}
		split := &m.nodes[at]
		split.feature, split.left, split.right, split.missingLeft = t.Features[id], left, right, t.Default[id] != 0
		return at, nil
	}
	root, err := visit(0, 0)
	m.roots = append(m.roots, root)
	return err
}

// categorical reads the categories of a node that go right.
func (m *Model) categorical(t *tree, id, at int32) error {
	i := slices.Index(t.Nodes, id)
	if i < 0 {
		return fmt.Errorf("node %d: no categories", id)
	}
	from, size := t.Segments[i], t.Sizes[i]
	if from < 0 || size < 1 || size > len(t.Categories) || from > len(t.Categories)-size {
		return fmt.Errorf("node %d: categories %d to %d of %d", id, from, from+size, len(t.Categories))
	}
	list := t.Categories[from : from+size]
	most := slices.Max(list)
	if slices.Min(list) < 0 || most > maxCategory {
		return fmt.Errorf("node %d: a category is not in 0..%d", id, maxCategory)
	}
	set := make([]uint32, most/32+1)
	for _, c := range list {
		set[c/32] |= 1 << (c % 32)
	}
	m.nodes[at].set, m.nodes[at].words = int32(len(m.categories)), int32(len(set))
	m.categories = append(m.categories, set...)
	return nil
}

// Category returns the number that stands for a category of a feature, if the file names them.
func (m *Model) Category(feature int, name string) (value float32, ok bool) {
	if feature < 0 || feature >= len(m.names) {
		return 0, false
	}
	value, ok = m.names[feature][name]
	return value, ok
}

// Predict returns what the trees say of x, which must hold Count values; one that is NaN is missing. It does not allocate.
func (m *Model) Predict(x []float32) float64 {
	sum := m.base
	_ = x[m.Count-1]
	for _, at := range m.roots {
		n := &m.nodes[at]
		for n.feature >= 0 {
			if m.goesLeft(n, x[n.feature]) {
				n = &m.nodes[n.left]
			} else {
				n = &m.nodes[n.right]
			}
		}
		sum += float64(n.value)
	}
	if m.exp {
		return math.Exp(sum)
	}
	return sum
}

func (m *Model) goesLeft(n *node, v float32) bool {
	switch {
	case v != v:
		return n.missingLeft
	case n.words == 0:
		return v < n.value
	case v < 0 || v >= float32(32*n.words):
		return true // a category that is not in the set
	}
	c := int32(v)
	return m.categories[n.set+c/32]>>(c%32)&1 == 0
}
