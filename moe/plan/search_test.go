package plan

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/inferloom/inferloom/accel"
	"github.com/inferloom/inferloom/moe"
)

func modelOf(t require.TestingT, name string) *accel.Model {
	m, err := accel.LookupModel(name)
	require.NoError(t, err)
	return m
}

func systemOf(t require.TestingT, name string) accel.System {
	s, err := accel.Builtin().System(name)
	require.NoError(t, err)
	return s
}

// exhaustive tries every load of every legal cut, and compares each plan with all others.
func exhaustive(e Estimator, p Problem) (best, front []point) {
	s := newSearch(e, &p)
	s.findLegal()
	var all []point
	for _, c := range s.legalCuts {
		for load := range c.loads {
			if p := s.try(c, load); p.missed == numReasons {
				all = append(all, *p)
			}
		}
	}
	slices.SortFunc(all, rank)
	for i := range all {
		p := &all[i]
		if !slices.ContainsFunc(all, func(q point) bool { return dominates(&q, p) }) &&
			!slices.ContainsFunc(front, func(q point) bool {
				return q.perAccelerator == p.perAccelerator && q.ttft == p.ttft && q.tpot == p.tpot
			}) {
			front = append(front, *p)
		}
	}
	return all[:min(len(all), 1)], front
}

type same struct {
	cut            string
	kernel         accel.AllToAll
	overlap        bool
	precision      accel.Precision
	sequences      int
	replicas       int
	perAccelerator float64
	ttft, tpot     time.Duration
}

func identities(points []point) []same {
	out := []same{}
	for _, p := range points {
		c := p.cut
		out = append(out, same{c.String(), c.kernel, c.overlap, c.precision, p.sequences, p.replicas, p.perAccelerator, p.ttft, p.tpot})
	}
	return out
}

func TestSearchEqualsExhaustive(t *testing.T) {
	estimator := accel.Calibrated()
	most := 16
	if raceDetector {
		most = 4
	}
	plans, cases, estimates, spared := 0, 0, 0, 0
	rapid.Check(t, func(t *rapid.T) {
		p := Problem{
			Model: modelOf(t, rapid.SampledFrom([]string{
				"deepseek-ai/DeepSeek-R1", "Qwen/Qwen3-30B-A3B", "meta-llama/Llama-3.1-70B-Instruct", "openai/gpt-oss-120b", "zai-org/GLM-4.5-Air",
			}).Draw(t, "model")),
			System: systemOf(t, rapid.SampledFrom([]string{
				"h100-sxm", "h200-sxm", "b200", "gb200-nvl72", "mi300x", "l40s", "tpu-v5e", "tpu7x", "gaudi3",
			}).Draw(t, "system")),
			Accelerators: rapid.OneOf(rapid.IntRange(1, 4), rapid.IntRange(1, most)).Draw(t, "accelerators"),
			Engine:       rapid.SampledFrom([]accel.Engine{accel.VLLM, accel.SGLang, accel.TensorRTLLM}).Draw(t, "engine"),
			Role:         rapid.SampledFrom([]Role{Both, Prefill, Decode}).Draw(t, "role"),
			Input:        rapid.IntRange(1, 8000).Draw(t, "input"),
			Output:       rapid.IntRange(1, 2000).Draw(t, "output"),
			TTFT:         time.Duration(rapid.SampledFrom([]int{0, 100, 500, 2000}).Draw(t, "ttft")) * time.Millisecond,
			TPOT:         time.Duration(rapid.SampledFrom([]int{0, 10, 50}).Draw(t, "tpot")) * time.Millisecond,
			Rate:         rapid.SampledFrom([]float64{0, 0, .5, 5, 50}).Draw(t, "rate"),
		}
		if p.check() != nil {
			t.Skip("no problem")
		}
		s, best := equalsExhaustive(t, estimator, p)
		cases++
		if len(best) > 0 {
			plans++
		}
		estimates += s.result.Estimates
		for _, c := range s.legalCuts {
			for _, tried := range c.tried {
				if tried == nil {
					spared++
				}
			}
		}
	})
	t.Logf("%d cases, %d with plans, %d estimates, %d spared", cases, plans, estimates, spared)
	require.Greater(t, 2*plans, cases/2)
}

func equalsExhaustive(t require.TestingT, e Estimator, p Problem) (s *search, best []point) {
	s = newSearch(e, &p)
	s.run()
	best, front := exhaustive(e, p)
	require.Equal(t, identities(front), identities(s.front))
	require.Equal(t, identities(best), identities(s.best[:min(len(s.best), 1)]))
	return s, best
}

