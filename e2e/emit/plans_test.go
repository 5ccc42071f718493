package emit_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/inferloom/inferloom/accel"
	"github.com/inferloom/inferloom/moe/emit"
	"github.com/inferloom/inferloom/moe/plan"
)

func model() *accel.Model {
	return &accel.Model{
		Name: "deepseek-ai/DeepSeek-R1", Hidden: 7168,
		Kinds:      []accel.Layer{{}, {FFN: accel.FFN{Experts: 256, TopK: 8}}},
		Pattern:    []uint8{0, 1, 1},
		Checkpoint: accel.Precision{Weights: accel.FP8Block},
	}
}

func system(perNode, domain int) accel.System {
	return accel.System{
		Name: "h200-sxm", PerNode: perNode,
		Accelerator: accel.Accelerator{Name: "h200-sxm", Vendor: "nvidia"},
		ScaleUp:     accel.ScaleUp{Kind: accel.Switch, Domain: domain},
	}
}

// wide is DP and EP over nodes.
func wide(engine accel.Engine, role plan.Role, nodes, replicas int) plan.Plan {
	return plan.Plan{
		Role: role, Replicas: replicas, Context: 4096,
		Deployment: accel.Deployment{
			Model: model(), System: system(8, 8), Engine: engine,
			Parallelism:     accel.Parallelism{TP: 1, DP: 8 * nodes, EP: 8 * nodes, Redundant: 32},
			Precision:       accel.Precision{KV: accel.FP8},
			MaxSequences:    256,
			AllToAll:        accel.DeepEPLowLatency,
			TwoBatchOverlap: true, MTPDepth: 1, MTPAcceptance: .8, MemoryFraction: .9, MaxBatchedTokens: 8192,
		},
		Layout: plan.Layout{Ranks: 8 * nodes, Nodes: nodes, PerNode: 8, Domains: nodes},
	}
}

// deep is TP inside nodes and PP over them.
func deep(engine accel.Engine, nodes int) plan.Plan {
	return plan.Plan{
		Replicas: 1, Context: 8192,
		Deployment: accel.Deployment{
			Model: model(), System: system(8, 8), Engine: engine,
			Parallelism:  accel.Parallelism{TP: 8, PP: nodes, EP: 8},
			MaxSequences: 64,
		},
		Layout: plan.Layout{Ranks: 8 * nodes, Nodes: nodes, PerNode: 8, Domains: nodes},
	}
}

// found is what a search finds.
func found(t *testing.T, model, system string, problem plan.Problem) plan.Plan {
	t.Helper()
	var err error
	problem.Model, err = accel.LookupModel(model)
	require.NoError(t, err)
	problem.System, err = accel.Builtin().System(system)
	require.NoError(t, err)
	problem.Input, problem.Output = 1000, 1000
	r, err := plan.Search(accel.Calibrated(), problem)
	require.NoError(t, err)
	return r.Plans[0]
}

// everything sets each field of a Serving.
func everything(plans ...plan.Plan) emit.Serving {
	return emit.Serving{
		Name: "r1", Namespace: "models", Image: "vllm/vllm-openai:v0.32.0", Plans: plans,
		Options:      emit.Options{Port: 9000, Extra: []string{"--served-model-name", "it's $(HOME)"}},
		Labels:       map[string]string{"team": "true"},
		NodeSelector: map[string]string{"nvidia.com/gpu.product": "NVIDIA-H200"},
		Env:          map[string]string{"NCCL_IB_HCA": "mlx5", "HF_TOKEN": "a: b #c"},
		Topology:     "cloud.google.com/gce-topology-block",
		GroveDomain:  "rack", ComputeDomain: "imex", Queue: "team-a",
	}
}
