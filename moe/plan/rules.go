package plan

import (
	"slices"

	"github.com/inferloom/inferloom/accel"
	"github.com/inferloom/inferloom/moe"
)

// Limits of kernels: the hidden sizes and tokens are those that vLLM 0.32 asserts or sets for DeepEP, eight experts a token is
// what DeepEP's and NVLink's kernels are tuned and, in part, compiled for.
const (
	maxTopK     = 8
	maxDispatch = 256 // tokens a rank and step of the low-latency kernels
)

var deepEPHidden = []int{2048, 2560, 3072, 4096, 5120, 6144, 7168, 8192}

// legal says why a cut cannot be, or nil; it also finds where its ranks are.
func (s *search) legal(c *cut) *refusal {
	if err := c.Validate(s.Model); err != nil {
		return refuse(Indivisible, "%v", err)
	}
	if f := s.inEngine(c); f != nil {
		return f
	}
	if f := s.inFabric(c); f != nil {
		return f
	}
	if f := s.inKernel(c); f != nil {
		return f
	}
	return s.covered(c)
}

func (s *search) inEngine(c *cut) *refusal {
	ranks := c.TP * c.DP
	deepEP := c.deepEP()
	switch {
	case s.Engine == accel.VLLM && c.EP > 1 && c.EP != ranks:
		return refuse(NotInEngine, "vLLM spreads experts over all %d ranks of a stage or none", ranks)
	case s.Engine == accel.TensorRTLLM && c.DP > 1 && c.TP > 1:
		return refuse(NotInEngine, "TensorRT-LLM does not cut the attention of data-parallel ranks")
	case s.Engine == accel.TensorRTLLM && deepEP:
		return refuse(NotInEngine, "TensorRT-LLM has kernels of its own")
	case s.Engine == accel.TensorRTLLM && c.overlap:
		return refuse(NotInEngine, "two-batch overlap is not planned for TensorRT-LLM")
	case s.Engine == accel.VLLM && c.overlap && !deepEP:
		return refuse(NotInEngine, "vLLM overlaps two batches only with DeepEP")
	case c.PP > 1 && c.overlap:
		return refuse(NotInEngine, "two-batch overlap is not planned with pipeline stages")
	case c.PP > 1 && s.MTPDepth > 0 && s.Role != Prefill:
		return refuse(NotInEngine, "multi-token prediction is not planned with pipeline stages")
	}
	return nil
}

// inFabric finds the layout.
func (s *search) inFabric(c *cut) *refusal {
	fabric, n := s.ranks, c.Ranks()
	l := Layout{
		Ranks: n, PerNode: min(n, fabric.PerNode), Nodes: (n + fabric.PerNode - 1) / fabric.PerNode,
		domain: max(fabric.ScaleUp.Domain, 1), tp: c.TP, dp: c.DP, pp: c.PP, ep: c.EP,
	}
	if fabric.ScaleUp.Kind == accel.PCIe {
		l.domain = fabric.PerNode
	}
	if s.Engine != accel.VLLM {
		l.order = stagesOutside
	}
	l.Domains = (n + l.domain - 1) / l.domain
	c.layout, c.system = l, fabric
	if fabric.ScaleUp.Torus != nil {
		return s.onTorus(c)
	}
	if block := l.block(); n > l.PerNode && block < n && block%l.PerNode != 0 && l.PerNode%block != 0 {
		return refuse(NotInFabric, "blocks of %d ranks do not align with nodes of %d", block, l.PerNode)
	}
	parts := c.MoETP
	if parts > c.TP && l.order == stagesInside {
		parts *= c.PP // further stages lie between
	}
	for _, g := range []struct {
		name  string
		ranks int
	}{{"an attention group (TP)", c.TP}, {"a group with parts of experts (MoETP)", parts}} {
		switch {
		case g.ranks > l.domain:
			return refuse(NotInFabric, "%s of %d leaves the scale-up domain of %d", g.name, g.ranks, l.domain)
		case n > l.PerNode && g.ranks <= l.PerNode && l.PerNode%g.ranks != 0, n > l.domain && l.domain%g.ranks != 0:
			return refuse(NotInFabric, "%s of %d does not align with nodes of %d", g.name, g.ranks, l.PerNode)
		}
	}
	if c.EP > 1 {
		switch span := l.expertSpan(); {
		case fabric.ScaleUp.Kind == accel.PCIe && span > l.PerNode:
			return refuse(NotInFabric, "experts over %d ranks leave the PCIe host of %d", span, l.PerNode)
		case fabric.ScaleUp.Domain > fabric.PerNode && span > l.domain:
			return refuse(NotInFabric, "experts over %d ranks leave the NVLink domain of %d", span, l.domain)
		}
	}
	return nil
}

// block is how many ranks in a row an engine keeps together: all stages of a data-parallel rank, or all ranks of a stage.
func (l Layout) block() int {
	if l.order == stagesInside {
		return l.tp * l.pp
	}
	return l.tp * l.dp
}

// expertSpan is over how many consecutive accelerators the ranks that exchange tokens are.
func (l Layout) expertSpan() int {
	if l.pp > 1 && l.dp > 1 && l.order == stagesInside {
		return l.Ranks
	}
	return l.tp * l.dp
}

