package config_test

import (
	"context"
	"encoding/json"
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/inferloom/inferloom/scheduling"
	"github.com/inferloom/inferloom/scheduling/config"
	"github.com/inferloom/inferloom/scheduling/policy"
	"github.com/inferloom/inferloom/scheduling/prefix"
)

// engine is an endpoint as the formulas see it.
type engine struct {
	id, role         string // the role is llm-d's label
	host, zone       string
	waiting, kv, gpu float64
	cached, media    int // tokens of the prompt, pieces of its images
	prefill          int // tokens in flight
}

// what a request is in these tests: a prompt of 1600 tokens with four images.
const promptTokens, images = 1600, 4

// formula is a choice as llm-d's documentation gives it: who takes part, and the sum of weights and scores.
type formula struct {
	takes []string // roles, "" for no label
	keep  func(es []engine, peer *engine) []engine
	terms []func(es []engine, peer *engine) []float64
	// of what comes after decode
	encode, prefill *formula
}

func each(f func(e engine) float64) func([]engine, *engine) []float64 {
	return func(es []engine, _ *engine) []float64 {
		var list []float64
		for _, e := range es {
			list = append(list, f(e))
		}
		return list
	}
}

func times(w float64, f func([]engine, *engine) []float64) func([]engine, *engine) []float64 {
	return func(es []engine, peer *engine) []float64 {
		list := f(es, peer)
		for i := range list {
			list[i] *= w
		}
		return list
	}
}

var (
	decodes  = []string{"", "decode", "prefill-decode", "both", "encode-prefill-decode"}
	prefills = []string{"prefill", "encode-prefill", "prefill-decode", "both", "encode-prefill-decode"}
	encodes  = []string{"encode", "encode-prefill", "encode-prefill-decode"}

	prefixScore = each(func(e engine) float64 { return float64(e.cached) / promptTokens })
	kvScore     = each(func(e engine) float64 { return 1 - e.kv })
	mediaScore  = each(func(e engine) float64 { return float64(e.media) / images })
	gpuScore    = each(func(e engine) float64 { return 1 - e.gpu })
	loadAware   = each(func(e engine) float64 { return .5 * (1 - math.Min(e.waiting, 128)/128) })
	tokenLoad   = each(func(e engine) float64 {
		return 1 - math.Min(float64(e.prefill+promptTokens-e.cached), 4194304)/4194304
	})
	topologyScore = func(es []engine, peer *engine) []float64 {
		var list []float64
		for _, e := range es {
			switch {
			case peer == nil:
				list = append(list, 0)
			case e.host == peer.host:
				list = append(list, 1)
			case e.zone == peer.zone:
				list = append(list, .05)
			default:
				list = append(list, 0)
			}
		}
		return list
	}
)

func queueScore(es []engine, _ *engine) []float64 {
	low, high := math.Inf(1), math.Inf(-1)
	for _, e := range es {
		low, high = math.Min(low, e.waiting), math.Max(high, e.waiting)
	}
	var list []float64
	for _, e := range es {
		if low == high {
			list = append(list, 1)
		} else {
			list = append(list, (high-e.waiting)/(high-low))
		}
	}
	return list
}

func sameHostIfAny(es []engine, peer *engine) []engine {
	near := slices.DeleteFunc(slices.Clone(es), func(e engine) bool { return peer == nil || e.host != peer.host })
	if len(near) == 0 {
		return es
	}
	return near
}

func coolIfAny(es []engine, _ *engine) []engine {
	cool := slices.DeleteFunc(slices.Clone(es), func(e engine) bool { return e.gpu > .9 })
	if len(cool) == 0 {
		return es
	}
	return cool
}

func sticky(es []engine, _ *engine) []engine {
	best, others := math.Inf(1), math.Inf(1) // seconds until a sticky endpoint and another one would start
	var kept []engine
	for _, e := range es {
		start := float64(e.prefill) / 15928
		if float64(e.cached)/promptTokens >= .8 {
			kept = append(kept, e)
			best = math.Min(best, start)
		} else {
			others = math.Min(others, start)
		}
	}
	if len(kept) == 0 || best-others > 18 {
		return es
	}
	return kept
}

