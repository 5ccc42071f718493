package chat

import (
	"compress/gzip"
	"context"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/inferloom/inferloom/kvcache/token"
)

func loadTokenizer(t testing.TB, family string) *token.Tokenizer {
	t.Helper()
	f, err := os.Open("../testdata/" + family + ".json.gz")
	require.NoError(t, err)
	defer f.Close()
	r, err := gzip.NewReader(f)
	require.NoError(t, err)
	file, err := io.ReadAll(r)
	require.NoError(t, err)
	tok, err := token.Load(file, token.Options{})
	require.NoError(t, err)
	return tok
}

func readTemplate(t testing.TB, name string) string {
	t.Helper()
	source, err := os.ReadFile("testdata/" + name + ".jinja")
	require.NoError(t, err)
	return string(source)
}

func newModel(t testing.TB, o Options) *Model {
	t.Helper()
	if o.Tokenizer == nil {
		o.Tokenizer = loadTokenizer(t, "qwen2")
	}
	m, err := New(o)
	require.NoError(t, err)
	return m
}

// What templates are given is what vLLM gives them. The rules are those of vllm/entrypoints/chat_utils.py and of the types of
// its requests, whose effect was looked up with pydantic.
func TestRequestsAreUnderstoodAsVLLMDoes(t *testing.T) {
	strings := newModel(t, Options{Template: `{{ messages | tojson }}{% if tools %} {{ tools | tojson }}{% endif %}{# content #}`, Kwargs: `{"depth":1,"mood":"calm"}`})
	parts := newModel(t, Options{Template: `{% for m in messages %}{% for c in m.content %}{{ c | tojson }}{% endfor %};{% endfor %}`})
	vars := newModel(t, Options{
		Template: `{{ add_generation_prompt }} {{ documents }} {{ reasoning_effort }} {{ enable_thinking }} {{ depth }} {{ mood }} {{ bos_token }}`,
		Kwargs:   `{"depth":1,"mood":"calm"}`, Special: map[string]string{"bos_token": "<s>"},
	})
	for _, row := range []struct {
		name  string
		model *Model
		body  string
		want  string // or, behind an exclamation mark, the error
	}{
		{"parts are joined", strings, `{"messages":[{"role":"user","content":[{"type":"text","text":"a"},{"type":"refusal","refusal":"b"},"c",{"type":"text","text":null}]}]}`,
			`[{"role": "user", "content": "a\nb\nc"}]`},
		{"texts are parted", parts, `{"messages":[{"role":"user","content":"a"},{"role":"user","content":[{"type":"input_text","text":"b","x":1}]},{"role":"user"}]}`,
			`{"type": "text", "text": "a"};{"type": "text", "text": "b"};;`},
		{"results of tools are texts", strings, `{"messages":[{"role":"tool","content":[{"type":"text","text":"a"},{"type":"text","text":"b"}],"tool_call_id":"i","name":"f","x":1}]}`,
			`[{"role": "tool", "content": "a\nb", "tool_call_id": "i", "name": "f"}]`},
		{"calls", strings, `{"messages":[{"role":"assistant","content":null,"reasoning_content":"r","tool_calls":[{"type":"function","function":{"name":"f","arguments":"{\"b\":1.0,\"a\":null}"},"id":"i"},
			{"id":"j","type":"function","function":{"name":"g","arguments":"no JSON"}}]}]}`,
			`[{"thinking": "r", "role": "assistant", "content": "", "tool_calls": [{"id": "i", "function": {"arguments": {"b": 1.0, "a": null}, "name": "f"}, "type": "function"}, ` +
				`{"id": "j", "function": {"arguments": {}, "name": "g"}, "type": "function"}], "reasoning": "r", "reasoning_content": "r"}]`},
		{"no calls", strings, `{"messages":[{"role":"assistant","content":"a","tool_calls":[]}]}`, `[{"role": "assistant", "content": "a"}]`},
		{"only assistants think and call", strings, `{"messages":[{"role":"user","content":"a","reasoning":"r","tool_calls":[1],"name":3}]}`, `[{"role": "user", "content": "a"}]`},
		{"developers have tools", strings, `{"messages":[{"role":"developer","content":"a"}]}`, `[{"role": "developer", "content": "a", "tools": null}]`},
		{"tools have all fields", strings, `{"messages":[],"tools":[{"function":{"parameters":{"z":1,"a":2},"strict":true,"name":"f"},"x":1}],"tool_choice":"none"}`,
			`[] [{"type": "function", "function": {"name": "f", "description": null, "parameters": {"z": 1, "a": 2}, "strict": true}, "x": 1}]`},
		{"defaults", vars, `{"messages":[]}`, `True None   1 calm <s>`},
		{"variables", vars, `{"messages":[],"add_generation_prompt":false,"documents":[{"title":"t"}],"reasoning_effort":"low","chat_template_kwargs":{"depth":2}}`,
			`False [{'title': 't'}] low True 2 calm <s>`},
		{"no effort is no thought", vars, `{"messages":[],"reasoning_effort":"none"}`, `True None none False 1 calm <s>`},
		{"the client's word on thought", vars, `{"messages":[],"reasoning_effort":"none","chat_template_kwargs":{"enable_thinking":7}}`, `True None none 7 1 calm <s>`},
		{"to be continued", strings, `{"messages":[{"role":"user","content":"a b "}],"add_generation_prompt":false,"continue_final_message":true}`, `[{"role": "user", "content": "a b `},

		{"an image", strings, `{"messages":[{"role":"user","content":[{"type":"image_url"}]}]}`, `!messages[0]: content: [0]: a part of type "image_url" has no tokens of its own`},
		{"no role", strings, `{"messages":[{"content":"x"}]}`, `!messages[0]: role: not a string`},
		{"no messages", strings, `{}`, `!messages: not an array`},
		{"a message that is none", strings, `{"messages":[1]}`, `!messages[0]: not an object`},
		{"both", strings, `{"messages":[],"continue_final_message":true}`, `!continue_final_message: add_generation_prompt is not false`},
		{"nothing to continue", strings, `{"messages":[],"add_generation_prompt":false,"continue_final_message":true}`, `!continue_final_message: there is no message`},
		{"a template of its own", strings, `{"messages":[],"chat_template":"x"}`, `!chat_template: not supported`},
		{"truncation", strings, `{"messages":[],"truncate_prompt_tokens":5}`, `!truncate_prompt_tokens: not supported`},
		{"kwargs that are arguments", strings, `{"messages":[],"chat_template_kwargs":{"tools":[]}}`, `!chat_template_kwargs.tools: not supported`},
		{"kwargs that are none", strings, `{"messages":[],"chat_template_kwargs":1}`, `!chat_template_kwargs: not an object`},
		{"empty tools", strings, `{"messages":[],"tools":[]}`, `!tools: not an array with tools in it`},
		{"a tool that is none", strings, `{"messages":[],"tools":[{"type":"custom"}]}`, `!tools[0]: not a function`},
		{"a flag that is none", strings, `{"messages":[],"add_generation_prompt":1}`, `!add_generation_prompt: want true or false`},
		{"an effort that is none", strings, `{"messages":[],"reasoning_effort":1}`, `!reasoning_effort: not a string`},
		{"calls that are none", strings, `{"messages":[{"role":"assistant","tool_calls":[{}]}]}`, `!messages[0]: tool_calls[0].function: not an object`},
		{"thoughts that are none", strings, `{"messages":[{"role":"assistant","reasoning":[]}]}`, `!messages[0]: reasoning: not a string`},
		{"no JSON", strings, `{"messages":`, `!the body is not JSON: offset 12: the text ends, want a value`},
		{"no object", strings, `[]`, `!the body is not a JSON object`},
		{"not UTF-8", strings, "\"\xff\"", `!the body is not JSON: the text is not UTF-8`},
	} {
		t.Run(row.name, func(t *testing.T) {
			got, err := row.model.AppendPrompt([]byte("> "), []byte(row.body))
			if row.want[0] == '!' {
				require.EqualError(t, err, row.want[1:])
				_, err = row.model.AppendChat(context.Background(), nil, []byte(row.body))
				require.EqualError(t, err, row.want[1:])
				return
			}
			require.NoError(t, err)
			require.Equal(t, "> "+row.want, string(got))
			ids, err := row.model.AppendChat(context.Background(), []uint32{7}, []byte(row.body))
			require.NoError(t, err)
			require.Equal(t, row.model.tokenizer.AppendSpecial([]uint32{7}, []byte(row.want)), ids)
		})
	}
}

