package main

import (
	"encoding/csv"
	"fmt"
	"io"
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/inferloom/inferloom/accel"
)

// measurement is a row of the file that the filter keeps.
type measurement struct {
	accel.Point
	model  string // by its shape's first name
	config string // everything but the concurrency: what a split keeps together
	quant  bool   // its precision is stated, not inferred
	dp     bool   // attention_dp_size is stated
}

// read reads rows of the aiconfigurator project's silicon_sample.csv and applies the filter, which looks at labels only and
// was fixed before anything was fitted:
//
//   - aggregated serving, with a concurrency, a prompt and an answer length;
//   - tp_size, moe_tp_size and attention_dp_size are 1, 2, 4 or 8. Other values look like totals of disaggregated
//     deployments. Where attention_dp_size is absent it is 1;
//   - model and system are known here, and the parallelism is legal for the model: moe_tp x moe_ep = tp x attention_dp;
//   - a row equal to an earlier one in all that matters counts once.
//
// Where the quantisation is absent it is the precision, and where that is absent too BF16, the type of the checkpoints in
// question. dropped counts what was left out, by reason.
func read(r io.Reader) (kept []measurement, dropped map[string]int, err error) {
	in, column, err := open(r)
	if err != nil {
		return nil, nil, err
	}
	dropped = map[string]int{}
	seen := map[string]bool{}
	known := names{models: map[string]*accel.Model{}, systems: map[string]accel.System{}}
	for {
		cells, err := in.Read()
		if err == io.EOF {
			return kept, dropped, nil
		}
		if err != nil {
			return nil, nil, err
		}
		m, why := known.parse(func(name string) string { return cells[column[name]] })
		if why == "" {
			id := fmt.Sprint(m.config, m.Workload.Concurrency, m.Deployment.Parallelism.DP, m.TTFT, m.TPOT)
			if seen[id] {
				why = "repeats another row"
			}
			seen[id] = true
		}
		if why != "" {
			dropped[why]++
			continue
		}
		kept = append(kept, m)
	}
}

// open reads the header.
func open(r io.Reader) (*csv.Reader, map[string]int, error) {
	in := csv.NewReader(r)
	header, err := in.Read()
	if err != nil {
		return nil, nil, err
	}
	column := map[string]int{}
	for i, name := range header {
		column[name] = i
	}
	for _, name := range []string{"concurrency", "backend", "model_path", "system", "precision", "mode", "isl", "osl", "gemm_quant_mode",
		"moe_quant_mode", "tp_size", "attention_dp_size", "moe_tp_size", "moe_ep_size", "silicon_ttft_ms", "silicon_tpot_ms"} {
		if _, ok := column[name]; !ok {
			return nil, nil, fmt.Errorf("column %s is missing", name)
		}
	}
	return in, column, nil
}

var engines = map[string]accel.Engine{"vllm": accel.VLLM, "sglang": accel.SGLang, "trtllm": accel.TensorRTLLM}

var systems = map[string]string{"gb200": "gb200-nvl72", "gb300": "gb300-nvl72"}

// aliases are ids in the file that no model has on the hub.
var aliases = map[string]string{"zhipuai/GLM-5": "zai-org/GLM-5"}

// names are models and systems that have been looked up; nil and the zero System are unknown.
type names struct {
	models  map[string]*accel.Model
	systems map[string]accel.System
}

func (n names) model(id string) *accel.Model {
	if other, ok := aliases[id]; ok {
		id = other
	}
	m, ok := n.models[id]
	if !ok {
		m, _ = accel.LookupModel(id)
		n.models[id] = m
	}
	return m
}

func (n names) system(name string) accel.System {
	name = strings.ReplaceAll(name, "_", "-")
	if other, ok := systems[name]; ok {
		name = other
	}
	s, ok := n.systems[name]
	if !ok {
		s, _ = accel.Builtin().System(name)
		n.systems[name] = s
	}
	return s
}

func (n names) parse(cell func(string) string) (measurement, string) {
	var m measurement
	if cell("mode") != "agg" {
		return m, "not aggregated serving"
	}
	number := func(name string) int { return whole(cell(name)) }
	few := func(n int) bool { return n == 1 || n == 2 || n == 4 || n == 8 }
	tp, moeTP, ep, dp := number("tp_size"), number("moe_tp_size"), number("moe_ep_size"), 1
	if m.dp = cell("attention_dp_size") != ""; m.dp {
		dp = number("attention_dp_size")
	}
	w := accel.Workload{InputTokens: number("isl"), OutputTokens: number("osl"), Concurrency: float64(number("concurrency"))}
	switch {
	case w.Concurrency <= 0 || w.InputTokens <= 0 || w.OutputTokens <= 0:
		return m, "no concurrency"
	case !few(tp) || !few(moeTP) || !few(dp):
		return m, "parallel labels other than 1, 2, 4, 8"
	}
	model := n.model(cell("model_path"))
	if model == nil {
		return m, "unknown model " + cell("model_path")
	}
	system := n.system(cell("system"))
	if system.Name == "" {
		return m, "unknown system " + cell("system")
	}
	engine, ok := engines[cell("backend")]
	if !ok {
		return m, "unknown engine " + cell("backend")
	}
	precision, stated, err := precision(model, cell("precision"), cell("gemm_quant_mode"), cell("moe_quant_mode"))
	if err != nil {
		return m, "unknown precision"
	}
	par := accel.Parallelism{TP: tp, DP: dp}
	if model.MoE() {
		par.MoETP, par.EP = moeTP, ep
		if moeTP*ep != tp*dp {
			return m, "moe_tp x moe_ep is not tp x attention_dp"
		}
	}
	if err := par.Validate(model); err != nil {
		return m, "parallelism does not fit the model"
	}
	m.quant = stated
	m.Workload = w
	m.Deployment = accel.Deployment{Model: model, System: system, Parallelism: par, Precision: precision, Engine: engine,
		// Benchmarks set the limit to their concurrency, or leave it at a default that is above it.
		MaxSequences: max(256, int(math.Ceil(w.Concurrency/float64(dp))))}
	if memory, err := m.Deployment.Memory(); err != nil || memory.Fits(w.InputTokens+w.OutputTokens) != nil {
		m.Deployment.MemoryFraction = .97 // it did fit, so the default cannot have been in force
	}
	if m.TTFT, m.TPOT = milliseconds(cell("silicon_ttft_ms")), milliseconds(cell("silicon_tpot_ms")); m.TTFT == 0 || m.TPOT == 0 {
		return m, "no measured times"
	}
	m.model = fmt.Sprintf("%d layers of %d", model.Layers(), model.Hidden)
	m.config = fmt.Sprint(m.model, " ", system.Name, " ", cell("backend"), " ", w.InputTokens, " ", w.OutputTokens, " ", par.TP, " ", par.MoETP, " ", par.EP,
		" ", precision.Weights, " ", precision.Experts)
	return m, ""
}

// precision reads quantisation labels. They name what was asked for; checkpoints keep parts in BF16: gpt-oss all but experts,
// Kimi's INT4 likewise, and NVFP4 checkpoints of models with latent attention its projections. The KV cache is taken to be
// FP8 where weights are quantised, but for gpt-oss: no label says.
func precision(m *accel.Model, precision, gemm, moe string) (p accel.Precision, stated bool, err error) {
	stated = gemm != "" || precision != ""
	if gemm == "" {
		gemm = precision
	}
	if gemm == "" {
		gemm = "bf16"
	}
	if moe == "" {
		moe = gemm
	}
	if p.Weights, err = accel.ParseDType(gemm); err != nil {
		return p, stated, err
	}
	if p.Experts, err = accel.ParseDType(moe); err != nil {
		return p, stated, err
	}
	p.Attention, p.KV = p.Weights, accel.FP8
	switch {
	case strings.Contains(m.Name, "gpt-oss"):
		p = accel.Precision{Weights: accel.BF16, Attention: accel.BF16, Experts: accel.MXFP4, KV: accel.BF16}
	case p.Weights == accel.INT4:
		p = accel.Precision{Weights: accel.BF16, Attention: accel.BF16, Experts: accel.INT4G32, KV: accel.FP8}
	case p.Weights == accel.BF16:
		p.KV = accel.BF16
	case p.Weights == accel.NVFP4 && m.Kinds[0].Attention.Kind == accel.MLA:
		p.Attention = accel.BF16
	}
	return p, stated, nil
}

// whole reads a whole number; anything else is 0.
func whole(cell string) int {
	v, err := strconv.ParseFloat(cell, 64)
	if err != nil || v != math.Trunc(v) || math.Abs(v) > 1e9 {
		return 0
	}
	return int(v)
}

func milliseconds(cell string) time.Duration {
	v, err := strconv.ParseFloat(cell, 64)
	if err != nil || !(v > 0 && v < 1e9) {
		return 0
	}
	return time.Duration(v * 1e6)
}
