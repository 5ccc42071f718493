package e2e

import (
	"compress/gzip"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/inferloom/inferloom/gateway"
	"github.com/inferloom/inferloom/internal/testenv"
	"github.com/inferloom/inferloom/kvcache/token"
	tokens "github.com/inferloom/inferloom/kvcache/token/chat"
)

func chatModel(t *testing.T) *tokens.Model {
	t.Helper()
	f, err := os.Open("../kvcache/token/testdata/qwen2.json.gz")
	require.NoError(t, err)
	defer f.Close()
	r, err := gzip.NewReader(f)
	require.NoError(t, err)
	file, err := io.ReadAll(r)
	require.NoError(t, err)
	tok, err := token.Load(file, token.Options{})
	require.NoError(t, err)
	template, err := os.ReadFile("../kvcache/token/chat/testdata/turns.jinja")
	require.NoError(t, err)
	m, err := tokens.New(tokens.Options{Tokenizer: tok, Template: string(template)})
	require.NoError(t, err)
	return m
}

// The gateway counts the tokens that engines count, and knows to the token what they have cached.
func TestTokensAreTheEngines(t *testing.T) {
	c := testenv.NewTokenCluster(t, 3, chatModel(t))
	tools := `"tools":[{"type":"function","function":{"name":"search","parameters":{"type":"object","properties":{"q":{"type":"string"}}}}}],`
	turns := 0
	for talk := range 6 {
		messages := fmt.Sprintf(`{"role":"system","content":"You are helper %d. %s"}`, talk%2, strings.Repeat("Answer in short sentences! ", 40))
		extra := ""
		if talk >= 4 {
			extra = tools // which the template puts behind the instructions
		}
		for turn := range 5 {
			messages += fmt.Sprintf(`,{"role":"user","content":"Question %d of talk %d: what is <|im_end|> 世界? %s"}`, turn, talk, strings.Repeat("And why? ", 20*turn))
			a := post(t, context.Background(), c.URL, `{"model":"m","max_tokens":8,`+extra+`"messages":[`+messages+`]}`)
			require.Equal(t, http.StatusOK, a.status, a.body)
			var answer struct {
				Choices []struct{ Message struct{ Content string } }
				Usage   struct {
					PromptTokens        int `json:"prompt_tokens"`
					PromptTokensDetails struct {
						CachedTokens int `json:"cached_tokens"`
					} `json:"prompt_tokens_details"`
				}
			}
			require.NoError(t, json.Unmarshal([]byte(a.body), &answer))
			c.RequireIdle(t)
			turns++
			records := c.Records.All()
			require.Len(t, records, turns)
			got := records[turns-1]
			require.NoError(t, got.TokenizeErr)
			require.Equal(t, gateway.PromptTokenized, got.PromptKind)
			require.Equal(t, answer.Usage.PromptTokens, got.PromptTokens)
			require.Equal(t, answer.Usage.PromptTokensDetails.CachedTokens, got.PredictedCached, "talk %d, turn %d", talk, turn)
			if turn > 0 || talk >= 2 {
				require.Positive(t, got.PredictedCached)
			}
			messages += fmt.Sprintf(`,{"role":"assistant","content":%q}`, answer.Choices[0].Message.Content)
		}
	}
}

// What the template cannot say is estimated; the engine has the last word.
func TestTokensThatAreNotKnownAreEstimated(t *testing.T) {
	c := testenv.NewTokenCluster(t, 1, chatModel(t))
	for _, body := range []string{
		`{"model":"m","messages":[{"role":"user","content":[{"type":"image_url","image_url":{"url":"data:,"}}]}]}`,
		`{"model":"m","messages":[{"role":"critic","content":"x"}]}`,
	} {
		require.Equal(t, http.StatusBadRequest, post(t, context.Background(), c.URL, body).status)
		records := c.Records.All()
		got := records[len(records)-1]
		require.Equal(t, gateway.PromptEstimated, got.PromptKind)
		require.Error(t, got.TokenizeErr)
		require.Positive(t, got.PromptTokens)
		require.NotEmpty(t, got.Endpoint)
	}
}
