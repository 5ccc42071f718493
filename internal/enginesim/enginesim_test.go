package enginesim

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/inferloom/inferloom/internal/engine"
	"github.com/inferloom/inferloom/kvcache/events"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// fast is a server whose seconds pass in a millisecond.
func fast() Options {
	return Options{Model: "base", TimeScale: 1000, MinSleep: 100 * time.Microsecond, MinFlush: time.Nanosecond}
}

// serve runs a server on loopback until the test ends.
func serve(t *testing.T, o Options) (*Server, string) {
	t.Helper()
	s, err := New(o)
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	ran := make(chan error, 1)
	go func() { ran <- s.Run(ctx) }()
	h := httptest.NewServer(s)
	t.Cleanup(func() {
		cancel()
		require.NoError(t, <-ran)
		http.DefaultClient.CloseIdleConnections()
		h.Close()
	})
	return s, h.URL
}

func post(t *testing.T, url string, body any) (*http.Response, []byte) {
	t.Helper()
	resp, err := http.Post(url, "application/json", reader(t, body))
	require.NoError(t, err)
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	return resp, b
}

func reader(t *testing.T, body any) io.Reader {
	if s, ok := body.(string); ok {
		return strings.NewReader(s)
	}
	b, err := json.Marshal(body)
	require.NoError(t, err)
	return bytes.NewReader(b)
}

// M is a JSON object.
type M = map[string]any

func chatOf(content ...string) []M {
	var messages []M
	for i, c := range content {
		messages = append(messages, M{"role": []string{"user", "assistant"}[i%2], "content": c})
	}
	return messages
}

type completion struct {
	ID      string
	Object  string
	Model   string
	Finger  string `json:"system_fingerprint"`
	Choices []struct {
		Message      struct{ Role, Content string }
		Delta        struct{ Role, Content string }
		Text         string
		FinishReason *string `json:"finish_reason"`
	}
	Usage *usage
}

func decode(t *testing.T, b []byte) completion {
	t.Helper()
	var c completion
	require.NoError(t, json.Unmarshal(b, &c), "%s", b)
	return c
}

// chunks reads a stream to its end and fails if that is not [DONE].
func chunks(t *testing.T, r io.Reader) []completion {
	t.Helper()
	list, err := readChunks(t, r)
	require.NoError(t, err)
	return list
}

func readChunks(t *testing.T, r io.Reader) (list []completion, err error) {
	done := false
	lines := bufio.NewScanner(r)
	for lines.Scan() {
		line := lines.Text()
		if line == "" {
			continue
		}
		require.False(t, done, "after [DONE]: %s", line)
		data, ok := strings.CutPrefix(line, "data: ")
		require.True(t, ok, line)
		if data == "[DONE]" {
			done = true
			continue
		}
		list = append(list, decode(t, []byte(data)))
	}
	if lines.Err() == nil && !done {
		return list, io.ErrUnexpectedEOF
	}
	return list, lines.Err()
}

func TestChat(t *testing.T) {
	s, url := serve(t, fast())
	resp, b := post(t, url+"/v1/chat/completions", M{"model": "base", "messages": chatOf("hello there"), "max_tokens": 7})
	require.Equal(t, 200, resp.StatusCode, "%s", b)
	require.Equal(t, simulator, resp.Header.Get("X-Simulator"))
	c := decode(t, b)
	require.Equal(t, "chat.completion", c.Object)
	require.Equal(t, simulator, c.Finger)
	require.Equal(t, "assistant", c.Choices[0].Message.Role)
	require.Len(t, c.Choices[0].Message.Content, 7*tokenBytes)
	require.Equal(t, "length", *c.Choices[0].FinishReason)
	// <|user|> is 2 tokens, the content 3, <|end|> 2, <|assistant|> 4.
	require.Equal(t, 11, c.Usage.PromptTokens)
	require.Equal(t, 7, c.Usage.CompletionTokens)
	require.Equal(t, 18, c.Usage.TotalTokens)
	require.EqualValues(t, 7, s.Stats().Totals.GenerationTokens)

	_, b = post(t, url+"/v1/chat/completions", M{"model": "base", "messages": chatOf("hello there")})
	c = decode(t, b)
	require.Equal(t, defaultChatTokens, c.Usage.CompletionTokens)
	require.Equal(t, "stop", *c.Choices[0].FinishReason)
}

