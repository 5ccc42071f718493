package main

import (
	"fmt"
	"io"
	"os"

	"github.com/inferloom/inferloom/accel"
)

// disaggregated evaluates the built-in table on the file's disaggregated deployments, none of which any fit has seen: those
// whose workers are all counted and cut in a legal way. What the file does not say stays open: kernels, drafted tokens.
func disaggregated(w io.Writer, file string) error {
	f, err := os.Open(file)
	if err != nil {
		return err
	}
	defer f.Close()
	in, column, err := open(f)
	if err != nil {
		return err
	}
	known := names{models: map[string]*accel.Model{}, systems: map[string]accel.System{}}
	c := accel.Calibrated()
	var b both
	skipped := 0
	for {
		cells, err := in.Read()
		if err == io.EOF {
			break
		}
		if err != nil {
			return err
		}
		cell := func(name string) string {
			if i, ok := column[name]; ok {
				return cells[i]
			}
			return ""
		}
		pools, load, ok := known.pools(c, cell)
		if !ok {
			if cell("mode") == "disagg" {
				skipped++
			}
			continue
		}
		e, err := pools.Estimate(load)
		if err != nil {
			skipped++
			continue
		}
		b.tpot.add(milliseconds(cell("silicon_tpot_ms")), e.TPOT)
		b.ttft.add(milliseconds(cell("silicon_ttft_ms")), e.TTFT)
	}
	if len(b.tpot.errors) == 0 {
		return nil
	}
	line(w, "disaggregated, TPOT", &b.tpot)
	line(w, "disaggregated, TTFT", &b.ttft)
	_, err = fmt.Fprintf(w, "\n%d disaggregated rows are not fully described, or do not fit as described\n", skipped)
	return err
}

func (n names) pools(c *accel.Calibration, cell func(string) string) (accel.Pools, accel.Workload, bool) {
	w := accel.Workload{InputTokens: whole(cell("isl")), OutputTokens: whole(cell("osl")), Concurrency: float64(whole(cell("concurrency")))}
	pools := accel.Pools{PrefillInstances: whole(cell("prefill_num_workers")), DecodeInstances: whole(cell("decode_num_workers"))}
	model, system := n.model(cell("model_path")), n.system(cell("system"))
	engine, known := engines[cell("backend")]
	if cell("mode") != "disagg" || model == nil || system.Name == "" || !known || w.Concurrency <= 0 || pools.PrefillInstances <= 0 || pools.DecodeInstances <= 0 {
		return pools, w, false
	}
	prec, _, err := precision(model, cell("precision"), cell("gemm_quant_mode"), cell("moe_quant_mode"))
	if err != nil || milliseconds(cell("silicon_ttft_ms")) == 0 || milliseconds(cell("silicon_tpot_ms")) == 0 {
		return pools, w, false
	}
	prepare := func(role string) *accel.Prepared {
		par := accel.Parallelism{TP: whole(cell(role + "_tp_size")), DP: max(whole(cell(role+"_attention_dp_size")), 1)}
		d := accel.Deployment{Model: model, System: system, Precision: prec, Engine: engine, MemoryFraction: .97,
			MaxSequences: max(1, whole(cell(role+"_batch_size")))}
		if model.MoE() {
			par.MoETP, par.EP = whole(cell(role+"_moe_tp_size")), whole(cell(role+"_moe_ep_size"))
			if par.DP > 1 && par.MoETP == 1 {
				d.AllToAll = accel.DeepEPLowLatency
				if role == "prefill" {
					d.AllToAll = accel.DeepEPHighThroughput
				}
			}
			if par.MoETP*par.EP != par.TP*par.DP {
				return nil
			}
		}
		d.Parallelism = par
		p, err := c.Prepare(d)
		if err != nil || par.TP == 0 {
			return nil
		}
		return p
	}
	pools.Prefill, pools.Decode = prepare("prefill"), prepare("decode")
	return pools, w, pools.Prefill != nil && pools.Decode != nil
}
