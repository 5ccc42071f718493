package main

import (
	"errors"
	"fmt"
	"time"

	"github.com/inferloom/inferloom/accel"
	"github.com/inferloom/inferloom/examples/internal/program"
	"github.com/inferloom/inferloom/moe"
	"github.com/inferloom/inferloom/moe/emit"
	"github.com/inferloom/inferloom/moe/plan"
)

// answer is what the planner found.
type answer struct {
	*config
	searches  []search // one, or one for prefill and one for decode
	placement *placement
}

type search struct {
	problem plan.Problem
	result  *plan.Result
	took    time.Duration
}

// placement is where experts live under the best plan.
type placement struct {
	experts      moe.Placement
	report       moe.Report
	migration    *moe.Migration // from a previous placement
	ranks, nodes []plan.Survivor
}

func (c *config) answer() (*answer, error) {
	a := &answer{config: c}
	problems := []plan.Problem{c.problem}
	if c.prefill > 0 {
		prefill, decode := c.problem, c.problem
		prefill.Role, prefill.Accelerators = plan.Prefill, c.prefill
		decode.Role, decode.Accelerators = plan.Decode, c.problem.Accelerators-c.prefill
		problems = []plan.Problem{prefill, decode}
	}
	for _, p := range problems {
		start := time.Now()
		r, err := plan.Search(accel.Calibrated(), p)
		if err != nil {
			if r == nil {
				err = program.UsageError{Err: err}
			}
			return nil, err
		}
		a.searches = append(a.searches, search{p, r, time.Since(start)})
	}
	if c.loads.Layers > 0 {
		if err := a.place(); err != nil {
			return nil, err
		}
	}
	return a, nil
}

// best is the best plan of the last search: the one that decodes.
func (a *answer) best() *plan.Plan { return &a.searches[len(a.searches)-1].result.Plans[0] }

func (a *answer) place() error {
	best := a.best()
	cluster := best.Cluster()
	if cluster.GPUs == 0 {
		return errors.New("-placement: the best plan does not spread experts; -ep asks for one that does")
	}
	groups := 1
	for _, k := range a.problem.Model.Kinds {
		groups = max(groups, k.FFN.Groups)
	}
	p := &placement{}
	placer := moe.Placer{Groups: groups, Rule: a.groups, Survive: a.problem.Survive, FillSlots: true, Effort: a.effort}
	var err error
	if a.rows == nil {
		cluster.Dead = a.dead
		p.report, err = placer.Plan(&p.experts, a.loads, cluster)
	} else {
		var old *moe.Placement
		if old, err = a.oldPlacement(cluster); err == nil {
			err = a.rebalance(p, old, cluster, groups)
		}
	}
	if err != nil {
		return fmt.Errorf("-placement: %w", err)
	}
	if len(a.dead) == 0 {
		if p.ranks, err = best.Survivors(&p.experts, a.loads, moe.AnyGPU); err != nil {
			return err
		}
		if cluster.Nodes > 1 {
			if p.nodes, err = best.Survivors(&p.experts, a.loads, moe.AnyNode); err != nil {
				return err
			}
		}
	}
	a.placement = p
	return nil
}

func (a *answer) oldPlacement(cluster moe.Cluster) (*moe.Placement, error) {
	var flat []int32
	for i, row := range a.rows {
		if len(row) != cluster.Slots() {
			return nil, fmt.Errorf("-previous: row %d has %d slots, and the plan has %d ranks of %d", i, len(row), cluster.GPUs, cluster.SlotsPerGPU)
		}
		flat = append(flat, row...)
	}
	return moe.NewPlacement(a.loads.Layers, a.loads.Experts, cluster, flat)
}

func (a *answer) rebalance(p *placement, old *moe.Placement, cluster moe.Cluster, groups int) error {
	cluster.Dead = a.dead
	r := moe.Rebalancer{Groups: groups, Rule: a.groups, Survive: a.problem.Survive, Cost: a.cost(), Effort: a.effort}
	m, err := r.Plan(&p.experts, old, a.loads, cluster)
	if err != nil {
		return err
	}
	p.migration, p.report = &m, m.Report
	return nil
}

