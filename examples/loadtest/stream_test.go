package main

import (
	"encoding/json"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

func TestTheQuickReadingIsTheSlowOne(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		text := rapid.StringOf(rapid.SampledFrom([]rune(`ab"\{}:,contextusageerror é😀`+"\n\t"))).Draw(t, "text")
		delta := map[string]any{"content": text}
		choice := map[string]any{"index": 0, "finish_reason": rapid.SampledFrom([]any{nil, "stop", `"content":"`}).Draw(t, "reason")}
		if rapid.Bool().Draw(t, "chat") {
			choice["delta"] = delta
		} else {
			choice["text"] = text
		}
		event := map[string]any{"id": rapid.SampledFrom([]string{"x", `"content":"no`, `"text":"no`}).Draw(t, "id"), "choices": []any{choice}}
		if rapid.Bool().Draw(t, "usage") {
			event["usage"] = rapid.SampledFrom([]any{nil, map[string]any{"prompt_tokens": 3}}).Draw(t, "counts")
		}
		data, err := json.Marshal(event)
		require.NoError(t, err)
		raw, quick := content(data)
		if !quick {
			return
		}
		var got string
		require.NoError(t, json.Unmarshal([]byte(`"`+string(raw)+`"`), &got))
		want, err := new(stream).slow(data)
		require.NoError(t, err)
		var plain string
		require.NoError(t, json.Unmarshal([]byte(`"`+string(want)+`"`), &plain))
		require.Equal(t, plain, got)
	})
}

func TestCommonEventsAreReadQuickly(t *testing.T) {
	for _, event := range []string{
		`{"id":"c","object":"chat.completion.chunk","choices":[{"index":0,"delta":{"content":" a \"b\" \\"},"logprobs":null,"finish_reason":null}]}`,
		`{"choices":[{"delta":{"content":"x"},"index":0}],"usage":null}`,
		`{"choices":[{"index":0,"text":"x","finish_reason":null}]}`,
	} {
		_, quick := content([]byte(event))
		assert.True(t, quick, event)
	}
}

func TestTokensOtherThanText(t *testing.T) {
	for event, want := range map[string]int{
		`{"choices":[{"delta":{"role":"assistant","content":""}}]}`:                    0,
		`{"choices":[{"delta":{"role":"assistant","content":null}}]}`:                  0,
		`{"choices":[{"delta":{"content":null,"reasoning_content":"hm"}}]}`:            1,
		`{"choices":[{"delta":{"content":"","reasoning":"hm"}}]}`:                      1,
		`{"choices":[{"delta":{"tool_calls":[{"index":0,"function":{"name":"f"}}]}}]}`: 1,
		`{"choices":[{"delta":{"tool_calls":[]},"finish_reason":"stop"}]}`:             0,
		`{"choices":[{"delta": {"content": "spaced"}}]}`:                               1,
		`{"choices":[{"delta":{"content":"last"}}],"usage":{"completion_tokens":7}}`:   1,
		`{"choices":[],"usage":{"completion_tokens":7,"prompt_tokens_details":null}}`:  0,
	} {
		s := newStream()
		require.NoError(t, s.read(strings.NewReader("data: "+event+"\n\ndata: [DONE]\n\n"), func() time.Duration { return 1 }))
		assert.Equal(t, want, s.events, event)
	}
}

func TestStreamsCutAnywhereReadTheSame(t *testing.T) {
	var body strings.Builder
	body.WriteString(": comment\r\n\r\nevent: message\n" + role)
	for range 50 {
		body.WriteString(token("wörd "))
	}
	body.WriteString(strings.ReplaceAll(tail, "\n", "\r\n"))
	read := func(s *stream, one bool) {
		r := iotest.DataErrReader(strings.NewReader(body.String()))
		if one {
			r = iotest.OneByteReader(r)
		}
		s.reset(true)
		require.NoError(t, s.read(r, func() time.Duration { return 5 }))
	}
	s := newStream()
	for _, one := range []bool{false, true, false} {
		read(s, one)
		assert.Equal(t, 50, s.events)
		assert.Equal(t, strings.Repeat("wörd ", 50), string(s.text))
		assert.Equal(t, 4, *s.usage.Completion)
		assert.Equal(t, 48, *s.usage.Details.Cached)
		assert.Len(t, s.gaps, 49)
	}
}

func TestALongEventIsReadAndATooLongOneRefused(t *testing.T) {
	s := newStream()
	now := func() time.Duration { return 0 }
	require.NoError(t, s.read(strings.NewReader(token(strings.Repeat("x", 300_000))+tail), now))
	assert.Equal(t, 1, s.events)
	err := newStream().read(strings.NewReader("data: "+strings.Repeat("x", 2*maxEvent)), now)
	assert.ErrorIs(t, err, errMalformed)
}

func FuzzStream(f *testing.F) {
	f.Add(role + token("a") + tail)
	f.Add("data: {\"choices\":[{\"text\":\"\\")
	f.Add("data: {}\n\ndata: null\n\ndata: 1\n\ndata: [DONE]\n\n")
	f.Fuzz(func(t *testing.T, body string) {
		whole, bytewise := newStream(), newStream()
		whole.reset(true)
		bytewise.reset(true)
		now := func() time.Duration { return 0 }
		a := whole.read(strings.NewReader(body), now)
		b := bytewise.read(iotest.OneByteReader(strings.NewReader(body)), now)
		require.Equal(t, a == nil, b == nil, "%v, %v", a, b)
		require.Equal(t, whole.events, bytewise.events)
		require.Equal(t, string(whole.text), string(bytewise.text))
	})
}

func BenchmarkStream(b *testing.B) {
	const tokens = 200
	body := role + strings.Repeat(`data: {"id":"chatcmpl-1","object":"chat.completion.chunk","created":1,"model":"m","choices":[{"index":0,"delta":{"content":" word"},"logprobs":null,"finish_reason":null}]}`+"\n\n", tokens) + tail
	s := newStream()
	r := strings.NewReader(body)
	now := func() time.Duration { return 0 }
	b.ReportAllocs()
	for b.Loop() {
		r.Reset(body)
		s.reset(false)
		if err := s.read(r, now); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/tokens, "ns/event")
}
