package engine

import (
	"cmp"
	"encoding/csv"
	"fmt"
	"maps"
	"math"
	"math/rand/v2"
	"os"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// TestMeasuredRows asks how well the time options of this engine, fitted to some measured points of a deployment, predict
// others. SILICON_CSV names the silicon sample of aiconfigurator (Apache-2.0): time to first token and time per output token
// of real engines on real accelerators, in closed loop at a stated concurrency.
//
// Rows: aggregated serving whose tp_size, moe_tp_size and attention_dp_size are 1, 2, 4 or 8 (others carry labels that are
// not those of one engine). A deployment is what they have in common but for lengths, concurrency and date; of each pair of
// lengths at least four concurrencies must be there. What was measured more than once counts with its median. What is fitted
// for a deployment uses its own training points only.
func TestMeasuredRows(t *testing.T) {
	path := os.Getenv("SILICON_CSV")
	if path == "" {
		t.Skip("SILICON_CSV is not set")
	}
	all := readSilicon(t, path)
	t.Logf("%d series of concurrencies", len(all))

	// Two ways to take points out of a series; and two to do so for a deployment that has three series, with one fit for all
	// that is left: every other point of each, or one series.
	var between, beyond, joint, across []trial
	for _, s := range all {
		var inner, outer trial
		for i, p := range s.points {
			if last := i == len(s.points)-1; i%2 == 0 || last {
				inner.train = append(inner.train, p)
			} else {
				inner.test = append(inner.test, p)
			}
			if i < len(s.points)-1 {
				outer.train = append(outer.train, p)
			} else {
				outer.test = append(outer.test, p)
			}
		}
		inner.deployment, outer.deployment = s.deployment, s.deployment
		between, beyond = append(between, inner), append(beyond, outer)
	}
	for _, three := range byDeployment(all) {
		if len(three) < 3 {
			continue
		}
		both := trial{deployment: three[0].deployment}
		for i := range three {
			inner := between[slices.IndexFunc(all, func(s series) bool { return &s.points[0] == &three[i].points[0] })]
			both.train, both.test = append(both.train, inner.train...), append(both.test, inner.test...)
			tr := trial{deployment: three[i].deployment, test: three[i].points}
			for j := range three {
				if j != i {
					tr.train = append(tr.train, three[j].points...)
				}
			}
			across = append(across, tr)
		}
		joint = append(joint, both)
	}
	for _, split := range []struct {
		name   string
		trials []trial
		limit  float64 // of the median error of TPOT
	}{
		{"every other concurrency held out", between, 0.04},
		{"the largest concurrency held out", beyond, 0.10},
		{"every other concurrency held out, one fit for three pairs of lengths", joint, 0.15},
		{"one of three pairs of lengths held out", across, 0.2},
	} {
		for _, experts := range []bool{false, true} {
			held := predict(split.trials, experts)
			t.Logf("%s, experts in the model: %v; |error| of TPOT and TTFT, median and p90", split.name, experts)
			for _, key := range slices.Sorted(maps.Keys(held)) {
				e := held[key]
				t.Logf("  %-26s %4d points  TPOT %5.1f %% %5.1f %%  TTFT %5.1f %% %5.1f %%", key, len(e.tpot),
					100*quantile(e.tpot, 0.5), 100*quantile(e.tpot, 0.9), 100*quantile(e.ttft, 0.5), 100*quantile(e.ttft, 0.9))
			}
			if experts {
				require.Less(t, quantile(held["all"].tpot, 0.5), split.limit)
			}
		}
	}
}

// A trial fits to some points of a deployment and predicts others.
type trial struct {
	*deployment
	train, test []point
}

type deployment struct {
	model, backend string
	ranks          int // of data-parallel attention
}

// A point is what was measured at one concurrency, in milliseconds.
type point struct {
	isl, osl, concurrency int
	ttft, tpot            float64
}

type predictionErrors struct{ ttft, tpot []float64 }

// predict returns the relative errors of the points held out: of all, by model and by serving engine.
func predict(trials []trial, experts bool) map[string]*predictionErrors {
	held := map[string]*predictionErrors{}
	var mu sync.Mutex
	var wg sync.WaitGroup
	work := make(chan trial)
	for range runtime.GOMAXPROCS(0) {
		wg.Go(func() {
			for tr := range work {
				f := tr.fit(experts)
				for _, p := range tr.test {
					ttft, tpot := f.simulate(p, tr.ranks)
					mu.Lock()
					for _, key := range []string{"all", tr.backend, tr.model, fmt.Sprintf("%d/%d tokens", p.isl, p.osl)} {
						if held[key] == nil {
							held[key] = &predictionErrors{}
						}
						held[key].ttft = append(held[key].ttft, math.Abs(ttft/p.ttft-1))
						held[key].tpot = append(held[key].tpot, math.Abs(tpot/p.tpot-1))
					}
					mu.Unlock()
				}
			}
		})
	}
	for _, tr := range trials {
		work <- tr
	}
	close(work)
	wg.Wait()
	return held
}

// A series are the points of a deployment with the same lengths, by concurrency.
type series struct {
	*deployment
	points []point
}

func byDeployment(all []series) [][]series {
	var out [][]series
	place := map[*deployment]int{}
	for _, s := range all {
		i, ok := place[s.deployment]
		if !ok {
			i = len(out)
			place[s.deployment] = i
			out = append(out, nil)
		}
		out[i] = append(out[i], s)
	}
	return out
}

func readSilicon(t *testing.T, path string) []series {
	f, err := os.Open(path)
	require.NoError(t, err)
	defer f.Close()
	table, err := csv.NewReader(f).ReadAll()
	require.NoError(t, err)
	column := map[string]int{}
	for i, name := range table[0] {
		column[name] = i
	}
	type key struct {
		deployment            string
		isl, osl, concurrency int
	}
	deployments, measured := map[string]*deployment{}, map[key][2][]float64{}
	for _, row := range table[1:] {
		get := func(name string) string { return row[column[name]] }
		number := func(name string) float64 {
			v, err := strconv.ParseFloat(get(name), 64)
			require.NoError(t, err, "%s is %q", name, get(name))
			return v
		}
		plain := func(name string) bool { return slices.Contains([]string{"1", "2", "4", "8"}, get(name)) }
		if get("mode") != "agg" || !plain("tp_size") || !plain("attention_dp_size") || get("moe_tp_size") != "" && !plain("moe_tp_size") {
			continue
		}
		var name strings.Builder
		for _, c := range []string{"backend", "backend_version", "model_path", "system", "precision", "gemm_quant_mode", "moe_quant_mode",
			"tp_size", "pp_size", "attention_dp_size", "moe_tp_size", "moe_ep_size"} {
			name.WriteString(get(c) + "|")
		}
		if deployments[name.String()] == nil {
			deployments[name.String()] = &deployment{model: get("model_path"), backend: get("backend"), ranks: int(number("attention_dp_size"))}
		}
		k := key{name.String(), int(number("isl")), int(number("osl")), int(number("concurrency"))}
		v := measured[k]
		v[0], v[1] = append(v[0], number("silicon_ttft_ms")), append(v[1], number("silicon_tpot_ms"))
		measured[k] = v
	}
	var out []series
	keys := slices.SortedFunc(maps.Keys(measured), func(a, b key) int {
		return cmp.Or(cmp.Compare(a.deployment, b.deployment), a.isl-b.isl, a.osl-b.osl, a.concurrency-b.concurrency)
	})
	for i := 0; i < len(keys); {
		k := keys[i]
		s := series{deployment: deployments[k.deployment]}
		for ; i < len(keys) && keys[i].deployment == k.deployment && keys[i].isl == k.isl && keys[i].osl == k.osl; i++ {
			v := measured[keys[i]]
			s.points = append(s.points, point{k.isl, k.osl, keys[i].concurrency, quantile(v[0], 0.5), quantile(v[1], 0.5)})
		}
		if len(s.points) >= 4 {
			out = append(out, s)
		}
	}
	return out
}

// expertShares are experts a token over routed experts, from the models' published configurations.
var expertShares = map[string]float64{
	"deepseek-ai/DeepSeek-R1": 8. / 256, "deepseek-ai/DeepSeek-V3": 8. / 256, "MiniMaxAI/MiniMax-M2.5": 8. / 256,
	"zhipuai/GLM-5": 8. / 256, "openai/gpt-oss-120b": 4. / 128, "Qwen/Qwen3.5-397B-A17B": 10. / 512,
	"moonshotai/Kimi-K2.5": 8. / 384,
}

// timing is what is fitted, in milliseconds.
type timing struct {
	base, perSequence, perKVToken float64
	perPrefillToken, perPair      float64
	experts, share                float64
}

func (f timing) options(running int) Options {
	d := func(ms float64) time.Duration { return max(1, time.Duration(math.Round(ms*float64(time.Millisecond)))) }
	return Options{
		BlockTokens: 512, Blocks: 64 * running, MaxRunning: running, MaxContextTokens: 1 << 20,
		PrefillRate: 1000 / f.perPrefillToken, AttentionRate: 1000 / f.perPair,
		StepTime: d(f.base), StepTimePerSequence: d(f.perSequence), StepTimePerKVToken: d(f.perKVToken),
		ExpertTime: d(f.experts), ExpertShare: f.share,
	}
}

// simulate returns mean TTFT and mean TPOT of ten times as many requests as run at a time, the first of them all at once, as
// the common load generators do it; lengths are between 80 and 100 % of the nominal ones. Of data-parallel ranks one is
// simulated.
func (f timing) simulate(p point, ranks int) (ttft, tpot float64) {
	n := max(1, p.concurrency/ranks)
	r := rand.New(rand.NewPCG(1, uint64(n)))
	var ended []Result
	e, err := New(0, f.options(n), Hooks{Finished: func(res Result) { ended = append(ended, res) }})
	if err != nil {
		panic(err)
	}
	id := uint64(0)
	submit := func(at time.Duration) {
		id++
		length := func(n int) int { return n - r.IntN(n/5+1) }
		if err := e.Submit(at, Request{ID: id, PromptTokens: length(p.isl), OutputTokens: length(p.osl)}); err != nil {
			panic(err)
		}
	}
	for range n {
		submit(0)
	}
	count := 0
	for at, ok := e.NextChange(); ok; at, ok = e.NextChange() {
		e.Advance(at)
		for _, res := range ended {
			count++
			ttft += (res.FirstToken - res.Arrived).Seconds() * 1000
			tpot += (res.Finished - res.FirstToken).Seconds() * 1000 / float64(res.OutputTokens-1)
			if id < uint64(10*n) {
				submit(res.Finished)
			}
		}
		ended = ended[:0]
	}
	return ttft / float64(count), tpot / float64(count)
}

// fit corrects the options in a few rounds: prefill by the ratio of measured to simulated TTFT, for each prompt length, the
// rest by least squares on what is left of TPOT, in relative terms and with no coefficient below zero. Where all points have
// the same lengths, the cost of a sequence cannot be told from that of its context, nor that of a prompt token from that of
// its attention; they are put to the former.
func (tr *trial) fit(experts bool) timing {
	first := tr.train[0]
	f := timing{base: first.tpot / 2, perSequence: 0.01, perPrefillToken: first.ttft / float64(first.isl) / 2, perPair: 1e-12}
	if experts {
		f.share = expertShares[tr.model]
	}
	oneLength := !slices.ContainsFunc(tr.train, func(p point) bool { return p.isl != first.isl || p.osl != first.osl })
	for range 6 {
		ratios := map[int][]float64{} // by prompt length
		var left []float64
		var features [][]float64
		for _, p := range tr.train {
			ttft, tpot := f.simulate(p, tr.ranks)
			ratios[p.isl] = append(ratios[p.isl], p.ttft/ttft)
			n := float64(max(1, p.concurrency/tr.ranks))
			x := []float64{1, n, n * 0.9 * float64(p.isl+p.osl/2), 1 - math.Pow(1-f.share, n)}
			if oneLength {
				x[2] = 0
			}
			explained := f.base*x[0] + f.perSequence*x[1] + f.perKVToken*x[2] + f.experts*x[3]
			for j := range x {
				x[j] /= p.tpot
			}
			features = append(features, x)
			left = append(left, (p.tpot-tpot+explained)/p.tpot)
		}
		var prefill [][]float64
		for _, isl := range slices.Sorted(maps.Keys(ratios)) {
			n := 0.9 * float64(isl)
			took := (n*f.perPrefillToken + n*n/2*f.perPair) * math.Sqrt(quantile(ratios[isl], 0.5))
			prefill = append(prefill, []float64{n / took, n * n / 2 / took})
		}
		if len(prefill) == 1 {
			prefill[0][1] = 0
		}
		c := nonNegativeLeastSquares(prefill, slices.Repeat([]float64{1}, len(prefill)))
		f.perPrefillToken, f.perPair = max(c[0], 1e-9), max(c[1], 1e-12)
		c = nonNegativeLeastSquares(features, left)
		f.base, f.perSequence, f.perKVToken, f.experts = max(c[0], 1e-3), c[1], c[2], c[3]
	}
	return f
}
