package accel

import (
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"
)

// Node is what a Kubernetes node has, by its labels.
type Node struct {
	// System is the catalogue's, as the node is built: with as many accelerators as the node has, and for a TPU with its
	// slice.
	System System
	// Accelerators on the node; 0 where labels do not say.
	Accelerators int
	// Domain names the scale-up domain that the node belongs to: an NVLink clique, a TPU slice's node pool. Nodes of equal
	// Domain reach each other over the scale-up fabric. It is empty where the domain is the node itself.
	Domain string
	// Label is the one that told the product.
	Label string
}

// LabelError says which label could not be used.
type LabelError struct {
	Label, Value string
	Want         string
	Err          error // ErrUnknown, ErrPartitioned or ErrShared; or nil
}

func (e *LabelError) Error() string { return fmt.Sprintf("label %s=%s: %s", e.Label, e.Value, e.Want) }

func (e *LabelError) Unwrap() error { return e.Err }

var (
	// ErrPartitioned is wrapped where a node offers parts of accelerators, such as MIG instances: what part has which
	// bandwidth and fabric is not in the catalogue.
	ErrPartitioned = errors.New("accelerators are partitioned")
	// ErrShared is wrapped where several pods share each accelerator.
	ErrShared = errors.New("accelerators are shared")
	// ErrNoAccelerator is returned for labels that name none.
	ErrNoAccelerator = errors.New("no label names an accelerator")
)

// discovery is one way in which labels name what a node has.
type discovery struct {
	product string
	count   string // how many accelerators
	memory  string // of one
	unit    float64
}

// discoveries are in order of preference. Sources: NVIDIA GPU feature discovery, CoreWeave, Karpenter on AWS, AMD's and
// Intel's node labellers, Habana, GKE.
func discoveries() []discovery {
	const mib = 1 << 20
	return []discovery{
		{"nvidia.com/gpu.product", "nvidia.com/gpu.count", "nvidia.com/gpu.memory", mib},
		{"gpu.nvidia.com/model", "gpu.nvidia.com/count", "", 0},
		{"karpenter.k8s.aws/instance-gpu-name", "karpenter.k8s.aws/instance-gpu-count", "karpenter.k8s.aws/instance-gpu-memory", mib},
		{"amd.com/gpu.product-name", "amd.com/gpu.count", "amd.com/gpu.vram", 1 << 30},
		{"beta.amd.com/gpu.product-name", "beta.amd.com/gpu.count", "beta.amd.com/gpu.vram", 1 << 30},
		{"habana.ai/product.name", "habana.ai/device.count", "habana.ai/device.memory", mib},
		{"gpu.intel.com/product", "gpu.intel.com/device.count", "gpu.intel.com/memory", mib},
		{tpuProduct, "cloud.google.com/gke-accelerator-count", "", 0},
		{"cloud.google.com/gke-accelerator", "cloud.google.com/gke-accelerator-count", "", 0},
	}
}

const (
	tpuProduct  = "cloud.google.com/gke-tpu-accelerator"
	tpuTopology = "cloud.google.com/gke-tpu-topology"
	nodePool    = "cloud.google.com/gke-nodepool"
	clique      = "nvidia.com/gpu.clique"
)

// FromLabels finds what a Kubernetes node has. A product that the catalogue does not know, memory that is not that of the
// product, a topology that its fabric does not have and a count that is no number are errors of type [LabelError]. So are
// MIG instances, compute partitions and shared accelerators, with ErrPartitioned and ErrShared.
func (c *Catalogue) FromLabels(labels map[string]string) (Node, error) {
	for _, way := range discoveries() {
		value, ok := labels[way.product]
		if !ok || value == "" {
			continue
		}
		return c.node(way, value, labels)
	}
	return Node{}, ErrNoAccelerator
}

func (c *Catalogue) node(way discovery, value string, labels map[string]string) (Node, error) {
	if err := whole(labels); err != nil {
		return Node{}, err
	}
	a, err := c.labelled(value)
	if err != nil {
		return Node{}, &LabelError{Label: way.product, Value: value, Want: err.Error(), Err: ErrUnknown}
	}
	s, ok := c.systemOf(a)
	if !ok {
		return Node{}, &LabelError{Label: way.product, Value: value, Want: "the catalogue has no system of " + a.Name, Err: ErrUnknown}
	}
	if err := checkMemory(way, a, labels); err != nil {
		return Node{}, err
	}
	n := Node{System: s, Label: way.product}
	if text, ok := labels[way.count]; ok {
		count, err := strconv.Atoi(text)
		if err != nil || count < 1 || count > 1<<10 {
			return Node{}, &LabelError{Label: way.count, Value: text, Want: "must be a number of accelerators"}
		}
		n.Accelerators = count
	}
	if way.product == tpuProduct {
		return n.slice(labels)
	}
	return n.domain(labels), nil
}

