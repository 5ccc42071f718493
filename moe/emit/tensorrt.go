package emit

import (
	"github.com/inferloom/inferloom/accel"
	"github.com/inferloom/inferloom/moe"
	"github.com/inferloom/inferloom/moe/plan"
)

// tensorRTLLM is "trtllm-serve"; what it has no flag for is in the file that TensorRTLLM writes.
func tensorRTLLM(p plan.Plan, o Options, bad *problems) flags {
	d := p.Deployment
	if p.Layout.Nodes > 1 {
		bad.add("Plan.Layout.Nodes", p.Layout.Nodes, "must be 1 for TensorRT-LLM, which starts ranks of several nodes through MPI")
	}
	bad.word("Options.Config", o.Config)
	var f flags
	f.add("trtllm-serve", o.Model, "--host", "0.0.0.0")
	f.num("--port", o.Port)
	f.num("--tp_size", max(d.Parallelism.TP, 1)*max(d.Parallelism.DP, 1))
	f.num("--pp_size", max(d.Parallelism.PP, 1))
	f.num("--ep_size", max(d.Parallelism.EP, 1))
	f.some("--max_batch_size", d.MaxSequences)
	f.some("--max_num_tokens", d.MaxBatchedTokens)
	f.some("--max_seq_len", longest(p))
	f.share("--kv_cache_free_gpu_memory_fraction", d.MemoryFraction)
	f.add("--extra_llm_api_options", o.Config)
	return f
}

// TensorRTLLM is the YAML file of options that TensorRT-LLM reads beside its command line. With a placement, which may be nil,
// it starts with experts where that says. Layers of experts are numbered as in the model.
func TensorRTLLM(p plan.Plan, placement *moe.Placement) ([]byte, error) {
	var bad problems
	checkPlan("Plan", p, &bad)
	if p.Deployment.Engine != accel.TensorRTLLM {
		bad.add("Plan.Deployment.Engine", int(p.Deployment.Engine), "must be TensorRT-LLM")
	}
	if len(bad) > 0 {
		return nil, bad.err()
	}
	d := p.Deployment
	c := d.Parallelism
	var o object
	if c.DP > 1 {
		o.put("enable_attention_dp", true)
		if c.TP > 1 {
			bad.add("Plan.Deployment.Parallelism.TP", c.TP, "must be 1 where DP is more: TensorRT-LLM does not cut attention of data-parallel ranks")
		}
	}
	if c.EP > 1 || c.MoETP > 1 {
		o.put("moe_expert_parallel_size", max(c.EP, 1))
		o.put("moe_tensor_parallel_size", max(c.MoETP, 1))
	}
	if c.EP > 1 {
		var config object
		if c.DP > 1 {
			config.put("backend", "WIDEEP")
		}
		balancer, err := loadBalancer(d.Model, c, placement)
		if err != nil {
			return nil, err
		}
		config.put("load_balancer", balancer)
		o.put("moe_config", config)
	}
	var kv object
	if d.Precision.KV == accel.FP8 {
		kv.put("dtype", "fp8")
	}
	o.put("kv_cache_config", kv)
	if d.MTPDepth > 0 {
		o.put("speculative_config", object{{"decoding_type", "MTP"}, {"num_nextn_predict_layers", d.MTPDepth}})
	}
	if err := bad.err(); err != nil {
		return nil, err
	}
	if len(o) == 0 {
		return []byte("{}\n"), nil
	}
	return documents(o), nil
}