func TestSpecialTokensAroundPrompts(t *testing.T) {
	tok := loadTokenizer(t, "llama3")
	m := newModel(t, Options{Tokenizer: tok, Template: `{{ messages[0].content }}`})
	require.NotEmpty(t, tok.Begin())
	bare := tok.AppendSpecial(nil, []byte("hello"))
	framed := append(append(append([]uint32{}, tok.Begin()...), bare...), tok.End()...)
	for _, row := range []struct {
		body string
		chat bool
		want []uint32
	}{
		{`{"messages":[{"role":"user","content":"hello"}]}`, true, bare},
		{`{"messages":[{"role":"user","content":"hello"}],"add_special_tokens":true}`, true, framed},
		{`{"prompt":"hello"}`, false, framed},
		{`{"prompt":"hello","add_special_tokens":false}`, false, bare},
	} {
		appendIDs := m.AppendCompletion
		if row.chat {
			appendIDs = m.AppendChat
		}
		got, err := appendIDs(context.Background(), nil, []byte(row.body))
		require.NoError(t, err)
		require.Equal(t, row.want, got, row.body)
	}
	_, err := m.AppendCompletion(context.Background(), nil, []byte(`{"prompt":["a","b"]}`))
	require.EqualError(t, err, "prompt: not one text")
}

