package emit_test

import (
	"fmt"
	"strings"

	"github.com/inferloom/inferloom/accel"
	"github.com/inferloom/inferloom/moe/emit"
	"github.com/inferloom/inferloom/moe/plan"
)

// The command line of the second of two nodes.
func ExampleCommand() {
	model, err := accel.LookupModel("deepseek-ai/DeepSeek-R1")
	if err != nil {
		panic(err)
	}
	system, err := accel.Builtin().System("h200-sxm")
	if err != nil {
		panic(err)
	}
	result, err := plan.Search(accel.Calibrated(), plan.Problem{
		Model: model, System: system, Accelerators: 16, Input: 1000, Output: 1000, Fixed: accel.Parallelism{TP: 1, EP: 16},
	})
	if err != nil {
		panic(err)
	}
	args, err := emit.Command(result.Plans[0], emit.Node{Index: 1, Leader: "node-0"}, emit.Options{})
	if err != nil {
		panic(err)
	}
	fmt.Println(strings.Join(args[:17], " "))
	// Output:
	// vllm serve deepseek-ai/DeepSeek-R1 --host 0.0.0.0 --port 8000 --tensor-parallel-size 1 --data-parallel-size 16 --data-parallel-size-local 8 --data-parallel-start-rank 8 --data-parallel-address node-0
}
