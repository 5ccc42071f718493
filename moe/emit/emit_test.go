package emit_test

import (
	"bytes"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.yaml.in/yaml/v3"

	"github.com/inferloom/inferloom/accel"
	"github.com/inferloom/inferloom/moe"
	"github.com/inferloom/inferloom/moe/emit"
	"github.com/inferloom/inferloom/moe/plan"
)

// best is a plan as a search makes it.
func best(t *testing.T, change func(*plan.Problem)) plan.Plan {
	t.Helper()
	m, err := accel.LookupModel("deepseek-ai/DeepSeek-R1")
	require.NoError(t, err)
	s, err := accel.Builtin().System("h200-sxm")
	require.NoError(t, err)
	p := plan.Problem{Model: m, System: s, Accelerators: 16, Input: 1000, Output: 1000, TPOT: 100 * time.Millisecond, Fixed: accel.Parallelism{TP: 1, EP: 16}}
	if change != nil {
		change(&p)
	}
	r, err := plan.Search(accel.Calibrated(), p)
	require.NoError(t, err)
	return r.Plans[0]
}

// pinned is a plan whose figures do not change with the performance model.
func pinned(t *testing.T, role plan.Role) plan.Plan {
	p := best(t, func(p *plan.Problem) { p.Engine, p.Role = accel.SGLang, role })
	p.Deployment.MaxSequences, p.Deployment.AllToAll, p.Deployment.TwoBatchOverlap = 128, accel.DeepEPHighThroughput, false
	p.Deployment.Precision.KV, p.Deployment.DispatchTokens, p.Memory = accel.FP8, 0, accel.Memory{}
	return p
}

func golden(t *testing.T, name string, got []byte) {
	t.Helper()
	file := filepath.Join("testdata", name)
	if os.Getenv("UPDATE") != "" {
		require.NoError(t, os.WriteFile(file, got, 0o644))
	}
	want, err := os.ReadFile(file)
	require.NoError(t, err)
	require.Equal(t, string(want), string(got), "UPDATE=1 writes what is new")
}

func TestGolden(t *testing.T) {
	s := emit.Serving{Name: "r1", Namespace: "models", Image: "lmsysorg/sglang:v0.5.23", Plans: []plan.Plan{pinned(t, plan.Prefill), pinned(t, plan.Decode)},
		Topology: "example.com/rack", GroveDomain: "rack", Queue: "team-a"}
	for name, write := range map[string]func() ([]byte, error){
		"lws.yaml": s.LeaderWorkerSets, "disaggregatedset.yaml": s.DisaggregatedSet, "grove.yaml": s.PodCliqueSet,
		"kueue.yaml": func() ([]byte, error) { return s.Kueue("example.com/rack", "kubernetes.io/hostname") },
	} {
		got, err := write()
		require.NoError(t, err)
		golden(t, name, got)
	}
	vllm := pinned(t, plan.Both)
	vllm.Deployment.Engine = accel.VLLM
	args, err := emit.Command(vllm, emit.Node{Index: 1, Leader: "node-0"}, emit.Options{})
	require.NoError(t, err)
	golden(t, "vllm.txt", []byte(strings.Join(args, " ")+"\n"))
}

func TestLongestSequence(t *testing.T) {
	length := func(p plan.Plan) string {
		args, err := emit.Command(p, emit.Node{}, emit.Options{})
		require.NoError(t, err)
		return args[slices.Index(args, "--max-model-len")+1]
	}
	p := best(t, func(p *plan.Problem) { p.Accelerators, p.Fixed = 8, accel.Parallelism{TP: 8} })
	require.Equal(t, "163840", length(p), "all that the model can")
	p.Memory.KVBudget = int64(p.Memory.Sequence.Bytes(50_000))
	require.Greater(t, length(p), "40000")
	require.Less(t, length(p), "50000")
	p.Memory.KVBudget = 0
	require.Equal(t, "2000", length(p), "what was planned")
}

func TestAcceleratorsOfTwoDevices(t *testing.T) {
	m, err := accel.LookupModel("Qwen/Qwen3-30B-A3B")
	require.NoError(t, err)
	s, err := accel.Builtin().System("tpu7x")
	require.NoError(t, err)
	r, err := plan.Search(accel.Calibrated(), plan.Problem{Model: m, System: s, Accelerators: 4, Input: 100, Output: 100, Fixed: accel.Parallelism{TP: 8}})
	require.NoError(t, err)
	doc, err := emit.Serving{Name: "x", Image: "x", Plans: r.Plans[:1]}.LeaderWorkerSets()
	require.NoError(t, err)
	require.Contains(t, string(doc), `google.com/tpu: "4"`)
	require.Contains(t, string(doc), "--tensor-parallel-size 8")
	require.Contains(t, string(doc), "cloud.google.com/gke-tpu-topology: \"2x2x1\"")
	require.Contains(t, string(doc), "cloud.google.com/gke-tpu-accelerator: tpu7x")
}