func TestStreamEqualsWhole(t *testing.T) {
	_, url := serve(t, fast())
	for _, path := range []string{"/v1/chat/completions", "/v1/completions"} {
		t.Run(path, func(t *testing.T) {
			body := M{"model": "base", "max_completion_tokens": 40, "max_tokens": 40}
			if strings.Contains(path, "chat") {
				body["messages"] = chatOf("tell me")
			} else {
				body["prompt"] = "tell me"
			}
			_, b := post(t, url+path, body)
			whole := decode(t, b)
			body["stream"] = true
			body["stream_options"] = M{"include_usage": true}
			resp, b := post(t, url+path, body)
			require.Equal(t, "text/event-stream; charset=utf-8", resp.Header.Get("Content-Type"))
			list := chunks(t, bytes.NewReader(b))
			text := ""
			for i, c := range list[:len(list)-1] {
				require.Equal(t, list[0].ID, c.ID)
				require.Len(t, c.Choices, 1)
				require.Nil(t, c.Usage)
				text += c.Choices[0].Delta.Content + c.Choices[0].Text
				require.Equal(t, i == len(list)-2, c.Choices[0].FinishReason != nil)
			}
			require.Equal(t, whole.Choices[0].Message.Content+whole.Choices[0].Text, text)
			last := list[len(list)-1]
			require.Empty(t, last.Choices)
			require.Equal(t, whole.Usage.TotalTokens, last.Usage.TotalTokens)
		})
	}
}

func TestSecondTurnReusesPromptAndAnswer(t *testing.T) {
	for _, stream := range []bool{false, true} {
		t.Run(fmt.Sprintf("stream=%v", stream), func(t *testing.T) {
			s, url := serve(t, fast())
			question := strings.Repeat("words of a first question ", 40)
			_, b := post(t, url+"/v1/chat/completions", M{"model": "base", "messages": chatOf(question), "max_tokens": 100})
			first := decode(t, b)
			require.Zero(t, first.Usage.PromptTokensDetails.CachedTokens)

			body := M{"model": "base", "messages": chatOf(question, first.Choices[0].Message.Content, "and then?"), "max_tokens": 5}
			if stream {
				body["stream"], body["stream_options"] = true, M{"include_usage": true}
			}
			_, b = post(t, url+"/v1/chat/completions", body)
			var u *usage
			if stream {
				list := chunks(t, bytes.NewReader(b))
				u = list[len(list)-1].Usage
			} else {
				u = decode(t, b).Usage
			}
			// All blocks whose KV the first turn computed: the last token of its answer has none.
			want := (first.Usage.TotalTokens - 1) / 16 * 16
			require.Equal(t, want, u.PromptTokensDetails.CachedTokens)
			require.EqualValues(t, want, s.Stats().Totals.PrefixHits)

			body["cache_salt"] = "other tenant"
			delete(body, "stream")
			delete(body, "stream_options")
			_, b = post(t, url+"/v1/chat/completions", body)
			require.Zero(t, decode(t, b).Usage.PromptTokensDetails.CachedTokens)
		})
	}
}

func TestPromptForms(t *testing.T) {
	_, url := serve(t, fast())
	tests := []struct {
		name   string
		prompt any
		tokens int
	}{
		{"text", "123456789", 3},
		{"a list of one text", []string{"12345678"}, 2},
		{"token ids", []int{1, 2, 3, 4, 5}, 5},
		{"a list of one list of ids", [][]int{{1, 2, 3}}, 3},
		{"100k tokens", strings.Repeat("abcd", 100_000), 100_000},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			resp, b := post(t, url+"/v1/completions", M{"model": "base", "prompt": tt.prompt})
			require.Equal(t, 200, resp.StatusCode, "%s", b)
			c := decode(t, b)
			require.Equal(t, tt.tokens, c.Usage.PromptTokens)
			require.Equal(t, defaultTextTokens, c.Usage.CompletionTokens)
		})
	}
}

