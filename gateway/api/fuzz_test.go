package api_test

import (
	"bytes"
	"encoding/json"
	"math"
	"strconv"
	"testing"

	"github.com/inferloom/inferloom/gateway/api"
)

// oracle is what Parse should find, by way of encoding/json.
type oracle struct {
	ok, skip      bool
	model         string
	stream, usage bool
	max, n, prio  int
	hasMax        bool
	user, salt    string
	prompt, tools []byte
}

func read(kind api.Kind, body []byte) (o oracle) {
	if !json.Valid(body) || bytes.TrimSpace(body)[0] != '{' {
		return o
	}
	if duplicateOrDeep(body) {
		o.skip = true
		return o
	}
	var m map[string]json.RawMessage
	if json.Unmarshal(body, &m) != nil {
		return o
	}
	given := func(key string) json.RawMessage {
		if v := m[key]; string(v) != "null" {
			return v
		}
		return nil
	}
	good := true
	str := func(key string) (s string) {
		if v := given(key); v != nil && (v[0] != '"' || json.Unmarshal(v, &s) != nil) {
			good = false
		}
		return s
	}
	boolean := func(v json.RawMessage) (b bool) {
		if v != nil && string(v) != "null" && json.Unmarshal(v, &b) != nil {
			good = false
		}
		return b
	}
	integer := func(key string, least, absent int) int {
		v := given(key)
		if v == nil {
			return absent
		}
		if n, err := strconv.Atoi(string(v)); err == nil {
			good = good && n >= least
			return n
		}
		var f float64
		if json.Unmarshal(v, &f) != nil || f != math.Trunc(f) || math.Abs(f) > 1<<53 || int(f) < least {
			good = false
		}
		return int(f)
	}
	o.model = str("model")
	o.stream = boolean(given("stream"))
	if v := given("stream_options"); v != nil {
		var options map[string]json.RawMessage
		if json.Unmarshal(v, &options) != nil {
			good = false
		}
		o.usage = boolean(options["include_usage"])
	}
	o.max, o.hasMax = integer("max_tokens", 0, 0), given("max_tokens") != nil
	if kind == api.Chat {
		if given("max_completion_tokens") != nil {
			o.max, o.hasMax = integer("max_completion_tokens", 0, 0), true
		}
	}
	o.n, o.prio = integer("n", 1, 1), integer("priority", math.MinInt, 0)
	o.user, o.salt = str("user"), str("cache_salt")
	if v := given("tools"); v != nil {
		good = good && v[0] == '['
		o.tools = v
	}
	if kind == api.Chat {
		v := given("messages")
		var turns []json.RawMessage
		if v == nil || json.Unmarshal(v, &turns) != nil || len(turns) == 0 {
			return o
		}
		for _, turn := range turns {
			good = good && turn[0] == '{'
		}
		o.prompt = v[1 : len(v)-1]
	} else {
		v := given("prompt")
		var text string
		var texts []*string
		var ids []*uint32
		var lists [][]*uint32
		switch {
		case v == nil:
			return o
		case json.Unmarshal(v, &text) == nil:
		case json.Unmarshal(v, &texts) == nil && len(texts) > 0 && noNil(texts):
		case json.Unmarshal(v, &ids) == nil && len(ids) > 0 && noNil(ids):
		case json.Unmarshal(v, &lists) == nil && len(lists) > 0:
			for _, list := range lists {
				good = good && list != nil && noNil(list)
			}
		default:
			return o
		}
		o.prompt = v[1 : len(v)-1]
	}
	o.ok = good && o.model != ""
	return o
}

func noNil[T any](list []*T) bool {
	for _, v := range list {
		if v == nil {
			return false
		}
	}
	return true
}