func TestSearchEqualsExhaustiveOn64(t *testing.T) {
	if raceDetector {
		t.Skip("the race detector makes it long")
	}
	for _, p := range []Problem{
		{Model: modelOf(t, "deepseek-ai/DeepSeek-R1"), System: systemOf(t, "h100-sxm"), Engine: accel.SGLang, Role: Decode},
		{Model: modelOf(t, "deepseek-ai/DeepSeek-R1"), System: systemOf(t, "gb200-nvl72"), Engine: accel.VLLM, Rate: 20},
		{Model: modelOf(t, "Qwen/Qwen3-235B-A22B"), System: systemOf(t, "b200"), Engine: accel.VLLM, TTFT: time.Second},
		{Model: modelOf(t, "meta-llama/Llama-3.1-405B-Instruct"), System: systemOf(t, "h200-sxm"), Engine: accel.TensorRTLLM, Role: Prefill},
		{Model: modelOf(t, "zai-org/GLM-4.5-Air"), System: systemOf(t, "tpu-v6e"), Engine: accel.VLLM},
	} {
		p.Accelerators, p.Input, p.Output, p.TPOT = 64, 2000, 500, 60*time.Millisecond
		_, best := equalsExhaustive(t, accel.Calibrated(), p)
		require.NotEmpty(t, best, "%s on %s", p.Model.Name, p.System.Name)
	}
}

func TestDeepSeek(t *testing.T) {
	p := Problem{
		Model: modelOf(t, "deepseek-ai/DeepSeek-R1"), System: systemOf(t, "h100-sxm"), Accelerators: 96, Engine: accel.SGLang,
		Input: 2000, Output: 1000, TPOT: 100 * time.Millisecond,
	}
	t.Run("decode on 96 H100 is wide expert parallelism over nodes", func(t *testing.T) {
		p.Role = Decode
		r, err := Search(accel.Calibrated(), p)
		require.NoError(t, err)
		i := slices.IndexFunc(r.Plans, func(p Plan) bool { return p.Deployment.Parallelism.EP >= 32 })
		require.GreaterOrEqual(t, i, 0)
		wide := r.Plans[i]
		require.Greater(t, wide.PerAccelerator.Value, .9*r.Plans[0].PerAccelerator.Value)
		require.Equal(t, accel.DeepEPLowLatency, wide.Deployment.AllToAll)
		require.Equal(t, accel.FP8, wide.Deployment.Precision.KV)
		for _, narrow := range r.Plans {
			require.Greater(t, narrow.Layout.Nodes, 1, "one node of eight does not hold it")
		}
	})
	t.Run("EP72 takes 32 redundant experts", func(t *testing.T) {
		p.Role, p.Fixed = Decode, accel.Parallelism{EP: 72, TP: 1}
		r, err := Search(accel.Calibrated(), p)
		require.NoError(t, err)
		require.Equal(t, accel.Parallelism{TP: 1, DP: 72, PP: 1, EP: 72, MoETP: 1, Redundant: 32}, r.Plans[0].Deployment.Parallelism)
		require.Equal(t, 24, r.Plans[0].Idle)
		p.Fixed = accel.Parallelism{}
	})
	t.Run("prefill on 96 H100 spans nodes", func(t *testing.T) {
		p.Role, p.TTFT = Prefill, 5*time.Second
		r, err := Search(accel.Calibrated(), p)
		require.NoError(t, err)
		require.GreaterOrEqual(t, r.Plans[0].Deployment.Parallelism.EP, 16)
		p.TTFT = 0
	})
	t.Run("it does not fit 8 H100", func(t *testing.T) {
		p.Role, p.Accelerators = Both, 8
		r, err := Search(accel.Calibrated(), p)
		require.ErrorIs(t, err, ErrNoPlan)
		require.ErrorContains(t, err, "no memory")
		require.Equal(t, NoMemory, r.Refused[len(r.Refused)-1].Reason)
	})
	t.Run("it fits 8 H200 in FP8 only", func(t *testing.T) {
		p.System = systemOf(t, "h200-sxm")
		r, err := Search(accel.Calibrated(), p)
		require.NoError(t, err)
		require.Equal(t, 8, r.Plans[0].Deployment.Parallelism.Ranks())
		p.Precisions = []accel.Precision{{Weights: accel.BF16, Experts: accel.BF16, Attention: accel.BF16}}
		_, err = Search(accel.Calibrated(), p)
		require.ErrorIs(t, err, ErrNoPlan)
	})
}

