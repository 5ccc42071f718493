package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/inferloom/inferloom/accel"
	"github.com/inferloom/inferloom/examples/internal/program"
	"github.com/inferloom/inferloom/moe"
	"github.com/inferloom/inferloom/moe/emit"
	"github.com/inferloom/inferloom/moe/plan"
)

// config is what the command line asks for.
type config struct {
	problem plan.Problem
	prefill int // accelerators for prefill; the others decode

	loads   moe.Loads
	rows    [][]int32 // of the previous placement
	dead    []int
	groups  moe.GroupRule
	horizon time.Duration
	effort  int

	emit    string
	serving emit.Serving
	levels  []string
	json    bool
	svg     string
}

// emits are what -emit writes, in the order of the help.
var emits = []string{"command", "vllm", "sglang", "trtllm", "lws", "disaggregatedset", "grove", "kueue", "init-expert-location", "load-balancer"}

func parse(args []string, stderr io.Writer) (*config, error) {
	c := &config{}
	p := &c.problem
	f := flag.NewFlagSet("planner", flag.ContinueOnError)
	f.SetOutput(stderr)
	model := f.String("model", "", "a known model's Hugging Face `id`, such as deepseek-ai/DeepSeek-R1")
	hub := f.String("config", "", "a Hugging Face config.json `file` instead of a known model; -model then only names it")
	accelerator := f.String("accelerator", "", "a system's `name`, such as b200, gb200-nvl72 or tpu-v6e")
	catalogue := f.String("accelerators", "", "a JSON `file` with further accelerators and systems")
	f.IntVar(&p.Accelerators, "count", 0, "accelerators")
	f.IntVar(&c.prefill, "prefill", 0, "of those, how many only prefill; the others then only decode")
	engine := f.String("engine", "vllm", "vllm, sglang or trtllm")
	role := f.String("role", "both", "both, prefill or decode")
	f.IntVar(&p.Input, "isl", 1000, "tokens of a prompt")
	f.IntVar(&p.Cached, "cached", 0, "of those, found in the KV cache")
	f.IntVar(&p.Output, "osl", 1000, "tokens of an answer")
	f.Float64Var(&p.Rate, "rate", 0, "requests a second to serve with as few accelerators as do; 0 fills all of them")
	f.DurationVar(&p.TTFT, "ttft", 0, "target of the mean time to the first token; 0 is none")
	f.DurationVar(&p.TPOT, "tpot", 0, "target of the mean time between tokens; 0 is none")
	f.Float64Var(&p.Price, "price", 0, "of an accelerator and hour, in any currency")
	f.IntVar(&p.MTPDepth, "mtp", 0, "tokens drafted a step by the model's own layers for it")
	f.Float64Var(&p.MTPAcceptance, "acceptance", .7, "chance that a drafted token is accepted")
	f.IntVar(&p.Fixed.TP, "tp", 0, "only plans with this tensor parallelism; 0 is any. Likewise:")
	f.IntVar(&p.Fixed.DP, "dp", 0, "data parallelism of attention")
	f.IntVar(&p.Fixed.PP, "pp", 0, "pipeline stages")
	f.IntVar(&p.Fixed.EP, "ep", 0, "expert parallelism")
	f.IntVar(&p.Fixed.Redundant, "redundant", 0, "redundant experts")
	survive := f.String("survive", "nothing", "redundant experts enough to lose any gpu or any node: nothing, gpu or node")
	rails := f.Bool("rail-only", false, "the network joins only NICs of equal index")
	f.IntVar(&p.Keep, "top", 5, "plans to print")
	f.BoolVar(&c.json, "json", false, "print JSON")
	f.StringVar(&c.emit, "emit", "", "write for the best plan: "+strings.Join(emits, ", "))
	loads := f.String("placement", "", "plan where experts live from a JSON `file` with the tokens of each: rows of layers, null if not known")
	previous := f.String("previous", "", "the placement in use, a JSON `file` as -emit init-expert-location writes, to change as little as pays")
	dead := f.String("dead", "", "expert-parallel ranks that are lost, such as 3,7")
	f.DurationVar(&c.horizon, "horizon", 10*time.Minute, "how long a rebalanced placement will serve: copies must pay by then")
	f.IntVar(&c.effort, "effort", 0, "how long to search for a placement: 0 is the packages' default, -1 the least")
	groups := f.String("groups", "anywhere", "groups of experts: anywhere, homed or confined to a node")
	f.StringVar(&c.svg, "svg", "", "draw the best plan in a `file`")
	f.StringVar(&c.serving.Name, "name", "model", "name of Kubernetes objects")
	f.StringVar(&c.serving.Namespace, "namespace", "", "their namespace")
	f.StringVar(&c.serving.Image, "image", "", "container image of the engine")
	f.StringVar(&c.serving.Topology, "topology", "", "node `label` of the domain that an instance must be in")
	f.StringVar(&c.serving.GroveDomain, "grove-domain", "", "the same for Grove, such as rack")
	f.StringVar(&c.serving.GroveTopology, "grove-topology", "", "the ClusterTopologyBinding of that, where Grove has them")
	f.StringVar(&c.serving.ComputeDomain, "compute-domain", "", "ResourceClaimTemplate of IMEX channels, for instances across trays of an NVL72")
	f.StringVar(&c.serving.Queue, "queue", "", "Kueue LocalQueue")
	selector := f.String("node-selector", "", "`labels` of nodes, such as pool=h200,zone=a")
	levels := f.String("levels", "", "node labels of Kueue's topology, the widest first")
	if err := f.Parse(args); err != nil {
		if errors.Is(err, flag.ErrHelp) {
			return nil, err
		}
		return nil, program.UsageError{Err: err}
	}
	if f.NArg() > 0 {
		return nil, program.UsageError{Err: fmt.Errorf("%q is no flag", f.Arg(0))}
	}

	var bad []error
	check := func(err error) {
		if err != nil {
			bad = append(bad, err)
		}
	}
	var err error
	p.Model, err = readModel(*model, *hub)
	check(err)
	p.System, err = readSystem(*accelerator, *catalogue)
	check(err)
	p.System.ScaleOut.RailOnly = p.System.ScaleOut.RailOnly || *rails
	p.Engine, err = accel.ParseEngine(*engine)
	check(wrap("-engine", err))
	check(wrap("-role", p.Role.UnmarshalText([]byte(*role))))
	p.Survive, err = choose("-survive", *survive, []string{"nothing", "gpu", "node"}, []moe.Survive{moe.Nothing, moe.AnyGPU, moe.AnyNode})
	check(err)
	c.groups, err = choose("-groups", *groups, []string{"anywhere", "homed", "confined"}, []moe.GroupRule{moe.Anywhere, moe.Homed, moe.Confined})
	check(err)
	if p.Accelerators < 1 {
		check(fmt.Errorf("-count is %d, must be at least 1", p.Accelerators))
	}
	if c.prefill != 0 && (c.prefill < 1 || c.prefill >= p.Accelerators) {
		check(fmt.Errorf("-prefill is %d, must be from 1 to %d so that some are left for decode", c.prefill, p.Accelerators-1))
	}
	if c.prefill > 0 && p.Role != plan.Both {
		check(errors.New("-prefill plans both roles: leave -role out"))
	}
	if c.horizon <= 0 {
		check(fmt.Errorf("-horizon is %v, must be above 0", c.horizon))
	}
	if c.emit != "" && !slices.Contains(emits, c.emit) {
		check(fmt.Errorf("-emit is %q, must be one of %s", c.emit, strings.Join(emits, ", ")))
	}
	c.dead, err = ranks(*dead)
	check(err)
	if *levels != "" {
		c.levels = strings.Split(*levels, ",")
	}
	if *selector != "" {
		c.serving.NodeSelector = map[string]string{}
		for _, pair := range strings.Split(*selector, ",") {
			k, v, ok := strings.Cut(pair, "=")
			if !ok {
				check(fmt.Errorf("-node-selector: %q is no label=value", pair))
			}
			c.serving.NodeSelector[k] = v
		}
	}
	if *loads == "" && (*previous != "" || *dead != "") {
		check(errors.New("-previous and -dead need -placement"))
	}
	if *loads != "" && p.Model != nil {
		c.loads, err = readLoads(*loads, p.Model)
		check(err)
		p.Loads = c.loads
	}
	if *previous != "" && p.Model != nil {
		c.rows, err = readPlacement(*previous, p.Model)
		check(err)
	}
	if c.serving.Image == "" {
		c.serving.Image = images[p.Engine]
	}
	if err := errors.Join(bad...); err != nil {
		return nil, program.UsageError{Err: err}
	}
	return c, nil
}

