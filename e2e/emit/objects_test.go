package emit_test

import (
	"bytes"
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"
	"k8s.io/apimachinery/pkg/util/json"
	"sigs.k8s.io/yaml"

	"github.com/inferloom/inferloom/accel"
	"github.com/inferloom/inferloom/moe/emit"
	"github.com/inferloom/inferloom/moe/plan"
)

func TestObjectsFitPublishedSchemas(t *testing.T) {
	s := published(t)
	both := []plan.Plan{wide(accel.VLLM, plan.Both, 4, 2)}
	roles := []plan.Plan{wide(accel.SGLang, plan.Prefill, 4, 3), wide(accel.SGLang, plan.Decode, 9, 1)}
	for name, plans := range map[string][]plan.Plan{
		"both": both, "roles": roles, "one node": {wide(accel.VLLM, plan.Both, 1, 4)}, "stages": {deep(accel.VLLM, 2)},
		"NVL72": {found(t, "deepseek-ai/DeepSeek-R1", "gb200-nvl72", plan.Problem{Accelerators: 72, Fixed: accel.Parallelism{TP: 1, EP: 36}})},
		"TPU":   {found(t, "Qwen/Qwen3-30B-A3B", "tpu-v5p", plan.Problem{Accelerators: 32, Fixed: accel.Parallelism{TP: 4, DP: 8}})},
		"Gaudi": {found(t, "meta-llama/Llama-3.1-70B-Instruct", "gaudi3", plan.Problem{Accelerators: 8, Fixed: accel.Parallelism{TP: 8}})},
	} {
		for _, minimal := range []bool{false, true} {
			serving := everything(plans...)
			if _, newer := s["grove.io/v1alpha1 ClusterTopologyBinding"]; newer {
				serving.GroveTopology = "racks"
			}
			if minimal {
				serving = emit.Serving{Name: "r1", Image: "sglang", Plans: plans}
			}
			t.Run(fmt.Sprintf("%s/minimal=%v", name, minimal), func(t *testing.T) {
				s.valid(t, serving.LeaderWorkerSets)
				s.valid(t, serving.PodCliqueSet)
				if len(plans) > 1 {
					s.valid(t, serving.DisaggregatedSet)
				}
				if !minimal {
					s.valid(t, func() ([]byte, error) { return serving.Kueue() })
					s.valid(t, func() ([]byte, error) { return serving.Kueue(serving.Topology, "kubernetes.io/hostname") })
				}
			})
		}
	}
}

// A test of the test: an API server would refuse these.
func TestBrokenObjectsAreRefused(t *testing.T) {
	s := published(t)
	serving := everything(wide(accel.SGLang, plan.Prefill, 4, 3), wide(accel.SGLang, plan.Decode, 9, 1))
	for name, change := range map[string]struct{ from, to string }{
		"unknown field":   {"restartPolicy:", "restartPolitics:"},
		"not of the enum": {"RecreateGroupOnPodRestart", "RecreateGroupSometimes"},
		"wrong type":      {"size: 4", `size: "4"`},
		"CEL rule":        {"replicas: 3", "replicas: 0"},
		"doubled role":    {"name: decode", "name: prefill"},
	} {
		t.Run(name, func(t *testing.T) {
			doc, err := serving.DisaggregatedSet()
			require.NoError(t, err)
			broken := bytes.Replace(doc, []byte(change.from), []byte(change.to), 1)
			require.NotEqual(t, doc, broken)
			require.NotEmpty(t, s.problems(t, decode(t, broken)))
		})
	}
}

// valid requires that each document is what an API server accepts.
func (s schemas) valid(t *testing.T, write func() ([]byte, error)) {
	t.Helper()
	docs, err := write()
	require.NoError(t, err)
	for _, doc := range bytes.Split(docs, []byte("---\n")) {
		require.Empty(t, s.problems(t, decode(t, doc)), "%s", doc)
	}
}

// decode reads a document as an API server does: integers stay integers, and no key may be there twice.
func decode(t *testing.T, doc []byte) map[string]any {
	t.Helper()
	asJSON, err := yaml.YAMLToJSONStrict(doc)
	require.NoError(t, err, "%s", doc)
	var object map[string]any
	require.NoError(t, json.Unmarshal(asJSON, &object))
	return object
}
