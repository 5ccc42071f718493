package replay_test

import (
	"bytes"
	"compress/gzip"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/inferloom/inferloom/scheduling"
	"github.com/inferloom/inferloom/scheduling/policy"
	"github.com/inferloom/inferloom/scheduling/prefix"
	"github.com/inferloom/inferloom/scheduling/replay"
)

// fleet is a busy one: conversations that grow, ten engines' metrics for every choice, requests that end in their time.
type fleet struct {
	sched *scheduling.Scheduler
	rng   *rand.Rand
	held  []scheduling.Decision
	chain [][]uint64
	n     int
}

func newFleet(b *testing.B, endpoints int, profile scheduling.Profile) *fleet {
	var list []scheduling.Endpoint
	for i := range endpoints {
		list = append(list, scheduling.Endpoint{ID: fmt.Sprint("engine-", i), Address: fmt.Sprintf("10.0.%d.%d:8000", i/250, i%250+1), Model: "m", BlockTokens: 16})
	}
	pool, err := scheduling.NewPool(scheduling.PoolOptions{Endpoints: list})
	require.NoError(b, err)
	f := &fleet{newScheduler(b, pool, scheduling.Options{Profile: profile}), rand.New(rand.NewPCG(1, 1)), nil, make([][]uint64, 256), 0}
	return f
}

func (f *fleet) pick(b *testing.B) {
	f.n++
	talk := &f.chain[f.rng.IntN(len(f.chain))]
	for range 1 + f.rng.IntN(16) {
		*talk = append(*talk, f.rng.Uint64())
	}
	if len(*talk) > 500 {
		*talk = nil
	}
	d, err := f.sched.Pick(context.Background(), &scheduling.Request{Model: "m", Prompt: scheduling.Prompt{Chains: []scheduling.Chain{{BlockTokens: 16, Hashes: *talk}}}})
	if err != nil {
		b.Fatal(err)
	}
	f.held = append(f.held, d)
	if len(f.held) > 200 {
		k := f.rng.IntN(len(f.held))
		f.held[k].Done()
		f.held[k] = f.held[len(f.held)-1]
		f.held = f.held[:len(f.held)-1]
	}
	if f.n%10 == 0 { // a round of the scraper
		live := f.sched.Pool().Snapshot().Live()
		states := make([]scheduling.State, 10)
		for i := range states {
			slot := live[f.rng.IntN(len(live))]
			states[i] = scheduling.State{Endpoint: f.sched.Pool().Snapshot().Endpoint(slot).ID, At: time.Now(), Values: []scheduling.Value{
				{Metric: scheduling.Waiting, Value: float64(f.rng.IntN(4))}, {Metric: scheduling.Running, Value: float64(f.rng.IntN(64))},
				{Metric: scheduling.KVUsage, Value: float64(f.rng.IntN(1000)) / 1000},
			}}
		}
		_ = f.sched.Pool().Report(states...)
	}
}

// BenchmarkRecord is what recording adds to a pick, and what it writes.
func BenchmarkRecord(b *testing.B) {
	for _, endpoints := range []int{25, 100} {
		for _, recording := range []bool{false, true} {
			b.Run(fmt.Sprintf("endpoints=%d/recording=%v", endpoints, recording), func(b *testing.B) {
				f := newFleet(b, endpoints, policy.Default(largeIndex(b)))
				var written counter
				if recording {
					rec, err := replay.NewRecorder(&written, replay.RecorderOptions{MaxBuffered: 1 << 30})
					require.NoError(b, err)
					f.sched.Observe(1, rec)
					defer func() {
						require.NoError(b, rec.Close())
						b.ReportMetric(float64(written)/float64(rec.Stats().Recorded), "written-B/choice")
					}()
				}
				b.ReportAllocs()
				for b.Loop() {
					f.pick(b)
				}
			})
		}
	}
}

func largeIndex(b *testing.B) *prefix.Index {
	x, err := prefix.New(prefix.Options{})
	require.NoError(b, err)
	return x
}

type counter int

func (c *counter) Write(p []byte) (int, error) {
	*c += counter(len(p))
	return len(p), nil
}

// BenchmarkRun is one recorded choice read and weighed.
func BenchmarkRun(b *testing.B) {
	for _, endpoints := range []int{25, 100} {
		b.Run(fmt.Sprintf("endpoints=%d", endpoints), func(b *testing.B) {
			const choices = 2000
			f := newFleet(b, endpoints, policy.Default(largeIndex(b)))
			var file, packed bytes.Buffer
			rec, err := replay.NewRecorder(&file, replay.RecorderOptions{})
			require.NoError(b, err)
			f.sched.Observe(1, rec)
			for range choices {
				f.pick(b)
			}
			require.NoError(b, rec.Close())
			z := gzip.NewWriter(&packed)
			_, err = io.Copy(z, bytes.NewReader(file.Bytes()))
			require.NoError(b, err)
			require.NoError(b, z.Close())
			for b.Loop() {
				plan := scheduling.Options{Profile: policy.Default(largeIndex(b))}
				report, err := replay.Run(context.Background(), replay.NewReader(bytes.NewReader(file.Bytes())), replay.Options{Plan: plan})
				require.NoError(b, err)
				require.Equal(b, choices, report.Agreed)
			}
			b.ReportMetric(float64(b.Elapsed().Microseconds())/float64(b.N)/choices, "µs/choice")
			b.ReportMetric(float64(packed.Len())/choices, "packed-B/choice")
		})
	}
}
