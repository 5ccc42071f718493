package config_test

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/inferloom/inferloom/scheduling"
	"github.com/inferloom/inferloom/scheduling/config"
	"github.com/inferloom/inferloom/scheduling/prefix"
	"github.com/inferloom/inferloom/scheduling/scorer"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func newPool(t testing.TB, n int) *scheduling.Pool {
	t.Helper()
	var list []scheduling.Endpoint
	for i := range n {
		list = append(list, scheduling.Endpoint{ID: fmt.Sprint("e", i), Address: fmt.Sprintf("10.0.%d.%d:80", i/250, i%250+1), Model: "m"})
	}
	pool, err := scheduling.NewPool(scheduling.PoolOptions{Endpoints: list})
	require.NoError(t, err)
	return pool
}

func TestReloadKeepsWhatPluginsLearned(t *testing.T) {
	pool := newPool(t, 8)
	loader := &config.Loader{Index: prefix.Options{MaxBytes: 4 << 20}}
	const text = `
profile:
  producers: [{type: prefix, cacheBlocks: 1000}]
  filters: [overload]
  scorers: [{type: prefix, weight: 3}, {type: tenant-spread, outputWeight: 2}, {type: ring, name: r}]
`
	first, err := loader.Load([]byte(text))
	require.NoError(t, err)
	s, err := scheduling.New(pool, first.Options)
	require.NoError(t, err)
	request := &scheduling.Request{Model: "m", Tenant: "t", Prompt: scheduling.Prompt{Text: make([]byte, 8000)}}
	d, err := s.Pick(context.Background(), request)
	require.NoError(t, err)

	next, err := loader.Reload(first, []byte(strings.NewReplacer("weight: 3", "weight: 4", "cacheBlocks: 1000", "cacheBlocks: 2000", "outputWeight: 2", "outputWeight: 3").Replace(text)))
	require.NoError(t, err)
	require.Same(t, first.Plugin("r"), next.Plugin("r"), "nothing of it changed")
	require.Same(t, first.Plugin("overload"), next.Plugin("overload"))
	old, now := first.Options.Profile.Producers[0].(*prefix.Producer), next.Options.Profile.Producers[0].(*prefix.Producer)
	require.NotSame(t, old, now)
	require.Same(t, old.Index, now.Index, "it goes on with the index")
	require.Equal(t, 2000, now.CacheBlocks)
	require.InDelta(t, 3, next.Plugin("tenant-spread").(*scorer.TenantSpread).OutputWeight, 0)
	require.NoError(t, s.Swap(next.Options))
	require.True(t, d.Next(), "a decision goes on under the plan that made it")
	d.Done()
	d, err = s.Pick(context.Background(), request)
	require.NoError(t, err)
	require.GreaterOrEqual(t, d.CachedTokens, 1984)
	d.Done()

	other, err := loader.Reload(next, []byte("profile: {scorers: [{type: running, name: r}], producers: [{type: prefix, name: second}]}"))
	require.NoError(t, err)
	require.IsType(t, &scorer.Running{}, other.Plugin("r"), "of the same name but another type")
	require.NotSame(t, now.Index, other.Plugin("second").(*prefix.Producer).Index, "of another name")
	require.Zero(t, pool.Total())

	// The same of an llm-d file.
	const llmd = header + "plugins: [{type: approx-prefix-cache-producer, parameters: {lruCapacityPerServer: 100}}, {type: prefix-cache-scorer}, {type: no-hit-lru-scorer}]"
	first, err = loader.Load([]byte(llmd))
	require.NoError(t, err)
	next, err = loader.Reload(first, []byte(strings.Replace(llmd, "100", "200", 1)))
	require.NoError(t, err)
	old, now = first.Plugin("approx-prefix-cache-producer").(*prefix.Producer), next.Plugin("approx-prefix-cache-producer").(*prefix.Producer)
	require.NotSame(t, old, now)
	require.Same(t, old.Index, now.Index)
	require.Same(t, first.Plugin("no-hit-lru-scorer"), next.Plugin("no-hit-lru-scorer"))

	first, err = loader.Load([]byte("preset: llm-d-precise"))
	require.NoError(t, err)
	next, err = loader.Reload(first, []byte("preset: llm-d-precise"))
	require.NoError(t, err)
	require.Equal(t, []string{"precise-prefix-cache-producer: an index of what was sent where stands in for one that engines' KV events feed; " +
		"give the type in Loader.Types if the program has one"}, first.Notes)
	require.Equal(t, first.Notes, next.Notes)
}

// No request is lost while plans are swapped under load.
func TestSwapUnderLoad(t *testing.T) {
	pool := newPool(t, 20)
	loader := &config.Loader{Index: prefix.Options{MaxBytes: 4 << 20}}
	texts := [][]byte{[]byte("preset: default"), []byte("preset: llm-d"), []byte("preset: llm-d-token-load"), []byte("profile: {picker: power-of-two}")}
	plan, err := loader.Load(texts[0])
	require.NoError(t, err)
	s, err := scheduling.New(pool, plan.Options)
	require.NoError(t, err)
	var stop atomic.Bool
	var work sync.WaitGroup
	var picks atomic.Int64
	for g := range 4 {
		work.Go(func() {
			request := &scheduling.Request{Model: "m", Prompt: scheduling.Prompt{Text: fmt.Appendf(nil, "%04000d", g)}}
			for !stop.Load() {
				d, err := s.Pick(context.Background(), request)
				if err != nil {
					t.Error(err)
					return
				}
				d.FirstToken()
				if picks.Add(1)%3 == 0 {
					d.Next()
				}
				d.Done()
			}
		})
	}
	for round := 0; round < 100 || picks.Load() < 1000; round++ {
		if plan, err = loader.Reload(plan, texts[round%len(texts)]); err != nil {
			break
		}
		if err = s.Swap(plan.Options); err != nil {
			break
		}
	}
	stop.Store(true)
	work.Wait()
	require.NoError(t, err)
	require.Zero(t, pool.Total())
}

