package inferloom_test

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/inferloom/inferloom/scheduling"
	"github.com/inferloom/inferloom/scheduling/condition"
	"github.com/inferloom/inferloom/scheduling/config"
	"github.com/inferloom/inferloom/scheduling/enginemetrics"
	"github.com/inferloom/inferloom/scheduling/scorer"
)

// The functions below are the Go code of the guides to scheduling, line by line, with the errors looked at.

func aPool(ctx context.Context, endpoints []scheduling.Endpoint, endpoint scheduling.Endpoint, states []scheduling.State, use func(scheduling.Change)) error {
	pool, err := scheduling.NewPool(scheduling.PoolOptions{
		Endpoints: []scheduling.Endpoint{{ID: "vllm-0", Address: "10.0.0.1:8000", Model: "llama", Adapters: []string{"legal"}}},
		Models:    []string{"mixtral"}, // known, though nothing serves it yet: a request gets 503, not 404
	})
	if err != nil {
		return err
	}
	err = pool.Set(endpoints) // what discovery says now: adds, updates, removes
	if err != nil {
		return err
	}
	err = pool.Upsert(endpoint) // one that came or changed
	if err != nil {
		return err
	}
	pool.Remove("vllm-0")
	err = pool.Report(states...) // what engines say of themselves; enginemetrics does it for you
	if err != nil {
		return err
	}
	for change := range pool.Watch(ctx) { // Added, Updated, Removed, until ctx ends
		use(change)
	}
	scraper, err := enginemetrics.New(pool, enginemetrics.Options{})
	go scraper.Run(ctx)
	return err
}

var errAllFailed = errors.New("all failed")

func aDecision(ctx context.Context, sched *scheduling.Scheduler, body []byte, n int, send func(address string) error) error {
	d, err := sched.Pick(ctx, &scheduling.Request{Model: "llama", Prompt: scheduling.Prompt{Text: body}})
	switch {
	case errors.Is(err, scheduling.ErrUnknownModel): // 404
	case errors.Is(err, scheduling.ErrNoEndpoint): // 503; errors.As(err, *PickError) names the filter that left none
	}
	defer d.Done()
	for send(d.Endpoint.Address) != nil {
		if !d.Next() { // moves the request and its reservation to the next in rank
			return errAllFailed
		}
	}
	d.FirstToken() // the prefill is over
	d.Tokens(n)    // n more output tokens take up KV memory
	return nil
}

func someStages(ctx context.Context, pool *scheduling.Pool, decode, encode, prefill scheduling.Profile, request *scheduling.Request, send func(address string) error) error {
	sched, err := scheduling.New(pool, scheduling.Options{Stages: []scheduling.Stage{
		{Name: "decode", Profile: decode},
		{
			Name: "encode", Profile: encode, After: []string{"decode"}, Takes: scheduling.Encode, Optional: true,
			When: condition.Media{}, // requests with images, sounds or films
		},
		{
			Name: "prefill", Profile: prefill, After: []string{"decode"}, Takes: scheduling.Prefill, Optional: true,
			When: condition.Uncached{Tokens: 512, Stage: "decode"}, // and of the prompt at least this is not cached there
		},
	}})
	if err != nil {
		return err
	}
	d, err := sched.Pick(ctx, request)
	if err != nil {
		return err
	}
	defer d.Done() // ends all stages
	if prefill, ran := d.Stage("prefill"); ran {
		for send(prefill.Endpoint.Address) != nil {
			if !prefill.Next() { // its own fallbacks; the other stages stay where they are
				return errAllFailed
			}
		}
		prefill.Done() // its own reservation, which the first token of the whole ends otherwise
	}
	return send(d.Endpoint.Address)
}

type FewestRunning struct{}

func (FewestRunning) Score(c *scheduling.Cycle, slots []scheduling.Slot, scores []float64) {
	running := c.Metric(scheduling.Running)
	for i, slot := range slots {
		if n, ok := running.At(slot); ok {
			scores[i] = 1 / (1 + n)
		} else {
			scores[i] = scheduling.Abstain
		}
	}
}

type Gold struct{ tiers scheduling.PerLayout[[]bool] } // use it by pointer

func (g *Gold) Filter(c *scheduling.Cycle, slots []scheduling.Slot) []scheduling.Slot {
	gold := g.tiers.Of(c.Snapshot, func(s *scheduling.Snapshot) []bool {
		return scheduling.BySlot(s, func(e *scheduling.Endpoint) bool { return e.Labels["tier"] == "gold" })
	})
	return slices.DeleteFunc(slots, func(slot scheduling.Slot) bool { return !gold[slot] })
}