var formulas = map[string]formula{
	"llm-d":               {terms: []func([]engine, *engine) []float64{times(2, queueScore), times(2, kvScore), times(3, prefixScore)}},
	"llm-d-token-load":    {keep: sticky, terms: []func([]engine, *engine) []float64{tokenLoad}},
	"llm-d-precise":       {takes: decodes, terms: []func([]engine, *engine) []float64{times(2, prefixScore), kvScore, queueScore}},
	"llm-d-multimodal":    {takes: decodes, terms: []func([]engine, *engine) []float64{times(10, prefixScore), times(4, mediaScore), queueScore}},
	"llm-d-data-parallel": {takes: decodes, terms: []func([]engine, *engine) []float64{times(2, prefixScore)}},
	"llm-d-burst":         {takes: decodes, terms: []func([]engine, *engine) []float64{times(2, prefixScore), loadAware}},
	"llm-d-gpu-utilization": {
		takes: decodes, keep: coolIfAny, terms: []func([]engine, *engine) []float64{times(2, gpuScore), kvScore},
	},
	"llm-d-pd": {
		takes: decodes, terms: []func([]engine, *engine) []float64{times(2, prefixScore), queueScore},
		prefill: &formula{takes: prefills, terms: []func([]engine, *engine) []float64{times(2, prefixScore), queueScore}},
	},
	"llm-d-epd": {
		takes: decodes, terms: []func([]engine, *engine) []float64{times(2, prefixScore), queueScore},
		encode:  &formula{takes: encodes},
		prefill: &formula{takes: prefills, terms: []func([]engine, *engine) []float64{times(2, prefixScore), queueScore}},
	},
	"llm-d-topology": {
		takes: decodes, terms: []func([]engine, *engine) []float64{times(2, prefixScore), queueScore},
		prefill: &formula{
			takes: prefills, keep: sameHostIfAny, terms: []func([]engine, *engine) []float64{times(2, prefixScore), queueScore, topologyScore},
		},
	},
}

// best returns the ids with the highest sum, or nil where nobody takes part.
func (f formula) best(es []engine, peer *engine) []string {
	if f.takes != nil {
		es = slices.DeleteFunc(slices.Clone(es), func(e engine) bool { return !slices.Contains(f.takes, e.role) })
	}
	if f.keep != nil && len(es) > 0 {
		es = f.keep(es, peer)
	}
	totals := make([]float64, len(es))
	for _, term := range f.terms {
		for i, v := range term(es, peer) {
			totals[i] += v
		}
	}
	var ids []string
	for i, e := range es {
		if totals[i] >= slices.Max(totals)-1e-9 {
			ids = append(ids, e.id)
		}
	}
	return ids
}

// given stands for the producers of llm-d: it says what the test says.
type given struct {
	engines *[]engine
	media   bool
	// Parameters of the presets.
	A int             `json:"maxPrefixTokensToMatch"`
	B int             `json:"lruCapacityPerServer"`
	C json.RawMessage `json:"tokenProcessorConfig"`
	D int             `json:"windowDurationMs"`
	E int             `json:"maxPerReplica"`
	F int             `json:"cacheSizeInMBPerServer"`
}

func (g *given) Produce(c *scheduling.Cycle) {
	for _, e := range *g.engines {
		slot, _ := c.Snapshot.Find(e.id)
		if g.media {
			if len(c.Match.Media) == 0 {
				c.Match.Media = make([]int32, c.Snapshot.Len())
			}
			c.Match.Media[slot] = int32(e.media)
		} else {
			c.Match.Known = true
			c.Match.Cached[slot] = int32(e.cached)
		}
	}
}