func TestBadInput(t *testing.T) {
	o := fast()
	o.MaxBodyBytes = 5000
	o.Engine.MaxContextTokens = 1000
	s, url := serve(t, o)
	user := chatOf("hi")
	tests := []struct {
		name   string
		path   string
		body   any
		status int
		text   string
	}{
		{"malformed", "chat/completions", `{"model":`, 400, "not a valid request"},
		{"empty", "completions", "", 400, "not a valid request"},
		{"wrong type", "chat/completions", `{"model":3}`, 400, "not a valid request"},
		{"no model", "chat/completions", M{"messages": user}, 400, "model: missing"},
		{"unknown model", "chat/completions", M{"model": "gpt", "messages": user}, 404, `"gpt" does not exist`},
		{"no messages", "chat/completions", M{"model": "base"}, 400, "messages: want at least one"},
		{"no role", "chat/completions", M{"model": "base", "messages": []M{{"content": "x"}}}, 400, "messages[0].role"},
		{"an image", "chat/completions", M{"model": "base", "messages": []M{{"role": "user", "content": []M{{"type": "image_url"}}}}}, 400, `"image_url"`},
		{"content is a number", "chat/completions", M{"model": "base", "messages": []M{{"role": "user", "content": 7}}}, 400, "want a string"},
		{"no prompt", "completions", M{"model": "base"}, 400, "prompt: missing"},
		{"empty prompt", "completions", M{"model": "base", "prompt": ""}, 400, "at least one token"},
		{"two prompts", "completions", M{"model": "base", "prompt": []string{"a", "b"}}, 400, "2 prompts"},
		{"prompt is an object", "completions", M{"model": "base", "prompt": M{}}, 400, "want a string"},
		{"negative token", "completions", M{"model": "base", "prompt": []int{-1}}, 400, "want a string"},
		{"n", "completions", M{"model": "base", "prompt": "a", "n": 2}, 400, "2 answers"},
		{"max_tokens", "completions", M{"model": "base", "prompt": "a", "max_tokens": 0}, 400, "max_tokens: 0"},
		{"huge max_tokens", "completions", M{"model": "base", "prompt": "a", "max_tokens": 1 << 60}, 400, "context holds 1000"},
		{"prompt too long", "completions", M{"model": "base", "prompt": strings.Repeat("abcd", 1000)}, 400, "context holds 1000"},
		{"body too large", "completions", M{"model": "base", "prompt": strings.Repeat("abcd", 2000)}, 413, "larger than 5000 bytes"},
		{"stream_options alone", "completions", M{"model": "base", "prompt": "a", "stream_options": M{}}, 400, "only allowed with stream"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			resp, b := post(t, url+"/v1/"+tt.path, tt.body)
			require.Equal(t, tt.status, resp.StatusCode, "%s", b)
			var e struct {
				Error struct {
					Message, Type string
					Code          int
				}
			}
			require.NoError(t, json.Unmarshal(b, &e))
			require.Contains(t, e.Error.Message, tt.text)
			require.NotEmpty(t, e.Error.Type)
			require.Equal(t, tt.status, e.Error.Code)
		})
	}
	require.EqualValues(t, len(tests), s.Stats().Rejected)
	require.Zero(t, s.Stats().Running+s.Stats().Waiting)
}

func TestQueueFull(t *testing.T) {
	o := fast()
	o.Engine.MaxRunning, o.Engine.MaxWaiting, o.TimeScale = 1, 1, 0.001
	s, url := serve(t, o)
	ctx, leave := context.WithCancel(t.Context())
	ended := make(chan struct{})
	for range 2 {
		go func() {
			defer func() { ended <- struct{}{} }()
			req, _ := http.NewRequestWithContext(ctx, "POST", url+"/v1/completions", strings.NewReader(`{"model":"base","prompt":"a"}`))
			if resp, err := http.DefaultClient.Do(req); err == nil {
				resp.Body.Close()
			}
		}()
		require.Eventually(t, func() bool { return s.Stats().Running == 1 }, 5*time.Second, time.Millisecond)
	}
	require.Eventually(t, func() bool { return s.Stats().Waiting == 1 }, 5*time.Second, time.Millisecond)
	resp, b := post(t, url+"/v1/completions", M{"model": "base", "prompt": "a"})
	require.Equal(t, 429, resp.StatusCode, "%s", b)

	// Both clients leave: nothing may be left in the engine, long before anything was finished.
	leave()
	<-ended
	<-ended
	require.Eventually(t, func() bool {
		st := s.Stats()
		return st.Running+st.Waiting+st.BlocksUsed == 0 && st.Totals.Cancelled == 2 && st.Left == 2
	}, 5*time.Second, time.Millisecond)
}

