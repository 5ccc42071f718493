package latency_test

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/inferloom/inferloom/accel"
	"github.com/inferloom/inferloom/scheduling"
	"github.com/inferloom/inferloom/scheduling/latency"
)

func Example() {
	pool, _ := scheduling.NewPool(scheduling.PoolOptions{Endpoints: []scheduling.Endpoint{
		{ID: "a", Address: "10.0.0.1:8000"}, {ID: "b", Address: "10.0.0.2:8000"},
	}})
	model, _ := latency.New(latency.Options{Quantile: .5})
	sched, _ := scheduling.New(pool, scheduling.Options{Profile: scheduling.Profile{
		Producers: []scheduling.Producer{&latency.Producer{Model: model}},
		Scorers:   []scheduling.Weighted{{Scorer: latency.Meets{}}},
	}})
	request := &scheduling.Request{Prompt: scheduling.Prompt{Tokens: make([]uint32, 2000)}, TTFT: 500 * time.Millisecond}
	for range 100 { // each endpoint takes 400 ms for such a prompt, so two at a time are too many for one
		d, _ := sched.Pick(context.Background(), request)
		model.ObserveTTFT(&d.Predicted, 400*time.Millisecond)
		d.FirstToken()
		d.Done()
	}
	first, _ := sched.Pick(context.Background(), request)
	second, _ := sched.Pick(context.Background(), request)
	third, _ := sched.Pick(context.Background(), request)
	fmt.Printf("%.1f s, on different endpoints: %v\n", first.Predicted.TTFT, first.Endpoint != second.Endpoint)
	fmt.Println("the third will be late:", third.Predicted.Meets < .5)
	// Output:
	// 0.4 s, on different endpoints: true
	// the third will be late: true
}

// A pick is predicted with what is in flight then, and so is the next choice.
func TestPredictionFollowsTheRequest(t *testing.T) {
	now := time.Unix(1000, 0)
	pool := newPool(t, fleet(2)...)
	model := newModel(t, latency.Options{Now: func() time.Time { return now }})
	s, err := scheduling.New(pool, scheduling.Options{Profile: scheduling.Profile{Producers: []scheduling.Producer{&latency.Producer{Model: model}}}})
	require.NoError(t, err)
	r := objectives
	r.Explain = true
	first, err := s.Pick(context.Background(), &r)
	require.NoError(t, err)
	second, err := s.Pick(context.Background(), &r)
	require.NoError(t, err)
	require.Equal(t, first.Predicted.TTFT, second.Predicted.TTFT, "on the other endpoint")
	third, err := s.Pick(context.Background(), &r)
	require.NoError(t, err)
	require.Greater(t, third.Predicted.TTFT, first.Predicted.TTFT, "behind another prompt")
	require.Equal(t, third.Predicted.TTFT, third.Explanation.Candidates[0].TTFT)
	require.Equal(t, third.Slot(), third.Predicted.Basis.Slot)
	was := third.Predicted
	require.True(t, third.Next())
	require.NotEqual(t, was.Basis.Slot, third.Predicted.Basis.Slot)
	require.Greater(t, third.Predicted.TTFT, first.Predicted.TTFT)
}

func TestPredictDoesNotAllocate(t *testing.T) {
	list := fleet(50)
	pool := newPool(t, list...)
	report(t, pool, list)
	producer := &latency.Producer{Model: newModel(t, latency.Options{})}
	inside(t, pool, producer, objectives, func(c *scheduling.Cycle, slots []scheduling.Slot) {
		require.Zero(t, testing.AllocsPerRun(100, func() {
			producer.Predict(c, slots)
			producer.Commit(c, slots[0])
		}))
	})
}

// Readers, learners, and whoever saves, merges and changes the pool do not disturb each other.
func TestConcurrentUse(t *testing.T) {
	list := fleet(8)
	pool := newPool(t, list...)
	model := newModel(t, latency.Options{})
	s, err := scheduling.New(pool, scheduling.Options{Profile: scheduling.Profile{
		Producers: []scheduling.Producer{&latency.Producer{Model: model}}, Scorers: []scheduling.Weighted{{Scorer: latency.Meets{}}},
	}})
	require.NoError(t, err)
	var all sync.WaitGroup
	for worker := range 4 {
		all.Go(func() {
			for i := range 300 {
				d, err := s.Pick(context.Background(), &objectives)
				if err != nil {
					t.Error(err)
					return
				}
				model.ObserveTTFT(&d.Predicted, time.Duration(i+1)*time.Millisecond)
				d.FirstToken()
				model.ObserveTPOT(&d.Predicted, time.Duration(worker+1)*time.Millisecond)
				d.Done()
			}
		})
	}
	all.Go(func() {
		for i := range 100 {
			if err := model.Merge("r", model.Statistics()); err != nil {
				t.Error(err)
			}
			if err := model.Restore(model.Snapshot()); err != nil {
				t.Error(err)
			}
			model.Forget("r")
			pool.Remove(list[i%7+1].ID)
			if err := pool.Upsert(list[i%7+1]); err != nil {
				t.Error(err)
			}
		}
	})
	all.Wait()
	require.Zero(t, pool.Total())
}

// A prior from the performance model is in the range of what the deployment does.
func TestPriorOf(t *testing.T) {
	model, err := accel.LookupModel("meta-llama/Llama-3.1-8B")
	require.NoError(t, err)
	system, err := accel.Builtin().System("h100-sxm")
	require.NoError(t, err)
	prepared, err := accel.Calibrated().Prepare(accel.Deployment{Model: model, System: system, Engine: accel.VLLM})
	require.NoError(t, err)
	prior, err := latency.PriorOf(prepared)
	require.NoError(t, err)
	require.Greater(t, prior.PrefillRate, 5_000., "%+v", prior)
	require.Less(t, prior.PrefillRate, 200_000., "%+v", prior)
	require.Greater(t, prior.StepSeconds, .002, "%+v", prior)
	require.Less(t, prior.StepSeconds, .03, "%+v", prior)
}
