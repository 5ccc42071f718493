package replay_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
	"pgregory.net/rapid"

	"github.com/inferloom/inferloom/scheduling"
	"github.com/inferloom/inferloom/scheduling/condition"
	"github.com/inferloom/inferloom/scheduling/filter"
	"github.com/inferloom/inferloom/scheduling/picker"
	"github.com/inferloom/inferloom/scheduling/policy"
	"github.com/inferloom/inferloom/scheduling/prefix"
	"github.com/inferloom/inferloom/scheduling/replay"
	"github.com/inferloom/inferloom/scheduling/scorer"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func newIndex(t require.TestingT) *prefix.Index {
	x, err := prefix.New(prefix.Options{MaxBytes: 1 << 20, MaxEndpoints: 64})
	require.NoError(t, err)
	return x
}

func newScheduler(t require.TestingT, pool *scheduling.Pool, o scheduling.Options) *scheduling.Scheduler {
	s, err := scheduling.New(pool, o)
	require.NoError(t, err)
	return s
}

func endpointOf(i int) scheduling.Endpoint {
	e := scheduling.Endpoint{
		ID: fmt.Sprint("e", i), Address: fmt.Sprintf("10.0.%d.%d:8000", i/200, i%200+1), Model: "m",
		Labels:      map[string]string{"kubernetes.io/hostname": fmt.Sprint("h", i/2), "tier": []string{"gold", "tin"}[i%2], "rev": fmt.Sprint(i % 3)},
		BlockTokens: []int{16, 32}[i%2],
	}
	if i%3 == 0 {
		e.Adapters = []string{"lora"}
	}
	if i%5 == 4 {
		e.Model = "other"
	}
	return e
}

// drive makes what happens in a gateway happen: requests of all kinds, reports of engines, endpoints that come and go.
func drive(s *scheduling.Scheduler, seed uint64, picks int, moves bool) {
	rng := rand.New(rand.NewPCG(seed, 7))
	var held []scheduling.Decision
	pool := s.Pool()
	for i := range picks {
		r := &scheduling.Request{
			Model: "m", Session: fmt.Sprint("s", rng.IntN(9)), Tenant: fmt.Sprint("tenant", rng.IntN(3)), Priority: rng.IntN(3) - 1,
			MaxTokens: rng.IntN(100), TTFT: time.Duration(rng.IntN(2)) * time.Second,
			Prompt: scheduling.Prompt{Text: fmt.Appendf(nil, "secret %0*d", 20+rng.IntN(3000), rng.IntN(20))},
			Header: func(name string) string { return map[string]string{"x-tier": "gold"}[name] },
		}
		switch rng.IntN(8) {
		case 0:
			r.Model = "other"
		case 1:
			r.Adapter = "lora"
		case 2:
			r.Modality, r.Media = scheduling.Image, []scheduling.Media{{Hash: rng.Uint64N(5), Size: 10}, {Hash: rng.Uint64N(5), Size: 3}}
		case 3:
			peer := endpointOf(rng.IntN(6))
			r.Peer = &peer
		case 4:
			r.Pinned = fmt.Sprint("e", rng.IntN(6))
		}
		d, err := s.Pick(context.Background(), r)
		if err != nil {
			continue // nothing serves the model at the moment
		}
		held = append(held, d)
		state := scheduling.State{Endpoint: d.Endpoint.ID}
		switch rng.IntN(8) {
		case 0:
			if moves {
				d.Next()
			}
		case 1, 2:
			state.Values = []scheduling.Value{{Metric: scheduling.Waiting, Value: float64(rng.IntN(9))}, {Metric: scheduling.KVUsage, Value: rng.Float64()}}
			_ = pool.Report(state)
		case 3:
			state.Values = []scheduling.Value{{Metric: scheduling.Running, Value: float64(rng.IntN(9))}}
			state.Adapters = &scheduling.AdapterState{Max: 1 + rng.IntN(2)}
			if rng.IntN(2) == 0 {
				state.Adapters.Active = []string{"lora"}
			}
			_ = pool.Report(state)
		case 4:
			d.FirstToken()
			d.Tokens(rng.IntN(50))
		}
		if len(held) > 15 {
			k := rng.IntN(len(held))
			held[k].Done()
			held = slices.Delete(held, k, k+1)
		}
		if i%40 == 20 {
			pool.Remove(fmt.Sprint("e", rng.IntN(12)))
		}
		if i%40 == 35 {
			_ = pool.Upsert(endpointOf(rng.IntN(12)))
		}
	}
	for i := range held {
		held[i].Done()
	}
}