func TestFollow(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string) {
		t.Helper()
		require.NoError(t, os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600))
	}
	link := func(target string) { // as Kubernetes updates a ConfigMap
		t.Helper()
		require.NoError(t, os.Symlink(target, filepath.Join(dir, "..tmp")))
		require.NoError(t, os.Rename(filepath.Join(dir, "..tmp"), filepath.Join(dir, "..data")))
	}
	for _, v := range []string{"v1", "v2"} {
		require.NoError(t, os.Mkdir(filepath.Join(dir, v), 0o700))
	}
	write("v1/s.yaml", "profile: {picker: random}")
	write("v2/s.yaml", "profile: {picker: power-of-two}")
	link("v1")
	path := filepath.Join(dir, "s.yaml")
	require.NoError(t, os.Symlink("..data/s.yaml", path))

	synctest.Test(t, func(t *testing.T) {
		loader := new(config.Loader)
		plan, err := loader.LoadFile(path)
		require.NoError(t, err)
		s, err := scheduling.New(newPool(t, 2), plan.Options)
		require.NoError(t, err)
		var log bytes.Buffer
		var mu sync.Mutex
		var running []*config.Plan
		var problems []error
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error)
		go func() {
			ended <- config.Follow(ctx, s, plan, config.FollowOptions{
				Path: path, Loader: loader, Log: slog.New(slog.NewTextHandler(&log, nil)),
				OnChange: func(p *config.Plan, err error) {
					mu.Lock()
					defer mu.Unlock()
					running, problems = append(running, p), append(problems, err)
				},
			})
		}()
		step := func() (*config.Plan, error) {
			t.Helper()
			time.Sleep(config.DefaultEvery)
			synctest.Wait()
			mu.Lock()
			defer mu.Unlock()
			require.LessOrEqual(t, len(running), 1)
			if len(running) == 0 {
				return nil, nil
			}
			p, err := running[0], problems[0]
			running, problems = nil, nil
			return p, err
		}
		p, err := step()
		require.Nil(t, p, "nothing has changed")
		require.NoError(t, err)

		link("v2")
		second, err := step()
		require.NoError(t, err)
		require.NotNil(t, second.Plugin("power-of-two"))

		write("v2/s.yaml", "profile: {picker: worst}")
		p, err = step()
		require.Same(t, second, p, "it stays as it was")
		require.ErrorContains(t, err, `line 1: profile.picker: picker "worst" is unknown`)
		require.ErrorContains(t, err, path)
		p, _ = step()
		require.Nil(t, p, "it is told of once")

		require.NoError(t, os.Remove(filepath.Join(dir, "v2/s.yaml")))
		p, err = step()
		require.Same(t, second, p)
		require.ErrorIs(t, err, os.ErrNotExist)
		p, _ = step()
		require.Nil(t, p)

		write("v2/s.yaml", "profile: {picker: round-robin}")
		p, err = step()
		require.NoError(t, err)
		require.NotNil(t, p.Plugin("round-robin"))
		cancel()
		require.ErrorIs(t, <-ended, context.Canceled)
		require.Equal(t, 2, strings.Count(log.String(), "configuration changed"))
		require.Contains(t, log.String(), `level=ERROR msg="the configuration stays as it was"`)
	})
	err := config.Follow(t.Context(), nil, nil, config.FollowOptions{Every: -1})
	require.ErrorContains(t, err, "scheduler, running: want both\npath: empty\nevery -1ns: negative")
	_, err = new(config.Loader).LoadFile(filepath.Join(dir, "none.yaml"))
	require.ErrorIs(t, err, os.ErrNotExist)
}

// BenchmarkSwap/plan is what a pick can notice of a swap; BenchmarkSwap/text is all of it, from the text on.
func BenchmarkSwap(b *testing.B) {
	loader := new(config.Loader)
	var plans []*config.Plan
	var texts [][]byte
	for _, name := range []string{"default", "llm-d-pd"} {
		text, err := config.Preset(name)
		require.NoError(b, err)
		plan, err := loader.Load([]byte(text))
		require.NoError(b, err)
		texts, plans = append(texts, []byte(text)), append(plans, plan)
	}
	s, err := scheduling.New(newPool(b, 100), plans[0].Options)
	require.NoError(b, err)
	// A pick goes on all the while.
	ctx, cancel := context.WithCancel(context.Background())
	var work sync.WaitGroup
	work.Go(func() {
		request := &scheduling.Request{Model: "m", Prompt: scheduling.Prompt{Text: make([]byte, 4000)}}
		for ctx.Err() == nil {
			d, err := s.Pick(context.Background(), request)
			if err != nil {
				b.Error(err)
				return
			}
			d.Done()
		}
	})
	b.Cleanup(func() { cancel(); work.Wait() })
	b.Run("plan", func(b *testing.B) {
		b.ReportAllocs()
		for i := 0; b.Loop(); i++ {
			if err := s.Swap(plans[i%2].Options); err != nil {
				b.Fatal(err)
			}
		}
	})
	for i, name := range []string{"own", "llm-d"} {
		b.Run("text="+name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				plan, err := loader.Reload(plans[i], texts[i])
				if err != nil {
					b.Fatal(err)
				}
				if err := s.Swap(plan.Options); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
