package plan_test

import (
	"fmt"
	"time"

	"github.com/inferloom/inferloom/accel"
	"github.com/inferloom/inferloom/moe/plan"
)

// DeepSeek-R1 on one node of H200, and why one of H100 does not do.
func ExampleSearch() {
	model, err := accel.LookupModel("deepseek-ai/DeepSeek-R1")
	if err != nil {
		panic(err)
	}
	problem := plan.Problem{
		Model: model, Accelerators: 8, Input: 1000, Output: 1000, TPOT: 100 * time.Millisecond,
		Fixed: accel.Parallelism{TP: 8, EP: 8},
	}
	for _, name := range []string{"h200-sxm", "h100-sxm"} {
		problem.System, err = accel.Builtin().System(name)
		if err != nil {
			panic(err)
		}
		result, err := plan.Search(accel.Calibrated(), problem)
		if err != nil {
			fmt.Printf("%s: %v\n", name, result.Refused[0].Reason)
			continue
		}
		best := result.Plans[0]
		fmt.Printf("%s: %v, KV cache in %v\n", name, &best, best.Deployment.Precision.KV)
	}
	// Output:
	// h200-sxm: TP8 EP8, KV cache in fp8
	// h100-sxm: no memory
}