// recorded runs traffic through a scheduler and returns the recording.
func recorded(t require.TestingT, o scheduling.Options, hosts, picks int, moves bool) []byte {
	var list []scheduling.Endpoint
	for i := range 10 {
		list = append(list, endpointOf(i))
	}
	var ticks sync.Mutex
	now := time.Unix(1_700_000_000, 5)
	pool, err := scheduling.NewPool(scheduling.PoolOptions{Endpoints: list, Now: func() time.Time {
		ticks.Lock()
		defer ticks.Unlock()
		now = now.Add(37*time.Millisecond + 1)
		return now
	}})
	require.NoError(t, err)
	pool.Remove("e2", "e5") // slots are not the order of the recording
	s := newScheduler(t, pool, o)
	var file bytes.Buffer
	rec, err := replay.NewRecorder(&file, replay.RecorderOptions{Headers: []string{"x-tier"}})
	require.NoError(t, err)
	s.Observe(1, rec)
	var run sync.WaitGroup
	for host := range hosts {
		run.Go(func() { drive(s, uint64(host), picks, moves) })
	}
	run.Wait()
	require.NoError(t, rec.Close())
	require.Zero(t, rec.Stats().Dropped)
	return file.Bytes()
}

func random(t require.TestingT, p scheduling.Picker) scheduling.Profile {
	index := newIndex(t)
	profile := policy.Default(index)
	profile.Producers = append(profile.Producers, &prefix.Media{Index: newIndex(t)}, prefix.Source{})
	profile.Filters = append(profile.Filters, &filter.HeaderLabel{Header: "x-tier", Label: "tier"}, filter.PrefixAffinity{Explore: .2}, &filter.Rollout{Label: "rev"})
	for _, s := range []scheduling.Scorer{
		scorer.PrefixHash{}, scorer.PrefixHash{Tokens: 4}, scorer.Session{Bound: 1.25}, &scorer.Ring{}, &scorer.Topology{}, scorer.Media{}, scorer.Dynamo{},
		scorer.Running{}, scorer.Pinned{}, &scorer.ColdLRU{}, scorer.Linear{Metric: scheduling.InFlightKVTokens}, scorer.ActiveRequests{},
	} {
		profile.Scorers = append(profile.Scorers, scheduling.Weighted{Scorer: s})
	}
	profile.Picker = p
	return profile
}

// The plan that was recorded makes every choice again, and gives it the same score: ties, draws and concurrency included.
func TestTheSamePlanChoosesTheSame(t *testing.T) {
	plans := map[string]func() scheduling.Options{
		"least requests": func() scheduling.Options { return scheduling.Options{} },
		"default":        func() scheduling.Options { return scheduling.Options{Profile: policy.Default(newIndex(t))} },
		"llm-d":          func() scheduling.Options { return scheduling.Options{Profile: policy.LLMD(newIndex(t))} },
		"llm-d tokens":   func() scheduling.Options { return scheduling.Options{Profile: policy.LLMDTokenLoad(newIndex(t))} },
		"dynamo":         func() scheduling.Options { return scheduling.Options{Profile: policy.Dynamo(newIndex(t), .7)} },
		"sglang":         func() scheduling.Options { return scheduling.Options{Profile: policy.SGLangCacheAware(newIndex(t))} },
		"prefix hash":    func() scheduling.Options { return scheduling.Options{Profile: policy.SGLangPrefixHash()} },
		"aibrix":         func() scheduling.Options { return scheduling.Options{Profile: policy.AIBrixPrefixCache(newIndex(t))} },
		"stack session":  func() scheduling.Options { return scheduling.Options{Profile: policy.ProductionStackSession()} },
		"stack prefix": func() scheduling.Options {
			return scheduling.Options{Profile: policy.ProductionStackPrefix(newIndex(t))}
		},
		"short-sighted": func() scheduling.Options {
			return scheduling.Options{Profile: policy.LLMD(newIndex(t)), MaxMetricAge: 200 * time.Millisecond}
		},
		"everything": func() scheduling.Options { return scheduling.Options{Profile: random(t, nil)} },
		"softmax": func() scheduling.Options {
			return scheduling.Options{Profile: random(t, picker.Softmax{Temperature: .4})}
		},
		"weighted":    func() scheduling.Options { return scheduling.Options{Profile: random(t, picker.WeightedRandom{})} },
		"two choices": func() scheduling.Options { return scheduling.Options{Profile: random(t, picker.PowerOfTwo{})} },
		"stages": func() scheduling.Options {
			first, second := random(t, picker.Random{}), random(t, nil)
			return scheduling.Options{Stages: []scheduling.Stage{
				{Name: "decode", Profile: first},
				{Name: "prefill", Profile: second, After: []string{"decode"}, When: condition.Uncached{Tokens: 100, Stage: "decode"}, Takes: scheduling.Prefill, Optional: true},
			}}
		},
	}
	for name, plan := range plans {
		for _, hosts := range []int{1, 4} {
			t.Run(fmt.Sprintf("%s/hosts=%d", name, hosts), func(t *testing.T) {
				learns := name == "everything" || name == "softmax" || name == "weighted" || name == "two choices" || name == "stages"
				if learns && hosts > 1 {
					t.Skip("in which order plugins learn of choices made at once is not recorded")
				}
				file := recorded(t, plan(), hosts, 240/hosts, !learns) // nor is what they learn of moves
				report, err := replay.Run(context.Background(), replay.NewReader(bytes.NewReader(file)), replay.Options{Plan: plan()})
				require.NoError(t, err)
				require.Greater(t, report.Choices, 120)
				require.Equal(t, report.Choices, report.Agreed, "%+v", report.Differences)
				require.InDelta(t, 1, report.Agreement(), 0)
				require.Equal(t, report.RecordedCached, report.PlanCached)
				for _, s := range report.Endpoints {
					require.Equal(t, s.Recorded, s.Plan)
				}
			})
		}
	}
}

