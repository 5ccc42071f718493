package plan

import (
	"testing"
	"time"
	"fmt"

	"github.com/stretchr/testify/require"

	"github.com/inferloom/inferloom/accel"
)

func TestLook(t *testing.T) {
	m, err := accel.LookupModel("deepseek-ai/DeepSeek-R1")
	require.NoError(t, err)
	for _, sys := range []string{"b200", "h100-sxm", "h200-sxm"} {
	s, err := accel.Builtin().System(sys)
	require.NoError(t, err)
	for _, count := range []int{8, 32, 96} {
	for _, role := range []Role{Both, Prefill, Decode} {
	now := time.Now()
	r, err := Search(accel.Calibrated(), Problem{Model: m, System: s, Accelerators: count, Input: 1000, Output: 1000, Role: role,
		TTFT: 2*time.Second, TPOT: 50*time.Millisecond, Price: 3})
	fmt.Println(sys, count, role, time.Since(now))
	if err != nil { fmt.Println(err); continue }
	fmt.Println(r.Cuts, r.Legal, r.Estimates, len(r.Front))
	for _, f := range r.Refused { fmt.Println("  refused", f.Reason, f.Cuts, f.Nearest) }
	for _, p := range r.Plans {
		fmt.Printf("  %+v k%v o%v x%d kv%v b%d  ttft %v tpot %v tok/gpu %.0f [%.0f %.0f] $%.2f limit %s bottleneck %v ev %v mem KV %.1f run %.0f room %.0f %v\n", p.Deployment.Parallelism, p.Deployment.AllToAll, p.Deployment.TwoBatchOverlap, p.Replicas, p.Deployment.Precision.KV, p.Deployment.MaxSequences, p.Estimate.TTFT.Value.Round(time.Millisecond), p.Estimate.TPOT.Value.Round(time.Microsecond*100), p.PerAccelerator.Value, p.PerAccelerator.Low, p.PerAccelerator.High, p.Cost.Value, p.Limit, p.Bottleneck, p.Estimate.Evidence, float64(p.Memory.KVBudget)/1e9, p.Estimate.Running, p.Estimate.Room, p.Unmet)
	}
	}}}
}
