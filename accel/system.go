package accel

import "time"

// System is an accelerator in a node and a fabric. Nodes are alike and as many as needed; a scale-up domain may span several
// (NVL72, a TPU slice).
type System struct {
	Name        string // such as "h200-sxm", "gb200-nvl72", "tpu-v5e"
	Title       string
	Aliases     []string
	Accelerator Accelerator
	PerNode     int // accelerators a node
	ScaleUp     ScaleUp
	ScaleOut    ScaleOut

	perChip int // see PerDevice
}

// ScaleUp is the fast fabric.
type ScaleUp struct {
	Kind      FabricKind
	Domain    int           // accelerators that reach each other over it
	Bandwidth Figure        // bytes a second, one way, of an accelerator, all its links together
	Links     int           // of an accelerator: to each peer of a mesh, ports of a torus; 0 where it does not matter
	Latency   time.Duration // of one hop, assumed
	Torus     *Torus        // what slices a torus has; nil for all else
	Shape     Shape         // the slice of a torus, once one is chosen
}

// ScaleOut is the network between scale-up domains. NICs are a property of nodes as they are built, not of the accelerator:
// change these figures to what yours have.
type ScaleOut struct {
	NICs      int           // a node
	Bandwidth Figure        // bytes a second, one way, of an accelerator's share
	Latency   time.Duration // assumed
	RailOnly  bool          // a NIC reaches only those of equal index on other nodes
}
