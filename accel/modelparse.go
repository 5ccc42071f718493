package accel

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
)

const maxConfig = 16 << 20

// ParseModel reads a Hugging Face config.json. The name is what the model will be called. Settings of a text model inside a
// multi-modal one are found; the vision part is left out, and Approximate says so. An architecture that is not known is
// refused: parameters of a layer that nobody has described here would be guesses. Errors name the field of the config.
func ParseModel(name string, config []byte) (*Model, error) {
	values, err := decodeObject(config)
	if err != nil {
		return nil, fmt.Errorf("read config of %q: %w", name, err)
	}
	m, err := modelOf(name, values)
	if err != nil {
		return nil, fmt.Errorf("read config of %q: %w", name, err)
	}
	return m, nil
}

func decodeObject(data []byte) (map[string]any, error) {
	if len(data) > maxConfig {
		return nil, &FieldError{Field: "len(config)", Value: len(data), Want: fmt.Sprintf("must be at most %d bytes", maxConfig)}
	}
	var values map[string]any
	dec := json.NewDecoder(bytes.NewReader(quoteNaN(data)))
	dec.UseNumber()
	if err := dec.Decode(&values); err != nil {
		return nil, err
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return nil, errors.New("something follows the object")
	}
	if values == nil {
		return nil, errors.New("no object")
	}
	return values, nil
}

// quoteNaN makes strings of the NaN and Infinity that Python writes, so that only a field that is read is refused for it.
func quoteNaN(data []byte) []byte {
	var out []byte
	text := false
	for i := 0; i < len(data); i++ {
		switch {
		case text && data[i] == '\\' && i+1 < len(data):
			out = append(out, data[i])
			i++
		case data[i] == '"':
			text = !text
		case !text:
			if word := nan(data[i:]); word != nil {
				out = append(append(append(out, '"'), word...), '"')
				i += len(word) - 1
				continue
			}
		}
		out = append(out, data[i])
	}
	return out
}

// nan is the NaN or infinity that data begins with, or nil.
func nan(data []byte) []byte {
	for _, word := range []string{"NaN", "Infinity", "-Infinity"} {
		if len(data) >= len(word) && string(data[:len(word)]) == word {
			return data[:len(word)]
		}
	}
	return nil
}

// families are the architectures that are known, each with what reads its layers.
func families() map[string]func(fields, *shape) {
	return map[string]func(fields, *shape){
		"LlamaForCausalLM":                   llama,
		"MistralForCausalLM":                 llama,
		"Qwen2ForCausalLM":                   qwen2,
		"Qwen3ForCausalLM":                   qwen3,
		"Qwen3MoeForCausalLM":                qwen3,
		"Qwen3NextForCausalLM":               qwen3Next,
		"Qwen3_5ForConditionalGeneration":    qwen3Next,
		"Qwen3_5MoeForConditionalGeneration": qwen3Next,
		"MixtralForCausalLM":                 mixtral,
		"DeepseekV2ForCausalLM":              deepseek,
		"DeepseekV3ForCausalLM":              deepseek,
		"DeepseekV32ForCausalLM":             deepseek,
		"GlmMoeDsaForCausalLM":               deepseek,
		"KimiK25ForConditionalGeneration":    deepseek,
		"Glm4MoeForCausalLM":                 glm4,
		"GptOssForCausalLM":                  gptOSS,
		"MiniMaxM2ForCausalLM":               minimax,
		"Llama4ForConditionalGeneration":     llama4,
		"Llama4ForCausalLM":                  llama4,
		"Gemma3ForCausalLM":                  gemma3,
		"Gemma3ForConditionalGeneration":     gemma3,
		"MiMoV2FlashForCausalLM":             mimo,
		"Qwen3VLForConditionalGeneration":    qwen3,
		"Qwen3VLMoeForConditionalGeneration": qwen3,
		"Mistral3ForConditionalGeneration":   llama,
		"Mistral3ForCausalLM":                llama,
	}
}