func TestAdapters(t *testing.T) {
	o := fast()
	o.Adapters = []string{"sql", "legal"}
	s, url := serve(t, o)
	resp, err := http.Get(url + "/v1/models")
	require.NoError(t, err)
	var list struct {
		Data []struct {
			ID, Root    string
			Parent      *string
			MaxModelLen int `json:"max_model_len"`
		}
	}
	require.NoError(t, json.NewDecoder(resp.Body).Decode(&list))
	resp.Body.Close()
	require.Len(t, list.Data, 3)
	require.Nil(t, list.Data[0].Parent)
	require.Equal(t, "base", *list.Data[2].Parent)
	require.Equal(t, 131072, list.Data[0].MaxModelLen)

	prompt := strings.Repeat("abcd", 100)
	for _, model := range []string{"base", "sql", "legal"} {
		_, b := post(t, url+"/v1/completions", M{"model": model, "prompt": prompt})
		c := decode(t, b)
		require.Equal(t, model, c.Model)
		require.Zero(t, c.Usage.PromptTokensDetails.CachedTokens, "adapters share no blocks")
	}
	require.Equal(t, []string{"sql", "legal"}, s.Stats().ResidentAdapters)
	page := scrape(t, url)
	require.Contains(t, page, `vllm:lora_requests_info{max_lora="4",running_lora_adapters="",waiting_lora_adapters=""} `)
}

func TestBlockEvents(t *testing.T) {
	o := fast()
	o.Engine.Blocks = 8
	cached := map[uint64]string{}
	cleared := 0
	o.Stored = func(b StoredBlocks) {
		for i, h := range b.Hashes {
			cached[h] = string(b.Tokens[i*64 : (i+1)*64])
		}
	}
	o.Removed = func(_ time.Duration, hashes []uint64) {
		for _, h := range hashes {
			delete(cached, h)
		}
	}
	o.Cleared = func(time.Duration) { clear(cached); cleared++ }
	s, url := serve(t, o)
	for i := range 5 {
		post(t, url+"/v1/completions", M{"model": "base", "prompt": strings.Repeat(fmt.Sprintf("%04d", i), 40)})
	}
	require.Len(t, cached, s.Stats().BlocksCached)
	texts := ""
	for _, text := range cached {
		texts += text
	}
	require.Contains(t, texts, strings.Repeat("0004", 16))
	require.NotContains(t, texts, strings.Repeat("0000", 16))
	resp, _ := post(t, url+"/reset_prefix_cache", "")
	require.Equal(t, 200, resp.StatusCode)
	require.Empty(t, cached)
	require.Equal(t, 1, cleared)
}

// What is published is what the cache holds, with what the blocks are made of, and is out before a client has its answer.
func TestPublishesEvents(t *testing.T) {
	o := fast()
	o.Engine.Blocks, o.Adapters = 16, []string{"sql"}
	o.Events = events.NewPublisher(events.PublisherOptions{Topic: "kv@engine@base"})
	held := map[uint64]events.Event{}
	sink := sinkFunc(func(m *events.Message) {
		for _, e := range m.Batch.Events {
			require.True(t, e.Kind != events.Stored || e.Dense())
			for i, h := range e.Hashes {
				delete(held, h)
				if e.Kind == events.Stored {
					one := events.Event{Parent: e.Parent, HasParent: e.HasParent, Adapter: e.Adapter, Tokens: slices.Clone(e.Tokens[16*i : 16*(i+1)])}
					if i > 0 {
						one.Parent, one.HasParent = e.Hashes[i-1], true
					} else {
						one.Salt = e.Salt
					}
					held[h] = one
				}
			}
			if e.Kind == events.Cleared {
				clear(held)
			}
		}
	})
	live, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	replay, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	served := make(chan error, 1)
	go func() { served <- o.Events.Serve(ctx, live, replay) }()
	t.Cleanup(func() { cancel(); <-served })
	// settle reads all that is published by now: replays need no subscription to be there in time.
	settle := func() {
		clear(held)
		sub, err := events.NewSubscriber(events.Options{Endpoint: "tcp://" + live.Addr().String(), Replay: "tcp://" + replay.Addr().String()}, sink)
		require.NoError(t, err)
		ctx, cancel := context.WithCancel(t.Context())
		ran := make(chan error, 1)
		go func() { ran <- sub.Run(ctx) }()
		require.Eventually(t, func() bool { return o.Events.Subscribers() == 1 }, 10*time.Second, time.Millisecond)
		require.Eventually(t, func() bool { return sub.Health().Batches == o.Events.Published() }, 10*time.Second, time.Millisecond)
		cancel()
		<-ran
		require.Eventually(t, func() bool { return o.Events.Subscribers() == 0 }, 10*time.Second, time.Millisecond)
	}

	s, url := serve(t, o)
	post(t, url+"/v1/completions", M{"model": "base", "prompt": strings.Repeat("abcd", 40)})
	post(t, url+"/v1/completions", M{"model": "base", "prompt": strings.Repeat("abcd", 40), "cache_salt": "tenant"})
	post(t, url+"/v1/completions", M{"model": "sql", "prompt": strings.Repeat("abcd", 40), "cache_salt": "tenant"})
	settle()
	require.Len(t, held, s.Stats().BlocksCached)
	roots := map[string]int{}
	for _, e := range held {
		if !e.HasParent {
			roots[e.Adapter+"/"+e.Salt]++
		} else {
			require.Contains(t, held, e.Parent)
		}
		require.Equal(t, slices.Repeat([]uint32{0x64636261}, 8), e.Tokens[:8], "the answer begins in the third block")
	}
	require.Equal(t, map[string]int{"/": 1, "/tenant": 1, "sql/tenant": 1}, roots)

	for i := range 5 {
		post(t, url+"/v1/completions", M{"model": "base", "prompt": strings.Repeat(fmt.Sprintf("%04d", i), 40)})
	}
	settle()
	require.Len(t, held, s.Stats().BlocksCached, "the old ones were evicted")
	post(t, url+"/reset_prefix_cache", "")
	settle()
	require.Empty(t, held)
}