// onTorus assigns the axes of the slice to groups.
func (s *search) onTorus(c *cut) *refusal {
	if c.PP > 1 {
		return refuse(NotInFabric, "pipeline stages are not placed on a torus")
	}
	shape, _ := s.slice(c.Ranks())
	sliced, err := s.System.Slice(shape.String())
	if err != nil {
		return refuse(NotInFabric, "%v", err)
	}
	c.system = sliced.PerDevice()
	c.layout.Shape, c.layout.domain, c.layout.Domains = shape, c.Ranks(), 1
	for _, group := range []int{c.TP, c.MoETP} {
		if _, ok := axes(shape, group, s.devices); !ok {
			return refuse(NotInFabric, "a group of %d fills no axes of a %v torus", group, shape)
		}
	}
	c.layout.Inner, _ = axes(shape, c.TP, s.devices)
	return nil
}

// slice is the slice of a torus with exactly so many ranks.
func (s *search) slice(ranks int) (accel.Shape, bool) {
	if ranks < s.devices {
		return accel.Shape{}, false
	}
	shape, ok := s.System.SliceFor(ranks / s.devices)
	return shape, ok && shape.Size()*s.devices == ranks
}

// axes is how many axes a group fills, from the last, in the order in which ranks are numbered; one that shares the
// last axis with others fills none. It is not ok if the group would fill only part of a further axis.
func axes(s accel.Shape, group, devices int) (n int, ok bool) {
	if group <= devices {
		return 0, devices%group == 0
	}
	if group%devices != 0 {
		return 0, false
	}
	group /= devices
	size := 1
	for i := 2; i >= 0; i-- {
		side := max(s.Dims[i], 1)
		if side == 1 {
			continue
		}
		if group < side*size {
			return n, n == 0 && side%group == 0
		}
		size *= side
		n++
		if group == size {
			return n, true
		}
	}
	return n, false
}

func (s *search) inKernel(c *cut) *refusal {
	fabric, m := s.ranks, s.Model
	span := c.layout.expertSpan()
	deepEP := c.deepEP()
	switch {
	case deepEP && fabric.Accelerator.Vendor != "nvidia" && fabric.Accelerator.Vendor != "amd":
		return refuse(NotInKernel, "DeepEP and MoRI are for NVIDIA's and AMD's accelerators")
	case deepEP && fabric.ScaleUp.Kind != accel.Switch && fabric.ScaleUp.Kind != accel.Mesh:
		return refuse(NotInKernel, "DeepEP needs peer-to-peer access between all accelerators of a node, which PCIe hosts rarely have")
	case deepEP && fabric.ScaleOut.RailOnly && span > max(fabric.ScaleUp.Domain, 1):
		return refuse(NotInKernel, "DeepEP needs each NIC to reach every other, and a rail-only network joins only those of equal index")
	case deepEP && !deepEPSize(s.Engine, m.Hidden):
		return refuse(NotInKernel, "DeepEP is not built for a hidden size of %d", m.Hidden)
	case c.kernel != accel.AllGather && topK(m) > maxTopK:
		return refuse(NotInKernel, "the kernel carries at most %d experts a token, not %d", maxTopK, topK(m))
	case c.kernel != accel.AllGather && c.MoETP > 1:
		return refuse(NotInKernel, "the kernel carries tokens to whole experts, not to %d parts", c.MoETP)
	case c.kernel == accel.DeepEPLowLatency && (s.Role == Prefill || s.Role == Both && s.Engine == accel.VLLM):
		return refuse(NotInKernel, "low-latency kernels carry at most %d tokens a rank and step, too few for prefill", maxDispatch)
	case c.kernel == accel.DeepEPHighThroughput && s.Role == Decode:
		return refuse(NotInKernel, "high-throughput kernels cannot be captured in CUDA graphs, which decode needs")
	case c.kernel == accel.NVLinkAllToAll && !blackwell(fabric):
		return refuse(NotInKernel, "NVLink kernels need a Blackwell GPU on NVLink")
	case c.kernel == accel.NVLinkAllToAll && span > fabric.ScaleUp.Domain:
		return refuse(NotInKernel, "NVLink kernels do not leave the NVLink domain of %d", fabric.ScaleUp.Domain)
	}
	return nil
}

func (c *cut) deepEP() bool {
	return c.kernel == accel.DeepEPHighThroughput || c.kernel == accel.DeepEPLowLatency
}

// deepEPSize: vLLM pads to the next size that there is.
func deepEPSize(e accel.Engine, hidden int) bool {
	if e == accel.VLLM {
		return hidden <= deepEPHidden[len(deepEPHidden)-1]
	}
	return slices.Contains(deepEPHidden, hidden)
}

// blackwell: of NVIDIA's boards on NVLink those with 4-bit floats are of compute capability 10.
func blackwell(s accel.System) bool {
	_, fp4 := s.Accelerator.Peak(accel.NVFP4)
	return fp4 && s.Accelerator.Vendor == "nvidia" && s.ScaleUp.Kind == accel.Switch
}

// covered says if experts survive, given the nodes that their ranks are on.
func (s *search) covered(c *cut) *refusal {
	if s.Survive == moe.Nothing {
		return nil
	}
	cover := c.cluster(s.Model).Cover(experts(s.Model), s.Survive)
	if !cover.Replicated {
		f := refuse(NotCovered, "%d slots more would cover the loss of %v", cover.Missing, s.Survive)
		f.miss = float64(cover.Missing)
		return f
	}
	return nil
}

// cluster is where experts are: a GPU of it is an expert-parallel rank.
func (c *cut) cluster(m *accel.Model) moe.Cluster {
	nodes := c.layout.Nodes
	if c.layout.order == stagesOutside && c.PP > 1 {
		nodes = max(1, nodes/c.PP)
	}
	return moe.Cluster{Nodes: min(nodes, c.EP), GPUs: c.EP, SlotsPerGPU: (experts(m) + c.Redundant) / c.EP}
}
