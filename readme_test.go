package inferloom_test

import (
	"context"
	"os"
	"strings"
	"testing"

	"github.com/inferloom/inferloom/scheduling"
	"github.com/inferloom/inferloom/scheduling/policy"
	"github.com/inferloom/inferloom/scheduling/prefix"
	"github.com/stretchr/testify/require"
)

// embedding is the README's example, line by line, with the errors looked at.
func embedding(ctx context.Context, body []byte, forward func(address string, body []byte) error) error {
	pool, err := scheduling.NewPool(scheduling.PoolOptions{Endpoints: []scheduling.Endpoint{
		{Address: "10.0.0.1:8000", Model: "llama"},
		{Address: "10.0.0.2:8000", Model: "llama"},
	}})
	if err != nil {
		return err
	}
	index, err := prefix.New(prefix.Options{})
	if err != nil {
		return err
	}
	sched, err := scheduling.New(pool, scheduling.Options{Profile: policy.Default(index)})
	if err != nil {
		return err
	}

	// for each request:
	d, err := sched.Pick(ctx, &scheduling.Request{Model: "llama", Prompt: scheduling.Prompt{Text: body}})
	if err != nil {
		return err
	}
	defer d.Done()
	return forward(d.Endpoint.Address, body)
}

func TestReadmeExample(t *testing.T) {
	var sent string
	require.NoError(t, embedding(context.Background(), []byte("hello"), func(address string, _ []byte) error {
		sent = address
		return nil
	}))
	require.Contains(t, []string{"10.0.0.1:8000", "10.0.0.2:8000"}, sent)

	readme, err := os.ReadFile("README.md")
	require.NoError(t, err)
	source, err := os.ReadFile("readme_test.go")
	require.NoError(t, err)
	_, example, _ := strings.Cut(string(readme), "```go\n")
	example, _, _ = strings.Cut(example, "```")
	for line := range strings.Lines(example) {
		require.Contains(t, string(source), strings.TrimSpace(line), "the README's example is the one above")
	}
}
