package sim

import (
	"context"
	"testing"
	"time"

	"github.com/inferloom/inferloom/internal/engine"
	"github.com/inferloom/inferloom/internal/workload"
	"github.com/stretchr/testify/require"
)

func TestSmoke(t *testing.T) {
	for _, p := range Policies() {
		src, err := workload.Chats(workload.ChatOptions{Seed: 1, RequestsPerSecond: 8})
		require.NoError(t, err)
		start := time.Now()
		res, err := Run(context.Background(), Config{Seed: 1, Fleet: []Group{{Count: 8, Engine: engine.Options{BlockTokens: 512, Blocks: 843}}}, Workload: src, Policy: p, Duration: 20 * time.Minute, WarmUp: 2 * time.Minute,
			SLO: SLO{TTFT: 2 * time.Second, TPOT: 50 * time.Millisecond}})
		require.NoError(t, err)
		t.Log(p.Name, res.Measured, res.TTFT.Quantile(.5), res.TTFT.Quantile(.95), res.TPOT.Quantile(.5), res.Goodput(), res.HitRatio(), res.Imbalance, res.Events, time.Since(start))
	}
}
