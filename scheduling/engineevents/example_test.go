package engineevents_test

import (
	"context"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/inferloom/inferloom/kvcache"
	"github.com/inferloom/inferloom/kvcache/follow"
	"github.com/inferloom/inferloom/scheduling"
	"github.com/inferloom/inferloom/scheduling/engineevents"
	"github.com/inferloom/inferloom/scheduling/policy"
)

// exact is the code of docs/kvservice.md, line by line, with the errors looked at.
func exact(ctx context.Context, pool *scheduling.Pool) (*scheduling.Scheduler, error) {
	index, err := kvcache.New(kvcache.Options{GuessFor: 5 * time.Second})
	if err != nil {
		return nil, err
	}
	follower, err := follow.New(follow.Options{Index: index})
	if err != nil {
		return nil, err
	}
	watcher, err := engineevents.New(engineevents.Options{Pool: pool, Follower: follower, Port: 5557, ReplayPort: 5558})
	if err != nil {
		return nil, err
	}
	go follower.Run(ctx)
	go watcher.Run(ctx)
	return scheduling.New(pool, scheduling.Options{Profile: policy.Default(index)})
}

func TestGuide(t *testing.T) {
	guide, err := os.ReadFile("../../docs/kvservice.md")
	require.NoError(t, err)
	source, err := os.ReadFile("example_test.go")
	require.NoError(t, err)
	_, code, _ := strings.Cut(string(guide), "```go\n")
	code, _, _ = strings.Cut(code, "```")
	for line := range strings.Lines(code) {
		require.Contains(t, string(source), strings.TrimPrefix(strings.TrimSpace(line), "sched, err := "), "the guide's code is what is compiled here")
	}

	pool, err := scheduling.NewPool(scheduling.PoolOptions{Endpoints: []scheduling.Endpoint{{Address: "127.0.0.1:1", Model: "llama"}}})
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	sched, err := exact(ctx, pool)
	require.NoError(t, err)
	d, err := sched.Pick(ctx, &scheduling.Request{Model: "llama", Prompt: scheduling.Prompt{Tokens: make([]uint32, 100)}})
	require.NoError(t, err)
	d.Done()
}