// seen is a moment in terms that do not depend on slots.
type seen struct {
	Stage, Choice, Model, Adapter, Tenant, Session, Pinned, Header string
	Earlier                                                        []string
	Tokens, Priority, Max                                          int
	Modality                                                       scheduling.Modality
	Sizes                                                          []int32
	At                                                             time.Time
	Seed                                                           uint64
	Score                                                          float64
	Known                                                          bool
	Keys                                                           []scheduling.PromptKey
	Peer                                                           *scheduling.Endpoint
	Endpoints                                                      []scheduling.Endpoint
	Eligible                                                       []string
	State                                                          []string // of endpoints
}

func look(m *scheduling.Moment) seen {
	r := m.Request
	s := seen{
		Stage: m.Stage, Choice: fmt.Sprint(m.Choice.Endpoint.ID, m.Choice.CachedTokens), Model: r.Model, Adapter: r.Adapter, Tenant: r.Tenant,
		Session: r.Session, Pinned: r.Pinned, Header: r.Header("x-tier"), Tokens: m.PromptTokens, Priority: r.Priority, Max: r.MaxTokens,
		Modality: r.Modality, At: m.At.UTC(), Seed: m.Seed, Score: m.Score, Known: m.Match.Known, Keys: slices.Clone(m.Keys), Peer: r.Peer,
	}
	for _, e := range m.Earlier {
		s.Earlier = append(s.Earlier, fmt.Sprint(e.Stage, e.Endpoint.ID, e.CachedTokens))
	}
	for _, x := range r.Media {
		s.Sizes = append(s.Sizes, x.Size)
	}
	for _, slot := range m.Eligible {
		s.Eligible = append(s.Eligible, fmt.Sprint(m.Snapshot.Endpoint(slot).ID, m.InFlight[slot], m.Reported[slot]))
	}
	for _, slot := range m.Snapshot.Live() {
		s.Endpoints = append(s.Endpoints, *m.Snapshot.Endpoint(slot))
		state := fmt.Sprint(m.Match.Cached[slot])
		if len(m.Match.Media) > 0 {
			state += fmt.Sprint(" media ", m.Match.Media[slot])
		}
		for metric := scheduling.Waiting; metric < scheduling.InFlightRequests; metric++ {
			if v, at, ok := m.Snapshot.Observed(slot, metric); ok {
				state += fmt.Sprint(" ", metric, v, at.UnixNano())
			}
		}
		if a, at, ok := m.Snapshot.ObservedAdapters(slot); ok {
			state += fmt.Sprint(" lora ", *a, at.UnixNano())
		}
		s.State = append(s.State, state)
	}
	return s
}

type watcher struct {
	mu   sync.Mutex
	all  []seen
	rest scheduling.Observer
}

// Chose looks at a moment and hands it on under one lock, so that the order is the same.
func (w *watcher) Chose(m *scheduling.Moment) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.all = append(w.all, look(m))
	w.rest.Chose(m)
}