func TestFabricRefusals(t *testing.T) {
	find := func(p Problem, r Reason) string {
		p.Model, p.Input, p.Output = modelOf(t, "deepseek-ai/DeepSeek-R1"), 100, 100
		result, _ := Search(accel.Calibrated(), p)
		require.NotNil(t, result)
		for _, f := range result.Refused {
			if f.Reason == r {
				require.Positive(t, f.Cuts)
				return f.Nearest
			}
		}
		return ""
	}
	rails := systemOf(t, "h200-sxm")
	rails.ScaleOut.RailOnly = true
	wide := accel.Parallelism{TP: 1, DP: 16, EP: 16}
	require.Contains(t, find(Problem{System: rails, Accelerators: 16, Fixed: wide}, NotInKernel), "each NIC to reach every other")
	require.Contains(t, find(Problem{System: systemOf(t, "h200-sxm"), Accelerators: 16, Fixed: accel.Parallelism{TP: 16}}, NotInFabric), "leaves the scale-up domain of 8")
	require.Contains(t, find(Problem{System: systemOf(t, "l40s"), Accelerators: 32, Fixed: accel.Parallelism{DP: 32, EP: 32}}, NotInFabric), "leave the PCIe host")
	require.Contains(t, find(Problem{System: systemOf(t, "gb200-nvl72"), Accelerators: 144, Fixed: accel.Parallelism{DP: 144, EP: 144}}, NotInFabric), "leave the NVLink domain of 72")
	require.Contains(t, find(Problem{System: systemOf(t, "tpu-v6e"), Accelerators: 256, Fixed: accel.Parallelism{TP: 128, DP: 2}}, NotInFabric), "fills no axes")

	p := Problem{System: rails, Accelerators: 16, Model: modelOf(t, "deepseek-ai/DeepSeek-R1"), Input: 100, Output: 100}
	r, err := Search(accel.Calibrated(), p)
	require.NoError(t, err)
	for _, plan := range append(r.Plans, r.Front...) {
		if plan.Layout.Nodes > 1 {
			require.Equal(t, accel.AllGather, plan.Deployment.AllToAll)
		}
	}
}

func TestUnmetTargets(t *testing.T) {
	p := Problem{
		Model: modelOf(t, "meta-llama/Llama-3.1-70B-Instruct"), System: systemOf(t, "h100-sxm"), Accelerators: 8, Input: 4000, Output: 500,
	}
	t.Run("latency", func(t *testing.T) {
		p := p
		p.TPOT = time.Millisecond
		r, err := Search(accel.Calibrated(), p)
		require.NoError(t, err)
		require.Empty(t, r.Front)
		require.NotEmpty(t, r.Plans)
		require.Contains(t, r.Plans[0].Unmet[0], "target 1ms")
		for _, other := range r.Plans[1:] {
			require.LessOrEqual(t, r.Plans[0].Estimate.TPOT.Value, other.Estimate.TPOT.Value)
		}
	})
	t.Run("rate", func(t *testing.T) {
		p := p
		p.Rate, p.TPOT = 1e6, 100*time.Millisecond
		r, err := Search(accel.Calibrated(), p)
		require.NoError(t, err)
		require.Contains(t, r.Plans[0].Unmet[0], "requests/s, target 1e+06")
		p.Rate = 0
		closed, err := Search(accel.Calibrated(), p)
		require.NoError(t, err)
		require.Equal(t, closed.Plans[0].Tokens, r.Plans[0].Tokens)
	})
	t.Run("a low rate needs few", func(t *testing.T) {
		p := p
		p.Rate, p.Price = .1, 2
		r, err := Search(accel.Calibrated(), p)
		require.NoError(t, err)
		require.Less(t, r.Plans[0].Accelerators(), 8)
		require.InDelta(t, 50, r.Plans[0].Tokens.Value, 1e-9)
		require.InDelta(t, 2*float64(r.Plans[0].Accelerators())/3600/50*1e6, r.Plans[0].Cost.Value, 1e-9)
	})
}

func TestOddCounts(t *testing.T) {
	m, s := modelOf(t, "Qwen/Qwen3-30B-A3B"), systemOf(t, "h100-sxm")
	for n := 1; n <= 25; n++ {
		r, err := Search(accel.Calibrated(), Problem{Model: m, System: s, Accelerators: n, Input: 500, Output: 100})
		require.NoError(t, err, n)
		for _, p := range r.Plans {
			require.Equal(t, n, p.Accelerators()+p.Idle, n)
			require.GreaterOrEqual(t, p.Idle, 0)
		}
	}
}

