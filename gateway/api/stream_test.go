package api_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/inferloom/inferloom/gateway/api"
)

const (
	chunkEvent = `data: {"id":"c","object":"chat.completion.chunk","choices":[{"index":0,"delta":{"content":"a \"usage\" b"}}]}` + "\n\n"
	usageEvent = `data: {"id":"c","choices":[],"usage":{"prompt_tokens":20,"completion_tokens":2,"total_tokens":22,"prompt_tokens_details":{"cached_tokens":16}}}` + "\n\n"
	doneEvent  = "data: [DONE]\n\n"
	errorEvent = `data: {"error":{"message":"out of memory","type":"server_error"}}` + "\n\n"
)

var fullUsage = api.Usage{PromptTokens: 20, CachedTokens: 16, CompletionTokens: 2,
	Known: api.PromptCount | api.CachedCount | api.CompletionCount}

func TestStreamObserver(t *testing.T) {
	crlf := func(s string) string { return strings.ReplaceAll(s, "\n", "\r\n") }
	tests := map[string]struct {
		stream  string
		outputs int
		usage   api.Usage
		done    bool
		failed  bool
		between bool
	}{
		"a whole stream":    {chunkEvent + chunkEvent + usageEvent + doneEvent, 2, fullUsage, true, false, true},
		"CRLF":              {crlf(chunkEvent + chunkEvent + usageEvent + doneEvent), 2, fullUsage, true, false, true},
		"CR":                {strings.ReplaceAll(chunkEvent+usageEvent+doneEvent, "\n", "\r"), 1, fullUsage, true, false, true},
		"no usage":          {chunkEvent + doneEvent, 1, api.Usage{}, true, false, true},
		"null usage":        {`data: {"choices":[{}],"usage":null}` + "\n\n", 1, api.Usage{}, false, false, true},
		"running usage":     {`data: {"choices":[{}],"usage":{"completion_tokens":7}}` + "\n\n", 1, api.Usage{CompletionTokens: 7, Known: api.CompletionCount}, false, false, true},
		"error":             {chunkEvent + errorEvent, 1, api.Usage{}, false, true, true},
		"named error":       {"event: error\ndata: oops\n\n", 0, api.Usage{}, false, true, true},
		"comments":          {": ping\n\nid: 3\nretry: 1\n\n" + chunkEvent, 1, api.Usage{}, false, false, true},
		"two data lines":    {"data: {\"choices\":[],\ndata:\"usage\":{\"prompt_tokens\":3}}\n\n", 0, api.Usage{PromptTokens: 3, Known: api.PromptCount}, false, false, true},
		"cut in a line":     {chunkEvent + "data: {", 1, api.Usage{}, false, false, false},
		"cut after a line":  {chunkEvent + "data: {}\n", 1, api.Usage{}, false, false, false},
		"not JSON":          {"data: \"usage\" {{{\n\n", 1, api.Usage{}, false, false, true},
		"an event too long": {`data: {"choices":[],"usage":{"x":"` + strings.Repeat("y", api.MaxEventBytes) + `","prompt_tokens":3}}` + "\n\n" + usageEvent, 1, fullUsage, false, false, true},
		"odd counts":        {`data: {"choices":[],"usage":{"prompt_tokens":-1,"completion_tokens":"9","prompt_tokens_details":null}}` + "\n\n", 0, api.Usage{}, false, false, true},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			var o api.StreamObserver
			o.Observe([]byte(tt.stream))
			assert.Equal(t, tt.outputs, o.Outputs(), "outputs")
			assert.Equal(t, tt.usage, o.Usage())
			assert.Equal(t, tt.done, o.Done(), "done")
			assert.Equal(t, tt.failed, o.Failed(), "failed")
			assert.Equal(t, tt.between, o.BetweenEvents(), "between events")
		})
	}
}

type streamState struct {
	Outputs               int
	Usage                 api.Usage
	Done, Failed, Between bool
}

func stateOf(o *api.StreamObserver) streamState {
	return streamState{o.Outputs(), o.Usage(), o.Done(), o.Failed(), o.BetweenEvents()}
}

// observeCut feeds the pieces of b that the bytes of cuts tell, each in memory that is overwritten afterwards, as a
// relay's buffer is.
func observeCut(observe func([]byte), b, cuts []byte) {
	var buf []byte
	for _, cut := range cuts {
		n := min(int(cut), len(b))
		buf = append(buf[:0], b[:n]...)
		observe(buf)
		for i := range buf {
			buf[i] = '#'
		}
		b = b[n:]
	}
	observe(b)
}