type sinkFunc func(*events.Message)

func (f sinkFunc) Apply(m *events.Message) { f(m) }
func (sinkFunc) Lost(events.Loss)          {}

// A router that makes the same pseudo-tokens can tell an engine's blocks from its events.
func TestPseudoTokens(t *testing.T) {
	o := fast()
	var cached []uint32
	o.Stored = func(b StoredBlocks) { cached = appendIDs(cached, b.Tokens) }
	_, url := serve(t, o)
	chat, err := json.Marshal(M{"model": "base", "messages": chatOf(strings.Repeat("hello ", 50), "yes", "and?"), "max_tokens": 1})
	require.NoError(t, err)
	ids, err := Pseudo{}.AppendChat(t.Context(), []uint32{7}, chat)
	require.NoError(t, err)
	_, b := post(t, url+"/v1/chat/completions", string(chat))
	require.Equal(t, decode(t, b).Usage.PromptTokens, len(ids)-1)
	require.NotEmpty(t, cached)
	require.Equal(t, ids[1:1+len(cached)], cached)

	text := `{"model":"base","prompt":"` + strings.Repeat("some other text ", 20) + `","max_tokens":1}`
	cached = nil
	ids, err = Pseudo{}.AppendCompletion(t.Context(), nil, []byte(text))
	require.NoError(t, err)
	post(t, url+"/v1/completions", text)
	require.Equal(t, ids[:len(cached)], cached)
	for _, bad := range []string{"", "{}", `{"messages":[{}]}`} {
		_, err = Pseudo{}.AppendChat(t.Context(), nil, []byte(bad))
		require.Error(t, err)
		_, err = Pseudo{}.AppendCompletion(t.Context(), nil, []byte(bad))
		require.Error(t, err)
	}
}

// The tests below run on a fake clock, so their times are exact.

// simulate runs a server inside a bubble; do calls it without a network.
func simulate(t *testing.T, o Options, f func(t *testing.T, s *Server)) {
	synctest.Test(t, func(t *testing.T) {
		s, err := New(o)
		require.NoError(t, err)
		ctx, cancel := context.WithCancel(t.Context())
		go func() { _ = s.Run(ctx) }()
		synctest.Wait()
		f(t, s)
		cancel()
		synctest.Wait()
	})
}

// timedWriter notes when each write came.
type timedWriter struct {
	*httptest.ResponseRecorder
	at []time.Time
}

func (w *timedWriter) Write(b []byte) (int, error) {
	w.at = append(w.at, time.Now())
	return w.ResponseRecorder.Write(b)
}

func do(ctx context.Context, s *Server, method, path string, body string) (w *timedWriter, aborted bool) {
	w = &timedWriter{ResponseRecorder: httptest.NewRecorder()}
	defer func() {
		if p := recover(); p != nil {
			if p != http.ErrAbortHandler {
				panic(p)
			}
			aborted = true
		}
	}()
	s.ServeHTTP(w, httptest.NewRequestWithContext(ctx, method, path, strings.NewReader(body)))
	return w, false
}