// modelOf reads the values of a config.
func modelOf(name string, values map[string]any) (*Model, error) {
	var bad problems
	outer := fields{values, &bad, "config."}
	names := outer.texts("architectures")
	if len(names) == 0 && len(bad) == 0 {
		bad.add("config.architectures", "absent", "is needed")
	}
	if len(bad) > 0 {
		return nil, bad.err()
	}
	arch := names[0]
	read, known := families()[arch]
	if !known {
		return nil, &FieldError{Field: "config.architectures", Value: arch,
			Want: "is not known; known are " + strings.Join(slices.Sorted(maps.Keys(families())), ", ")}
	}
	inner, nested := outer, false
	for _, key := range []string{"text_config", "llm_config", "language_config"} {
		if text, ok := outer.object(key); ok {
			merged := maps.Clone(text.values)
			for _, shared := range []string{"quantization_config", "tie_word_embeddings", "torch_dtype", "dtype"} {
				if v, ok := values[shared]; ok && merged[shared] == nil {
					merged[shared] = v
				}
			}
			inner, nested = fields{merged, &bad, text.at}, true
			break
		}
	}
	s := shape{norms: 2}
	s.model = Model{
		Name: name, Architecture: arch,
		Hidden:     inner.need("hidden_size"),
		Vocab:      inner.need("vocab_size"),
		Context:    inner.opt(0, "max_position_embeddings"),
		Checkpoint: checkpoint(inner),
	}
	s.layers = inner.need("num_hidden_layers")
	if s.layers > maxLayers {
		inner.problem("num_hidden_layers", s.layers, fmt.Sprintf("must be at most %d", maxLayers))
	}
	s.model.Tied = inner.flag(false, "tie_word_embeddings")
	if len(bad) > 0 {
		return nil, bad.err()
	}
	read(inner, &s)
	if nested && outer.has("vision_config") {
		s.note("the vision part is not counted")
	}
	if len(bad) == 0 {
		s.build(&bad)
	}
	if len(bad) > 0 {
		return nil, bad.err()
	}
	if err := s.model.Validate(); err != nil {
		return nil, err
	}
	return &s.model, nil
}

// shape collects what a family says of its layers. Functions of a layer's number may be nil: then all are alike.
type shape struct {
	model  Model
	layers int
	norms  int // vectors of Hidden a layer

	attention   Attention // of layers that see everything
	other       Attention // of those that isOther
	isOther     func(layer int) bool
	dense       FFN
	moe         FFN
	isDense     func(layer int) bool
	indexShared func(layer int) bool // sparse attention that takes its indices from the layer before
}

func (s *shape) note(text string) {
	if s.model.Approximate != "" {
		s.model.Approximate += "; "
	}
	s.model.Approximate += text
}

// build fills in kinds and pattern.
func (s *shape) build(bad *problems) {
	m := &s.model
	for i := range s.layers {
		k, ok := m.kind(s.layer(i))
		if !ok {
			bad.add("config.num_hidden_layers", s.layers, fmt.Sprintf("has more than %d kinds of layers", MaxKinds))
			return
		}
		m.Pattern = append(m.Pattern, k)
	}
	if m.MTPLayers > 0 {
		last := s.layer(s.layers - 1)
		last.Attention = s.attention
		k, ok := m.kind(last)
		if !ok {
			bad.add("config.num_hidden_layers", s.layers, fmt.Sprintf("has more than %d kinds of layers", MaxKinds))
		}
		m.MTPKind = int(k)
	}
}

func (s *shape) layer(i int) Layer {
	l := Layer{Attention: s.attention, FFN: s.dense, Norms: s.norms * s.model.Hidden}
	if s.isOther != nil && s.isOther(i) {
		l.Attention = s.other
	}
	if s.indexShared != nil && s.indexShared(i) {
		l.Attention.IndexHeads, l.Attention.IndexDim = 0, 0
	}
	if s.moe.Experts > 0 && (s.isDense == nil || !s.isDense(i)) {
		l.FFN = s.moe
	}
	return l
}

func (m *Model) kind(l Layer) (uint8, bool) {
	i := slices.Index(m.Kinds, l)
	if i < 0 {
		i = len(m.Kinds)
		if i == MaxKinds {
			return 0, false
		}
		m.Kinds = append(m.Kinds, l)
	}
	return uint8(i), true
}
