package e2e

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/inferloom/inferloom/gateway"
	"github.com/inferloom/inferloom/gateway/proxy"
	"github.com/inferloom/inferloom/internal/enginesim"
	"github.com/inferloom/inferloom/internal/testenv"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func chat(model string, stream bool, maxTokens int) string {
	return fmt.Sprintf(`{"model":%q,"stream":%t,"max_tokens":%d,"messages":[{"role":"user","content":"tell me"}]}`, model, stream, maxTokens)
}

type answer struct {
	status int
	header http.Header
	body   string
	err    error // of reading the body
}

func post(t *testing.T, ctx context.Context, url, body string) answer {
	t.Helper()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, url+"/v1/chat/completions", strings.NewReader(body))
	require.NoError(t, err)
	req.Header.Set("Content-Type", "application/json")
	client := &http.Client{Transport: &http.Transport{}}
	defer client.CloseIdleConnections()
	resp, err := client.Do(req)
	if err != nil {
		return answer{err: err}
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	return answer{resp.StatusCode, resp.Header, string(b), err}
}

// openAIError returns the code in a body of the shape that OpenAI's API gives errors.
func openAIError(t *testing.T, body string) (message, code string) {
	t.Helper()
	var shape struct {
		Error struct {
			Message, Type string
			Code          any
		}
	}
	require.NoError(t, json.Unmarshal([]byte(body), &shape), body)
	require.NotEmpty(t, shape.Error.Message, body)
	require.NotEmpty(t, shape.Error.Type, body)
	return shape.Error.Message, fmt.Sprint(shape.Error.Code)
}

func TestBadInput(t *testing.T) {
	c := testenv.NewCluster(t, 2, func(o *proxy.Options) { o.MaxBodyBytes = 10_000 })
	for _, row := range []struct {
		name, body string
		status     int
		message    string
	}{
		{"malformed JSON", `{"model":`, 400, "JSON"},
		{"not an object", `[1]`, 400, "JSON object"},
		{"missing model", `{"messages":[{"role":"user","content":"x"}]}`, 400, "model"},
		{"missing messages", `{"model":"m"}`, 400, "messages"},
		{"model of the wrong type", `{"model":7,"messages":[]}`, 400, "model"},
		{"unknown model", chat("nope", false, 5), 404, "nope"},
		{"oversized", `{"model":"m","messages":[{"role":"user","content":"` + strings.Repeat("x", 20_000) + `"}]}`, 413, "10000"},
	} {
		t.Run(row.name, func(t *testing.T) {
			a := post(t, context.Background(), c.URL, row.body)
			require.NoError(t, a.err)
			require.Equal(t, row.status, a.status, a.body)
			message, _ := openAIError(t, a.body)
			require.Contains(t, message, row.message)
			require.Contains(t, c.Log.String(), fmt.Sprintf(`"status":%d`, row.status), "the log says why")
		})
	}
	c.RequireIdle(t)
	for _, e := range c.Engines {
		require.Zero(t, e.Stats().Requests, "nothing of that reached an engine")
	}
}

func TestFaults(t *testing.T) {
	always := func(f enginesim.Fault) func(*testenv.Cluster) {
		return func(c *testenv.Cluster) {
			for _, e := range c.Engines {
				if err := e.SetFault(f); err != nil {
					panic(err)
				}
			}
		}
	}
	firstOnly := func(f enginesim.Fault) func(*testenv.Cluster) {
		return func(c *testenv.Cluster) {
			for _, e := range c.Engines[:len(c.Engines)-1] {
				if err := e.SetFault(f); err != nil {
					panic(err)
				}
			}
		}
	}
	for _, row := range []struct {
		name   string
		before func(*testenv.Cluster)
		stream bool
		check  func(*testing.T, *testenv.Cluster, answer)
	}{
		{"no endpoint", func(c *testenv.Cluster) { _ = c.Pool.Set(nil) }, false, func(t *testing.T, c *testenv.Cluster, a answer) {
			require.Equal(t, 503, a.status)
			_, code := openAIError(t, a.body)
			require.Equal(t, gateway.ReasonNoEndpoint, code)
			require.NotEmpty(t, a.header.Get("Retry-After"))
		}},
		{"all endpoints down", always(enginesim.Fault{RefuseRate: 1}), true, func(t *testing.T, c *testenv.Cluster, a answer) {
			require.Equal(t, 502, a.status)
			openAIError(t, a.body)
			require.Equal(t, 3, c.Records.All()[0].Attempts)
		}},
		{"listeners gone", func(c *testenv.Cluster) {
			for _, e := range c.Engines {
				e.HTTP.Close()
			}
		}, false, func(t *testing.T, c *testenv.Cluster, a answer) {
			require.Equal(t, 502, a.status)
			openAIError(t, a.body)
		}},
		{"dies before the first byte, others live", firstOnly(enginesim.Fault{RefuseRate: 1}), true, func(t *testing.T, c *testenv.Cluster, a answer) {
			require.Equal(t, 200, a.status)
			require.Contains(t, a.body, "data: [DONE]")
		}},
		{"dies in the prefill, others live", firstOnly(enginesim.Fault{CutRate: 1}), false, func(t *testing.T, c *testenv.Cluster, a answer) {
			require.Equal(t, 200, a.status)
		}},
		{"503 from some", firstOnly(enginesim.Fault{StatusRate: 1}), true, func(t *testing.T, c *testenv.Cluster, a answer) {
			require.Equal(t, 200, a.status)
		}},
		{"503 from all", always(enginesim.Fault{StatusRate: 1, Status: 503}), true, func(t *testing.T, c *testenv.Cluster, a answer) {
			require.Equal(t, 503, a.status)
			openAIError(t, a.body)
		}},
		{"500 is the engine's answer", always(enginesim.Fault{StatusRate: 1, Status: 500}), false, func(t *testing.T, c *testenv.Cluster, a answer) {
			require.Equal(t, 500, a.status)
			openAIError(t, a.body)
			require.Equal(t, 1, c.Records.All()[0].Attempts)
		}},
		{"dies mid-stream", always(enginesim.Fault{CutRate: 1, CutAfterTokens: 5}), true, func(t *testing.T, c *testenv.Cluster, a answer) {
			require.Equal(t, 200, a.status, "it had begun")
			require.NotContains(t, a.body, "[DONE]")
			events := strings.Split(strings.TrimSpace(a.body), "\n\n")
			openAIError(t, strings.TrimPrefix(events[len(events)-1], "data: "))
			require.Len(t, c.Records.All(), 1)
			var failure *gateway.EngineError
			require.ErrorAs(t, c.Records.All()[0].Err, &failure)
		}},
	} {
		t.Run(row.name, func(t *testing.T) {
			c := testenv.NewCluster(t, 3)
			row.before(c)
			a := post(t, context.Background(), c.URL, chat("m", row.stream, 20))
			row.check(t, c, a)
			c.RequireIdle(t)
			if a.status != 200 || !strings.Contains(a.body, "[DONE]") && row.stream {
				require.NotEmpty(t, c.Log.String(), "the log says why")
			}
		})
	}
}

func TestClientLeaves(t *testing.T) {
	for _, row := range []struct {
		name  string
		fault enginesim.Fault
		read  bool // wait for the first event before leaving
	}{
		{"while the engine hangs", enginesim.Fault{HangRate: 1}, false},
		{"mid-stream", enginesim.Fault{SlowFactor: 50}, true},
	} {
		t.Run(row.name, func(t *testing.T) {
			c := testenv.NewCluster(t, 1)
			require.NoError(t, c.Engines[0].SetFault(row.fault))
			ctx, leave := context.WithCancel(context.Background())
			req, err := http.NewRequestWithContext(ctx, http.MethodPost, c.URL+"/v1/chat/completions", strings.NewReader(chat("m", true, 4000)))
			require.NoError(t, err)
			client := &http.Client{Transport: &http.Transport{}}
			defer client.CloseIdleConnections()
			if row.read {
				resp, err := client.Do(req)
				require.NoError(t, err)
				defer resp.Body.Close()
				_, err = bufio.NewReader(resp.Body).ReadString('\n')
				require.NoError(t, err)
				leave()
			} else {
				failed := make(chan error)
				go func() {
					_, err := client.Do(req)
					failed <- err
				}()
				require.Eventually(t, func() bool { return c.Engines[0].Stats().Hung == 1 }, 5*time.Second, time.Millisecond)
				leave()
				err = <-failed
				require.ErrorIs(t, err, context.Canceled)
			}
			c.RequireIdle(t)
			require.Eventually(t, func() bool { return len(c.Records.All()) == 1 }, 5*time.Second, time.Millisecond)
			require.ErrorIs(t, c.Records.All()[0].Err, gateway.ErrClientGone)
		})
	}
}

func TestConversationStaysWithItsCache(t *testing.T) {
	c := testenv.NewCluster(t, 4)
	for conversation := range 4 {
		messages := fmt.Sprintf(`{"role":"user","content":"%d %s"}`, conversation, strings.Repeat("long ago ", 300))
		for turn := range 3 {
			a := post(t, context.Background(), c.URL, `{"model":"m","max_tokens":32,"messages":[`+messages+`]}`)
			require.Equal(t, 200, a.status, a.body)
			var reply struct {
				Choices []struct{ Message struct{ Content string } }
				Usage   struct {
					Prompt  int `json:"prompt_tokens"`
					Details struct {
						Cached int `json:"cached_tokens"`
					} `json:"prompt_tokens_details"`
				}
			}
			require.NoError(t, json.Unmarshal([]byte(a.body), &reply))
			if turn > 0 {
				require.Greater(t, reply.Usage.Details.Cached, reply.Usage.Prompt*8/10, "turn %d is where its predecessor was", turn)
			}
			content, err := json.Marshal(reply.Choices[0].Message.Content)
			require.NoError(t, err)
			messages += fmt.Sprintf(`,{"role":"assistant","content":%s},{"role":"user","content":"and then?"}`, content)
		}
	}
	c.RequireIdle(t)
	used := 0
	for _, e := range c.Engines {
		if e.Stats().Requests > 0 {
			used++
		}
	}
	require.Greater(t, used, 1, "conversations spread")
	for _, r := range c.Records.All() {
		require.NoError(t, r.Err)
		require.Positive(t, r.TTFT)
	}
}