func TestAMomentReadsAsItWas(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		hosts, seed := rapid.IntRange(1, 3).Draw(t, "hosts"), rapid.Uint64().Draw(t, "seed")
		var list []scheduling.Endpoint
		for i := range rapid.IntRange(1, 12).Draw(t, "endpoints") {
			list = append(list, endpointOf(i))
		}
		pool, err := scheduling.NewPool(scheduling.PoolOptions{Endpoints: list})
		require.NoError(t, err)
		o := scheduling.Options{Profile: random(t, nil)}
		if rapid.Bool().Draw(t, "staged") {
			o = scheduling.Options{Stages: []scheduling.Stage{{Name: "a", Profile: o.Profile}, {Name: "b", Profile: o.Profile, After: []string{"a"}, Optional: true}}}
		}
		s := newScheduler(t, pool, o)
		var file bytes.Buffer
		rec, err := replay.NewRecorder(&file, replay.RecorderOptions{Headers: []string{"x-tier", "x-none"}})
		require.NoError(t, err)
		w := &watcher{rest: rec}
		s.Observe(1, w)
		var run sync.WaitGroup
		for host := range hosts {
			run.Go(func() { drive(s, seed+uint64(host), 25, true) })
		}
		run.Wait()
		require.NoError(t, rec.Close())
		r := replay.NewReader(&file)
		var m scheduling.Moment
		for i := range w.all {
			require.NoError(t, r.Next(&m))
			require.Empty(t, cmp.Diff(w.all[i], look(&m)), "choice %d", i)
		}
		require.Equal(t, io.EOF, r.Next(&m))
		require.Equal(t, io.EOF, r.Next(&m))
	})
}

func TestNoPromptIsRecorded(t *testing.T) {
	file := recorded(t, scheduling.Options{Profile: random(t, nil)}, 1, 200, true)
	require.NotContains(t, string(file), "secret")
	require.Contains(t, string(file), `"headers":{"x-tier":"gold"}`)
}

type fixed map[string]float64

func (f fixed) Score(c *scheduling.Cycle, slots []scheduling.Slot, scores []float64) {
	for i, slot := range slots {
		scores[i] = f[c.Endpoint(slot).ID]
	}
}

type without string

func (w without) Filter(c *scheduling.Cycle, slots []scheduling.Slot) []scheduling.Slot {
	return slices.DeleteFunc(slots, func(s scheduling.Slot) bool { return strings.Contains(string(w), c.Endpoint(s).ID) })
}

type has map[string]int32

func (h has) Produce(c *scheduling.Cycle) {
	c.Match.Known = true
	for _, slot := range c.Snapshot.Live() {
		c.Match.Cached[slot] = h[c.Endpoint(slot).ID]
	}
}