// images are the engines' own.
var images = map[accel.Engine]string{
	accel.VLLM: "vllm/vllm-openai:latest", accel.SGLang: "lmsysorg/sglang:latest", accel.TensorRTLLM: "nvcr.io/nvidia/tensorrt-llm/release:latest",
}

func wrap(what string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s: %w", what, err)
}

func choose[T any](what, word string, words []string, values []T) (T, error) {
	if i := slices.Index(words, word); i >= 0 {
		return values[i], nil
	}
	var none T
	return none, fmt.Errorf("%s is %q, must be %s", what, word, strings.Join(words, ", "))
}

func ranks(list string) ([]int, error) {
	var out []int
	for _, w := range strings.FieldsFunc(list, func(r rune) bool { return r == ',' || r == ' ' }) {
		n, err := strconv.Atoi(w)
		if err != nil {
			return nil, fmt.Errorf("-dead: %q is no rank", w)
		}
		out = append(out, n)
	}
	return out, nil
}

func readModel(name, file string) (*accel.Model, error) {
	switch {
	case file != "":
		b, err := os.ReadFile(file)
		if err != nil {
			return nil, wrap("-config", err)
		}
		if name == "" {
			name = file
		}
		m, err := accel.ParseModel(name, b)
		return m, wrap("-config "+file, err)
	case name == "":
		return nil, errors.New("-model or -config is needed")
	}
	m, err := accel.LookupModel(name)
	return m, wrap("-model", err)
}

func readSystem(name, file string) (accel.System, error) {
	c := accel.Builtin()
	if file != "" {
		f, err := os.Open(file)
		if err != nil {
			return accel.System{}, wrap("-accelerators", err)
		}
		defer f.Close()
		if c, err = c.Read(f); err != nil {
			return accel.System{}, wrap("-accelerators "+file, err)
		}
	}
	if name == "" {
		return accel.System{}, errors.New("-accelerator is needed")
	}
	s, err := c.System(name)
	return s, wrap("-accelerator", err)
}