// What a pod's shell runs is, on each node, the command line of that node.
func TestScriptsRunCommands(t *testing.T) {
	stages := best(t, func(p *plan.Problem) { p.Fixed = accel.Parallelism{TP: 8, PP: 2} })
	for name, p := range map[string]plan.Plan{
		"sglang": pinned(t, plan.Both), "vllm": best(t, nil), "vllm stages": stages,
		"one node": best(t, func(p *plan.Problem) { p.Accelerators, p.Fixed = 8, accel.Parallelism{TP: 8} }),
	} {
		t.Run(name, func(t *testing.T) {
			extra := []string{"--note", `it's "a" $HOME & (b) \ *`, ""}
			s := emit.Serving{Name: "r1", Image: "x", Plans: []plan.Plan{p}, Options: emit.Options{Extra: extra}}
			for _, orchestrator := range []struct {
				write  func() ([]byte, error)
				env    func(node string) []string
				leader string
			}{
				{s.LeaderWorkerSets, func(n string) []string { return []string{"LWS_WORKER_INDEX=" + n, "LWS_LEADER_ADDRESS=lead er"} }, "lead er"},
				{s.PodCliqueSet, func(n string) []string {
					return []string{"GROVE_PCLQ_POD_INDEX=" + n, "GROVE_PCLQ_NAME=r1-0-engine", "GROVE_HEADLESS_SERVICE=r1-0.default"}
				}, "r1-0-engine-0.r1-0.default"},
			} {
				doc, err := orchestrator.write()
				require.NoError(t, err)
				script := container(t, doc)["args"].([]any)[0].(string)
				// As Kubernetes does before it runs the command, and a shell function in place of the engine.
				script = strings.ReplaceAll(script, "$$", "$")
				script = strings.Replace(script, "exec ", "print() { for a; do printf '%s\\0' \"$a\"; done; }\nprint ", 1)
				for node := range p.Layout.Nodes {
					index := string(rune('0' + node))
					run := exec.Command("/bin/sh", "-c", script)
					run.Env = orchestrator.env(index)
					out, err := run.Output()
					require.NoError(t, err, "%s", script)
					want, err := emit.Command(p, emit.Node{Index: node, Leader: "LEADER"}, s.Options)
					require.NoError(t, err)
					got := strings.Split(strings.TrimSuffix(string(out), "\x00"), "\x00")
					for i := range want {
						want[i] = strings.Replace(want[i], "LEADER", orchestrator.leader, 1)
					}
					require.Equal(t, want, got)
				}
			}
		})
	}
}

// container is the first container of an object's pods.
func container(t *testing.T, doc []byte) map[string]any {
	t.Helper()
	var object map[string]any
	require.NoError(t, yaml.NewDecoder(bytes.NewReader(doc)).Decode(&object))
	var find func(v any) map[string]any
	find = func(v any) map[string]any {
		switch v := v.(type) {
		case map[string]any:
			if list, ok := v["containers"].([]any); ok {
				return list[0].(map[string]any)
			}
			for _, child := range v {
				if c := find(child); c != nil {
					return c
				}
			}
		case []any:
			for _, child := range v {
				if c := find(child); c != nil {
					return c
				}
			}
		}
		return nil
	}
	c := find(object)
	require.NotNil(t, c)
	return c
}

func placed(t *testing.T, p plan.Plan, layers int) *moe.Placement {
	t.Helper()
	rows := make([][]float64, layers)
	for l := range rows {
		rows[l] = make([]float64, 256)
		for e := range rows[l] {
			rows[l][e] = float64((e*7+l*3)%31 + 1)
		}
	}
	loads, err := moe.LoadsOf(rows...)
	require.NoError(t, err)
	var placement moe.Placement
	_, err = (&moe.Placer{FillSlots: true, Effort: -1}).Plan(&placement, loads, p.Cluster())
	require.NoError(t, err)
	return &placement
}

func TestExpertLocation(t *testing.T) {
	p := best(t, func(p *plan.Problem) { p.Fixed.Redundant = 16 })
	placement := placed(t, p, 58)
	b, err := emit.InitExpertLocation(p.Deployment.Model, placement)
	require.NoError(t, err)
	var got struct {
		Map [][]int32 `json:"physical_to_logical_map"`
	}
	require.NoError(t, json.Unmarshal(b, &got))
	require.Len(t, got.Map, 61, "every layer of the model")
	require.Equal(t, placement.Row(0), got.Map[3])
	require.Equal(t, placement.Row(57), got.Map[60])
	for s, e := range got.Map[0] {
		require.EqualValues(t, s%256, e)
	}

	b, err = emit.LoadBalancer(p.Deployment.Model, placement)
	require.NoError(t, err)
	var balancer struct {
		Slots   int             `yaml:"num_slots"`
		Updates int             `yaml:"layer_updates_per_iter"`
		Layers  map[int][]int32 `yaml:"initial_global_assignments"`
	}
	require.NoError(t, yaml.Unmarshal(b, &balancer))
	require.Equal(t, 272, balancer.Slots)
	require.Len(t, balancer.Layers, 58)
	require.Equal(t, placement.Row(0), balancer.Layers[3])

	_, err = emit.InitExpertLocation(p.Deployment.Model, placed(t, p, 57))
	require.ErrorContains(t, err, "Placement.Layers is 57")
	_, err = emit.InitExpertLocation(nil, nil)
	require.ErrorContains(t, err, "Model")
	placement.PhysicalToLogical[5] = moe.Empty
	_, err = emit.LoadBalancer(p.Deployment.Model, placement)
	require.ErrorContains(t, err, "slot 5")
}