// whole refuses parts of accelerators.
func whole(labels map[string]string) error {
	if v := labels["nvidia.com/gpu.product"]; strings.Contains(v, "-MIG-") {
		return &LabelError{Label: "nvidia.com/gpu.product", Value: v, Want: "a MIG instance is no whole accelerator", Err: ErrPartitioned}
	}
	for _, key := range slices.Sorted(maps.Keys(labels)) {
		if v := labels[key]; strings.HasPrefix(key, "nvidia.com/mig-") && strings.HasSuffix(key, ".count") && v != "0" && v != "" {
			return &LabelError{Label: key, Value: v, Want: "a MIG instance is no whole accelerator", Err: ErrPartitioned}
		}
	}
	for _, key := range []string{"amd.com/compute-memory-partition", "amd.com/gpu.compute-partitioning"} {
		if v := labels[key]; v != "" && !strings.HasPrefix(strings.ToUpper(v), "SPX") {
			return &LabelError{Label: key, Value: v, Want: "only undivided accelerators (SPX) are in the catalogue", Err: ErrPartitioned}
		}
	}
	if v := labels["nvidia.com/gpu.sharing-strategy"]; v != "" && v != "none" {
		return &LabelError{Label: "nvidia.com/gpu.sharing-strategy", Value: v, Want: "several pods share each accelerator", Err: ErrShared}
	}
	for _, key := range []string{"nvidia.com/gpu.replicas", "nvidia.com/gpu.product"} {
		v := labels[key]
		if replicas, err := strconv.Atoi(v); err == nil && replicas > 1 || strings.HasSuffix(v, "-SHARED") {
			return &LabelError{Label: key, Value: v, Want: "several pods share each accelerator", Err: ErrShared}
		}
	}
	return nil
}

// labelled finds an accelerator by a product as labels spell it.
func (c *Catalogue) labelled(product string) (Accelerator, error) {
	name := canonical(product)
	for _, a := range c.accelerators {
		if slices.ContainsFunc(a.Labels, func(l string) bool { return canonical(l) == name }) {
			return a, nil
		}
	}
	return c.Accelerator(product)
}

// systemOf is the first system with an accelerator, of equal name if there is one.
func (c *Catalogue) systemOf(a Accelerator) (System, bool) {
	var found System
	ok := false
	for _, s := range c.systems {
		if s.Accelerator.Name == a.Name && (!ok || s.Name == a.Name) {
			found, ok = s, true
		}
	}
	return found, ok
}

// checkMemory catches variants that share a product's name, such as 40 and 80 GB.
func checkMemory(way discovery, a Accelerator, labels map[string]string) error {
	text, ok := labels[way.memory]
	if way.memory == "" || !ok {
		return nil
	}
	memory, err := strconv.ParseFloat(strings.TrimRight(text, "GgIiBb"), 64)
	if err != nil || memory <= 0 || math.IsInf(memory, 0) || math.IsNaN(memory) {
		return &LabelError{Label: way.memory, Value: text, Want: "must be an amount of memory"}
	}
	if got, want := memory*way.unit, a.Memory.Value; math.Abs(got-want) > .12*want {
		return &LabelError{Label: way.memory, Value: text, Err: ErrUnknown,
			Want: fmt.Sprintf("is %.0f GB, and %s has %.0f: another variant", got/giga, a.Name, want/giga)}
	}
	return nil
}

// domain fits the system to a node's count of accelerators. A domain that is the node shrinks with it; one that spans nodes
// (NVL72) is only believed where the node names its clique.
func (n Node) domain(labels map[string]string) Node {
	spans := n.System.ScaleUp.Domain > n.System.PerNode
	if n.Accelerators > 0 {
		n.System.PerNode = n.Accelerators
	}
	if id := labels[clique]; spans && id != "" {
		n.Domain = id
	} else {
		n.System.ScaleUp.Domain = n.System.PerNode
	}
	return n
}

// slice is for TPUs, whose topology label says what the slice is; a slice of several hosts is a node pool.
func (n Node) slice(labels map[string]string) (Node, error) {
	topology, ok := labels[tpuTopology]
	if !ok {
		return Node{}, &LabelError{Label: tpuTopology, Value: "", Want: "is needed beside " + tpuProduct}
	}
	s, err := n.System.Slice(topology)
	if err != nil {
		return Node{}, &LabelError{Label: tpuTopology, Value: topology, Want: err.Error(), Err: ErrUnknown}
	}
	n.System = s
	if n.Accelerators == 0 {
		n.Accelerators = min(s.PerNode, s.ScaleUp.Domain)
	}
	n.System.PerNode = n.Accelerators
	if s.ScaleUp.Domain > n.Accelerators {
		n.Domain = labels[nodePool]
	}
	return n, nil
}
