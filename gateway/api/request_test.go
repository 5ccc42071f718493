package api_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/inferloom/inferloom/gateway/api"
)

func TestParseChat(t *testing.T) {
	body := `{"model":"meta/llama","messages":[{"role":"user","content":"a \"b\" ü"}],"stream":true,` +
		`"stream_options":{"include_usage":true},"max_tokens":5,"max_completion_tokens":7,"n":2,"user":"u\u0031",` +
		`"cache_salt":"s","priority":-3,"tools":[{"type":"function"}],"temperature":0.5}`
	r, err := api.ParseRequest(api.Chat, []byte(body))
	require.NoError(t, err)
	assert.Equal(t, "meta/llama", r.Model)
	assert.Equal(t, `"meta/llama"`, string(r.ModelSpan.Of(r.Body)))
	assert.True(t, r.Stream)
	assert.True(t, r.IncludeUsage)
	assert.True(t, r.HasMaxTokens)
	assert.Equal(t, 7, r.MaxTokens)
	assert.Equal(t, 2, r.N)
	assert.Equal(t, "u1", r.User)
	assert.Equal(t, "s", r.CacheSalt)
	assert.Equal(t, -3, r.Priority)
	assert.Equal(t, api.MessagesPrompt, r.PromptForm)
	assert.Equal(t, `{"role":"user","content":"a \"b\" ü"}`, string(r.PromptBytes()))
	assert.Equal(t, `[{"type":"function"}]`, string(r.Tools.Of(r.Body)))
}

func TestMaxCompletionTokensWinsInAnyOrder(t *testing.T) {
	for _, fields := range []string{
		`"max_tokens":5,"max_completion_tokens":7`,
		`"max_completion_tokens":7,"max_tokens":5`,
		`"max_completion_tokens":7,"max_tokens":null`,
		`"max_completion_tokens":null,"max_tokens":7`,
		`"max_tokens":7.0`,
		`"max_tokens":0.7e1`,
	} {
		r, err := api.ParseRequest(api.Chat, []byte(`{"model":"m","messages":[{}],`+fields+`}`))
		require.NoError(t, err, fields)
		assert.True(t, r.HasMaxTokens, fields)
		assert.Equal(t, 7, r.MaxTokens, fields)
	}
}

func TestPromptForms(t *testing.T) {
	tests := map[string]struct {
		prompt string
		form   api.PromptForm
		bytes  string
		ids    []uint32
	}{
		"text":         {`"a\nb"`, api.TextPrompt, `a\nb`, nil},
		"empty text":   {`""`, api.TextPrompt, ``, nil},
		"texts":        {`["a", "b"]`, api.TextsPrompt, `"a", "b"`, nil},
		"tokens":       {`[1, 22,4294967295 ]`, api.TokensPrompt, `1, 22,4294967295 `, []uint32{1, 22, 4294967295}},
		"token lists":  {`[[1,2],[3]]`, api.TokenListsPrompt, `[1,2],[3]`, []uint32{1, 2, 3}},
		"an empty one": {`[[], [0]]`, api.TokenListsPrompt, `[], [0]`, []uint32{0}},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			r, err := api.ParseRequest(api.Completion, []byte(`{"prompt":`+tt.prompt+`,"model":"m"}`))
			require.NoError(t, err)
			assert.Equal(t, tt.form, r.PromptForm)
			assert.Equal(t, tt.bytes, string(r.PromptBytes()))
			assert.Equal(t, tt.ids, r.AppendTokenIDs(nil))
		})
	}
}