func TestLoadsMakeRedundancyPay(t *testing.T) {
	m := modelOf(t, "deepseek-ai/DeepSeek-R1")
	tokens := make([]float64, 256)
	for i := range tokens {
		tokens[i] = 1 / float64(i+1)
	}
	loads, err := moe.LoadsOf(tokens, tokens)
	require.NoError(t, err)
	p := Problem{
		Model: m, System: systemOf(t, "h200-sxm"), Accelerators: 32, Role: Decode, Input: 2000, Output: 500,
		Fixed: accel.Parallelism{TP: 1, EP: 32},
	}
	r, err := Search(accel.Calibrated(), p)
	require.NoError(t, err)
	require.Zero(t, r.Plans[0].Deployment.Parallelism.Redundant)
	p.Loads = loads
	r, err = Search(accel.Calibrated(), p)
	require.NoError(t, err)
	require.Positive(t, r.Plans[0].Deployment.Parallelism.Redundant)
	require.Less(t, r.Plans[0].Deployment.ExpertBalance, 1.)
}

func TestBadProblems(t *testing.T) {
	_, err := Search(accel.Calibrated(), Problem{})
	for _, field := range []string{"Problem.Model", "Problem.Accelerators", "Problem.System.PerNode", "Problem.Input", "Problem.Output"} {
		require.ErrorContains(t, err, field)
	}
	p := Problem{Model: modelOf(t, "openai/gpt-oss-20b"), System: systemOf(t, "h100-sxm"), Accelerators: 3, Input: 200_000, Output: 1, MTPDepth: 1}
	_, err = Search(accel.Calibrated(), p)
	require.ErrorContains(t, err, "the model's context")
	require.ErrorContains(t, err, "Problem.MTPDepth")
	p.Input, p.MTPDepth, p.Fixed = 100, 0, accel.Parallelism{TP: 7}
	_, err = Search(accel.Calibrated(), p)
	require.ErrorIs(t, err, ErrNoPlan)
}

// What Search relies on: see slack.
func TestEstimatesNeverSpeedUpMuch(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	pick := func(of ...string) string { return of[r.IntN(len(of))] }
	ttft, tpot := 1., 1.
	for range 60 {
		p := Problem{
			Model:        modelOf(t, pick("deepseek-ai/DeepSeek-R1", "Qwen/Qwen3-30B-A3B", "meta-llama/Llama-3.1-70B-Instruct", "zai-org/GLM-4.5-Air")),
			System:       systemOf(t, pick("h100-sxm", "b200", "gb200-nvl72", "mi300x", "l40s", "tpu-v5e", "gaudi3")),
			Accelerators: 1 + r.IntN(12), Engine: accel.Engine(r.IntN(3)), Role: Role(r.IntN(3)),
			Input: 1 + r.IntN(1<<r.IntN(14)), Output: 1 + r.IntN(1<<r.IntN(12)), Rate: []float64{0, 0, 5, 50}[r.IntN(4)],
		}
		s := newSearch(accel.Calibrated(), &p)
		s.findLegal()
		for _, c := range s.legalCuts {
			var slowestFirst, slowestNext time.Duration
			for load := range c.loads {
				q := s.try(c, load)
				if q.err != nil {
					break
				}
				if q.ttft > 0 {
					ttft = max(ttft, float64(slowestFirst)/float64(q.ttft))
				}
				if q.tpot > 0 {
					tpot = max(tpot, float64(slowestNext)/float64(q.tpot))
				}
				slowestFirst, slowestNext = max(slowestFirst, q.ttft), max(slowestNext, q.tpot)
			}
		}
	}
	t.Logf("more load is at most %.2f times as fast by TTFT, %.2f by TPOT", ttft, tpot)
	require.Less(t, max(ttft, tpot), float64(slack))
}

// odd is an estimator that makes no sense.
type odd struct{ estimate accel.Estimate }

func (o odd) Estimate(accel.Deployment, accel.Workload) (accel.Estimate, error) {
	return o.estimate, nil
}

func TestOddEstimators(t *testing.T) {
	p := Problem{Model: modelOf(t, "openai/gpt-oss-20b"), System: systemOf(t, "h100-sxm"), Accelerators: 2, Input: 10, Output: 10}
	nan := accel.Estimate{}
	nan.Requests.Value = math.NaN()
	for _, e := range []accel.Estimate{{}, nan} {
		for _, role := range []Role{Both, Prefill, Decode} {
			p.Role = role
			r, err := Search(odd{e}, p)
			require.ErrorIs(t, err, ErrNoPlan)
			require.Equal(t, NoEstimate, r.Refused[len(r.Refused)-1].Reason)
		}
	}
}