func TestOptionsAreChecked(t *testing.T) {
	tok := loadTokenizer(t, "qwen2")
	for _, row := range []struct {
		o    Options
		want string
	}{
		{Options{}, "Tokenizer: nil"},
		{Options{Tokenizer: tok, CacheBytes: -1, ContentFormat: 9, Kwargs: "[]", Template: "{% if %}"},
			"CacheBytes: MaxBytes: -1 is less than 0\nContentFormat: 9 is none\nKwargs: not a JSON object\nTemplate: line 1: unexpected %}"},
		{Options{Tokenizer: tok, Template: "a\n{% include 'x' %}"}, "Template: line 2: the tag include is not supported here: let the engine render the prompts of this model"},
		{Options{Tokenizer: tok, Template: "{{ messages | xmlattr }}"}, "Template: line 1: the filter xmlattr is not supported here: let the engine render the prompts of this model"},
		{Options{Tokenizer: tok, Template: "{{ messages[0].content.encode() }}"}, "Template: line 1: the method encode is not supported here: let the engine render the prompts of this model"},
		// Found out by rendering.
		{Options{Tokenizer: tok, Template: "{{ '%x' % 5 }}"}, "Template: line 1: the format %x is not supported here: let the engine render the prompts of this model"},
		{Options{Tokenizer: tok, ToolTemplate: "{% if tools %}{{ tools.items }}{% endif %}", Template: "x"}, ""},
		{Options{Tokenizer: tok, Template: "{% if tools %}{{ tools[0].items }}{% endif %}"}, "Template: line 1: to print a function is not supported here: let the engine render the prompts of this model"},
		{Options{Tokenizer: tok, Template: "{{ raise_exception('never') }}"}, `Template: it refuses {"messages":[{"role":"user","content":"a"}]}: line 1: never`},
		{Options{Tokenizer: tok, Template: "{% if not tools %}{{ raise_exception('tools only') }}{% endif %}"}, ""},
	} {
		_, err := New(row.o)
		if row.want == "" {
			require.NoError(t, err)
			continue
		}
		require.EqualError(t, err, row.want)
	}
	m := newModel(t, Options{})
	_, err := m.AppendChat(context.Background(), nil, []byte(`{"messages":[]}`))
	require.EqualError(t, err, "the model has no chat template")
}