func TestBadRequestsAreNamed(t *testing.T) {
	chat := func(fields string) string { return `{"model":"m","messages":[{}],` + fields + `}` }
	tests := map[string]struct {
		kind    api.Kind
		body    string
		param   string
		message string
	}{
		"empty":             {api.Chat, ``, "", "the body is not valid JSON: the body is empty at offset 0, where the body ends"},
		"array":             {api.Chat, `[]`, "", "the body is not valid JSON: the body is not a JSON object at offset 0, found '['"},
		"cut":               {api.Chat, `{"model":"m`, "", "the body is not valid JSON: a string does not end at offset 11, where the body ends"},
		"trailing":          {api.Chat, `{"model":"m","messages":[{}]} x`, "", "the body is not valid JSON: something follows the JSON object at offset 30, found 'x'"},
		"trailing comma":    {api.Chat, `{"model":"m",}`, "", "the body is not valid JSON: expected a key in quotes at offset 13, found '}'"},
		"no model":          {api.Chat, `{"messages":[{}]}`, "model", "model: the request names no model"},
		"null model":        {api.Chat, `{"model":null,"messages":[{}]}`, "model", "model: the request names no model"},
		"empty model":       {api.Chat, `{"model":"","messages":[{}]}`, "model", `model: the name is empty, "" at offset 9`},
		"model number":      {api.Chat, `{"model":12,"messages":[{}]}`, "model", "model: wants a string, got 12 (offset 9)"},
		"two models":        {api.Chat, `{"model":"a","messages":[{}],"mod\u0065l":"b"}`, "model", "model: is given twice (offset 42)"},
		"no messages":       {api.Chat, `{"model":"m","prompt":"x"}`, "messages", "messages: the request has no messages"},
		"empty messages":    {api.Chat, `{"model":"m","messages":[ ]}`, "messages", "messages: is empty (offset 27)"},
		"messages string":   {api.Chat, `{"model":"m","messages":"secret"}`, "messages", "messages: wants an array, got a string (offset 24)"},
		"message string":    {api.Chat, `{"model":"m","messages":[{},"x"]}`, "messages[1]", "messages[1]: wants an object, got a string (offset 28)"},
		"no prompt":         {api.Completion, `{"model":"m","messages":[{}]}`, "prompt", "prompt: the request has no prompt"},
		"empty prompts":     {api.Completion, `{"model":"m","prompt":[]}`, "prompt", "prompt: is empty (offset 24)"},
		"mixed prompts":     {api.Completion, `{"model":"m","prompt":["a",1]}`, "prompt", "prompt: wants a string, an array of strings, an array of token ids or an array of those, got 1 (offset 27)"},
		"negative token":    {api.Completion, `{"model":"m","prompt":[1,-1]}`, "prompt", "prompt: wants a string, an array of strings, an array of token ids or an array of those, got -1 (offset 25)"},
		"large token":       {api.Completion, `{"model":"m","prompt":[4294967296]}`, "prompt", "prompt: wants token ids from 0 to 4294967295, got 4294967296 (offset 23)"},
		"stream string":     {api.Chat, chat(`"stream":"yes"`), "stream", "stream: wants true or false, got a string (offset 38)"},
		"n zero":            {api.Chat, chat(`"n":0`), "n", "n: wants at least 1, got 0 (offset 33)"},
		"n half":            {api.Chat, chat(`"n":1.5`), "n", "n: wants an integer, got 1.5 (offset 33)"},
		"negative limit":    {api.Chat, chat(`"max_tokens":-1`), "max_tokens", "max_tokens: wants at least 0, got -1 (offset 42)"},
		"include_usage":     {api.Chat, chat(`"stream_options":{"include_usage":1}`), "stream_options.include_usage", "stream_options.include_usage: wants true or false, got 1 (offset 63)"},
		"tools object":      {api.Chat, chat(`"tools":{}`), "tools", "tools: wants an array, got an object (offset 37)"},
		"control character": {api.Chat, chat("\"user\":\"a\nb\""), "", "the body is not valid JSON: control character in a string at offset 38, found '\\n'"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			_, err := api.ParseRequest(tt.kind, []byte(tt.body))
			var e *api.Error
			require.ErrorAs(t, err, &e)
			assert.Equal(t, 400, e.Status)
			assert.Equal(t, tt.param, e.Param)
			assert.Equal(t, tt.message, e.Message)
		})
	}
}

func TestDepthIsBounded(t *testing.T) {
	nested := func(depth int) []byte {
		return []byte(`{"model":"m","messages":[{}],"x":` + strings.Repeat("[", depth-1) + strings.Repeat("]", depth-1) + `}`)
	}
	_, err := api.ParseRequest(api.Chat, nested(api.MaxDepth))
	require.NoError(t, err)
	_, err = api.ParseRequest(api.Chat, nested(api.MaxDepth+1))
	require.ErrorContains(t, err, "nested too deep")
}

func TestParseDoesNotAllocate(t *testing.T) {
	body := []byte(fmt.Sprintf(`{"model":"llama","user":"u","messages":[{"role":"user","content":%q}],"stream":true,"max_tokens":100}`,
		strings.Repeat("lorem ipsum\n", 500)))
	tokens := []byte(`{"model":"llama","prompt":[1,2,3,4,5,6,7,8]}`)
	var r api.Request
	ids := make([]uint32, 0, 8)
	assert.Zero(t, testing.AllocsPerRun(100, func() {
		if err := r.Parse(api.Chat, body); err != nil {
			t.Fatal(err)
		}
	}))
	assert.Zero(t, testing.AllocsPerRun(100, func() {
		if err := r.Parse(api.Completion, tokens); err != nil {
			t.Fatal(err)
		}
		ids = r.AppendTokenIDs(ids[:0])
	}))
}

func TestErrorIsOpenAIShaped(t *testing.T) {
	e := &api.Error{Status: 404, Code: "model_not_found", Param: "model", Message: `no model "x"`}
	assert.JSONEq(t, `{"error":{"message":"no model \"x\"","type":"invalid_request_error","param":"model","code":"model_not_found"}}`,
		string(e.AppendJSON(nil)))
	e = &api.Error{Status: 503, Message: "no engine"}
	assert.JSONEq(t, `{"error":{"message":"no engine","type":"server_error","param":null,"code":null}}`, string(e.AppendJSON(nil)))
}

func TestKindOf(t *testing.T) {
	for path, kind := range map[string]api.Kind{
		"/v1/chat/completions":  api.Chat,
		"/v1/completions":       api.Completion,
		"/v1/models":            api.Models,
		"/v1/models/a/b":        api.Models,
		"/v1/models/":           api.Unknown,
		"/v1/chat/completions/": api.Unknown,
		"//v1/completions":      api.Unknown,
		"/V1/completions":       api.Unknown,
	} {
		assert.Equal(t, kind, api.KindOf(path), path)
	}
}

func BenchmarkParse(b *testing.B) {
	for _, size := range []int{1 << 10, 220 << 10} {
		content, err := json.Marshal(strings.Repeat("The quick brown fox jumps over the lazy dog.\n", size/46))
		require.NoError(b, err)
		body := []byte(`{"model":"llama","messages":[{"role":"user","content":` + string(content) + `}],"stream":true}`)
		b.Run(fmt.Sprintf("body=%dKiB", size>>10), func(b *testing.B) {
			var r api.Request
			b.ReportAllocs()
			b.SetBytes(int64(len(body)))
			for b.Loop() {
				if err := r.Parse(api.Chat, body); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
