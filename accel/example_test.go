package accel_test

import (
	"fmt"

	"github.com/inferloom/inferloom/accel"
)

// Does DeepSeek-R1 fit on one node of H200, and how many long conversations at a time?
func ExampleDeployment_Memory() {
	model, err := accel.LookupModel("deepseek-ai/DeepSeek-R1")
	if err != nil {
		fmt.Println(err)
		return
	}
	for _, name := range []string{"h100-sxm", "h200-sxm"} {
		system, err := accel.Builtin().System(name)
		if err != nil {
			fmt.Println(err)
			return
		}
		m, err := accel.Deployment{Model: model, System: system, Parallelism: accel.Parallelism{TP: 8}}.Memory()
		if err != nil {
			fmt.Println(err)
			return
		}
		if err := m.Fits(32_000); err != nil {
			fmt.Println(name, err)
			continue
		}
		n, limit := m.MaxSequences(32_000)
		fmt.Println(name, n, "sequences, limited by", limit)
	}
	// Output:
	// h100-sxm does not fit: weights need 79.3 GiB of 73.3 GiB a device
	// h200-sxm 20 sequences, limited by kv cache
}

// A node's labels say what it has.
func ExampleCatalogue_FromLabels() {
	node, err := accel.Builtin().FromLabels(map[string]string{
		"nvidia.com/gpu.product": "NVIDIA-GB200", "nvidia.com/gpu.count": "4", "nvidia.com/gpu.clique": "5c2f.32766",
	})
	fmt.Println(node.System.Name, node.Accelerators, node.System.ScaleUp.Domain, node.Domain, err)

	_, err = accel.Builtin().FromLabels(map[string]string{"nvidia.com/gpu.product": "NVIDIA-H100-80GB-HBM3-MIG-1g.10gb"})
	fmt.Println(err)
	// Output:
	// gb200-nvl72 4 72 5c2f.32766 <nil>
	// label nvidia.com/gpu.product=NVIDIA-H100-80GB-HBM3-MIG-1g.10gb: a MIG instance is no whole accelerator
}
