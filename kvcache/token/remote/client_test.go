package remote

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

const chat = `{"model":"lora","messages":[{"role":"user","content":"hi"}],"stream":true}`

// transport answers without a network, so that synctest can own the time.
type transport func(*http.Request) (*http.Response, error)

func (f transport) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

func answer(status int, body string) (*http.Response, error) {
	return &http.Response{StatusCode: status, Body: io.NopCloser(strings.NewReader(body)), Header: http.Header{}}, nil
}

// hang never answers.
func hang(r *http.Request) (*http.Response, error) {
	<-r.Context().Done()
	return nil, r.Context().Err()
}

func newClient(t *testing.T, o Options) *Client {
	t.Helper()
	c, err := New(o)
	require.NoError(t, err)
	t.Cleanup(c.Close)
	return c
}

func TestPathsAndAnswers(t *testing.T) {
	var path, body, key string
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		read, _ := io.ReadAll(r.Body)
		path, body, key = r.URL.Path, string(read), r.Header.Get("Authorization")
		switch path {
		case "/in/v1/chat/completions/render":
			fmt.Fprint(w, `{"request_id":"x","token_ids":[1,2,4294967295],"features":null,"sampling_params":{}}`)
		case "/in/v1/completions/render":
			fmt.Fprint(w, ` [{"token_ids":[7]}]`)
		case "/in/tokenize":
			fmt.Fprint(w, `{"count":2,"max_model_len":4096,"tokens":[8, 9],"token_strs":null}`)
		}
	}))
	defer s.Close()
	header := http.Header{"Authorization": {"Bearer k"}}
	render := newClient(t, Options{URLs: []string{s.URL + "/in/"}, Model: "base", Header: header})
	ids, err := render.AppendChat(t.Context(), []uint32{5}, []byte(chat))
	require.NoError(t, err)
	assert.Equal(t, []uint32{5, 1, 2, 4294967295}, ids)
	assert.Equal(t, "Bearer k", key)
	assert.JSONEq(t, strings.Replace(chat, "lora", "base", 1), body)

	ids, err = render.AppendCompletion(t.Context(), nil, []byte(`{"prompt":"a"}`))
	require.NoError(t, err)
	assert.Equal(t, []uint32{7}, ids)

	tokenize := newClient(t, Options{URLs: []string{s.URL + "/in"}, API: Tokenize})
	for _, ask := range []func(context.Context, []uint32, []byte) ([]uint32, error){tokenize.AppendChat, tokenize.AppendCompletion} {
		ids, err = ask(t.Context(), nil, []byte(chat))
		require.NoError(t, err)
		assert.Equal(t, []uint32{8, 9}, ids)
		assert.Equal(t, "/in/tokenize", path)
		assert.Equal(t, chat, body, "sent as it is")
	}
}

func TestBadAnswers(t *testing.T) {
	for name, tt := range map[string]struct {
		status int
		body   string
		want   string
	}{
		"no JSON":                {200, `hello`, "invalid character"},
		"empty":                  {200, ``, "unexpected end"},
		"no ids":                 {200, `{}`, "no token ids"},
		"empty list":             {200, `[]`, "no token ids"},
		"null":                   {200, `null`, "no token ids"},
		"negative id":            {200, `{"token_ids":[-1]}`, "cannot unmarshal number -1"},
		"large id":               {200, `{"tokens":[4294967296]}`, "cannot unmarshal number 4294967296"},
		"text":                   {200, `{"tokens":"a"}`, "cannot unmarshal string"},
		"image":                  {200, `{"token_ids":[1],"features":{"mm_hashes":{"image":["a"]}}}`, ErrMultimodal.Error()},
		"parts":                  {200, `{"token_ids":[1],"content_parts":[{}]}`, ErrMultimodal.Error()},
		"two prompts":            {200, `[{"token_ids":[1]},{"token_ids":[2]}]`, ErrPrompts.Error()},
		"nested":                 {200, `{"tokens":[[1],[2]]}`, ErrPrompts.Error()},
		"very long":              {200, `{"tokens":[1` + strings.Repeat(" ", 5000) + `]}`, "longer than 4096 bytes"},
		"error of vLLM":          {400, `{"error":{"message":"bad role","type":"BadRequestError","code":400}}`, "/render: status 400: bad role"},
		"error of SGLang":        {400, `{"object":"error","message":"bad role","code":400}`, "status 400: bad role"},
		"error of the framework": {422, `{"detail":[{"msg":"field required"}]}`, `status 422: [{"msg":"field required"}]`},
		"missing path":           {404, `{"detail":"Not Found"}`, "--enable-scale-out"},
		"long error":             {500, strings.Repeat("é", 400), "..."},
	} {
		t.Run(name, func(t *testing.T) {
			c := newClient(t, Options{
				URLs: []string{"http://a"}, MaxAnswerBytes: 4096,
				Transport: transport(func(*http.Request) (*http.Response, error) { return answer(tt.status, tt.body) }),
			})
			ids, err := c.AppendChat(t.Context(), []uint32{5}, []byte(chat))
			require.ErrorContains(t, err, tt.want)
			assert.Less(t, len(err.Error()), 600)
			assert.Equal(t, []uint32{5}, ids, "dst as it was")
		})
	}
}

func TestBadBodies(t *testing.T) {
	c := newClient(t, Options{URLs: []string{"http://a"}, Model: "base", Transport: transport(func(*http.Request) (*http.Response, error) {
		return nil, errors.New("was asked")
	})})
	for _, body := range []string{"", "null", "[]", `{"a"`} {
		_, err := c.AppendChat(t.Context(), nil, []byte(body))
		assert.ErrorContains(t, err, "body: ", body)
	}
}

