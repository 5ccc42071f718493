package latency

import (
	"bytes"
	"encoding/json"
	"os"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/inferloom/inferloom/scheduling"
	"github.com/inferloom/inferloom/scheduling/latency/trees"
)

func loadTrees(t *testing.T, name string) *trees.Model {
	t.Helper()
	data, err := os.ReadFile("trees/testdata/" + name + ".json")
	require.NoError(t, err)
	var file struct{ Model json.RawMessage }
	require.NoError(t, json.Unmarshal(data, &file))
	m, err := trees.Load(bytes.NewReader(file.Model))
	require.NoError(t, err)
	return m
}

// Trees take the place of the physical model, for the time that they are of, and what is on top of it corrects them.
func TestTrees(t *testing.T) {
	model := loadTrees(t, "numeric") // KV usage, prompt, prefix score, requests
	w := newWorld(t, 1, Options{Quantile: .5})
	w.model.classes.Store(&[]*class{})
	w.model.names = map[string]uint32{}
	w.model.o.Trees = func(*scheduling.Endpoint) *Trees { return &Trees{TTFT: model} }
	w.model.class(&scheduling.Endpoint{Model: "m"})
	v := w.load()
	v[kvUsage], v[prompt], v[uncached], v[requests] = .7, 500, 400, 3
	current := (*w.model.classes.Load())[0].current.Load()
	seconds, _ := current[ttft].estimate(ttft, &v, 1)
	require.InEpsilon(t, model.Predict([]float32{.7, 500, 1 - 400./500, 3})/1000, seconds, 1e-6)
	x := expand(tpot, &v)
	seconds, _ = current[tpot].estimate(tpot, &v, 1)
	require.InEpsilon(t, x.dot(&current[tpot].w), seconds, 1e-9)

	w.run(ttft, 300) // the trees are far off
	observed := w.predict(v, 0).TTFT
	require.NotEqual(t, seconds, observed)
	require.NoError(t, w.model.Restore(w.model.Snapshot()))
	require.InEpsilon(t, observed, w.predict(v, 0).TTFT, .01, "trees stay")
}

// Features that nobody knows are missing; a role is a category if the file says which.
func TestTreesOfOtherFeatures(t *testing.T) {
	model := loadTrees(t, "categorical") // len, pod_type
	k := &class{}
	for target := range k.learn {
		for i := range k.learn[target].windows {
			k.learn[target].windows[i] = newWindow()
		}
	}
	k.plant(&Trees{TTFT: model}, &scheduling.Endpoint{Role: scheduling.Prefill})
	var v [counts]float32
	got, ok := k.trees.seconds(ttft, &v)
	require.True(t, ok)
	prefill, _ := model.Category(1, "prefill")
	require.InEpsilon(t, model.Predict([]float32{missing(&v), prefill})/1000, got, 1e-6)
	first := k.trees
	k.plant(&Trees{TTFT: model}, &scheduling.Endpoint{})
	k.plant(nil, nil)
	require.Same(t, first, k.trees, "a class has the trees of its first endpoint")
}
