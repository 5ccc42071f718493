package accel_test

import (
	"fmt"
	"time"

	"github.com/inferloom/inferloom/accel"
)

func ExampleCalibration_Estimate() {
	model, _ := accel.LookupModel("deepseek-ai/DeepSeek-R1")
	system, _ := accel.Builtin().System("b200-sxm")
	d := accel.Deployment{Model: model, System: system, Engine: accel.SGLang, Parallelism: accel.Parallelism{TP: 8}}
	e, err := accel.Calibrated().Estimate(d, accel.Workload{InputTokens: 1024, OutputTokens: 1024, Concurrency: 64})
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println("evidence:", e.Evidence)
	fmt.Println("a token takes between 10 and 40 ms:", e.TPOT.Low > 10*time.Millisecond && e.TPOT.High < 40*time.Millisecond)
	fmt.Println("most of it:", e.TPOTTerms.Largest())
	// Output:
	// evidence: deployment
	// a token takes between 10 and 40 ms: true
	// most of it: launch
}
