package emit

import (
	"github.com/inferloom/inferloom/accel"
	"github.com/inferloom/inferloom/moe/plan"
)

// sglang is "python3 -m sglang.launch_server". Its TP is over all ranks of a stage: attention groups (DP) are within it.
func sglang(p plan.Plan, at place, o Options, bad *problems) flags {
	d, l := p.Deployment, p.Layout
	c := d.Parallelism
	dp := max(c.DP, 1)
	var f flags
	f.add("python3", "-m", "sglang.launch_server", "--model-path", o.Model, "--host", "0.0.0.0")
	f.num("--port", o.Port)
	f.num("--tp-size", max(c.TP, 1)*dp)
	if c.PP > 1 {
		f.num("--pp-size", c.PP)
	}
	if dp > 1 {
		f.num("--dp-size", dp)
		f.add("--enable-dp-attention")
	}
	if l.Nodes > 1 {
		f.num("--nnodes", l.Nodes)
		f.at("--node-rank", at.index(1))
		f.at("--dist-init-addr", word{text: at.leader.text + ":20000", raw: at.leader.raw})
	}
	if c.EP > 1 {
		f.num("--ep-size", c.EP)
		if dp > 1 {
			f.add("--moe-dense-tp-size", "1")
		}
		switch d.AllToAll {
		case accel.DeepEPHighThroughput:
			f.add("--moe-a2a-backend", sglangKernel(d), "--deepep-mode", "normal")
		case accel.DeepEPLowLatency:
			mode := "low_latency"
			if p.Role == plan.Both { // prefill cannot use the low-latency kernels
				mode = "auto"
			}
			f.add("--moe-a2a-backend", sglangKernel(d), "--deepep-mode", mode)
		case accel.NVLinkAllToAll:
			f.add("--moe-a2a-backend", "flashinfer")
		}
		if c.Redundant > 0 {
			f.num("--ep-num-redundant-experts", c.Redundant)
			f.add("--enable-eplb")
		}
		if o.ExpertLocation != "" {
			bad.word("Options.ExpertLocation", o.ExpertLocation)
			f.add("--init-expert-location", o.ExpertLocation)
		}
	}
	if d.TwoBatchOverlap {
		f.add("--enable-two-batch-overlap")
	}
	f.some("--context-length", longest(p))
	// SGLang divides both by the number of attention groups.
	f.some("--max-running-requests", d.MaxSequences*dp)
	f.some("--chunked-prefill-size", d.MaxBatchedTokens*dp)
	f.share("--mem-fraction-static", d.MemoryFraction)
	if d.Precision.KV == accel.FP8 {
		f.add("--kv-cache-dtype", "fp8_e4m3")
	}
	if quantised(d) {
		f.add("--quantization", "fp8")
	}
	if d.MTPDepth > 0 {
		f.add("--speculative-algorithm", "EAGLE")
		f.num("--speculative-num-steps", d.MTPDepth)
		f.num("--speculative-eagle-topk", 1)
		f.num("--speculative-num-draft-tokens", d.MTPDepth+1)
	}
	if p.Role != plan.Both {
		f.add("--disaggregation-mode", p.Role.String())
	}
	return f
}

func sglangKernel(d accel.Deployment) string {
	if d.System.Accelerator.Vendor == "amd" {
		return "mori"
	}
	return "deepep"
}