// cost is what copies of experts cost under the best plan.
func (a *answer) cost() moe.Cost {
	best := a.best()
	d := best.Deployment
	c := moe.Cost{Horizon: a.horizon, LinkBytesPerSecond: d.System.ScaleUp.Bandwidth.Value}
	if best.Layout.Domains > 1 {
		c.LinkBytesPerSecond = d.System.ScaleOut.Bandwidth.Value
	}
	params := int64(0)
	for _, k := range d.Model.Kinds {
		if k.FFN.Experts > 0 {
			params = max(params, k.FFN.ExpertParams(d.Model.Hidden))
		}
	}
	c.ExpertBytes = int64(float64(params) / float64(max(d.Parallelism.MoETP, 1)) * d.Model.Resolve(d.Precision).Experts.Bytes())
	// Of a step, what waits for the rank with most tokens: reading and multiplying its experts.
	terms := best.Estimate.TPOTTerms
	waits := terms[accel.ReadExperts] + terms[accel.Products]/2
	c.Share = min(max(float64(waits)/float64(max(terms.Total(), 1)), .01), 1)
	return c
}

func (a *answer) emit() ([]byte, error) {
	best := a.best()
	s := a.serving
	for i := range a.searches {
		s.Plans = append(s.Plans, a.searches[i].result.Plans[0])
	}
	if s.Plans[0].Deployment.Engine == accel.TensorRTLLM {
		s.Options.Config = "/etc/inferloom/trtllm.yaml"
	}
	experts := func() (*moe.Placement, error) {
		if a.placement == nil {
			return nil, errors.New("-emit " + a.config.emit + " needs -placement")
		}
		return &a.placement.experts, nil
	}
	switch a.config.emit {
	case "command", "vllm", "sglang", "trtllm":
		return a.commands(s)
	case "lws":
		return s.LeaderWorkerSets()
	case "disaggregatedset":
		if len(s.Plans) < 2 {
			return nil, errors.New("-emit disaggregatedset needs -prefill: how many of the accelerators prefill")
		}
		return s.DisaggregatedSet()
	case "grove":
		return s.PodCliqueSet()
	case "kueue":
		return s.Kueue(a.levels...)
	case "init-expert-location":
		p, err := experts()
		if err != nil {
			return nil, err
		}
		return emit.InitExpertLocation(best.Deployment.Model, p)
	}
	p, err := experts()
	if err != nil {
		return nil, err
	}
	return emit.LoadBalancer(best.Deployment.Model, p)
}

// commands are the command lines of an instance's nodes, and TensorRT-LLM's file.
func (a *answer) commands(s emit.Serving) ([]byte, error) {
	var out []byte
	for _, p := range s.Plans {
		if want := a.config.emit; want != "command" && want != p.Deployment.Engine.String() {
			return nil, fmt.Errorf("-emit %s: the plan is for %v; -engine %s plans for the other", want, p.Deployment.Engine, want)
		}
		for node := range p.Layout.Nodes {
			n := emit.Node{Index: node}
			if p.Layout.Nodes > 1 {
				n.Leader = "LEADER"
				out = fmt.Appendf(out, "# %v, node %d of %d\n", p.Role, node, p.Layout.Nodes)
			}
			line, err := emit.Shell(p, n, s.Options)
			if err != nil {
				return nil, err
			}
			out = append(out, line...)
		}
		if p.Deployment.Engine == accel.TensorRTLLM {
			var experts *moe.Placement
			if a.placement != nil {
				experts = &a.placement.experts
			}
			file, err := emit.TensorRTLLM(p, experts)
			if err != nil {
				return nil, err
			}
			out = fmt.Appendf(out, "# %s\n%s", s.Options.Config, file)
		}
	}
	return out, nil
}
