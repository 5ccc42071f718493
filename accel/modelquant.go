package accel

import (
	"fmt"
	"strings"
)

// WithQuantization returns the model with its checkpoint stored as a hf_quant_config.json says, the file that ModelOpt
// puts beside config.json.
func (m *Model) WithQuantization(config []byte) (*Model, error) {
	values, err := decodeObject(config)
	if err != nil {
		return nil, fmt.Errorf("read quantization of %q: %w", m.Name, err)
	}
	var bad problems
	f := fields{values, &bad, "config."}
	q, ok := f.object("quantization")
	if !ok && len(bad) == 0 {
		bad.add("config.quantization", "absent", "is needed")
	}
	n := *m
	if ok {
		n.Checkpoint = modelOpt(q, Precision{Weights: BF16, Embed: BF16})
	}
	if len(bad) > 0 {
		return nil, fmt.Errorf("read quantization of %q: %w", m.Name, bad.err())
	}
	return &n, nil
}

// checkpoint reads how weights are published.
func checkpoint(f fields) Precision {
	p := Precision{Weights: BF16, Embed: BF16}
	if t := f.text("torch_dtype", "dtype"); t != "" && t != "auto" {
		d, err := ParseDType(t)
		if err != nil {
			f.problem("torch_dtype", t, "is not a known type")
			return p
		}
		p.Weights, p.Embed = d, d
	}
	q, ok := f.object("quantization_config")
	if !ok {
		return p
	}
	switch method := q.text("quant_method"); method {
	case "fp8":
		p.Weights = FP8
		if len(q.ints("weight_block_size")) > 0 {
			p.Weights = FP8Block
		}
	case "mxfp4":
		p.Experts = MXFP4
	case "gptq", "awq":
		if bits := q.opt(4, "bits", "w_bit"); bits != 4 {
			q.problem("bits", bits, "is not supported with "+method+", only 4 is")
		}
		p.Weights = int4(q.values["group_size"])
	case "compressed-tensors":
		return compressedTensors(q, p)
	case "modelopt", "modelopt_fp4":
		return modelOpt(q, p)
	default:
		q.problem("quant_method", method,
			"is not known; known are fp8, mxfp4, gptq, awq, compressed-tensors, modelopt")
	}
	return p.keep(q.ignored("modules_to_not_convert"))
}

func int4(group any) DType {
	if fmt.Sprint(group) == "32" {
		return INT4G32
	}
	return INT4
}

// ignored are the modules that are left as they were.
func (f fields) ignored(key string) []string {
	if !f.has(key) {
		return nil
	}
	return f.texts(key)
}

// keep leaves attention, or shared experts and dense parts with them, in the type of the embedding where modules to ignore
// name them.
func (p Precision) keep(ignored []string) Precision {
	quantised := p.Weights
	for _, name := range ignored {
		if wholeAttention(name) {
			p.Attention = p.Embed
		}
		if strings.Contains(name, "shared_expert") && !strings.Contains(name, "gate") {
			p.Experts, p.Weights = quantised, p.Embed
		}
	}
	return p
}

// wholeAttention is whether a module to ignore is an attention layer or its large projections, not just a norm in it, an
// indexer or one of the small projections of the latent.
func wholeAttention(module string) bool {
	i := strings.LastIndex(module, "attn")
	if i < 0 {
		return false
	}
	part := strings.TrimLeft(module[i+len("attn"):], `\.*$`)
	return part == "" || strings.HasPrefix(part, "q_b_proj") || strings.HasPrefix(part, "q_proj") || strings.HasPrefix(part, "qkv")
}

// compressedTensors reads the format of the vLLM project's compressor. All its groups must say the same.
func compressedTensors(q fields, p Precision) Precision {
	const at = "config_groups"
	groups, ok := q.object("config_groups")
	if !ok || len(groups.values) == 0 {
		q.problem(at, "absent", "is needed")
		return p
	}
	found := Unset
	for name := range groups.values {
		g, ok := groups.object(name)
		if !ok {
			return p
		}
		w, ok := g.object("weights")
		if !ok {
			q.problem(at+"."+name+".weights", "absent", "is needed")
			return p
		}
		d := packed(w, g.has("input_activations"))
		if d == Unset {
			q.problem(at+"."+name+".weights", fmt.Sprintf("%v bits of %v", w.values["num_bits"], w.values["type"]), "is not supported")
			return p
		}
		if found != Unset && found != d {
			q.problem(at, "several formats", "must be one; give the precision of the deployment instead")
			return p
		}
		found = d
	}
	p.Weights = found
	if kv, ok := q.object("kv_cache_scheme"); ok && kv.opt(0, "num_bits") == 8 {
		p.KV = FP8
	}
	return p.keep(q.ignored("ignore"))
}

// packed is the type of a group of compressed tensors.
func packed(w fields, activations bool) DType {
	bits, group := w.opt(0, "num_bits"), fmt.Sprint(w.values["group_size"])
	switch kind := w.text("type"); {
	case bits == 8 && kind == "float" && w.text("strategy") == "block":
		return FP8Block
	case bits == 8 && kind == "float":
		return FP8
	case bits == 8 && kind == "int" && activations:
		return INT8
	case bits == 4 && kind == "int":
		return int4(w.values["group_size"])
	case bits == 4 && kind == "float" && group == "32":
		return MXFP4
	case bits == 4 && kind == "float":
		return NVFP4
	}
	return Unset
}

// modelOpt reads the format of NVIDIA's ModelOpt.
func modelOpt(q fields, p Precision) Precision {
	switch algo := q.text("quant_algo"); algo {
	case "FP8":
		p.Weights = FP8
	case "FP8_PB_WO", "FP8_BLOCK_SCALES":
		p.Weights = FP8Block
	case "NVFP4", "W4A4_NVFP4":
		p.Weights = NVFP4
	case "MXFP4":
		p.Weights = MXFP4
	default:
		q.problem("quant_algo", algo, "is not supported, only FP8, FP8_PB_WO, NVFP4 and MXFP4 are")
	}
	if q.text("kv_cache_quant_algo") == "FP8" {
		p.KV = FP8
	}
	if kv, ok := q.object("kv_cache_scheme"); ok && kv.opt(0, "num_bits") == 8 {
		p.KV = FP8
	}
	return p.keep(append(q.ignored("exclude_modules"), q.ignored("ignore")...))
}
