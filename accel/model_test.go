package accel_test

import (
	"encoding/json"
	"fmt"
	"testing"

	"github.com/inferloom/inferloom/accel"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

// Totals follow from the configs and round to what their authors publish. KV elements are those of all layers, windows ignored.
func TestKnownModels(t *testing.T) {
	for _, row := range []struct {
		name          string
		total, active int64
		kv            int
	}{
		{"deepseek-ai/DeepSeek-V3", 671026419200, 37552297472, 35136},
		{"deepseek-ai/DeepSeek-R1", 671026419200, 37552297472, 35136},
		{"deepseek-ai/DeepSeek-V3.2", 671877944064, 38403822336, 35136},
		{"moonshotai/Kimi-K2-Instruct", 1026408232448, 32861500928, 35136},
		{"moonshotai/Kimi-K2.5", 1026408232448, 32861500928, 35136},
		{"zai-org/GLM-4.5", 352797829024, 33632266144, 188416},
		{"zai-org/GLM-4.5-Air", 106852251264, 13424129664, 94208},
		{"zai-org/GLM-5", 743911218432, 41784728832, 44928},
		{"zai-org/GLM-5.2", 743377019904, 41250530304, 44928},
		{"Qwen/Qwen3-235B-A22B", 235093634560, 22190763520, 96256},
		{"Qwen/Qwen3-Coder-480B-A35B-Instruct", 480154875392, 35474765312, 126976},
		{"Qwen/Qwen3-30B-A3B", 30532122624, 3353032704, 49152},
		{"Qwen/Qwen3-32B", 32762123264, 32762123264, 131072},
		{"Qwen/Qwen3-8B", 8190735360, 8190735360, 73728},
		{"Qwen/Qwen3.5-397B-A17B", 396346350336, 17349040896, 15 * 1024},
		{"Qwen/Qwen3.5-35B-A3B", 34660610688, 3454988928, 10 * 1024},
		{"Qwen/Qwen3.5-122B-A10B", 122111526912, 9771288576, 12 * 1024},
		{"Qwen/Qwen3.5-27B", 26895998464, 26895998464, 16 * 2048},
		{"MiniMaxAI/MiniMax-M2.5", 228689764864, 11030553088, 126976},
		{"openai/gpt-oss-120b", 116829156672, 5711982912, 36864},
		{"openai/gpt-oss-20b", 20914757184, 4187440704, 24576},
		{"meta-llama/Llama-4-Maverick-17B-128E-Instruct", 400711848960, 17184691200, 98304},
		{"meta-llama/Llama-4-Scout-17B-16E-Instruct", 107769861120, 17172894720, 98304},
		{"meta-llama/Llama-3.1-405B", 405853388800, 405853388800, 258048},
		{"meta-llama/Llama-3.1-70B", 70553706496, 70553706496, 163840},
		{"meta-llama/Llama-3.1-8B", 8030261248, 8030261248, 65536},
		{"mistralai/Mixtral-8x7B-v0.1", 46702792704, 12879925248, 65536},
		{"mistralai/Mixtral-8x22B-v0.1", 140620634112, 39152031744, 114688},
	} {
		t.Run(row.name, func(t *testing.T) {
			m, err := accel.LookupModel(row.name)
			require.NoError(t, err)
			assert.Equal(t, row.name, m.Name)
			assert.Equal(t, row.total, m.Params().Total())
			assert.Equal(t, row.active, m.ActiveParams().Total())
			assert.Equal(t, row.kv, m.KVElements())
		})
	}
}

func TestEveryKnownModelIsValid(t *testing.T) {
	names := accel.KnownModels()
	assert.Greater(t, len(names), 25)
	for _, name := range names {
		m, err := accel.LookupModel(name)
		require.NoError(t, err, name)
		require.NoError(t, m.Validate(), name)
		assert.Equal(t, name, m.Name)
		p := m.Resolve(accel.Precision{})
		for _, d := range []accel.DType{p.Weights, p.Attention, p.Experts, p.Embed, p.KV} {
			assert.Positive(t, d.Bytes(), name)
		}
	}
}

func TestLookupModelNames(t *testing.T) {
	m, err := accel.LookupModel("DEEPSEEK-AI/deepseek-r1")
	require.NoError(t, err)
	assert.Equal(t, "deepseek-ai/DeepSeek-R1", m.Name)
	m, err = accel.LookupModel("gpt-oss-120b")
	require.NoError(t, err)
	assert.Equal(t, "openai/gpt-oss-120b", m.Name)

	_, err = accel.LookupModel("Qwen/Qwen3-31B")
	require.ErrorIs(t, err, accel.ErrUnknownModel)
	assert.ErrorContains(t, err, `"Qwen/Qwen3-31B"`)
	assert.ErrorContains(t, err, "Qwen/Qwen3-32B")
	_, err = accel.LookupModel("llama-3.1-9b")
	assert.ErrorContains(t, err, "meta-llama/Llama-3.1-8B")
	_, err = accel.LookupModel("")
	assert.ErrorIs(t, err, accel.ErrUnknownModel)
}

// With tied embeddings there is one matrix; every other model has two.
func TestTiedEmbedding(t *testing.T) {
	m, err := accel.LookupModel("Qwen/Qwen3-8B")
	require.NoError(t, err)
	tied := *m
	tied.Tied = true
	assert.Equal(t, int64(151936*4096), m.Params().Total()-tied.Params().Total())
}

// The checkpoints of GLM-4.5 have a prediction layer with copies of embedding and head, and so their published totals.
func TestParamsOfCheckpoints(t *testing.T) {
	for name, want := range map[string]int64{"zai-org/GLM-4.5": 358337791296, "zai-org/GLM-4.5-Air": 110468824832} {
		m, err := accel.LookupModel(name)
		require.NoError(t, err)
		assert.Equal(t, want, m.Params().Total()+m.MTPParams().Total()+2*m.Params().Head, name)
	}
}

// DeepSeek publishes 11.5 B for its prediction layer without the matrices that it shares with the model.
func TestMTPParams(t *testing.T) {
	m, err := accel.LookupModel("deepseek-ai/DeepSeek-V3")
	require.NoError(t, err)
	assert.InEpsilon(t, 11.5e9, float64(m.MTPParams().Total()), .02)
	plain, err := accel.LookupModel("Qwen/Qwen3-8B")
	require.NoError(t, err)
	assert.Zero(t, plain.MTPParams().Total())
}

func TestKVBytes(t *testing.T) {
	bytesOf := func(name string, d accel.DType) float64 {
		m, err := accel.LookupModel(name)
		require.NoError(t, err)
		return m.KVBytesPerToken(d)
	}
	assert.Equal(t, 70272., bytesOf("deepseek-ai/DeepSeek-V3", accel.BF16))
	assert.Equal(t, 35136., bytesOf("deepseek-ai/DeepSeek-V3", accel.FP8))
	assert.Equal(t, 40016.+61*132, bytesOf("deepseek-ai/DeepSeek-V3.2", accel.FP8), "656 bytes of latent and 132 of index key a layer")
	assert.Equal(t, 516096., bytesOf("meta-llama/Llama-3.1-405B", accel.BF16))
	assert.Equal(t, 44928*2.+78*132, bytesOf("zai-org/GLM-5", accel.BF16))
	assert.Equal(t, 44928*2.+21*132, bytesOf("zai-org/GLM-5.2", accel.BF16), "3 of 4 layers take their indices from the one before")
}

// What a rank keeps for a sequence: windows stop growing, linear attention never does, KV heads stop dividing.
func TestStageKV(t *testing.T) {
	oss, err := accel.LookupModel("openai/gpt-oss-120b")
	require.NoError(t, err)
	kv := oss.StageKV(accel.Parallelism{}, accel.BF16, 0)
	assert.Equal(t, 100*36864*2., kv.Bytes(100))
	assert.Equal(t, (128+10_000)*18432*2., kv.Bytes(10_000))

	qwen, err := accel.LookupModel("Qwen/Qwen3.5-397B-A17B")
	require.NoError(t, err)
	kv = qwen.StageKV(accel.Parallelism{}, accel.BF16, 0)
	state := 45. * (64*128*128*4 + (2*16*128+64*128)*3*2)
	assert.Equal(t, state+15*1024*2*1000, kv.Bytes(1000))

	llama, err := accel.LookupModel("meta-llama/Llama-3.1-70B")
	require.NoError(t, err)
	whole := llama.StageKV(accel.Parallelism{}, accel.BF16, 0).TokenBytes
	assert.Equal(t, whole/8, llama.StageKV(accel.Parallelism{TP: 8}, accel.BF16, 0).TokenBytes)
	assert.Equal(t, whole/8, llama.StageKV(accel.Parallelism{TP: 16}, accel.BF16, 0).TokenBytes)

	mla, err := accel.LookupModel("deepseek-ai/DeepSeek-V3")
	require.NoError(t, err)
	assert.Equal(t, 70272., mla.StageKV(accel.Parallelism{TP: 8}, accel.BF16, 0).TokenBytes, "the latent is not divided")
}

func TestFLOPs(t *testing.T) {
	m, err := accel.LookupModel("meta-llama/Llama-3.1-8B")
	require.NoError(t, err)
	matrices := 2 * float64(8030261248-128256*4096-65*4096)
	assert.InEpsilon(t, matrices, m.DecodeFLOPs(0), 1e-12)
	assert.InEpsilon(t, matrices+32*4*4096*1000, m.DecodeFLOPs(1000), 1e-12)

	// A prompt costs what its tokens cost one by one, but for the head, which only the last one needs.
	for _, name := range []string{"meta-llama/Llama-3.1-8B", "openai/gpt-oss-20b", "Qwen/Qwen3.5-27B"} {
		m, err := accel.LookupModel(name)
		require.NoError(t, err)
		sum := 0.
		for i := range 300 {
			sum += m.DecodeFLOPs(100+i+1) - 2*float64(m.Params().Head)
		}
		assert.InEpsilon(t, sum+2*float64(m.Params().Head), m.PrefillFLOPs(300, 100), 1e-9, name)
	}
	assert.Zero(t, m.PrefillFLOPs(0, 100))
}

// What all ranks hold together is the whole model, and the copies that the layout implies.
func TestWeightsAddUp(t *testing.T) {
	prec := accel.Precision{Weights: accel.BF16, Experts: accel.BF16, Embed: accel.BF16}
	rapid.Check(t, func(t *rapid.T) {
		m, err := accel.LookupModel(rapid.SampledFrom(accel.KnownModels()).Draw(t, "model"))
		require.NoError(t, err)
		p := drawParallelism(t)
		if p.Validate(m) != nil {
			t.Skip()
		}
		full, err := p.Fill(m)
		require.NoError(t, err)
		var sum accel.Weights
		for s := range full.PP {
			w := m.StageWeights(p, prec, s, false)
			sum.Embedding += w.Embedding
			sum.Experts += w.Experts
			sum.Attention += w.Attention
			sum.Dense += w.Dense
		}
		all := m.Params()
		if m.MoE() {
			require.Equal(t, full.TP*full.DP, full.EP*full.MoETP)
			copies := float64(m.Experts()+full.Redundant) / float64(m.Experts())
			require.InEpsilon(t, copies*2*float64(all.Routed), float64(sum.Experts)*float64(full.EP*full.MoETP), 1e-3)
		}
		require.InEpsilon(t, 2*float64(all.Embedding+all.Head), float64(sum.Embedding*int64(full.TP)), 1e-3)
		require.GreaterOrEqual(t, sum.Attention*int64(full.TP), 2*all.Attention)
		require.GreaterOrEqual(t, sum.Dense*int64(full.TP), 2*all.Dense)

		// Cutting further never needs more on a rank.
		one, err := m.WeightBytes(p, prec)
		require.NoError(t, err)
		for _, q := range []accel.Parallelism{
			{TP: 2 * p.TP, DP: p.DP, PP: p.PP, EP: p.EP, Redundant: p.Redundant},
			{TP: p.TP, DP: 2 * p.DP, PP: p.PP, EP: 2 * p.EP, Redundant: p.Redundant},
		} {
			if two, err := m.WeightBytes(q, prec); err == nil {
				require.LessOrEqual(t, two.Total(), one.Total(), "%+v", q)
			}
		}
	})
}

func drawParallelism(t *rapid.T) accel.Parallelism {
	two := func(name string, most int) int { return 1 << rapid.IntRange(0, most).Draw(t, name) }
	p := accel.Parallelism{TP: two("tp", 4), DP: two("dp", 5), PP: rapid.IntRange(1, 5).Draw(t, "pp")}
	p.EP = rapid.SampledFrom([]int{0, 1, p.TP, p.TP * p.DP}).Draw(t, "ep")
	p.Redundant = rapid.SampledFrom([]int{0, 0, 16, 32, 64}).Draw(t, "redundant")
	return p
}

// config is that of a small dense model, changed.
func config(change map[string]any) []byte {
	c := map[string]any{
		"architectures": []string{"LlamaForCausalLM"}, "hidden_size": 64, "num_hidden_layers": 2, "vocab_size": 100,
		"num_attention_heads": 4, "num_key_value_heads": 2, "intermediate_size": 128,
	}
	for k, v := range change {
		if v == nil {
			delete(c, k)
		} else {
			c[k] = v
		}
	}
	b, err := json.Marshal(c)
	if err != nil {
		panic(fmt.Sprint(err))
	}
	return b
}
