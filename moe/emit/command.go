package emit

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/inferloom/inferloom/accel"
	"github.com/inferloom/inferloom/moe/plan"
)

// Node is one node of an instance.
type Node struct {
	Index  int    // from 0, the leader
	Leader string // its address; may be empty where the instance is on one node
}

// Options of a command line. The zero value works.
type Options struct {
	Model string // what the engine loads, a hub's id or a path; empty is the model's name
	Port  int    // of the API; 0 is 8000
	// ExpertLocation is the path of a file from InitExpertLocation, for SGLang.
	ExpertLocation string
	// Config is the path of a file from TensorRTLLM, which that engine needs.
	Config string
	// Extra is appended as it is.
	Extra []string
}

// Command is the command line that starts a node of an instance of a plan.
func Command(p plan.Plan, node Node, o Options) ([]string, error) {
	var bad problems
	if node.Index < 0 || node.Index >= max(p.Layout.Nodes, 1) {
		bad.add("Node.Index", node.Index, fmt.Sprintf("must be from 0 to %d", max(p.Layout.Nodes, 1)-1))
	}
	if p.Layout.Nodes > 1 || node.Leader != "" {
		bad.word("Node.Leader", node.Leader)
	}
	words := command(p, place{
		index:  func(times int) word { return word{text: strconv.Itoa(node.Index * times)} },
		leader: word{text: node.Leader},
		follower: func(flag string) []word {
			if node.Index == 0 {
				return nil
			}
			return []word{{text: flag}}
		},
	}, o, &bad)
	if err := bad.err(); err != nil {
		return nil, err
	}
	args := make([]string, len(words))
	for i, w := range words {
		args[i] = w.text
	}
	return args, nil
}

// Shell is the command line of Command for a POSIX shell, one flag a line.
func Shell(p plan.Plan, node Node, o Options) (string, error) {
	args, err := Command(p, node, o)
	if err != nil {
		return "", err
	}
	var f flags
	f.add(args...)
	return f.lines(shellQuoted), nil
}

// word is an argument: text as it is or, if raw, an expression that a shell expands.
type word struct {
	text string
	raw  bool
}

// place is a node as a command line names it: by number, or by what a shell there knows.
type place struct {
	index    func(times int) word // the node's number, times a factor
	leader   word
	follower func(flag string) []word // the flag on every node but the leader
}

// flags builds a command line.
type flags []word

func (f *flags) add(words ...string) {
	for _, w := range words {
		*f = append(*f, word{text: w})
	}
}

func (f *flags) num(name string, value int) { f.add(name, strconv.Itoa(value)) }

func (f *flags) some(name string, value int) {
	if value > 0 {
		f.num(name, value)
	}
}

func (f *flags) share(name string, value float64) {
	if value > 0 {
		f.add(name, strconv.FormatFloat(value, 'g', -1, 64))
	}
}

func (f *flags) at(name string, w word) { f.add(name); *f = append(*f, w) }

const defaultPort = 8000

func command(p plan.Plan, at place, o Options, bad *problems) []word {
	checkPlan("Plan", p, bad)
	model := o.Model
	if model == "" && p.Deployment.Model != nil {
		model = p.Deployment.Model.Name
	}
	bad.word("Options.Model", model)
	if o.Port < 0 || o.Port > 65535 {
		bad.add("Options.Port", o.Port, "must be a port")
	}
	for _, s := range o.Extra {
		bad.text("Options.Extra", s)
	}
	if o.Port == 0 {
		o.Port = defaultPort
	}
	if len(*bad) > 0 {
		return nil
	}
	o.Model = model
	var f flags
	switch p.Deployment.Engine {
	case accel.VLLM:
		f = vllm(p, at, o)
	case accel.SGLang:
		f = sglang(p, at, o, bad)
	case accel.TensorRTLLM:
		f = tensorRTLLM(p, o, bad)
	}
	f.add(o.Extra...)
	return f
}

// checkPlan refuses plans that no search has made.
func checkPlan(field string, p plan.Plan, bad *problems) {
	d := p.Deployment
	if d.Model == nil {
		bad.add(field+".Deployment.Model", "nil", "must be a model")
	}
	if d.Engine > accel.TensorRTLLM {
		bad.add(field+".Deployment.Engine", int(d.Engine), "must be vLLM, SGLang or TensorRT-LLM")
	}
	if r := d.Parallelism.Ranks(); p.Layout.Ranks != r || p.Layout.Nodes < 1 || p.Layout.PerNode*p.Layout.Nodes != r {
		bad.add(field+".Layout", fmt.Sprintf("%d x %d", p.Layout.Nodes, p.Layout.PerNode), fmt.Sprintf("must hold the %d ranks of an instance", r))
	}
	if p.Replicas < 1 {
		bad.add(field+".Replicas", p.Replicas, "must be at least 1")
	}
}

// script is the command line for a shell in a pod. Kubernetes expands $(NAME) before the shell sees it, unless the dollar is
// doubled.
func (f flags) script() string {
	return "exec " + f.lines(func(s string) string { return strings.ReplaceAll(shellQuoted(s), "$", "$$") })
}

func (f flags) lines(quote func(string) string) string {
	var b strings.Builder
	for i, w := range f {
		switch {
		case i > 0 && strings.HasPrefix(w.text, "--"):
			b.WriteString(" \\\n  ")
		case i > 0:
			b.WriteString(" ")
		}
		if w.raw {
			b.WriteString(w.text)
		} else {
			b.WriteString(quote(w.text))
		}
	}
	b.WriteString("\n")
	return b.String()
}

// longest is how many tokens a sequence may have: what the model can, if the KV cache holds one such sequence, else what the
// cache holds less a tenth, as the size of the cache is an estimate. Engines do not start if the cache cannot hold one.
func longest(p plan.Plan) int {
	d := p.Deployment
	n := int(p.Memory.MaxTokens(p.Context)/int64(max(d.Parallelism.DP, 1))) / 10 * 9
	if c := d.Model.Context; c > 0 {
		n = min(n, c)
	}
	return max(n, p.Context)
}

// shellQuoted quotes a word for a POSIX shell unless it is plain.
func shellQuoted(s string) string {
	plain := s != "" && !strings.ContainsFunc(s, func(r rune) bool {
		return (r < '0' || r > '9') && (r|0x20 < 'a' || r|0x20 > 'z') && !strings.ContainsRune("-_./:=,@%+", r)
	})
	if plain {
		return s
	}
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}

func sortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }
