package accel

import "slices"

// Field names of configs that mean the same.
var (
	expertsKeys = []string{"n_routed_experts", "num_experts", "num_local_experts"}
	topKKeys    = []string{"num_experts_per_tok", "num_experts_per_token", "experts_per_token", "top_k_experts"}
	sharedKeys  = []string{"n_shared_experts", "num_shared_experts"}
)

// gqa reads grouped-query attention. Some families say the width of a head, others mean Hidden / Heads if they do not.
func gqa(f fields, s *shape, headDimNeeded bool) Attention {
	a := Attention{Heads: f.need("num_attention_heads")}
	a.KVHeads = f.opt(a.Heads, "num_key_value_heads")
	switch {
	case headDimNeeded || f.has("head_dim"):
		a.HeadDim = f.need("head_dim")
	case a.Heads > 0 && s.model.Hidden%a.Heads == 0:
		a.HeadDim = s.model.Hidden / a.Heads
	case a.Heads > 0:
		f.problem("num_attention_heads", a.Heads, "must divide hidden_size where head_dim is absent")
	}
	if a.KVHeads < 1 || a.KVHeads > a.Heads || a.KVHeads > 0 && a.Heads%a.KVHeads != 0 {
		f.problem("num_key_value_heads", a.KVHeads, "must divide num_attention_heads")
	}
	return a
}

// bias adds bias vectors of the projections of queries, keys and values, and of the output where it has one.
func (a *Attention) bias(output int) {
	a.Vectors += a.Heads*a.HeadDim + a.KVHeads*(a.HeadDim+a.Value()) + output
}

// experts reads a mixture of experts whose width is under the first of widthKeys that is there.
func experts(f fields, widthKeys ...string) FFN {
	m := FFN{
		Experts: f.need(expertsKeys...), TopK: f.need(topKKeys...), ExpertWidth: f.need(widthKeys...),
		Groups: f.opt(0, "n_group", "num_expert_group"), GroupTopK: f.opt(0, "topk_group"),
	}
	if m.TopK > m.Experts && m.Experts > 0 {
		f.problem(topKKeys[0], m.TopK, "must not exceed the routed experts")
	}
	if m.Groups > 1 && m.Experts%m.Groups != 0 {
		f.problem("n_group", m.Groups, "must divide the routed experts")
	}
	if m.GroupTopK > m.Groups {
		f.problem("topk_group", m.GroupTopK, "must not exceed n_group")
	}
	return m
}

// slide makes layers of a config with a window into what [shape.other] is. Its layer_types win over the family's rule.
func slide(f fields, s *shape, window int, rule func(layer int) bool) {
	s.other = s.attention
	s.other.Window = window
	s.isOther = rule
	types := f.texts("layer_types")
	if len(types) == 0 {
		return
	}
	if len(types) < s.layers {
		f.problem("layer_types", len(types), "must have an entry for each layer")
		return
	}
	for _, t := range types[:s.layers] {
		if !slices.Contains([]string{"full_attention", "sliding_attention", "chunked_attention", "linear_attention"}, t) {
			f.problem("layer_types", t, "is not a known type of layer")
			return
		}
	}
	s.isOther = func(i int) bool { return types[i] != "full_attention" }
}

// llama is also Mistral.
func llama(f fields, s *shape) {
	s.attention = gqa(f, s, false)
	if f.flag(false, "attention_bias") {
		s.attention.bias(s.model.Hidden)
	}
	s.dense.Intermediate = f.need("intermediate_size")
	if f.flag(false, "mlp_bias") {
		s.dense.Vectors = 2*s.dense.Intermediate + s.model.Hidden
	}
	if f.has("sliding_window") {
		slide(f, s, f.need("sliding_window"), func(int) bool { return true })
	}
}

func qwen2(f fields, s *shape) {
	s.attention = gqa(f, s, false)
	s.attention.bias(0)
	s.dense.Intermediate = f.need("intermediate_size")
	qwenWindow(f, s)
}

// qwenWindow is for models that say use_sliding_window: layers from max_window_layers on have one.
func qwenWindow(f fields, s *shape) {
	if f.flag(false, "use_sliding_window") && f.has("sliding_window") {
		from := f.opt(s.layers, "max_window_layers")
		slide(f, s, f.need("sliding_window"), func(i int) bool { return i >= from })
	}
}

// qwen3 is the dense models and the mixtures of experts without shared ones.
func qwen3(f fields, s *shape) {
	s.attention = gqa(f, s, true)
	s.attention.Vectors += 2 * s.attention.HeadDim // norms of queries and keys
	if f.flag(false, "attention_bias") {
		s.attention.bias(s.model.Hidden)
	}
	if !f.has(expertsKeys...) {
		s.dense.Intermediate = f.need("intermediate_size")
		qwenWindow(f, s)
		return
	}
	s.moe = experts(f, "moe_intermediate_size")
	sparseStep(f, s)
}