func TestConfigsAreRead(t *testing.T) {
	var o Options
	require.NoError(t, o.ReadConfig([]byte(`{"bos_token":"<s>","eos_token":{"content":"</s>","special":true},"pad_token":null,"chat_template":"x"}`)))
	require.Equal(t, Options{Template: "x", Special: map[string]string{"bos_token": "<s>", "eos_token": "</s>"}}, o)
	o = Options{}
	require.NoError(t, o.ReadConfig([]byte(`{"chat_template":[{"name":"default","template":"x"},{"name":"tool_use","template":"y"},{"name":"rag","template":"z"}]}`)))
	require.Equal(t, Options{Template: "x", ToolTemplate: "y"}, o)
	require.Error(t, o.ReadConfig([]byte(`{"chat_template":1}`)))
	require.Error(t, o.ReadConfig([]byte(`{"bos_token":1}`)))
	require.Error(t, o.ReadConfig([]byte(`{`)))

	m := newModel(t, Options{Template: "plain", ToolTemplate: "tools"})
	for body, want := range map[string]string{`{"messages":[]}`: "plain", `{"messages":[],"tools":[{"function":{"name":"f"}}]}`: "tools"} {
		got, err := m.AppendPrompt(nil, []byte(body))
		require.NoError(t, err)
		require.Equal(t, want, string(got))
	}
}

// drawBody draws a conversation in which users write what reads like control tokens.
func drawBody(t *rapid.T) string {
	var messages []string
	words := rapid.SampledFrom([]string{"hello ", "<|im_end|>", "<|im_start|>", "世界", "\\n", "a.b ", "system\\n", "<|", "im_end", "\\ue000", "\\ue001", "x", " "})
	for range rapid.IntRange(1, 4).Draw(t, "turns") {
		for _, role := range []string{"user", "assistant"} {
			text := strings.Join(rapid.SliceOfN(words, 0, 8).Draw(t, role), "")
			messages = append(messages, fmt.Sprintf(`{"role":%q,"content":"%s"}`, role, text))
		}
	}
	return `{"messages":[` + strings.Join(messages, ",") + `]}`
}

// The default is the engine's way: the rendered text, special tokens found in all of it.
func TestIDsAreThoseOfTheRenderedText(t *testing.T) {
	for _, family := range []string{"qwen2", "llama2", "gemma"} {
		m := newModel(t, Options{Tokenizer: loadTokenizer(t, family), Template: readTemplate(t, "turns")})
		rapid.Check(t, func(t *rapid.T) {
			body := []byte(drawBody(t))
			text, err := m.AppendPrompt(nil, body)
			require.NoError(t, err)
			ids, err := m.AppendChat(context.Background(), nil, body)
			require.NoError(t, err)
			require.Equal(t, m.tokenizer.AppendSpecial(nil, text), ids)
		})
	}
}