func TestStreamObserverAtAnyCut(t *testing.T) {
	pieces := []string{chunkEvent, usageEvent, doneEvent, errorEvent, "\n", "\r", "\r\n", "data", ":", " ", "data:x\n",
		"event: error\n", "\"usage\"", "[DONE]", "{", "}", ": ping\n\n", "data: {\"choices\":[],\n"}
	rapid.Check(t, func(t *rapid.T) {
		stream := []byte(strings.Join(rapid.SliceOf(rapid.SampledFrom(pieces)).Draw(t, "stream"), ""))
		cuts := rapid.SliceOf(rapid.Byte()).Draw(t, "cuts")
		var whole, cut api.StreamObserver
		whole.Observe(stream)
		cut.Observe([]byte("data: left over from another str")) // Reset must forget it
		cut.Reset()
		observeCut(cut.Observe, stream, cuts)
		assert.Equal(t, stateOf(&whole), stateOf(&cut))
	})
}

func FuzzStreamObserver(f *testing.F) {
	f.Add([]byte(chunkEvent+usageEvent+doneEvent), []byte{1, 2, 3, 100})
	f.Add([]byte("event: error\r\ndata: x\r\n\r\n"), []byte{13, 1, 1})
	f.Add([]byte(usageEvent[:40]), []byte{})
	f.Fuzz(func(t *testing.T, stream, cuts []byte) {
		var whole, cut api.StreamObserver
		whole.Observe(stream)
		observeCut(cut.Observe, stream, cuts)
		if w, c := stateOf(&whole), stateOf(&cut); w != c {
			t.Fatalf("whole: %+v, cut: %+v", w, c)
		}
	})
}

func TestBodyObserver(t *testing.T) {
	usage := `{"prompt_tokens":20,"completion_tokens":2,"prompt_tokens_details":{"cached_tokens":16}}`
	tests := map[string]struct {
		body  string
		usage api.Usage
	}{
		"last":         {`{"id":"x","choices":[{"message":{"content":"\"usage\":{"}}],"usage":` + usage + `}`, fullUsage},
		"first":        {` { "usage" : ` + usage + ` , "choices":[]}`, fullUsage},
		"nested only":  {`{"choices":[{"usage":` + usage + `}],"usages":` + usage + `,"usag":` + usage + `,"\usage":1}`, api.Usage{}},
		"null":         {`{"usage":null}`, api.Usage{}},
		"as a value":   {`{"a":"usage","b":` + usage + `}`, api.Usage{}},
		"in an array":  {`[{"usage":` + usage + `}]`, api.Usage{}},
		"too large":    {`{"usage":{"x":"` + strings.Repeat("y", api.MaxEventBytes) + `"}}`, api.Usage{}},
		"a large body": {`{"x":"` + strings.Repeat(`y\"`, api.MaxEventBytes) + `","usage":` + usage + `}`, fullUsage},
		"not JSON":     {`}}}"usage":` + usage, api.Usage{}},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			var o api.BodyObserver
			o.Observe([]byte(tt.body))
			assert.Equal(t, tt.usage, o.Usage())
		})
	}
}

// FuzzBodyObserver checks that cuts do not matter, and what is found in valid JSON against encoding/json.
func FuzzBodyObserver(f *testing.F) {
	f.Add([]byte(`{"choices":[{"text":"\\\"usage"}],"usage":{"prompt_tokens":1,"completion_tokens":2}}`), []byte{9, 20, 1, 1, 40})
	f.Add([]byte(`{"usage":{"prompt_tokens_details":{"cached_tokens":4}}, "usage" : null}`), []byte{3})
	f.Fuzz(func(t *testing.T, body, cuts []byte) {
		var whole, cut api.BodyObserver
		whole.Observe(body)
		observeCut(cut.Observe, body, cuts)
		if whole.Usage() != cut.Usage() {
			t.Fatalf("whole: %+v, cut: %+v", whole.Usage(), cut.Usage())
		}
		if bytes.Count(body, []byte("usage")) > 1 || bytes.ContainsRune(body, '\\') {
			return // duplicates and escaped keys are where the two may differ
		}
		var want struct {
			Usage map[string]json.RawMessage `json:"usage"`
		}
		if json.Unmarshal(body, &want) != nil || bytes.Count(body, []byte("_tokens\"")) > 1 {
			return
		}
		if !bytes.Contains(body, []byte(`"usage"`)) {
			return // encoding/json also takes USAGE
		}
		var n uint32
		if raw, ok := want.Usage["prompt_tokens"]; ok && json.Unmarshal(raw, &n) == nil && string(raw) != "null" {
			if got := whole.Usage(); !got.Has(api.PromptCount) || got.PromptTokens != int(n) {
				t.Fatalf("got %+v, want %d prompt tokens", got, n)
			}
		}
	})
}