func TestReport(t *testing.T) {
	pool, err := scheduling.NewPool(scheduling.PoolOptions{Endpoints: []scheduling.Endpoint{endpointOf(0), endpointOf(1), endpointOf(2)}})
	require.NoError(t, err)
	stage := func(name string, f fixed, filters ...scheduling.Filter) scheduling.Stage {
		return scheduling.Stage{Name: name, Profile: scheduling.Profile{
			Producers: []scheduling.Producer{has{"e0": 40, "e1": 100}}, Filters: filters, Scorers: []scheduling.Weighted{{Scorer: f}},
		}}
	}
	live := newScheduler(t, pool, scheduling.Options{Stages: []scheduling.Stage{
		stage("decode", fixed{"e0": .9}), stage("prefill", fixed{"e1": .8}), stage("encode", fixed{"e2": .7}), stage("extra", fixed{"e0": 1}), stage("last", fixed{"e2": .6}),
	}})
	var file bytes.Buffer
	rec, err := replay.NewRecorder(&file, replay.RecorderOptions{})
	require.NoError(t, err)
	live.Observe(1, rec)
	d, err := live.Pick(context.Background(), &scheduling.Request{Model: "m", Prompt: scheduling.Prompt{Tokens: make([]uint32, 100)}})
	require.NoError(t, err)
	d.Done()
	require.NoError(t, rec.Close())
	require.EqualValues(t, 5, rec.Stats().Recorded)

	never := stage("extra", nil)
	never.When = condition.Media{}
	plan := scheduling.Options{Stages: []scheduling.Stage{
		stage("decode", fixed{"e0": .25, "e1": .75}), stage("prefill", fixed{"e1": .1}), stage("encode", nil, without("e2,e1")), never,
	}}
	report, err := replay.Run(context.Background(), replay.NewReader(bytes.NewReader(file.Bytes())), replay.Options{Plan: plan})
	require.NoError(t, err)
	got, err := json.Marshal(report)
	require.NoError(t, err)
	require.JSONEq(t, `{
		"choices": 5, "agreed": 1, "disagreed": 2, "skipped": 1, "failed": 0, "unknown_stage": 1, "removed": 1,
		"regret": {"mean": 0.5, "p50": 0.5, "p90": 0.5, "p99": 0.5, "max": 0.5},
		"prompt_tokens": 300, "recorded_cached_tokens": 140, "plan_cached_tokens": 240,
		"stages": [
			{"stage": "decode", "choices": 1, "agreed": 0, "disagreed": 1, "skipped": 0, "failed": 0, "unknown_stage": 0, "removed": 0,
			 "regret": {"mean": 0.5, "p50": 0.5, "p90": 0.5, "p99": 0.5, "max": 0.5},
			 "prompt_tokens": 100, "recorded_cached_tokens": 40, "plan_cached_tokens": 100},
			{"stage": "prefill", "choices": 1, "agreed": 1, "disagreed": 0, "skipped": 0, "failed": 0, "unknown_stage": 0, "removed": 0,
			 "regret": {"mean": 0, "p50": 0, "p90": 0, "p99": 0, "max": 0},
			 "prompt_tokens": 100, "recorded_cached_tokens": 100, "plan_cached_tokens": 100},
			{"stage": "encode", "choices": 1, "agreed": 0, "disagreed": 1, "skipped": 0, "failed": 0, "unknown_stage": 0, "removed": 1,
			 "regret": {"mean": 0, "p50": 0, "p90": 0, "p99": 0, "max": 0},
			 "prompt_tokens": 100, "recorded_cached_tokens": 0, "plan_cached_tokens": 40},
			{"stage": "extra", "choices": 1, "agreed": 0, "disagreed": 0, "skipped": 1, "failed": 0, "unknown_stage": 0, "removed": 0,
			 "regret": {"mean": 0, "p50": 0, "p90": 0, "p99": 0, "max": 0},
			 "prompt_tokens": 0, "recorded_cached_tokens": 0, "plan_cached_tokens": 0},
			{"stage": "last", "choices": 1, "agreed": 0, "disagreed": 0, "skipped": 0, "failed": 0, "unknown_stage": 1, "removed": 0,
			 "regret": {"mean": 0, "p50": 0, "p90": 0, "p99": 0, "max": 0},
			 "prompt_tokens": 0, "recorded_cached_tokens": 0, "plan_cached_tokens": 0}],
		"endpoints": [
			{"endpoint": "e2", "recorded": 2, "plan": 0, "recorded_uncached_tokens": 200, "plan_uncached_tokens": 0},
			{"endpoint": "e0", "recorded": 2, "plan": 1, "recorded_uncached_tokens": 120, "plan_uncached_tokens": 60},
			{"endpoint": "e1", "recorded": 1, "plan": 2, "recorded_uncached_tokens": 0, "plan_uncached_tokens": 0}],
		"differences": [
			{"choice": 1, "stage": "decode", "model": "m", "prompt_tokens": 100, "recorded": "e0", "plan": "e1", "recorded_score": 0.9, "plan_score": 0.75,
			 "kept_score": 0.25, "recorded_cached_tokens": 40, "plan_cached_tokens": 100},
			{"choice": 3, "stage": "encode", "model": "m", "prompt_tokens": 100, "recorded": "e2", "plan": "e0", "recorded_score": 0.7, "plan_score": 0,
			 "kept_score": 0, "removed": true, "recorded_cached_tokens": 0, "plan_cached_tokens": 40},
			{"choice": 4, "stage": "extra", "model": "m", "prompt_tokens": 100, "recorded": "e0", "recorded_score": 1, "plan_score": 0, "kept_score": 0,
			 "recorded_cached_tokens": 40, "plan_cached_tokens": 0},
			{"choice": 5, "stage": "last", "model": "m", "prompt_tokens": 100, "recorded": "e2", "recorded_score": 0.6, "plan_score": 0, "kept_score": 0,
			 "recorded_cached_tokens": 0, "plan_cached_tokens": 0, "error": "unknown stage: \"last\""}]
	}`, string(got))
	require.Contains(t, report.String(), "5 choices: 20.00 % the same, 2 others, 1 skipped, 0 failed, 1 of stages that the plan has not")

	plan.Stages[0].Profile.Filters = []scheduling.Filter{without("e0,e1,e2")}
	report, err = replay.Run(context.Background(), replay.NewReader(bytes.NewReader(file.Bytes())), replay.Options{Plan: plan, Differences: -1})
	require.NoError(t, err)
	require.Equal(t, 1, report.Failed)
	require.Empty(t, report.Differences)
	_, err = replay.Run(context.Background(), replay.NewReader(&file), replay.Options{Plan: scheduling.Options{MaxMetricAge: -1}})
	require.ErrorContains(t, err, "plan: max metric age -1ns: negative")
}

func TestRecordingsThatAreWrong(t *testing.T) {
	const head = `{"inferloom_decisions":1,"start":"2026-11-25T17:00:00Z","metrics":["waiting","later"]}` + "\n"
	const first = `{"t":5,"layout":[{"id":"a","addr":"h:1"},{"id":"b","addr":"h:2"}],"pick":0}` + "\n"
	for name, row := range map[string]struct{ file, want string }{
		"no header":              {first, "line 1: no header: want a line with inferloom_decisions first"},
		"another version":        {`{"inferloom_decisions":9}`, "line 1: cut short"},
		"another version, whole": {`{"inferloom_decisions":9}` + "\n", "inferloom_decisions is version 9, want 1"},
		"no start":               {`{"inferloom_decisions":1}` + "\n", "start is 0001-01-01"},
		"no JSON":                {head + "x\n", "line 2: invalid character"},
		"no layout":              {head + `{"t":1,"pick":0}` + "\n", "layout is missing"},
		"no time":                {head + `{"pick":0}` + "\n", "t is missing"},
		"a time too far":         {head + `{"t":9223372036854775807,"layout":[]}` + "\n", "t is 9223372036854775807, want"},
		"a wrong endpoint":       {head + `{"t":1,"layout":[{"id":"a","addr":"h"}],"pick":0}` + "\n", `address "h": want host:port`},
		"an endpoint twice":      {head + `{"t":1,"layout":[{"id":"a","addr":"h:1"},{"id":"a","addr":"h:2"}],"pick":0}` + "\n", "given twice"},
		"without an id":          {head + `{"t":1,"layout":[{"addr":"h:1"}],"pick":0}` + "\n", "layout[0].id is empty"},
		"no pick":                {head + first + `{"t":1}` + "\n", "line 3: pick is missing"},
		"another's pick":         {head + first + `{"t":1,"pick":2}` + "\n", "pick is missing, or no endpoint that was eligible"},
		"not eligible":           {head + first + `{"t":1,"eligible":[[1,1]],"pick":0}` + "\n", "no endpoint that was eligible"},
		"eligible twice":         {head + first + `{"t":1,"eligible":[[0,2],[1,1]],"pick":0}` + "\n", "eligible[1] is [1 1], want"},
		"too many eligible":      {head + first + `{"t":1,"eligible":[[0,3]],"pick":0}` + "\n", "eligible[0]"},
		"a negative load":        {head + first + `{"t":1,"load":[[0,-1,0,0,0]],"pick":0}` + "\n", "load[0][1] is -1, want 0 to 65535"},
		"another's load":         {head + first + `{"t":1,"load":[[7,1,0,0,0]],"pick":0}` + "\n", "load[0][0] is 7, want 0 to 1"},
		"another's match":        {head + first + `{"t":1,"match":[[2,1]],"pick":0}` + "\n", "match[0][0] is 2"},
		"a negative match":       {head + first + `{"t":1,"match":[[1,-1]],"pick":0}` + "\n", "match[0][1] is -1"},
		"another's metric":       {head + first + `{"t":1,"seen":[[0,1,2,0]],"pick":0}` + "\n", "seen[0][2:] is [2 0], want a metric below 2"},
		"a negative metric":      {head + first + `{"t":1,"seen":[[0,1,0,-1]],"pick":0}` + "\n", "seen[0][2:] is [0 -1]"},
		"half a report":          {head + first + `{"t":1,"seen":[[0,1,0]],"pick":0}` + "\n", "seen[0] is"},
		"another's adapters":     {head + first + `{"t":1,"lora":[{"e":2,"t":0}],"pick":0}` + "\n", "lora[0].e is 2"},
		"another's choice":       {head + first + `{"t":1,"earlier":[{"stage":"x","e":2}],"pick":0}` + "\n", "earlier[0].e is 2"},
		"negative tokens":        {head + first + `{"t":1,"tokens":-1,"pick":0}` + "\n", "tokens is -1"},
		"cut short":              {head + first + `{"t":1,"pi`, "line 3: cut short: unexpected EOF"},
	} {
		t.Run(name, func(t *testing.T) {
			r := replay.NewReader(strings.NewReader(row.file))
			var m scheduling.Moment
			var err error
			for err == nil {
				err = r.Next(&m)
			}
			require.ErrorContains(t, err, row.want)
			require.Equal(t, err, r.Next(&m), "it is the last thing")
		})
	}
	r := replay.NewReader(strings.NewReader(head + first + "\n" + head + `{"t":1,"layout":[],"pick":0}` + "\n"))
	var m scheduling.Moment
	require.NoError(t, r.Next(&m))
	require.ErrorContains(t, r.Next(&m), "line 5: pick")
	report, err := replay.Run(context.Background(), replay.NewReader(strings.NewReader(head+first+`{"t":`)), replay.Options{})
	require.NoError(t, err, "it counts up to where its gateway died")
	require.Equal(t, 1, report.Choices)
}

