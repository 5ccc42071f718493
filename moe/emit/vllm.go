package emit

import (
	"encoding/json"
	"fmt"

	"github.com/inferloom/inferloom/accel"
	"github.com/inferloom/inferloom/moe/plan"
)

const (
	rpcPort  = 13345 // where vLLM's data-parallel ranks meet
	distPort = 20000 // where ranks of one process group meet
)

// vllm is "vllm serve". Where the ranks of one data-parallel engine fit a node, each node has its own API server and balances
// over its own engines (hybrid); else nodes form one group that the leader serves.
func vllm(p plan.Plan, at place, o Options) flags {
	d, l := p.Deployment, p.Layout
	c := d.Parallelism
	var f flags
	f.add("vllm", "serve", o.Model, "--host", "0.0.0.0")
	f.num("--port", o.Port)
	f.num("--tensor-parallel-size", max(c.TP, 1))
	if c.PP > 1 {
		f.num("--pipeline-parallel-size", c.PP)
	}
	if c.DP > 1 {
		f.num("--data-parallel-size", c.DP)
	}
	switch engine := max(c.TP, 1) * max(c.PP, 1); {
	case l.Nodes > 1 && engine <= l.PerNode:
		f.num("--data-parallel-size-local", l.PerNode/engine)
		f.at("--data-parallel-start-rank", at.index(l.PerNode/engine))
		f.at("--data-parallel-address", at.leader)
		f.num("--data-parallel-rpc-port", rpcPort)
		f.add("--data-parallel-hybrid-lb")
	case l.Nodes > 1:
		f.num("--nnodes", l.Nodes)
		f.at("--node-rank", at.index(1))
		f.at("--master-addr", at.leader)
		f.num("--master-port", distPort)
		f = append(f, at.follower("--headless")...)
	}
	if c.EP > 1 {
		f.add("--enable-expert-parallel")
		if c.DP > 1 {
			f.add("--all2all-backend", vllmKernel(d))
		}
		if c.Redundant > 0 {
			f.add("--enable-eplb", "--eplb-config", asJSON(map[string]any{"num_redundant_experts": c.Redundant}))
		}
	}
	if d.TwoBatchOverlap {
		f.add("--enable-dbo")
	}
	f.some("--max-model-len", longest(p))
	f.some("--max-num-seqs", d.MaxSequences)
	f.some("--max-num-batched-tokens", d.MaxBatchedTokens)
	f.share("--gpu-memory-utilization", d.MemoryFraction)
	if d.Precision.KV == accel.FP8 {
		f.add("--kv-cache-dtype", "fp8")
	}
	if quantised(d) {
		f.add("--quantization", "fp8")
	}
	if d.MTPDepth > 0 {
		f.add("--speculative-config", asJSON(map[string]any{"method": "mtp", "num_speculative_tokens": d.MTPDepth}))
	}
	if p.Role != plan.Both {
		f.add("--kv-transfer-config", asJSON(map[string]any{"kv_connector": "NixlConnector", "kv_role": "kv_both"}))
	}
	return f
}

func vllmKernel(d accel.Deployment) string {
	amd := d.System.Accelerator.Vendor == "amd"
	switch d.AllToAll {
	case accel.DeepEPHighThroughput:
		if amd {
			return "mori_high_throughput"
		}
		return "deepep_high_throughput"
	case accel.DeepEPLowLatency:
		if amd {
			return "mori_low_latency"
		}
		return "deepep_low_latency"
	case accel.NVLinkAllToAll:
		return "flashinfer_nvlink_one_sided"
	}
	return "allgather_reducescatter"
}

// quantised says that the engine is to make FP8 weights of a checkpoint in BF16.
func quantised(d accel.Deployment) bool {
	fp8 := func(t accel.DType) bool { return t == accel.FP8 || t == accel.FP8Block }
	return d.Model.Checkpoint.Weights == accel.BF16 && (fp8(d.Precision.Weights) || fp8(d.Precision.Experts))
}

// asJSON writes a value that cannot fail, with keys in order.
func asJSON(v any) string {
	b, err := json.Marshal(v)
	if err != nil {
		panic(fmt.Sprintf("json: %v", err))
	}
	return string(b)
}
