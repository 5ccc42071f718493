package inferloom_test

import (
	"context"
	"os"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/inferloom/inferloom/gateway"
	"github.com/inferloom/inferloom/scheduling"
	"github.com/inferloom/inferloom/scheduling/latency"
	"github.com/inferloom/inferloom/scheduling/latency/llmd"
	"github.com/inferloom/inferloom/scheduling/peers"
	"github.com/inferloom/inferloom/scheduling/policy"
	"github.com/inferloom/inferloom/scheduling/prefix"
)

// predicting is the code of docs/latency.md.
func predicting(pool *scheduling.Pool, index *prefix.Index) (*gateway.Brain, *latency.Model, error) {
	model, err := latency.New(latency.Options{})
	if err != nil {
		return nil, nil, err
	}
	sched, err := scheduling.New(pool, scheduling.Options{Profile: policy.Objectives(index, model)})
	if err != nil {
		return nil, nil, err
	}
	brain, err := gateway.NewBrain(gateway.BrainOptions{
		Scheduler:  sched,
		Learner:    model,           // told of each streamed answer
		Objectives: llmd.Objectives, // x-llm-d-slo-ttft-ms and x-llm-d-slo-tpot-ms, or a func of yours
	})
	return brain, model, err
}

// sharing is the code of docs/peers.md.
func sharing(ctx context.Context, key []byte, pool *scheduling.Pool, index *prefix.Index, model *latency.Model) error {
	p, err := peers.Start(ctx, peers.Options{
		Name: os.Getenv("POD_NAME"), Bind: ":7946", Join: []string{"gateway-peers:7946"}, // a headless service
		Keys: [][]byte{key}, // AES-GCM; rotate by adding one in front
		Pool: pool, Index: index, Latency: model,
	})
	if err != nil {
		return err
	}
	defer p.Close()
	producer := &prefix.Producer{Index: index, Routed: p.Routed}
	return producer.Validate()
}

func TestGuidesToLatencyAndPeersCompile(t *testing.T) {
	pool, err := scheduling.NewPool(scheduling.PoolOptions{})
	require.NoError(t, err)
	index, err := prefix.New(prefix.Options{})
	require.NoError(t, err)
	_, model, err := predicting(pool, index)
	require.NoError(t, err)
	require.ErrorContains(t, sharing(context.Background(), nil, pool, index, model), "keys[0]")
	requireCompiled(t, "latency_docs_test.go", "docs/latency.md", "docs/peers.md")
}