func TestOptionsAreChecked(t *testing.T) {
	_, err := New(Options{
		URLs: []string{"ftp://a", "http://", "http://a?b", "%"}, API: 7, Timeout: -1, MaxConnections: -2, Failures: -3, Cooldown: -4,
		MaxAnswerBytes: -5,
	})
	for _, want := range []string{"URLs[0]", "URLs[1]", "URLs[2]", "URLs[3]", "API is 7", "Timeout is -1ns", "MaxConnections is -2", "Failures is -3",
		"Cooldown is -4ns", "MaxAnswerBytes is -5"} {
		assert.ErrorContains(t, err, want)
	}
	_, err = New(Options{})
	assert.ErrorContains(t, err, "URLs: none")
}

func TestAFailingServerIsLeftAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		asked := map[string]int{}
		broken := true
		c := newClient(t, Options{
			URLs: []string{"http://good", "http://bad"}, Failures: 3, Cooldown: time.Second,
			Transport: transport(func(r *http.Request) (*http.Response, error) {
				asked[r.URL.Host]++
				if r.URL.Host == "bad" && broken {
					return answer(503, "starting")
				}
				return answer(200, `{"token_ids":[1]}`)
			}),
		})
		call := func(n int) {
			for range n {
				_, err := c.AppendChat(t.Context(), nil, []byte(chat))
				require.NoError(t, err, "the good one answers")
			}
		}
		call(100)
		assert.Equal(t, map[string]int{"good": 100, "bad": 3}, asked)
		time.Sleep(time.Second + 1)
		call(10)
		assert.Equal(t, 4, asked["bad"], "one call tries it")
		broken = false
		time.Sleep(time.Second + 1)
		call(100)
		assert.Greater(t, asked["bad"], 40, "it is back")
	})
}

func TestNoServer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newClient(t, Options{URLs: []string{"http://a", "http://b"}, Failures: 1, Transport: transport(func(r *http.Request) (*http.Response, error) {
			return nil, errors.New("refused by " + r.URL.Host)
		})})
		_, err := c.AppendChat(t.Context(), nil, []byte(chat))
		assert.ErrorContains(t, err, "refused by a")
		assert.ErrorContains(t, err, "refused by b")
		assert.NotErrorIs(t, err, ErrUnavailable)
		_, err = c.AppendChat(t.Context(), nil, []byte(chat))
		require.ErrorIs(t, err, ErrUnavailable)
		assert.ErrorContains(t, err, "refused by a", "the reason is still told")
	})
}

func TestTheRequestIsNotTheServersFault(t *testing.T) {
	asked := 0
	c := newClient(t, Options{URLs: []string{"http://a", "http://b"}, Failures: 1, Transport: transport(func(*http.Request) (*http.Response, error) {
		asked++
		return answer(400, `{"error":{"message":"no user message"}}`)
	})})
	for range 3 {
		_, err := c.AppendChat(t.Context(), nil, []byte(chat))
		var status *StatusError
		require.ErrorAs(t, err, &status)
		assert.Equal(t, "no user message", status.Message)
	}
	assert.Equal(t, 3, asked, "no other server is asked, and no breaker opens")
}

func TestTimeIsShared(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var slow atomic.Int32
		c := newClient(t, Options{
			URLs: []string{"http://a", "http://b", "http://c"}, Timeout: 3 * time.Second, Failures: 100,
			Transport: transport(func(r *http.Request) (*http.Response, error) {
				if slow.Add(-1) >= 0 {
					return hang(r)
				}
				return answer(200, `{"token_ids":[1]}`)
			}),
		})
		for hanging, want := range []time.Duration{0, time.Second, 2 * time.Second, 3 * time.Second} {
			slow.Store(int32(hanging))
			start := time.Now()
			_, err := c.AppendChat(t.Context(), nil, []byte(chat))
			assert.Equal(t, want, time.Since(start))
			if hanging < 3 {
				assert.NoError(t, err)
			} else {
				assert.ErrorIs(t, err, context.DeadlineExceeded)
			}
		}
	})
}

func TestACallerWhoLeavesIsNotTheServersFault(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newClient(t, Options{URLs: []string{"http://a"}, Failures: 1, Transport: transport(hang)})
		for range 3 {
			ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
			_, err := c.AppendChat(ctx, nil, []byte(chat))
			assert.ErrorIs(t, err, context.DeadlineExceeded)
			cancel()
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		_, err := c.AppendChat(ctx, nil, []byte(chat))
		assert.ErrorIs(t, err, context.Canceled)
		_, err = c.AppendChat(t.Context(), nil, []byte(chat))
		assert.ErrorIs(t, err, context.DeadlineExceeded, "the breaker is closed still")
		_, err = c.AppendChat(t.Context(), nil, []byte(chat))
		assert.ErrorIs(t, err, ErrUnavailable)
	})
}

func FuzzAnswer(f *testing.F) {
	for _, s := range []string{`{"token_ids":[1,2]}`, `[{"token_ids":[1]}]`, `{"tokens":[3],"count":1}`, `{"tokens":[[1]]}`, `{"features":{}}`, `[`, ``} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		ids, err := parse(b)
		if (err == nil) == (len(ids) == 0) {
			t.Errorf("%d ids and error %v", len(ids), err)
		}
		message(b)
	})
}
