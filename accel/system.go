package accel

import "time"

// System is an accelerator in a node and a fabric. Nodes are alike and as many as needed; a scale-up domain may span several
// (NVL72, a TPU slice).
type System struct {
	Name        string // such as "h200-sxm", "gb200-nvl72", "tpu-v5e"
	Title       string
	Accelerator Accelerator
	PerNode     int // accelerators a node
	ScaleUp     ScaleUp
	ScaleOut    ScaleOut
}

// FabricKind is how the accelerators of a scale-up domain are connected.
type FabricKind uint8

const (
	PCIe   FabricKind = iota // through the host: no fabric of their own
	Switch                   // any to any at full bandwidth: NVLink with NVSwitch
	Mesh                     // a link between each pair: xGMI, Gaudi, Xe Link
	Torus                    // neighbours only, in 2 or 3 dimensions: TPU ICI
)

// ScaleUp is the fast fabric. Bandwidth is one way, per accelerator, all its links together.
type ScaleUp struct {
	Kind      FabricKind
	Domain    int           // accelerators that reach each other over it
	Bandwidth Figure        // bytes a second, one way
	Links     int           // links of an accelerator: peers of a mesh, ports of a torus; 0 where it does not matter
	Latency   time.Duration // of one hop, assumed
	Shape     Shape         // of a torus; zero otherwise
}

// ScaleOut is the network between scale-up domains or nodes. Bandwidth is one way, per accelerator.
type ScaleOut struct {
	NICs      int           // a node
	Bandwidth Figure        // bytes a second, one way, of an accelerator's share
	Latency   time.Duration // assumed
	RailOnly  bool          // a NIC reaches only those of equal index on other nodes
}