const tenTokens = `{"model":"base","prompt":"abcd","max_tokens":10,"stream":true}`

func steady(o Options) Options {
	o.Model = "base"
	o.Engine.PrefillRate = 100
	o.Engine.StepTime = 40 * time.Millisecond
	o.Engine.StepTimePerSequence = 1
	o.Engine.StepTimePerKVToken = 1
	return o
}

func TestTokensArriveOneByOneWhenDue(t *testing.T) {
	simulate(t, steady(Options{}), func(t *testing.T, s *Server) {
		start := time.Now()
		w, _ := do(t.Context(), s, "POST", "/v1/completions", tenTokens)
		require.Len(t, w.at, 10, "one write a token")
		for i, at := range w.at {
			due := 50*time.Millisecond + time.Duration(i)*40*time.Millisecond
			require.InDelta(t, due, at.Sub(start), float64(time.Millisecond), "token %d", i)
		}
	})
}

func TestHighTimeScaleKeepsTimeTrue(t *testing.T) {
	o := steady(Options{TimeScale: 100, MinSleep: time.Millisecond})
	simulate(t, o, func(t *testing.T, s *Server) {
		start := time.Now()
		w, _ := do(t.Context(), s, "POST", "/v1/completions", strings.Replace(tenTokens, "10", "1000", 1))
		// 50 ms, then 999 steps of 40 ms, a few ns more for each token of context: 40 s, in 0.4 s.
		require.InDelta(t, 400*time.Millisecond, time.Since(start), float64(2*time.Millisecond))
		require.LessOrEqual(t, len(w.at), 101, "a write each 4 ms")
		require.Len(t, chunks(t, w.Body), len(w.at))
	})
}

func TestCancelFreesTheSlotAtOnce(t *testing.T) {
	o := steady(Options{})
	o.Engine.MaxRunning = 1
	simulate(t, o, func(t *testing.T, s *Server) {
		ctx, leave := context.WithCancel(t.Context())
		var aborted bool
		go func() { _, aborted = do(ctx, s, "POST", "/v1/completions", tenTokens) }()
		time.Sleep(200 * time.Millisecond) // the bubble's clock
		require.Equal(t, 1, s.Stats().Running)
		leave()
		synctest.Wait()
		st := s.Stats()
		require.True(t, aborted)
		require.Zero(t, st.Running)
		require.EqualValues(t, 1, st.Totals.Cancelled)
		require.EqualValues(t, 1, st.Left)
	})
}

func TestStartUp(t *testing.T) {
	o := steady(Options{TimeScale: 2})
	o.Engine.StartUp = 10 * time.Second
	simulate(t, o, func(t *testing.T, s *Server) {
		w, _ := do(t.Context(), s, "GET", "/health", "")
		require.Equal(t, 503, w.Code)
		w, _ = do(t.Context(), s, "POST", "/v1/completions", tenTokens)
		require.Equal(t, 503, w.Code)
		time.Sleep(5 * time.Second)
		w, _ = do(t.Context(), s, "GET", "/health", "")
		require.Equal(t, 200, w.Code)
	})
}

func TestStopEndsRequests(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, err := New(steady(Options{}))
		require.NoError(t, err)
		ctx, cancel := context.WithCancel(t.Context())
		go func() { _ = s.Run(ctx) }()
		var streamed, whole *timedWriter
		var cut bool
		go func() { streamed, cut = do(t.Context(), s, "POST", "/v1/completions", tenTokens) }()
		go func() {
			whole, _ = do(t.Context(), s, "POST", "/v1/completions", strings.Replace(tenTokens, `"stream":true`, `"n":1`, 1))
		}()
		time.Sleep(200 * time.Millisecond)
		cancel()
		synctest.Wait()
		require.True(t, cut)
		require.NotContains(t, streamed.Body.String(), "[DONE]")
		require.Equal(t, 503, whole.Code)
		w, _ := do(t.Context(), s, "GET", "/health", "")
		require.Equal(t, 503, w.Code)
		require.Zero(t, s.Stats().Running)
		require.Error(t, s.Run(t.Context()), "a second Run")
	})
}