func aCost(prefillRate func(*scheduling.Endpoint) float64) scheduling.Scorer {
	return scorer.Cost{Terms: []scorer.Term{ // seconds
		&scorer.PrefillTime{TokensPerSecond: scorer.Capacity{Of: prefillRate}},
		scorer.Each{Metric: scheduling.Waiting, Cost: 0.05},
		scorer.AdapterTime{Load: 2, Evict: 1},
	}}
}

func aSession(key []byte, d *scheduling.Decision, w http.ResponseWriter, r *http.Request, request *scheduling.Request, tenant string, now time.Time) error {
	tokens, err := scheduling.NewSessionTokens(key)
	if err != nil {
		return err
	}
	// with the answer:
	w.Header().Set("x-session-token", tokens.Issue(d.Endpoint.ID, tenant, now.Add(time.Hour)))
	// with the next request:
	request.Pinned, err = tokens.Verify(r.Header.Get("x-session-token"), tenant, now)
	return err
}

func aFile(ctx context.Context, pool *scheduling.Pool, log *slog.Logger) error {
	loader := &config.Loader{}
	plan, err := loader.LoadFile("scheduling.yaml")
	if err != nil {
		return err
	}
	sched, err := scheduling.New(pool, plan.Options)
	if err != nil {
		return err
	}
	go config.Follow(ctx, sched, plan, config.FollowOptions{Path: "scheduling.yaml", Loader: loader, Log: log})
	return nil
}

type NearestZone = Gold

func ownTypes() *config.Loader {
	loader := &config.Loader{Types: config.Types{Filters: map[string]func() scheduling.Filter{
		"nearest-zone": func() scheduling.Filter { return new(NearestZone) },
	}}}
	return loader
}

// requireCompiled fails the test if guides have a line of Go that a file of this package has not.
func requireCompiled(t *testing.T, file string, guides ...string) {
	t.Helper()
	source, err := os.ReadFile(file)
	require.NoError(t, err)
	compiled := map[string]bool{}
	for line := range strings.Lines(string(source)) {
		compiled[spaced(line)] = true
		compiled[strings.TrimPrefix(spaced(line), "return ")] = true
	}
	for _, name := range guides {
		guide, err := os.ReadFile(name)
		require.NoError(t, err)
		blocks := strings.Split(string(guide), "```go\n")[1:]
		require.NotEmpty(t, blocks)
		for _, block := range blocks {
			code, _, _ := strings.Cut(block, "```")
			for line := range strings.Lines(code) {
				require.True(t, compiled[spaced(line)], "%s: %s: the guide's code is what is compiled here", name, line)
			}
		}
	}
}

func TestGuides(t *testing.T) {
	requireCompiled(t, "guides_test.go", "docs/scheduling.md", "docs/config.md")

	// And it works.
	pool, err := scheduling.NewPool(scheduling.PoolOptions{Endpoints: []scheduling.Endpoint{
		{Address: "10.0.0.1:8000", Model: "llama"}, {Address: "10.0.0.2:8000", Model: "llama", Labels: map[string]string{"tier": "gold"}},
	}})
	require.NoError(t, err)
	var sent []string
	send := func(address string) error { sent = append(sent, address); return nil }
	gold := scheduling.Profile{
		Filters: []scheduling.Filter{new(Gold)},
		Scorers: []scheduling.Weighted{{Scorer: FewestRunning{}}, {Scorer: aCost(func(*scheduling.Endpoint) float64 { return 15000 })}},
	}
	prompt := scheduling.Prompt{Text: make([]byte, 4096)}
	require.NoError(t, someStages(t.Context(), pool, gold, gold, gold, &scheduling.Request{Prompt: prompt}, send))
	require.Equal(t, []string{"10.0.0.2:8000", "10.0.0.2:8000"}, sent, "prefilled and decoded")
	plan, err := ownTypes().Load([]byte("profile: {filters: [nearest-zone]}"))
	require.NoError(t, err)
	sched, err := scheduling.New(pool, plan.Options)
	require.NoError(t, err)
	require.NoError(t, aDecision(t.Context(), sched, prompt.Text, 3, send))
	require.Equal(t, errAllFailed, aDecision(t.Context(), sched, prompt.Text, 3, func(string) error { return errAllFailed }))
	require.Zero(t, pool.Total())
	_, _, _ = aPool, aSession, aFile // for their lines
}

// spaced is a line without what gofmt decides.
func spaced(line string) string { return strings.Join(strings.Fields(line), " ") }
