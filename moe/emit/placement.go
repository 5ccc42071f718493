package emit

import (
	"encoding/json"
	"fmt"

	"github.com/inferloom/inferloom/accel"
	"github.com/inferloom/inferloom/moe"
)

// InitExpertLocation is a placement as SGLang's --init-expert-location reads it from a file whose name ends in .json: the
// expert of each slot, for each layer of the model. Layers without experts, which it wants too, get what SGLang gives them.
func InitExpertLocation(m *accel.Model, p *moe.Placement) ([]byte, error) {
	layers, err := matched(m, p)
	if err != nil {
		return nil, err
	}
	rows := make([][]int32, m.Layers())
	next := 0
	for i := range rows {
		if next < len(layers) && layers[next] == i {
			rows[i] = p.Row(next)
			next++
			continue
		}
		rows[i] = make([]int32, p.Cluster.Slots())
		for s := range rows[i] {
			rows[i][s] = int32(s % p.Experts)
		}
	}
	return json.Marshal(map[string]any{"physical_to_logical_map": rows})
}

// LoadBalancer is a placement as TensorRT-LLM's moe_config.load_balancer, a YAML file of its own: static, with the
// experts of each slot for each layer that has experts.
func LoadBalancer(m *accel.Model, p *moe.Placement) ([]byte, error) {
	o, err := loadBalancer(m, accel.Parallelism{}, p)
	if err != nil {
		return nil, err
	}
	return documents(o), nil
}

// loadBalancer needs a parallelism only without a placement: TensorRT-LLM then makes its own.
func loadBalancer(m *accel.Model, c accel.Parallelism, p *moe.Placement) (object, error) {
	if p == nil {
		if c.Redundant == 0 {
			return nil, nil
		}
		experts := 0
		for _, k := range m.Kinds {
			experts = max(experts, k.FFN.Experts)
		}
		return object{{"num_slots", experts + c.Redundant}, {"layer_updates_per_iter", 1}}, nil
	}
	layers, err := matched(m, p)
	if err != nil {
		return nil, err
	}
	experts := make(rows, len(layers))
	for i, layer := range layers {
		experts[i] = numbered{layer, p.Row(i)}
	}
	return object{{"num_slots", p.Cluster.Slots()}, {"layer_updates_per_iter", 0}, {"initial_global_assignments", experts}}, nil
}

// matched is the numbers of a model's layers with experts, in order, if a placement is for them and fills every slot.
func matched(m *accel.Model, p *moe.Placement) ([]int, error) {
	var bad problems
	if m == nil {
		bad.add("Model", "nil", "must be a model")
	}
	if p == nil {
		bad.add("Placement", "nil", "must be a placement")
	}
	if len(bad) > 0 {
		return nil, bad.err()
	}
	var layers []int
	for i, k := range m.Pattern {
		if m.Kinds[k].FFN.Experts > 0 {
			layers = append(layers, i)
			if e := m.Kinds[k].FFN.Experts; e != p.Experts {
				bad.add("Placement.Experts", p.Experts, fmt.Sprintf("must be the %d of layer %d", e, i))
				break
			}
		}
	}
	if len(layers) != p.Layers && len(bad) == 0 {
		bad.add("Placement.Layers", p.Layers, fmt.Sprintf("must be the model's %d layers with experts", len(layers)))
	}
	for l := range p.Layers {
		for s, e := range p.Row(l) {
			if e == moe.Empty {
				bad.add(fmt.Sprintf("Placement of layer %d, slot %d", l, s), "empty", "must hold an expert: engines know no empty slots (Placer.FillSlots fills them)")
				return nil, bad.err()
			}
		}
	}
	return layers, bad.err()
}