// sparseStep reads which layers are dense in the Qwen models with experts.
func sparseStep(f fields, s *shape) {
	step, only := f.opt(1, "decoder_sparse_step"), f.ints("mlp_only_layers")
	if step == 0 {
		f.problem("decoder_sparse_step", step, "must be at least 1")
		return
	}
	if step > 1 || len(only) > 0 {
		s.dense.Intermediate = f.need("intermediate_size")
		s.isDense = func(i int) bool { return (i+1)%step != 0 || slices.Contains(only, i) }
	}
}

// qwen3Next mixes gated full attention with gated delta nets: Qwen3-Next, Qwen3.5.
func qwen3Next(f fields, s *shape) {
	s.attention = gqa(f, s, true)
	s.attention.Vectors += 2 * s.attention.HeadDim
	s.attention.OutputGate = f.flag(true, "attn_output_gate")
	every := f.opt(4, "full_attention_interval")
	if every == 0 {
		f.problem("full_attention_interval", every, "must be at least 1")
		return
	}
	slide(f, s, 0, func(i int) bool { return (i+1)%every != 0 })
	s.other = Attention{
		Kind: Linear, KeyHeads: f.need("linear_num_key_heads"), ValueHeads: f.need("linear_num_value_heads"),
		KeyDim: f.need("linear_key_head_dim"), ValueDim: f.need("linear_value_head_dim"), Conv: f.need("linear_conv_kernel_dim"),
	}
	s.other.Vectors = 2*s.other.ValueHeads + s.other.ValueDim // decay, time step and the norm of a head
	s.model.MTPLayers = f.opt(0, "mtp_num_hidden_layers")
	if !f.has(expertsKeys...) {
		s.dense.Intermediate = f.need("intermediate_size")
		return
	}
	s.moe = experts(f, "moe_intermediate_size")
	if s.moe.SharedWidth = f.opt(0, "shared_expert_intermediate_size"); s.moe.SharedWidth > 0 {
		s.moe.Shared, s.moe.Vectors = 1, s.model.Hidden
	}
	sparseStep(f, s)
}

func mixtral(f fields, s *shape) {
	s.attention = gqa(f, s, false)
	s.moe = experts(f, "intermediate_size")
	if f.has("sliding_window") {
		slide(f, s, f.need("sliding_window"), func(int) bool { return true })
	}
}

// deepseek is MLA with shared experts, and sparse attention where there is an indexer: DeepSeek V2 to V3.2, Kimi K2, GLM-5.
// The width of a head is never taken from head_dim, which means something else in each of them.
func deepseek(f fields, s *shape) {
	a := Attention{
		Kind: MLA, Heads: f.need("num_attention_heads"), QRank: f.opt(0, "q_lora_rank"), KVRank: f.need("kv_lora_rank"),
		NopeDim: f.need("qk_nope_head_dim"), RopeDim: f.need("qk_rope_head_dim"), ValueDim: f.need("v_head_dim"),
	}
	a.Vectors = a.QRank + a.KVRank // norms of the latents
	if f.flag(false, "attention_bias") {
		a.Vectors += a.QRank + a.KVRank + a.RopeDim + s.model.Hidden
	}
	if f.has("index_topk") {
		a.TopK, a.IndexHeads, a.IndexDim = f.need("index_topk"), f.need("index_n_heads"), f.need("index_head_dim")
		indexers(f, s)
	}
	s.attention = a
	s.moe = experts(f, "moe_intermediate_size")
	s.moe.Shared = f.opt(0, sharedKeys...)
	s.moe.SharedWidth = s.moe.Shared * s.moe.ExpertWidth
	if f.text("topk_method") == "noaux_tc" || f.text("scoring_func") == "sigmoid" {
		s.moe.Vectors = s.moe.Experts
	}
	firstDense(f, s)
	s.model.MTPLayers = f.opt(0, "num_nextn_predict_layers")
}

// indexers reads which layers of GLM-5.2 reuse the indices of the layer before.
func indexers(f fields, s *shape) {
	types := f.texts("indexer_types")
	if len(types) == 0 {
		if every, from := f.opt(1, "index_topk_freq"), f.opt(0, "index_skip_topk_offset"); every > 1 {
			s.indexShared = func(i int) bool { return i >= from && (i-from)%every != every-1 }
		}
		return
	}
	if len(types) < s.layers {
		f.problem("indexer_types", len(types), "must have an entry for each layer")
		return
	}
	s.indexShared = func(i int) bool { return types[i] == "shared" }
}

// firstDense reads which layers are dense where experts begin after some layers.
func firstDense(f fields, s *shape) {
	first, every := f.opt(0, "first_k_dense_replace"), 1
	if _, v, ok := f.get("moe_layer_freq"); ok {
		if _, isList := v.([]any); isList {
			moe := f.ints("moe_layer_freq")
			if len(moe) < s.layers {
				f.problem("moe_layer_freq", len(moe), "must have an entry for each layer")
				return
			}
			s.dense.Intermediate = f.need("intermediate_size")
			s.isDense = func(i int) bool { return moe[i] == 0 }
			return
		}
		every = max(f.need("moe_layer_freq"), 1)
	}
	if first > 0 || every > 1 {
		s.dense.Intermediate = f.need("intermediate_size")
		s.isDense = func(i int) bool { return i < first || i%every != 0 }
	}
}