// Apart, users make no control tokens: there are as many as the template writes.
func TestUsersMakeNoControlTokens(t *testing.T) {
	tok := loadTokenizer(t, "qwen2")
	plain := newModel(t, Options{Tokenizer: tok, Template: readTemplate(t, "turns")})
	apart := newModel(t, Options{Tokenizer: tok, Template: readTemplate(t, "turns"), Separate: true})
	start, ok := tok.ID("<|im_start|>")
	require.True(t, ok)
	end, ok := tok.ID("<|im_end|>")
	require.True(t, ok)
	rapid.Check(t, func(t *rapid.T) {
		body := drawBody(t)
		ids, err := apart.AppendChat(context.Background(), nil, []byte(body))
		require.NoError(t, err)
		text, err := apart.AppendPrompt(nil, []byte(body))
		require.NoError(t, err)
		starts, ends := 0, 0
		for _, id := range ids {
			if id == start {
				starts++
			}
			if id == end {
				ends++
			}
		}
		messages := strings.Count(body, `{"role"`)
		require.Equal(t, messages+1, starts)
		require.Equal(t, messages, ends)
		require.Equal(t, string(text), string(tok.AppendText(nil, ids, true)), "nothing is lost")
		if !strings.Contains(body, "<|im") && !strings.Contains(body, `\ue00`) {
			same, err := plain.AppendChat(context.Background(), nil, []byte(body))
			require.NoError(t, err)
			require.Equal(t, same, ids)
		}
	})
	ids, err := apart.AppendCompletion(context.Background(), nil, []byte(`{"prompt":"a<|im_end|>b"}`))
	require.NoError(t, err)
	require.NotContains(t, ids, end)
}

// A template that takes marked texts apart leaves no mark behind.
func TestMarksThatTemplatesTakeApart(t *testing.T) {
	tok := loadTokenizer(t, "qwen2")
	end, _ := tok.ID("<|im_end|>")
	m := newModel(t, Options{Tokenizer: tok, Template: `<|im_end|>{{ messages[0].content[:3] }}|{{ messages[0].content[3:] }}|{{ messages[0].content | reverse }}`, Separate: true})
	printed := newModel(t, Options{Tokenizer: tok, Template: `{{ messages }}{{ messages | tojson(ensure_ascii=true) }}`, Separate: true})
	ids, err := printed.AppendChat(context.Background(), nil, []byte(`{"messages":[{"role":"user","content":"é<|im_end|>"}]}`))
	require.NoError(t, err)
	require.NotContains(t, ids, end)
	for _, content := range []string{"<|im_end|>", "a<|im_end|>", "ab<|im_end|>c<|im_end|>", "plain"} {
		body := []byte(`{"messages":[{"role":"user","content":"` + content + `"}]}`)
		ids, err := m.AppendChat(context.Background(), nil, body)
		require.NoError(t, err)
		require.Equal(t, end, ids[0])
		require.NotContains(t, ids[1:], end)
		require.NotContains(t, string(tok.AppendText(nil, ids, true)), openMark)
		require.NotContains(t, string(tok.AppendText(nil, ids, true)), closeMark)
	}
}

func TestModelIsSafeForConcurrentUse(t *testing.T) {
	m := newModel(t, Options{Template: readTemplate(t, "turns")})
	bodies := map[string][]uint32{}
	for i := range 4 {
		body := conversationBody(6+i, i)
		ids, err := m.AppendChat(context.Background(), nil, []byte(body))
		require.NoError(t, err)
		bodies[body] = ids
	}
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for body, want := range bodies {
				ids, err := m.AppendChat(context.Background(), nil, []byte(body))
				if err != nil || fmt.Sprint(ids) != fmt.Sprint(want) {
					t.Errorf("got %d ids and %v, want %d", len(ids), err, len(want))
				}
			}
		})
	}
	wg.Wait()
}

func FuzzAppendChat(f *testing.F) {
	f.Add([]byte(`{"messages":[{"role":"user","content":"hello"}],"tools":[{"function":{"name":"f"}}]}`))
	for _, body := range probes {
		f.Add([]byte(body))
	}
	var models []*Model
	for _, name := range []string{"turns", "strict", "parts"} {
		models = append(models, newModel(f, Options{Template: readTemplate(f, name)}), newModel(f, Options{Template: readTemplate(f, name), Separate: true}))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		for _, m := range models {
			_, _ = m.AppendChat(context.Background(), nil, body)
		}
	})
}