// llm-d's production presets choose what their formulas do by hand, on random pools.
func TestPresetsEqualTheirFormulas(t *testing.T) {
	for _, name := range config.Presets() {
		if name == "default" || name == "disaggregated" {
			continue
		}
		reference, ok := formulas[name]
		require.True(t, ok, "the preset %s has no formula", name)
		text, err := config.Preset(name)
		require.NoError(t, err)
		t.Run(name, func(t *testing.T) {
			rapid.Check(t, func(t *rapid.T) {
				var engines []engine
				var list []scheduling.Endpoint
				for i := range rapid.IntRange(1, 7).Draw(t, "endpoints") {
					e := engine{
						id: fmt.Sprint("e", i), role: rapid.SampledFrom([]string{"", "decode", "prefill", "encode", "both", "encode-prefill", "prefill-decode", "encode-prefill-decode", "odd"}).Draw(t, "role"),
						host: rapid.SampledFrom([]string{"h1", "h2", "h3"}).Draw(t, "host"), zone: rapid.SampledFrom([]string{"z1", "z2"}).Draw(t, "zone"),
						waiting: float64(rapid.IntRange(0, 4).Draw(t, "waiting")), kv: float64(rapid.IntRange(0, 4).Draw(t, "kv")) / 4, gpu: float64(rapid.IntRange(0, 10).Draw(t, "gpu")) / 10,
						cached: rapid.SampledFrom([]int{0, 160, 1280, 1584, 1600}).Draw(t, "cached"), media: rapid.IntRange(0, images).Draw(t, "media"),
						prefill: rapid.SampledFrom([]int{0, 0, 1000, 400_000}).Draw(t, "prefill"),
					}
					engines = append(engines, e)
					endpoint := scheduling.Endpoint{ID: e.id, Address: fmt.Sprintf("10.0.0.%d:80", i+1), Labels: map[string]string{
						"kubernetes.io/hostname": e.host, "topology.kubernetes.io/zone": e.zone,
					}}
					if e.role != "" {
						endpoint.Labels["llm-d.ai/role"] = e.role
					}
					list = append(list, endpoint)
				}
				pool, err := scheduling.NewPool(scheduling.PoolOptions{Endpoints: list})
				require.NoError(t, err)
				for _, e := range engines {
					if e.prefill > 0 {
						place, err := scheduling.New(pool, scheduling.Options{Profile: scheduling.Profile{Filters: []scheduling.Filter{only(e.id)}}})
						require.NoError(t, err)
						_, err = place.Pick(context.Background(), &scheduling.Request{Prompt: scheduling.Prompt{Tokens: make([]uint32, e.prefill)}})
						require.NoError(t, err)
					}
					require.NoError(t, pool.Report(scheduling.State{Endpoint: e.id, Values: []scheduling.Value{
						{Metric: scheduling.Waiting, Value: e.waiting}, {Metric: scheduling.KVUsage, Value: e.kv}, {Metric: scheduling.Custom(0), Value: e.gpu},
					}}))
				}
				match := func() scheduling.Producer { return &given{engines: &engines} }
				loader := &config.Loader{
					Attributes: map[string]scheduling.Metric{"GPUUtilization": scheduling.Custom(0)},
					Types: config.Types{Producers: map[string]func() scheduling.Producer{
						"approx-prefix-cache-producer": match, "precise-prefix-cache-producer": match, "burst-prefix-cache-producer": match,
						"mm-embeddings-cache-producer": func() scheduling.Producer { return &given{engines: &engines, media: true} },
					}},
				}
				plan, err := loader.Load([]byte(text))
				require.NoError(t, err)
				s, err := scheduling.New(pool, plan.Options)
				require.NoError(t, err)
				d, err := s.Pick(context.Background(), &scheduling.Request{
					Prompt: scheduling.Prompt{Tokens: make([]uint32, promptTokens)}, Media: []scheduling.Media{{Hash: 1, Size: images}},
				})
				want := reference.best(engines, nil)
				if len(want) == 0 {
					require.ErrorIs(t, err, scheduling.ErrNoEndpoint)
					return
				}
				require.NoError(t, err)
				require.Contains(t, want, d.Endpoint.ID)
				if reference.prefill == nil {
					require.Len(t, d.Stages(), 1)
					return
				}
				decode := &engines[slices.IndexFunc(engines, func(e engine) bool { return e.id == d.Endpoint.ID })]
				if reference.encode != nil {
					leg, ran := d.Stage("encode")
					want := reference.encode.best(engines, decode)
					require.Equal(t, len(want) > 0, ran)
					if ran {
						require.Contains(t, want, leg.Endpoint.ID)
					}
				}
				leg, ran := d.Stage("prefill")
				want = reference.prefill.best(engines, decode)
				require.Equal(t, promptTokens-decode.cached >= 16 && len(want) > 0, ran)
				if ran {
					require.Contains(t, want, leg.Endpoint.ID)
				}
			})
		})
	}
}

type only string

func (id only) Filter(c *scheduling.Cycle, slots []scheduling.Slot) []scheduling.Slot {
	return slices.DeleteFunc(slots, func(s scheduling.Slot) bool { return c.Endpoint(s).ID != string(id) })
}

// The preset says what the code does.
func TestDefaultPresetIsTheDefaultPolicy(t *testing.T) {
	index, err := prefix.New(prefix.Options{})
	require.NoError(t, err)
	plan, err := new(config.Loader).Load([]byte("preset: default"))
	require.NoError(t, err)
	require.Equal(t, describe(policy.Default(index)), describe(plan.Options.Profile))
}

func TestDisaggregatedPresetIsThePolicy(t *testing.T) {
	index, err := prefix.New(prefix.Options{})
	require.NoError(t, err)
	plan, err := new(config.Loader).Load([]byte("preset: disaggregated"))
	require.NoError(t, err)
	for i, want := range policy.Disaggregated(index, index) {
		got := plan.Options.Stages[i]
		require.Equal(t, describe(want.Profile), describe(got.Profile))
		require.Equal(t, fmt.Sprintf("%+v", want.When), strings.TrimPrefix(fmt.Sprintf("%+v", got.When), "&"))
		want.Profile, got.Profile, want.When, got.When = scheduling.Profile{}, scheduling.Profile{}, nil, nil
		require.Equal(t, want, got)
	}
}

// describe returns a profile's plugins with their parameters.
func describe(p scheduling.Profile) []string {
	var list []string
	add := func(plugin any, weight float64) {
		text, _ := json.Marshal(plugin)
		name := fmt.Sprintf("%T", plugin)
		if name[0] == '*' {
			name = name[1:]
		}
		list = append(list, fmt.Sprintf("%v × %s %s", max(weight, 1), name, text))
	}
	for _, x := range p.Producers {
		add(x, 1)
	}
	for _, x := range p.Filters {
		add(x, 1)
	}
	for _, x := range p.Scorers {
		add(x.Scorer, x.Weight)
	}
	add(p.Picker, 1)
	return list
}