func TestTensorRTLLM(t *testing.T) {
	p := best(t, func(p *plan.Problem) {
		p.Engine, p.Accelerators, p.Fixed = accel.TensorRTLLM, 8, accel.Parallelism{TP: 1, DP: 8, EP: 8, Redundant: 8}
	})
	b, err := emit.TensorRTLLM(p, placed(t, p, 58))
	require.NoError(t, err)
	var got struct {
		AttentionDP bool `yaml:"enable_attention_dp"`
		MoE         struct {
			Backend  string
			Balancer struct {
				Slots int `yaml:"num_slots"`
			} `yaml:"load_balancer"`
		} `yaml:"moe_config"`
	}
	require.NoError(t, yaml.Unmarshal(b, &got))
	require.True(t, got.AttentionDP)
	require.Equal(t, "WIDEEP", got.MoE.Backend)
	require.Equal(t, 264, got.MoE.Balancer.Slots)

	args, err := emit.Command(p, emit.Node{}, emit.Options{Config: "/etc/trtllm.yaml"})
	require.NoError(t, err)
	require.Subset(t, args, []string{"trtllm-serve", "--tp_size", "8", "--ep_size", "8", "--extra_llm_api_options", "/etc/trtllm.yaml"})
	_, err = emit.Command(p, emit.Node{}, emit.Options{})
	require.ErrorContains(t, err, "Options.Config")
}

func TestBadServings(t *testing.T) {
	good := pinned(t, plan.Both)
	s := emit.Serving{
		Name: "R1_x", Namespace: "-", Image: "a b", Labels: map[string]string{"a b": "x", "ok": "no spaces"}, Env: map[string]string{"1x": "a\x00"},
		NodeSelector: map[string]string{"": ""}, Topology: "/", Queue: "Q", GroveDomain: "r\n", ComputeDomain: "$(x)",
		Plans: []plan.Plan{good, good, {Role: 9}},
	}
	_, err := s.LeaderWorkerSets()
	for _, field := range []string{
		"Serving.Name", "Serving.Namespace", "Serving.Image", "Serving.Labels", "Serving.Labels[ok]", "Serving.Env", "Serving.Env[1x]",
		"Serving.NodeSelector", "Serving.Topology", "Serving.Queue", "Serving.GroveDomain", "Serving.ComputeDomain",
		"Serving.Plans[1].Role", "Serving.Plans[2].Deployment.Model", "Serving.Plans[2].Replicas",
	} {
		require.ErrorContains(t, err, field)
	}
	s = emit.Serving{Name: "r1", Image: "x", Plans: []plan.Plan{good}}
	_, err = s.DisaggregatedSet()
	require.ErrorContains(t, err, "one for prefill, one for decode")
	_, err = s.Kueue("bad key")
	require.ErrorContains(t, err, "Serving.Queue")
	require.ErrorContains(t, err, "levels[0]")
	_, err = emit.Command(good, emit.Node{Index: 2, Leader: "-x"}, emit.Options{Port: -1, Model: "--evil"})
	for _, field := range []string{"Node.Index", "Node.Leader", "Options.Port", "Options.Model"} {
		require.ErrorContains(t, err, field)
	}
	s.Plans[0].Deployment.System.Accelerator.Vendor = "acme"
	_, err = s.PodCliqueSet()
	require.ErrorContains(t, err, "Vendor")
}

// Whatever a name or an option is, it is refused or it comes out as it went in.
func FuzzServing(f *testing.F) {
	m, err := accel.LookupModel("Qwen/Qwen3-30B-A3B")
	if err != nil {
		f.Fatal(err)
	}
	s, err := accel.Builtin().System("h100-sxm")
	if err != nil {
		f.Fatal(err)
	}
	r, err := plan.Search(accel.Uncalibrated(), plan.Problem{Model: m, System: s, Accelerators: 16, Input: 100, Output: 100, Fixed: accel.Parallelism{DP: 16, EP: 16, TP: 1}})
	if err != nil {
		f.Fatal(err)
	}
	f.Add("r1", "image:tag", "KEY", "value: #1\n", "--flag=$(x)")
	f.Add("r1", "a", "A", "", "'")
	f.Add("a-b", "\u2028", "B", "\x7f", "\\\n")
	f.Fuzz(func(t *testing.T, name, image, key, value, extra string) {
		s := emit.Serving{Name: name, Image: image, Env: map[string]string{key: value}, Labels: map[string]string{name: name},
			Plans: r.Plans[:1], Options: emit.Options{Extra: []string{extra}}}
		doc, err := s.LeaderWorkerSets()
		if err != nil {
			return
		}
		c := container(t, doc)
		require.Equal(t, image, c["image"])
		env := c["env"].([]any)
		require.Contains(t, env, map[string]any{"name": key, "value": value})
	})
}
