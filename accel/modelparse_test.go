package accel_test

import (
	"strings"
	"testing"

	"github.com/inferloom/inferloom/accel"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestParseModel(t *testing.T) {
	m, err := accel.ParseModel("small", config(nil))
	require.NoError(t, err)
	assert.Equal(t, "small", m.Name)
	// Embedding and head, and in each of two layers: queries and output 64x64, keys and values 64x32, three 64x128, two norms.
	assert.Equal(t, int64(2*100*64+2*(2*64*64+2*64*32+3*64*128+2*64)+64), m.Params().Total())
	assert.Equal(t, 2*2*2*16, m.KVElements())
	assert.Empty(t, m.Approximate)
}

// moe are the fields of a mixture of experts, by the names of different families.
func moe(architecture string, change map[string]any) map[string]any {
	c := map[string]any{
		"architectures": []string{architecture}, "head_dim": 16, "num_experts": 8, "num_experts_per_tok": 2, "moe_intermediate_size": 32,
	}
	for k, v := range change {
		c[k] = v
	}
	return c
}

func TestParseModelPatterns(t *testing.T) {
	kinds := func(change map[string]any) (windows, dense string) {
		m, err := accel.ParseModel("x", config(change))
		require.NoError(t, err)
		for _, k := range m.Pattern {
			a, f := m.Kinds[k].Attention, m.Kinds[k].FFN
			switch {
			case a.Kind == accel.Linear:
				windows += "l"
			case a.Window > 0:
				windows += "w"
			default:
				windows += "f"
			}
			if f.Experts > 0 {
				dense += "e"
			} else {
				dense += "d"
			}
		}
		return windows, dense
	}
	linear := map[string]any{
		"num_hidden_layers": 8, "linear_num_key_heads": 2, "linear_num_value_heads": 4, "linear_key_head_dim": 8,
		"linear_value_head_dim": 8, "linear_conv_kernel_dim": 4,
	}
	for _, row := range []struct {
		name           string
		change         map[string]any
		windows, dense string
	}{
		{"sliding everywhere", map[string]any{"architectures": []string{"MistralForCausalLM"}, "sliding_window": 8}, "ww", "dd"},
		{"no window", map[string]any{"architectures": []string{"MistralForCausalLM"}, "sliding_window": nil}, "ff", "dd"},
		{"later layers", map[string]any{
			"architectures": []string{"Qwen2ForCausalLM"}, "num_hidden_layers": 4, "use_sliding_window": true, "sliding_window": 8, "max_window_layers": 3,
		}, "fffw", "dddd"},
		{"window switched off", map[string]any{"architectures": []string{"Qwen2ForCausalLM"}, "use_sliding_window": false, "sliding_window": 8}, "ff", "dd"},
		{"five of six", map[string]any{
			"architectures": []string{"Gemma3ForCausalLM"}, "head_dim": 16, "num_hidden_layers": 7, "sliding_window": 8,
		}, "wwwwwfw", "ddddddd"},
		{"layer types win", map[string]any{
			"architectures": []string{"Gemma3ForCausalLM"}, "head_dim": 16, "sliding_window": 8, "layer_types": []string{"full_attention", "sliding_attention"},
		}, "fw", "dd"},
		{"every second layer has experts", moe("Qwen3MoeForCausalLM", map[string]any{"num_hidden_layers": 4, "decoder_sparse_step": 2}), "ffff", "dede"},
		{"some layers have none", moe("Qwen3MoeForCausalLM", map[string]any{"num_hidden_layers": 3, "mlp_only_layers": []int{1}}), "fff", "ede"},
		{"dense first", moe("Glm4MoeForCausalLM", map[string]any{"num_hidden_layers": 3, "first_k_dense_replace": 2}), "fff", "dde"},
		{"chunks in three of four", moe("Llama4ForCausalLM", map[string]any{
			"num_hidden_layers": 4, "attention_chunk_size": 8, "interleave_moe_layer_step": 2, "intermediate_size_mlp": 96,
		}), "wwwf", "dede"},
		{"patterns as lists", moe("MiMoV2FlashForCausalLM", map[string]any{
			"num_hidden_layers": 3, "v_head_dim": 8, "hybrid_layer_pattern": []int{0, 1, 1}, "moe_layer_freq": []int{0, 1, 1}, "sliding_window": 8,
			"swa_num_attention_heads": 4, "swa_num_key_value_heads": 4, "swa_head_dim": 16, "swa_v_head_dim": 8,
		}), "fww", "dee"},
		{"hybrid", moe("Qwen3NextForCausalLM", linear), "lllflllf", "eeeeeeee"},
	} {
		t.Run(row.name, func(t *testing.T) {
			windows, dense := kinds(row.change)
			assert.Equal(t, row.windows, windows)
			assert.Equal(t, row.dense, dense)
		})
	}
}

// Families name the same things differently.
func TestParseModelAliases(t *testing.T) {
	plain, err := accel.ParseModel("x", config(moe("Qwen3MoeForCausalLM", nil)))
	require.NoError(t, err)
	for _, change := range []map[string]any{
		{"num_experts": nil, "n_routed_experts": 8},
		{"num_experts": nil, "num_local_experts": 8},
		{"num_experts_per_tok": nil, "num_experts_per_token": 2},
		{"num_experts_per_tok": nil, "experts_per_token": 2},
	} {
		c := moe("Qwen3MoeForCausalLM", change)
		m, err := accel.ParseModel("x", config(c))
		require.NoError(t, err)
		assert.Equal(t, plain, m)
	}
}

func TestParseNestedModel(t *testing.T) {
	nested := `{"architectures": ["Qwen3VLMoeForConditionalGeneration"], "tie_word_embeddings": true, "vision_config": {"depth": 2},
		"text_config": {"hidden_size": 64, "num_hidden_layers": 2, "vocab_size": 100, "num_attention_heads": 4, "num_key_value_heads": 2,
			"head_dim": 16, "num_experts": 8, "num_experts_per_tok": 2, "moe_intermediate_size": 32, "dtype": "bfloat16"},
		"quantization_config": {"quant_method": "fp8", "weight_block_size": [128, 128]}}`
	m, err := accel.ParseModel("x", []byte(nested))
	require.NoError(t, err)
	assert.True(t, m.Tied)
	assert.Equal(t, accel.FP8Block, m.Checkpoint.Weights)
	assert.Equal(t, "the vision part is not counted", m.Approximate)

	_, err = accel.ParseModel("x", []byte(strings.Replace(nested, `"hidden_size": 64,`, "", 1)))
	assert.ErrorContains(t, err, "config.text_config.hidden_size is absent")
}

func TestParseQuantization(t *testing.T) {
	group := func(group, more string) string {
		return `{"quant_method": "compressed-tensors", "config_groups": {"group_0": {` + group + `}}` + more + `}`
	}
	for _, row := range []struct {
		name, config string
		want         accel.Precision
	}{
		{"none", `null`, accel.Precision{Weights: accel.BF16, Embed: accel.BF16}},
		{"per tensor", `{"quant_method": "fp8"}`, accel.Precision{Weights: accel.FP8, Embed: accel.BF16}},
		{"norms stay", `{"quant_method": "fp8", "weight_block_size": [128, 128], "modules_to_not_convert": ["model.layers.0.post_attention_layernorm", "model.layers.0.self_attn.q_a_layernorm"]}`,
			accel.Precision{Weights: accel.FP8Block, Embed: accel.BF16}},
		{"gpt-oss", `{"quant_method": "mxfp4", "modules_to_not_convert": ["model.layers.*.self_attn", "lm_head"]}`,
			accel.Precision{Weights: accel.BF16, Attention: accel.BF16, Experts: accel.MXFP4, Embed: accel.BF16}},
		{"awq", `{"quant_method": "awq", "bits": 4, "group_size": 128}`, accel.Precision{Weights: accel.INT4, Embed: accel.BF16}},
		{"gptq", `{"quant_method": "gptq", "bits": 4, "group_size": 32}`, accel.Precision{Weights: accel.INT4G32, Embed: accel.BF16}},
		{"modelopt", `{"quant_method": "modelopt", "quant_algo": "NVFP4", "kv_cache_scheme": {"num_bits": 8, "type": "float"}, "ignore": ["model.layers.0.self_attn*"]}`,
			accel.Precision{Weights: accel.NVFP4, Attention: accel.BF16, Embed: accel.BF16, KV: accel.FP8}},
		{"experts only", group(`"weights": {"num_bits": 4, "type": "int", "group_size": 32}`, `, "ignore": ["re:.*self_attn.*", "re:.*shared_experts.*"]`),
			accel.Precision{Weights: accel.BF16, Attention: accel.BF16, Experts: accel.INT4G32, Embed: accel.BF16}},
		{"mxfp4 group", group(`"weights": {"num_bits": 4, "type": "float", "group_size": 32}`, ""), accel.Precision{Weights: accel.MXFP4, Embed: accel.BF16}},
		{"int8 with activations", group(`"weights": {"num_bits": 8, "type": "int"}, "input_activations": {"num_bits": 8}`, ""), accel.Precision{Weights: accel.INT8, Embed: accel.BF16}},
	} {
		t.Run(row.name, func(t *testing.T) {
			c := string(config(nil))
			c = strings.TrimSuffix(c, "}") + `, "quantization_config": ` + row.config + "}"
			m, err := accel.ParseModel("x", []byte(c))
			require.NoError(t, err, c)
			assert.Equal(t, row.want, m.Checkpoint)
		})
	}

	m, err := accel.ParseModel("x", config(nil))
	require.NoError(t, err)
	q, err := m.WithQuantization([]byte(`{"producer": {"name": "modelopt"}, "quantization": {"quant_algo": "FP8", "kv_cache_quant_algo": "FP8", "exclude_modules": ["lm_head"]}}`))
	require.NoError(t, err)
	assert.Equal(t, accel.Precision{Weights: accel.FP8, Embed: accel.BF16, KV: accel.FP8}, q.Checkpoint)
	assert.Equal(t, accel.BF16, m.Checkpoint.Weights, "the model itself is not changed")
	_, err = m.WithQuantization([]byte(`{}`))
	assert.ErrorContains(t, err, "config.quantization is absent")
}

func TestResolvePrecision(t *testing.T) {
	oss, err := accel.LookupModel("openai/gpt-oss-120b")
	require.NoError(t, err)
	p := oss.Resolve(accel.Precision{})
	assert.Equal(t, accel.Precision{Weights: accel.BF16, Attention: accel.BF16, Experts: accel.MXFP4, Embed: accel.BF16, KV: accel.BF16}, p)
	p = oss.Resolve(accel.Precision{Weights: accel.FP8})
	assert.Equal(t, accel.Precision{Weights: accel.FP8, Attention: accel.FP8, Experts: accel.FP8, Embed: accel.BF16, KV: accel.BF16}, p)
}

func TestParseModelRefuses(t *testing.T) {
	for _, row := range []struct {
		change map[string]any
		want   string
	}{
		{map[string]any{"architectures": nil}, "config.architectures is absent: is needed"},
		{map[string]any{"architectures": "Llama"}, "config.architectures is Llama: must be a list"},
		{map[string]any{"architectures": []string{"GPT9ForCausalLM"}}, "config.architectures is GPT9ForCausalLM: is not known; known are DeepseekV2"},
		{map[string]any{"hidden_size": nil}, "config.hidden_size is absent"},
		{map[string]any{"hidden_size": -64}, "config.hidden_size is -64: must be a whole number of at least 1"},
		{map[string]any{"hidden_size": 6.4}, "config.hidden_size is 6.4"},
		{map[string]any{"hidden_size": "64"}, "config.hidden_size is 64: must be a whole number"},
		{map[string]any{"hidden_size": []int{64}}, "config.hidden_size is a list of 1"},
		{map[string]any{"hidden_size": 1e300}, "config.hidden_size is 1e+300"},
		{map[string]any{"num_hidden_layers": 1_000_000}, "config.num_hidden_layers is 1000000: must be at most 4096"},
		{map[string]any{"num_attention_heads": 3}, "must divide hidden_size where head_dim is absent"},
		{map[string]any{"num_key_value_heads": 3}, "config.num_key_value_heads is 3: must divide num_attention_heads"},
		{map[string]any{"intermediate_size": nil}, "config.intermediate_size is absent"},
		{map[string]any{"intermediate_size": 1 << 30}, "FFN.Intermediate is 1073741824"},
		{map[string]any{"tie_word_embeddings": 1}, "config.tie_word_embeddings is 1: must be true or false"},
		{map[string]any{"torch_dtype": "complex64"}, "config.torch_dtype is complex64"},
		{map[string]any{"quantization_config": map[string]any{"quant_method": "bitsandbytes"}}, "config.quantization_config.quant_method is bitsandbytes: is not known"},
		{map[string]any{"quantization_config": map[string]any{"quant_method": "gptq", "bits": 3}}, "config.quantization_config.bits is 3"},
		{map[string]any{"quantization_config": "fp8"}, "config.quantization_config is fp8: must be an object"},
		{map[string]any{"quantization_config": map[string]any{"quant_method": "modelopt", "quant_algo": "MIXED_PRECISION"}}, "quant_algo is MIXED_PRECISION"},
		{moe("Qwen3MoeForCausalLM", map[string]any{"head_dim": nil}), "config.head_dim is absent"},
		{moe("Qwen3MoeForCausalLM", map[string]any{"num_experts_per_tok": nil}), "config.num_experts_per_tok is absent: is needed, or one of num_experts_per_token"},
		{moe("Qwen3MoeForCausalLM", map[string]any{"num_experts_per_tok": 9}), "config.num_experts_per_tok is 9: must not exceed the routed experts"},
		{moe("Qwen3MoeForCausalLM", map[string]any{"decoder_sparse_step": 0}), "config.decoder_sparse_step is 0"},
		{moe("DeepseekV3ForCausalLM", nil), "config.kv_lora_rank is absent"},
		{moe("GptOssForCausalLM", map[string]any{"sliding_window": 8, "layer_types": []string{"full_attention"}}), "config.layer_types is 1: must have an entry for each layer"},
		{moe("GptOssForCausalLM", map[string]any{"sliding_window": 8, "layer_types": []string{"odd", "full_attention"}}), "config.layer_types is odd"},
	} {
		_, err := accel.ParseModel("some/model", config(row.change))
		require.Error(t, err, row.want)
		assert.ErrorContains(t, err, row.want)
		assert.ErrorContains(t, err, `"some/model"`)
	}
	_, err := accel.ParseModel("x", config(map[string]any{"hidden_size": 0, "vocab_size": nil}))
	assert.ErrorContains(t, err, "config.hidden_size")
	assert.ErrorContains(t, err, "config.vocab_size", "all problems at once")
	small := string(config(nil))
	_, err = accel.ParseModel("x", []byte(strings.Replace(small, "64", "-Infinity", 1)))
	assert.ErrorContains(t, err, "config.hidden_size is -Infinity: must be a whole number")
	_, err = accel.ParseModel("x", []byte(strings.TrimSuffix(small, "}")+`, "time_step_limit": [0.0, Infinity], "note": "a \"NaN\\"}`))
	assert.NoError(t, err, "a field that nobody reads may be anything")
	for _, text := range []string{"", "null", "[]", "{", "{} {}", `{"hidden_size": NaN}`} {
		_, err := accel.ParseModel("x", []byte(text))
		assert.Error(t, err, text)
	}
}

func FuzzParseModel(f *testing.F) {
	f.Add(config(nil))
	f.Add(config(moe("Qwen3MoeForCausalLM", nil)))
	f.Add(config(moe("GptOssForCausalLM", map[string]any{"sliding_window": 8, "layer_types": []string{"full_attention", "sliding_attention"}})))
	f.Add(config(moe("DeepseekV32ForCausalLM", map[string]any{
		"kv_lora_rank": 8, "qk_nope_head_dim": 8, "qk_rope_head_dim": 8, "v_head_dim": 8, "q_lora_rank": 8, "index_topk": 4, "index_n_heads": 2,
		"index_head_dim": 8, "num_nextn_predict_layers": 1, "first_k_dense_replace": 1, "moe_layer_freq": 1,
	})))
	f.Add(config(map[string]any{"quantization_config": map[string]any{
		"quant_method": "compressed-tensors", "config_groups": map[string]any{"g": map[string]any{"weights": map[string]any{"num_bits": 4, "type": "int"}}},
	}}))
	system := accel.Builtin().Systems()[0]
	f.Fuzz(func(t *testing.T, config []byte) {
		m, err := accel.ParseModel("x", config)
		if err != nil {
			return
		}
		if m.Params().Total() <= 0 || m.ActiveParams().Total() > m.Params().Total() || m.DecodeFLOPs(1000) <= 0 || m.KVBytesPerToken(accel.BF16) < 0 {
			t.Fatalf("%+v", m)
		}
		memory, err := accel.Deployment{Model: m, System: system}.Memory()
		if err != nil || memory.Weights < 0 || memory.Experts < 0 || memory.Activations < 0 {
			t.Fatal(err, memory)
		}
		memory.MaxSequences(1000)
	})
}