// Requests that make no sense, a clock that begins in 1970, and engines that were silent for a year can be recorded.
func TestStrangeThingsCanBeRead(t *testing.T) {
	now := time.Unix(0, 0)
	pool, err := scheduling.NewPool(scheduling.PoolOptions{Endpoints: []scheduling.Endpoint{endpointOf(0), endpointOf(1)}, Now: func() time.Time { return now }})
	require.NoError(t, err)
	s := newScheduler(t, pool, scheduling.Options{Profile: random(t, nil)})
	var file bytes.Buffer
	rec, err := replay.NewRecorder(&file, replay.RecorderOptions{})
	require.NoError(t, err)
	s.Observe(1, rec)
	requests := []*scheduling.Request{
		{MaxTokens: math.MaxInt, Priority: math.MinInt, TTFT: -1, TPOT: math.MaxInt64, Modality: 255},
		{MaxTokens: -1, Priority: math.MaxInt, Media: []scheduling.Media{{Size: -5}}, Session: "\x00\"\\\u2028é", Peer: &scheduling.Endpoint{Labels: map[string]string{"rev": "1"}}},
		{Prompt: scheduling.Prompt{Chains: []scheduling.Chain{{BlockTokens: math.MaxInt32, Hashes: make([]uint64, 9)}}}},
		{},
	}
	for _, r := range requests {
		d, err := s.Pick(context.Background(), r)
		require.NoError(t, err)
		d.Done()
		require.NoError(t, pool.Report(scheduling.State{Endpoint: "e0", Values: []scheduling.Value{{Metric: scheduling.Waiting, Value: math.MaxFloat64}}}))
		now = now.Add(200 * 24 * time.Hour)
	}
	require.NoError(t, rec.Close())
	report, err := replay.Run(context.Background(), replay.NewReader(&file), replay.Options{Plan: scheduling.Options{Profile: random(t, nil)}})
	require.NoError(t, err)
	require.Equal(t, len(requests), report.Agreed, "%v", report)
}

// A plan can be asked about one recording after the other.
func TestAPlanIsAskedTwice(t *testing.T) {
	plan := scheduling.Options{Profile: policy.Default(newIndex(t))}
	for _, endpoints := range []int{2, 9, 3} {
		var list []scheduling.Endpoint
		for i := range endpoints {
			list = append(list, endpointOf(i))
		}
		pool, err := scheduling.NewPool(scheduling.PoolOptions{Endpoints: list})
		require.NoError(t, err)
		s := newScheduler(t, pool, scheduling.Options{})
		var file bytes.Buffer
		rec, err := replay.NewRecorder(&file, replay.RecorderOptions{})
		require.NoError(t, err)
		s.Observe(1, rec)
		for range 2 * endpoints {
			_, err := s.Pick(context.Background(), &scheduling.Request{})
			require.NoError(t, err)
		}
		require.NoError(t, rec.Close())
		report, err := replay.Run(context.Background(), replay.NewReader(&file), replay.Options{Plan: plan})
		require.NoError(t, err)
		require.Equal(t, 2*endpoints, report.Choices)
	}
}

func TestRunEndsWithItsContext(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	_, err := replay.Run(ctx, replay.NewReader(strings.NewReader("")), replay.Options{})
	require.ErrorIs(t, err, context.Canceled)
}

// slow is a disk that answers when it is told to.
type slow struct {
	bytes.Buffer
	begun, go_ chan struct{}
}

func (s *slow) Write(b []byte) (int, error) {
	s.begun <- struct{}{}
	<-s.go_
	return s.Buffer.Write(b)
}