func TestIdleServerSleeps(t *testing.T) {
	simulate(t, steady(Options{}), func(t *testing.T, s *Server) {
		do(t.Context(), s, "POST", "/v1/completions", tenTokens)
		steps := s.Stats().Totals.Steps
		time.Sleep(1000 * time.Hour)
		require.Equal(t, steps, s.Stats().Totals.Steps)
	})
}

func TestSlowFault(t *testing.T) {
	simulate(t, steady(Options{}), func(t *testing.T, s *Server) {
		require.NoError(t, s.SetFault(Fault{SlowFactor: 3}))
		start := time.Now()
		do(t.Context(), s, "POST", "/v1/completions", tenTokens)
		require.InDelta(t, 3*410*time.Millisecond, time.Since(start), float64(time.Millisecond))
		require.NoError(t, s.SetFault(Fault{}))
		start = time.Now()
		do(t.Context(), s, "POST", "/v1/completions", tenTokens)
		require.InDelta(t, 410*time.Millisecond, time.Since(start), float64(time.Millisecond))
	})
}

func TestHangFault(t *testing.T) {
	simulate(t, steady(Options{}), func(t *testing.T, s *Server) {
		require.NoError(t, s.SetFault(Fault{HangRate: 1}))
		ctx, leave := context.WithTimeout(t.Context(), time.Hour)
		defer leave()
		start := time.Now()
		w, aborted := do(ctx, s, "GET", "/health", "")
		require.True(t, aborted)
		require.Zero(t, w.Body.Len())
		require.Equal(t, time.Hour, time.Since(start))
		require.EqualValues(t, 1, s.Stats().Hung)
	})
}

func TestFaultsOverHTTP(t *testing.T) {
	s, url := serve(t, fast())
	set := func(f string) {
		resp, b := post(t, url+"/sim/faults", f)
		require.Equal(t, 200, resp.StatusCode, "%s", b)
	}
	set(`{"refuse_rate":1}`)
	_, err := http.Get(url + "/health")
	require.ErrorIs(t, err, io.EOF)

	set(`{"status_rate":1,"status":500}`)
	resp, b := post(t, url+"/v1/completions", tenTokens)
	require.Equal(t, 500, resp.StatusCode)
	require.Contains(t, string(b), `"message":"injected fault"`)

	set(`{"cut_rate":1,"cut_after_tokens":3}`)
	resp, err = http.Post(url+"/v1/completions", "application/json", strings.NewReader(tenTokens))
	require.NoError(t, err)
	list, err := readChunks(t, resp.Body)
	resp.Body.Close()
	require.ErrorIs(t, err, io.ErrUnexpectedEOF)
	text := ""
	for _, c := range list {
		text += c.Choices[0].Text
		require.Nil(t, c.Choices[0].FinishReason)
	}
	require.Len(t, text, 3*tokenBytes)
	_, err = http.Post(url+"/v1/completions", "application/json", strings.NewReader(strings.Replace(tenTokens, "true", "false", 1)))
	require.ErrorIs(t, err, io.EOF)
	got := s.Stats().Counters
	require.NotZero(t, got.Refused) // Go's client asks once more on a connection that it had open
	got.Refused = 0
	require.Equal(t, Counters{Requests: 3, Failed: 1, Cut: 2}, got)
	require.Zero(t, s.Stats().Running)

	for _, bad := range []string{`{"cut_rate":2}`, `{"status":200}`, `{"no_such":1}`, `{`, `{"slow_factor":-1}`} {
		resp, b := post(t, url+"/sim/faults", bad)
		require.Equal(t, 400, resp.StatusCode, "%s", b)
	}
	require.Equal(t, Fault{CutRate: 1, CutAfterTokens: 3}, s.Fault(), "a bad fault changes nothing")

	set(`{"status_rate":0.3}`)
	failed := 0
	for range 200 {
		resp, _ := post(t, url+"/v1/completions", tenTokens)
		if resp.StatusCode != 200 {
			failed++
		}
	}
	require.InDelta(t, 60, failed, 30)
}

func TestOptionsReportEveryProblem(t *testing.T) {
	_, err := New(Options{Adapters: []string{"a", "a", "x,y"}, TimeScale: -1})
	for _, want := range []string{"Model is empty", `Adapters[1] is "a"`, `Adapters[2] is "x,y"`, "TimeScale is -1"} {
		require.ErrorContains(t, err, want)
	}
	_, err = New(Options{Model: "m", Engine: engine.Options{Blocks: -2}})
	require.ErrorContains(t, err, "Blocks is -2")
}