// glm4 is GLM-4.5 to GLM-4.7.
func glm4(f fields, s *shape) {
	s.attention = gqa(f, s, true)
	if f.flag(false, "attention_bias") {
		s.attention.bias(0)
	}
	if f.flag(false, "use_qk_norm") {
		s.attention.Vectors += 2 * s.attention.HeadDim
	}
	s.moe = experts(f, "moe_intermediate_size")
	s.moe.Shared = f.opt(0, sharedKeys...)
	s.moe.SharedWidth = s.moe.Shared * s.moe.ExpertWidth
	s.moe.Vectors = s.moe.Experts
	firstDense(f, s)
	s.model.MTPLayers = f.opt(0, "num_nextn_predict_layers")
}

// gptOSS has a sink for each head, biases everywhere and a window in every second layer, beginning with the first.
func gptOSS(f fields, s *shape) {
	s.attention = gqa(f, s, true)
	s.attention.Vectors += s.attention.Heads
	if f.flag(true, "attention_bias") {
		s.attention.bias(s.model.Hidden)
	}
	s.moe = experts(f, "intermediate_size")
	s.moe.ExpertBias, s.moe.Vectors = true, s.moe.Experts
	slide(f, s, f.need("sliding_window"), func(i int) bool { return i%2 == 0 })
}

func minimax(f fields, s *shape) {
	s.attention = gqa(f, s, true)
	if f.flag(false, "use_qk_norm") {
		s.attention.Vectors += (s.attention.Heads + s.attention.KVHeads) * s.attention.HeadDim
	}
	s.moe = experts(f, "intermediate_size")
	if s.moe.SharedWidth = f.opt(0, "shared_intermediate_size"); s.moe.SharedWidth > 0 {
		s.moe.Shared = 1
	}
	if f.flag(false, "use_routing_bias") {
		s.moe.Vectors = s.moe.Experts
	}
}

// llama4 attends within chunks in three of four layers, and has one shared expert as wide as a routed one: neither is in
// every config.
func llama4(f fields, s *shape) {
	s.attention = gqa(f, s, true)
	if f.flag(false, "attention_bias") {
		s.attention.bias(s.model.Hidden)
	}
	s.moe = experts(f, "intermediate_size")
	s.moe.Shared, s.moe.SharedWidth = 1, s.moe.ExpertWidth
	if step := f.opt(1, "interleave_moe_layer_step"); step > 1 {
		s.dense.Intermediate = f.need("intermediate_size_mlp")
		s.isDense = func(i int) bool { return (i+1)%step != 0 }
	}
	if f.has("attention_chunk_size") {
		slide(f, s, f.need("attention_chunk_size"), func(i int) bool { return (i+1)%4 != 0 })
	}
}

// gemma3 has four norms a layer and, if layer_types does not say otherwise, a window in five of six layers.
func gemma3(f fields, s *shape) {
	s.attention = gqa(f, s, true)
	s.attention.Vectors += 2 * s.attention.HeadDim
	if f.flag(false, "attention_bias") {
		s.attention.bias(s.model.Hidden)
	}
	s.norms = 4
	s.model.Tied = f.flag(true, "tie_word_embeddings")
	s.dense.Intermediate = f.need("intermediate_size")
	every := f.opt(6, "sliding_window_pattern")
	if every == 0 {
		f.problem("sliding_window_pattern", every, "must be at least 1")
		return
	}
	slide(f, s, f.need("sliding_window"), func(i int) bool { return (i+1)%every != 0 })
}

// mimo has values narrower than keys, and other heads in the layers with a window.
func mimo(f fields, s *shape) {
	s.attention = gqa(f, s, true)
	s.attention.ValueDim = f.need("v_head_dim")
	s.moe = experts(f, "moe_intermediate_size")
	s.moe.Shared = f.opt(0, sharedKeys...)
	s.moe.SharedWidth = s.moe.Shared * s.moe.ExpertWidth
	s.moe.Vectors = s.moe.Experts
	firstDense(f, s)
	windowed := f.ints("hybrid_layer_pattern")
	if len(windowed) < s.layers {
		f.problem("hybrid_layer_pattern", len(windowed), "must have an entry for each layer")
		return
	}
	s.other = Attention{
		Heads: f.need("swa_num_attention_heads"), KVHeads: f.need("swa_num_key_value_heads"), HeadDim: f.need("swa_head_dim"),
		ValueDim: f.need("swa_v_head_dim"), Window: f.need("sliding_window"),
	}
	if f.flag(false, "add_swa_attention_sink_bias") {
		s.other.Vectors = s.other.Heads
	}
	if f.flag(false, "add_full_attention_sink_bias") {
		s.attention.Vectors += s.attention.Heads
	}
	s.isOther = func(i int) bool { return windowed[i] == 1 }
}