func TestASlowDiskHoldsNobodyUp(t *testing.T) {
	pool, err := scheduling.NewPool(scheduling.PoolOptions{Endpoints: []scheduling.Endpoint{endpointOf(0), endpointOf(1)}})
	require.NoError(t, err)
	disk := &slow{begun: make(chan struct{}), go_: make(chan struct{})}
	rec, err := replay.NewRecorder(disk, replay.RecorderOptions{MaxBuffered: 500})
	require.NoError(t, err)
	s := newScheduler(t, pool, scheduling.Options{Profile: policy.Default(newIndex(t))})
	s.Observe(1, rec)
	pick := func() {
		d, err := s.Pick(context.Background(), &scheduling.Request{Model: "m", Prompt: scheduling.Prompt{Text: []byte("hello")}})
		require.NoError(t, err)
		d.Done()
	}
	pick()
	<-disk.begun
	for range 100 {
		pick()
	}
	stats := rec.Stats()
	require.EqualValues(t, 101, stats.Recorded+stats.Dropped)
	require.Positive(t, stats.Dropped)
	disk.go_ <- struct{}{}
	<-disk.begun
	disk.go_ <- struct{}{}
	for range 3 {
		pick()
		<-disk.begun
		disk.go_ <- struct{}{}
	}
	require.NoError(t, rec.Close())
	require.NoError(t, rec.Close())
	pick()
	require.EqualValues(t, stats.Dropped+1, rec.Stats().Dropped, "closed")
	report, err := replay.Run(context.Background(), replay.NewReader(&disk.Buffer), replay.Options{Plan: scheduling.Options{Profile: policy.Default(newIndex(t))}})
	require.NoError(t, err)
	require.EqualValues(t, rec.Stats().Recorded, report.Agreed, "what follows a gap reads as if there had been none")
}

type full struct{}

func (full) Write([]byte) (int, error) { return 0, errors.New("disk full") }

func TestAFullDiskIsReported(t *testing.T) {
	pool, err := scheduling.NewPool(scheduling.PoolOptions{Endpoints: []scheduling.Endpoint{endpointOf(0)}})
	require.NoError(t, err)
	rec, err := replay.NewRecorder(full{}, replay.RecorderOptions{})
	require.NoError(t, err)
	s := newScheduler(t, pool, scheduling.Options{})
	s.Observe(1, rec)
	for range 3 {
		d, err := s.Pick(context.Background(), &scheduling.Request{})
		require.NoError(t, err)
		d.Done()
	}
	require.ErrorContains(t, rec.Close(), "write recorded choices: disk full")
	_, err = replay.NewRecorder(nil, replay.RecorderOptions{MaxBuffered: -1})
	require.ErrorContains(t, err, "writer: nil")
	require.ErrorContains(t, err, "max buffered -1")
}

// Whatever a file says, reading it ends, and a plan can be asked about what it yields.
func FuzzReader(f *testing.F) {
	for _, o := range []scheduling.Options{{Profile: random(f, nil)}, {Stages: []scheduling.Stage{{Name: "a", Profile: random(f, nil)}, {Name: "b", After: []string{"a"}}}}} {
		file := recorded(f, o, 1, 12, true)
		f.Add(file)
		f.Add(file[:len(file)/2])
	}
	f.Add([]byte(`{"inferloom_decisions":1,"start":"2026-11-25T17:00:00Z","metrics":["waiting"]}` + "\n" +
		`{"t":5,"layout":[{"id":"a","addr":"h:1"}],"seen":[[0,1,0,1e308]],"lora":[{"e":0,"t":1,"state":{"max":-5}}],"match":[],"media":[[0,1]],"peer":{},"pick":0}` + "\n"))
	f.Fuzz(func(t *testing.T, file []byte) {
		profile := scheduling.Profile{
			Filters: []scheduling.Filter{filter.Overload{}, filter.PrefixAffinity{Explore: .2}, &filter.Rollout{Label: "rev"}, &filter.HeaderLabel{Header: "x", Label: "tier"}},
			Picker:  picker.Softmax{Temperature: .5},
		}
		for _, s := range []scheduling.Scorer{
			scorer.Prefix{}, scorer.PrefixHash{}, scorer.Session{}, &scorer.Ring{}, &scorer.Topology{}, scorer.Media{}, scorer.Dynamo{}, scorer.LoRA{},
			&scorer.ColdLRU{}, scorer.Linear{Metric: scheduling.KVUsage}, scorer.Linear{Metric: scheduling.InFlightKVTokens},
		} {
			profile.Scorers = append(profile.Scorers, scheduling.Weighted{Scorer: s})
		}
		plan := scheduling.Options{Stages: []scheduling.Stage{{Name: "a", Profile: profile}, {Name: "b", Profile: profile, After: []string{"a"}}}}
		report, err := replay.Run(context.Background(), replay.NewReader(bytes.NewReader(file)), replay.Options{Plan: plan})
		require.NotNil(t, report)
		if err == nil {
			require.Equal(t, report.Choices, report.Agreed+report.Disagreed+report.Skipped+report.Failed+report.Unknown)
		}
	})
}