func TestObserversDoNotAllocate(t *testing.T) {
	stream := []byte(strings.Repeat(chunkEvent, 10) + usageEvent + doneEvent)
	body := []byte(`{"choices":[{"text":"hello"}],"usage":{"prompt_tokens":1}}`)
	var so api.StreamObserver
	var bo api.BodyObserver
	run := func() {
		so.Reset()
		bo.Reset()
		for i := range stream { // the worst cut
			so.Observe(stream[i : i+1])
		}
		so.Observe(stream)
		for i := range body {
			bo.Observe(body[i : i+1])
		}
	}
	run()
	assert.Zero(t, testing.AllocsPerRun(20, run))
	assert.Equal(t, 20, so.Outputs())
}

func TestSpliceAgainstReplacingOneByOne(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		body := rapid.SliceOf(rapid.Byte()).Draw(t, "body")
		var edits []api.Edit
		for at := 0; at < len(body) && rapid.Bool().Draw(t, "another"); {
			start := rapid.IntRange(at, len(body)).Draw(t, "start")
			at = rapid.IntRange(start, len(body)).Draw(t, "end")
			edits = append(edits, api.Edit{Start: start, End: at, Replacement: rapid.SliceOf(rapid.Byte()).Draw(t, "with")})
		}
		want := bytes.Clone(body)
		for i := len(edits) - 1; i >= 0; i-- {
			e := edits[i]
			want = append(append(append([]byte{}, want[:e.Start]...), e.Replacement...), want[e.End:]...)
		}
		got := api.Splice([]byte("kept"), body, edits)
		assert.Equal(t, "kept"+string(want), string(got))
		assert.Equal(t, len(want), api.SplicedLen(body, edits))
	})
}

func TestSpliceRefusesEditsThatDoNotFit(t *testing.T) {
	for name, edits := range map[string][]api.Edit{
		"overlap":      {{Start: 0, End: 2}, {Start: 1, End: 3}},
		"out of order": {{Start: 2, End: 3}, {Start: 0, End: 1}},
		"out of range": {{Start: 0, End: 9}},
		"backwards":    {{Start: 2, End: 1}},
	} {
		assert.Panics(t, func() { api.Splice(nil, []byte("body"), edits) }, name)
	}
}

func BenchmarkStreamObserver(b *testing.B) {
	event := []byte(chunkEvent)
	var o api.StreamObserver
	b.ReportAllocs()
	b.SetBytes(int64(len(event)))
	for b.Loop() {
		o.Observe(event)
	}
	require.Positive(b, o.Outputs())
}

func ExampleStreamObserver() {
	var o api.StreamObserver
	o.Observe([]byte("data: {\"choices\":[{\"delta\":{\"content\":\"Hi\"}}]}\n\nda"))
	o.Observe([]byte("ta: {\"choices\":[],\"usage\":{\"prompt_tokens\":9,\"completion_tokens\":1}}\n\n"))
	u := o.Usage()
	fmt.Println(o.Outputs(), u.PromptTokens, u.CompletionTokens, u.Has(api.CachedCount))
	// Output: 1 9 1 false
}

func ExampleRequest_Parse() {
	body := []byte(`{"model":"llama","messages":[{"role":"user","content":"Hi"}],"stream":true}`)
	var r api.Request
	if err := r.Parse(api.Chat, body); err != nil {
		fmt.Println(err)
		return
	}
	fmt.Printf("%s %v %s\n", r.Model, r.Stream, r.PromptBytes())
	fmt.Printf("%s\n", api.Splice(nil, body, []api.Edit{r.SetModel("llama-canary")}))

	err := r.Parse(api.Chat, []byte(`{"model":"llama","messages":"Hi"}`))
	fmt.Println(err)
	// Output:
	// llama true {"role":"user","content":"Hi"}
	// {"model":"llama-canary","messages":[{"role":"user","content":"Hi"}],"stream":true}
	// 400 invalid_type: messages: wants an array, got a string (offset 28)
}