// duplicateOrDeep reports whether valid JSON is among what Parse documents to reject beyond encoding/json.
func duplicateOrDeep(body []byte) bool {
	read := map[string]bool{"model": true, "stream": true, "stream_options": true, "max_tokens": true,
		"max_completion_tokens": true, "n": true, "user": true, "cache_salt": true, "priority": true, "prompt": true,
		"messages": true, "tools": true, "include_usage": true}
	seen := [3]map[string]bool{1: {}, 2: {}}
	var isObject [api.MaxDepth + 1]bool
	var isKey bool
	depth := 0
	dec := json.NewDecoder(bytes.NewReader(body))
	for {
		tok, err := dec.Token()
		if err != nil {
			return false
		}
		switch tok {
		case json.Delim('{'), json.Delim('['):
			if depth++; depth > api.MaxDepth {
				return true
			}
			if isObject[depth] = tok == json.Delim('{'); depth == 2 {
				clear(seen[2])
			}
			isKey = isObject[depth]
			continue
		case json.Delim('}'), json.Delim(']'):
			depth--
			isKey = isObject[depth]
			continue
		}
		if isKey && (depth == 1 || depth == 2) {
			key := tok.(string)
			if read[key] && seen[depth][key] {
				return true
			}
			seen[depth][key] = true
		}
		isKey = isObject[depth] && !isKey
	}
}

// FuzzParse compares Parse with encoding/json: what it accepts, and every value that it finds.
func FuzzParse(f *testing.F) {
	for _, body := range []string{
		`{"model":"m","messages":[{"role":"user","content":"hi"}]}`,
		`{"model":"m","prompt":[[1,2],[3]],"max_tokens":1e1}`,
		`{"model":"m","prompt":["a","b"],"n":2.0,"stream_options":{"include_usage":true,"x":[{}]}}`,
		`{ "mod\u0065l" : "\ud83d\ude00\ud83d\u0041\\\/" , "prompt" : "\t" , "user":null, "tools":[ {} ]}`,
		"{\"model\":\"\xff\xc0\",\"prompt\":[4294967295],\"priority\":-12,\"stream\":false,\"cache_salt\":\"\"}",
		`{"model":"m","prompt":"p","x":-0.5E+3,"y":{"z":[[],{}]}}`,
		`{"model":"m","messages":[{}],"max_tokens":9223372036854775808,"max_completion_tokens":99999999999999999999}`,
	} {
		f.Add(true, []byte(body))
		f.Add(false, []byte(body))
	}
	f.Fuzz(func(t *testing.T, chat bool, body []byte) {
		kind := api.Completion
		if chat {
			kind = api.Chat
		}
		var r api.Request
		err := r.Parse(kind, body)
		o := read(kind, body)
		if o.skip {
			return
		}
		if o.ok != (err == nil) {
			t.Fatalf("Parse says %v, encoding/json says %v", err, o.ok)
		}
		if err != nil {
			return
		}
		if r.Model != o.model || r.Stream != o.stream || r.IncludeUsage != o.usage || r.HasMaxTokens != o.hasMax ||
			r.MaxTokens != o.max || r.N != o.n || r.Priority != o.prio || r.User != o.user || r.CacheSalt != o.salt {
			t.Fatalf("got %+v, want %+v", r, o)
		}
		if !bytes.Equal(r.PromptBytes(), o.prompt) {
			t.Fatalf("prompt is %q, want %q", r.PromptBytes(), o.prompt)
		}
		if r.Tools.Present() != (o.tools != nil) || r.Tools.Present() && !bytes.Equal(r.Tools.Of(body), o.tools) {
			t.Fatalf("tools are %v, want %q", r.Tools, o.tools)
		}
		if r.HasTokenIDs() {
			checkTokenIDs(t, &r)
		}
		edited := api.Splice(nil, body, []api.Edit{r.SetModel("other \"model\"")})
		var again api.Request
		if err := again.Parse(kind, edited); err != nil || again.Model != `other "model"` ||
			!bytes.Equal(again.PromptBytes(), r.PromptBytes()) {
			t.Fatalf("after a change of the model: %v, %q", err, edited)
		}
	})
}

func checkTokenIDs(t *testing.T, r *api.Request) {
	var want []uint32
	if r.PromptForm == api.TokensPrompt {
		if err := json.Unmarshal([]byte("["+string(r.PromptBytes())+"]"), &want); err != nil {
			t.Fatal(err)
		}
	} else {
		var lists [][]uint32
		if err := json.Unmarshal([]byte("["+string(r.PromptBytes())+"]"), &lists); err != nil {
			t.Fatal(err)
		}
		for _, list := range lists {
			want = append(want, list...)
		}
	}
	got := r.AppendTokenIDs(nil)
	if len(got) != len(want) {
		t.Fatalf("token ids are %v, want %v", got, want)
	}
	for i := range got {
		if got[i] != want[i] {
			t.Fatalf("token ids are %v, want %v", got, want)
		}
	}
}
