package main

import (
	"encoding/json"
	"io"
	"time"

	"github.com/inferloom/inferloom/accel"
	"github.com/inferloom/inferloom/moe"
	"github.com/inferloom/inferloom/moe/plan"
)

// The JSON of -json. Times are seconds, sizes bytes.
type (
	jsonAnswer struct {
		Searches  []jsonSearch   `json:"searches"`
		Placement *jsonPlacement `json:"placement,omitempty"`
	}
	jsonSearch struct {
		Model        string         `json:"model"`
		System       string         `json:"system"`
		Accelerators int            `json:"accelerators"`
		Engine       string         `json:"engine"`
		Role         plan.Role      `json:"role"`
		Plans        []jsonPlan     `json:"plans"`
		Front        []jsonPlan     `json:"front"`
		Refused      []plan.Refusal `json:"refused"`
		Cuts         int            `json:"cuts"`
		Legal        int            `json:"legal"`
		Estimates    int            `json:"estimates"`
	}
	jsonRange struct {
		Value float64 `json:"value"`
		Low   float64 `json:"low"`
		High  float64 `json:"high"`
	}
	jsonPlan struct {
		Name         string     `json:"name"`
		TP           int        `json:"tp"`
		DP           int        `json:"dp"`
		PP           int        `json:"pp"`
		EP           int        `json:"ep"`
		MoETP        int        `json:"moe_tp"`
		Redundant    int        `json:"redundant_experts"`
		Kernel       string     `json:"all_to_all"`
		Overlap      bool       `json:"two_batch_overlap"`
		KV           string     `json:"kv_dtype"`
		Sequences    int        `json:"max_sequences_per_dp_rank"`
		Replicas     int        `json:"replicas"`
		Accelerators int        `json:"accelerators"`
		Idle         int        `json:"idle"`
		Nodes        int        `json:"nodes_per_replica"`
		TTFT         *jsonRange `json:"ttft_seconds,omitempty"`
		TPOT         *jsonRange `json:"tpot_seconds,omitempty"`
		Tokens       jsonRange  `json:"tokens_per_second"`
		Each         jsonRange  `json:"tokens_per_second_per_accelerator"`
		Cost         *jsonRange `json:"cost_per_million_tokens,omitempty"`
		Concurrency  float64    `json:"concurrency_per_replica"`
		Memory       jsonMemory `json:"memory_bytes_per_device"`
		Limit        string     `json:"limit"`
		Bottleneck   string     `json:"bottleneck"`
		Evidence     string     `json:"evidence"`
		Unmet        []string   `json:"unmet,omitempty"`
	}
	jsonMemory struct {
		Total       int64 `json:"total"`
		Weights     int64 `json:"weights"`
		Experts     int64 `json:"experts"`
		Activations int64 `json:"activations"`
		AllToAll    int64 `json:"all_to_all"`
		Reserve     int64 `json:"reserve"`
		KV          int64 `json:"kv_cache"`
	}
	jsonPlacement struct {
		Ranks        int             `json:"ranks"`
		Nodes        int             `json:"nodes"`
		SlotsPerRank int             `json:"slots_per_rank"`
		Map          [][]int32       `json:"physical_to_logical_map"`
		Balance      float64         `json:"balance"`
		Worst        float64         `json:"worst_layer_balance"`
		Bound        float64         `json:"balance_bound"`
		Unmet        []string        `json:"unmet,omitempty"`
		Before       *float64        `json:"balance_before,omitempty"`
		Copies       []moe.Copy      `json:"copies,omitempty"`
		Bytes        int64           `json:"bytes,omitempty"`
		RankLoss     []plan.Survivor `json:"loss_of_rank,omitempty"`
		NodeLoss     []plan.Survivor `json:"loss_of_node,omitempty"`
	}
)

func (a *answer) printJSON(w io.Writer) error {
	var out jsonAnswer
	for i := range a.searches {
		s := &a.searches[i]
		j := jsonSearch{
			Model: s.problem.Model.Name, System: s.problem.System.Name, Accelerators: s.problem.Accelerators, Engine: s.problem.Engine.String(),
			Role: s.problem.Role, Refused: s.result.Refused, Cuts: s.result.Cuts, Legal: s.result.Legal, Estimates: s.result.Estimates,
		}
		for i := range s.result.Plans {
			j.Plans = append(j.Plans, planJSON(&s.result.Plans[i]))
		}
		for i := range s.result.Front {
			j.Front = append(j.Front, planJSON(&s.result.Front[i]))
		}
		out.Searches = append(out.Searches, j)
	}
	if p := a.placement; p != nil {
		c := p.experts.Cluster
		j := &jsonPlacement{
			Ranks: c.GPUs, Nodes: max(c.Nodes, 1), SlotsPerRank: c.SlotsPerGPU, Balance: p.report.Balance, Worst: p.report.Worst,
			Bound: p.report.Bound, Unmet: p.report.Unmet, RankLoss: p.ranks, NodeLoss: p.nodes,
		}
		for l := range p.experts.Layers {
			j.Map = append(j.Map, p.experts.Row(l))
		}
		if m := p.migration; m != nil {
			j.Before, j.Copies, j.Bytes = &m.Before, m.Copies, m.Bytes
		}
		out.Placement = j
	}
	enc := json.NewEncoder(w)
	enc.SetIndent("", "  ")
	return enc.Encode(out)
}

func planJSON(p *plan.Plan) jsonPlan {
	d, c, m := p.Deployment, p.Deployment.Parallelism, p.Memory
	j := jsonPlan{
		Name: p.String(), TP: c.TP, DP: c.DP, PP: c.PP, EP: c.EP, MoETP: c.MoETP, Redundant: c.Redundant,
		Kernel: d.AllToAll.String(), Overlap: d.TwoBatchOverlap, KV: d.Precision.KV.String(), Sequences: d.MaxSequences,
		Replicas: p.Replicas, Accelerators: p.Accelerators(), Idle: p.Idle, Nodes: p.Layout.Nodes,
		Tokens: jsonRange(p.Tokens), Each: jsonRange(p.PerAccelerator), Concurrency: p.Estimate.Concurrency,
		Memory: jsonMemory{m.Total, m.Weights, m.Experts, m.Activations, m.AllToAll, m.Reserve, m.KVBudget},
		Limit:  p.Limit, Bottleneck: p.Bottleneck.String(), Evidence: p.Estimate.Evidence.String(), Unmet: p.Unmet,
	}
	if p.Role != plan.Decode {
		j.TTFT = seconds(p.Estimate.TTFT)
	}
	if p.Role != plan.Prefill {
		j.TPOT = seconds(p.Estimate.TPOT)
	}
	if p.Cost.Value > 0 {
		j.Cost = (*jsonRange)(&p.Cost)
	}
	return j
}

func seconds(i accel.Interval[time.Duration]) *jsonRange {
	return &jsonRange{i.Value.Seconds(), i.Low.Seconds(), i.High.Seconds()}
}
