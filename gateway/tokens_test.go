package gateway_test

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/inferloom/inferloom/gateway"
	"github.com/inferloom/inferloom/gateway/api"
	"github.com/inferloom/inferloom/scheduling"
	"github.com/inferloom/inferloom/scheduling/policy"
	"github.com/inferloom/inferloom/scheduling/prefix"
)

// letters is a Tokenizer for which a byte of the body is a token. It does not know bodies that mention an image.
type letters struct{}

var errImage = errors.New("an image has no tokens")

func (letters) AppendChat(_ context.Context, dst []uint32, body []byte) ([]uint32, error) {
	_, messages, _ := strings.Cut(string(body), "messages")
	for _, c := range []byte(messages) {
		dst = append(dst, uint32(c))
	}
	if strings.Contains(messages, "image") {
		return dst, errImage
	}
	return dst, nil
}

func (l letters) AppendCompletion(ctx context.Context, dst []uint32, body []byte) ([]uint32, error) {
	return append(dst, 1, 2, 3), nil
}

func TestBrainTokenizes(t *testing.T) {
	pool, err := scheduling.NewPool(scheduling.PoolOptions{Endpoints: []scheduling.Endpoint{
		{ID: "a", Address: "10.0.0.1:80", Model: "m", Adapters: []string{"poet"}}, {ID: "b", Address: "10.0.0.2:80", Model: "other"},
	}})
	require.NoError(t, err)
	index, err := prefix.New(prefix.Options{MaxBytes: 8 << 20})
	require.NoError(t, err)
	sched, err := scheduling.New(pool, scheduling.Options{Profile: policy.Default(index)})
	require.NoError(t, err)
	var seen records
	brain, err := gateway.NewBrain(gateway.BrainOptions{Scheduler: sched, Observer: &seen, Tokenizers: map[string]gateway.Tokenizer{"m": letters{}}})
	require.NoError(t, err)

	long := strings.Repeat("x", 400)
	for _, row := range []struct {
		name   string
		kind   api.Kind
		body   string
		want   gateway.PromptKind
		tokens int
		cached int
		err    bool
	}{
		{"exact", api.Chat, `{"model":"m","messages":[{"content":"` + long + `"}]}`, gateway.PromptTokenized, 419, 0, false},
		{"the same again, other tools", api.Chat, `{"model":"m","tools":[{}],"messages":[{"content":"` + long + `"}]}`, gateway.PromptTokenized, 419, 416, false},
		{"an adapter has its base model's tokens", api.Chat, `{"model":"poet","messages":[{"content":"` + long + `"}]}`, gateway.PromptTokenized, 419, 0, false},
		{"estimated", api.Chat, `{"model":"m","messages":[{"content":"` + long + `image"}]}`, gateway.PromptEstimated, 105, 0, true},
		{"estimated prompts find each other", api.Chat, `{"model":"m","messages":[{"content":"` + long + `image"}]}`, gateway.PromptEstimated, 105, 96, true},
		{"and not those of exact tokens", api.Chat, `{"model":"m","messages":[{"content":"` + long + `"}]}`, gateway.PromptTokenized, 419, 416, false},
		{"a completion", api.Completion, `{"model":"m","prompt":"abc"}`, gateway.PromptTokenized, 3, 0, false},
		{"several prompts", api.Completion, `{"model":"m","prompt":["abc","d"]}`, gateway.PromptEstimated, 3, 0, true},
		{"ids", api.Completion, `{"model":"m","prompt":[5,6]}`, gateway.PromptGiven, 2, 0, false},
		{"a model without a tokenizer", api.Chat, `{"model":"other","messages":[{}]}`, gateway.PromptEstimated, 1, 0, false},
	} {
		t.Run(row.name, func(t *testing.T) {
			route, err := brain.Route(context.Background(), parse(t, row.kind, row.body))
			require.NoError(t, err)
			route.End(nil)
			got := seen[len(seen)-1]
			require.Equal(t, row.want, got.PromptKind)
			require.Equal(t, row.err, got.TokenizeErr != nil, "%v", got.TokenizeErr)
			require.Equal(t, row.tokens, got.PromptTokens)
			require.Equal(t, row.cached, got.PredictedCached)
		})
	}
}

func TestPromptKindsHaveNames(t *testing.T) {
	require.Equal(t, "estimated", gateway.PromptEstimated.String())
	require.Equal(t, "tokenized", gateway.PromptTokenized.String())
	require.Equal(t, "given", gateway.PromptGiven.String())
	require.Equal(t, "PromptKind(9)", gateway.PromptKind(9).String())
}

// A request that was tokenized leaves its buffer to the next; no prompt is read after its end.
func TestBrainReusesTheMemoryOfTokens(t *testing.T) {
	brain, _, seen := newBrain(t, scheduling.Endpoint{ID: "a", Address: "10.0.0.1:80", Model: "m"})
	for range 50 {
		route, err := brain.Route(context.Background(), parse(t, api.Completion, `{"model":"m","prompt":[1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17]}`))
		require.NoError(t, err)
		route.End(nil)
		route.End(nil)
		require.False(t, route.Next(nil))
	}
	for i, r := range (*seen)[1:] {
		require.Equal(t, 16, r.PredictedCached, "request %d", i+1)
	}
}
