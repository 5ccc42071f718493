package gateway

import (
	"cmp"
	"errors"
	"math"
	"strconv"
	"time"

	"github.com/inferloom/inferloom/gateway/api"
	"github.com/inferloom/inferloom/scheduling"
	"github.com/inferloom/inferloom/scheduling/flow"
)

// LLMD is the Dialect of llm-d's inference scheduler. The tenant comes from x-llm-d-inference-fairness-id, the priority from the
// objective that x-llm-d-inference-objective names, the latency objectives in milliseconds from x-llm-d-slo-ttft-ms and
// x-llm-d-slo-tpot-ms. Their older names (x-gateway-inference-fairness-id, x-gateway-inference-objective, x-slo-ttft-ms and
// x-slo-tpot-ms) are understood where the newer are missing. A request that is turned away is answered with
// x-llm-d-request-dropped-reason.
//
// Whoever can set these headers chooses its tenant and priority: a gateway that faces clients overwrites them.
type LLMD struct {
	// Objectives are the priorities by name, as in llm-d's InferenceObjective; an unknown name is priority 0.
	Objectives map[string]int
}

// DefaultFlow is the tenant of requests that name none in llm-d's header.
const DefaultFlow = "default-flow"

// Describe implements Dialect.
func (l LLMD) Describe(s *scheduling.Request, r *api.Request) {
	header := func(name, old string) string { return cmp.Or(r.HeaderValue(name), r.HeaderValue(old)) }
	s.Tenant = cmp.Or(header("X-Llm-D-Inference-Fairness-Id", "X-Gateway-Inference-Fairness-Id"), DefaultFlow)
	s.Priority = l.Objectives[header("X-Llm-D-Inference-Objective", "X-Gateway-Inference-Objective")]
	s.TTFT = millis(header("X-Llm-D-Slo-Ttft-Ms", "X-Slo-Ttft-Ms"))
	s.TPOT = millis(header("X-Llm-D-Slo-Tpot-Ms", "X-Slo-Tpot-Ms"))
}

// millis reads an objective. One that makes no sense is none.
func millis(text string) time.Duration {
	ms, err := strconv.ParseFloat(text, 64)
	if err != nil || !(ms > 0) || ms > float64(math.MaxInt64/time.Millisecond) {
		return 0
	}
	return time.Duration(ms * float64(time.Millisecond))
}

// droppedReasons are llm-d's names.
var droppedReasons = map[flow.Outcome]string{
	flow.Saturated: "rejected-saturated", flow.Late: "rejected-ttl-expired", flow.Expired: "rejected-ttl-expired",
	flow.NoEndpoint: "rejected-no-endpoints", flow.Displaced: "evicted-queue-pressure", flow.ShutDown: "rejected-shutting-down",
}

// Reject implements Dialect.
func (LLMD) Reject(r *Rejection) {
	reason := ""
	if refused, ok := errors.AsType[*flow.Rejected](r.Err); ok {
		reason = droppedReasons[refused.Outcome]
	} else if errors.Is(r.Err, scheduling.ErrNoEndpoint) {
		reason = droppedReasons[flow.NoEndpoint]
	}
	if reason != "" {
		r.Header = append(r.Header, HeaderEdit{"X-Llm-D-Request-Dropped-Reason", reason})
	}
}
