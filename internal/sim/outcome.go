package sim

import (
	"time"

	"github.com/inferloom/inferloom/internal/stats"
)

// Class is how a request ended.
type Class uint8

const (
	// Completed requests got their whole answer.
	Completed Class = iota
	// Refused requests were turned away by the gate, or by a filter that refuses.
	Refused
	// Unplaced requests found no endpoint that could take them, or none that accepted them within Config.Attempts.
	Unplaced
	// TooLong requests can never fit the engine that they were sent to.
	TooLong
	// Lost requests were on an engine that crashed, after their first token or on their last attempt.
	Lost
	// Unfinished requests were under way when the run ended.
	Unfinished

	classes // how many there are
)

// Classes lists all.
func Classes() []Class { return []Class{Completed, Refused, Unplaced, TooLong, Lost, Unfinished} }

// String returns the class in lower case.
func (c Class) String() string {
	return [...]string{"completed", "refused", "unplaced", "too long", "lost", "unfinished"}[c]
}

// Never is a time that was not reached.
const Never time.Duration = -1

// Outcome is the story of one request. Times are since the start of the simulation, or Never.
type Outcome struct {
	// Request numbers the requests in order of arrival, from 0.
	Request int
	Class   Class
	// Measured requests arrived after the warm-up; only they are in the histograms and in Result.Measured.
	Measured bool
	// Good requests completed within the SLO.
	Good bool

	Session, Turn   int
	Tenant, Adapter string
	Priority        int

	// Arrived is when it was sent, Admitted when the gate let it pass, Started when an engine first took it into its batch,
	// FirstToken when its client had the first token, Finished when it ended.
	Arrived, Admitted, Started, FirstToken, Finished time.Duration
	// Endpoint served it, or was the last to try. Prefill is where its prompt was prefilled if that was elsewhere.
	Endpoint, Prefill string
	// Attempts is how many endpoints it was sent to (of those that prefill, if these are others).
	Attempts    int
	Preemptions int

	// PromptTokens of which CachedTokens needed no prefill, and PredictedCached were believed to be cached by the policy.
	PromptTokens, CachedTokens, PredictedCached int
	// ReusableTokens of the prompt had been said before, with Config.Reuse.
	ReusableTokens int
	// PredictedTTFT, from the pick on, and PredictedTPOT are what the policy predicted; 0 where it does not.
	PredictedTTFT, PredictedTPOT time.Duration
	// OutputTokens were produced.
	OutputTokens int
}

// TTFT is the time to the first token; false if there was none.
func (o *Outcome) TTFT() (time.Duration, bool) {
	return o.FirstToken - o.Arrived, o.FirstToken != Never
}

// TPOT is the mean time between the tokens of a completed answer; false if it has fewer than two.
func (o *Outcome) TPOT() (time.Duration, bool) {
	if o.Class != Completed || o.OutputTokens < 2 {
		return 0, false
	}
	return (o.Finished - o.FirstToken) / time.Duration(o.OutputTokens-1), true
}

// E2E is the time from arrival to the end.
func (o *Outcome) E2E() time.Duration { return o.Finished - o.Arrived }

// Queued is the time from arrival until an engine took it into its batch; false if none did.
func (o *Outcome) Queued() (time.Duration, bool) {
	return o.Started - o.Arrived, o.Started != Never
}

func (s SLO) met(o *Outcome) bool {
	if o.Class != Completed {
		return false
	}
	ttft, _ := o.TTFT()
	tpot, _ := o.TPOT()
	within := func(d, bound time.Duration) bool { return bound == 0 || d <= bound }
	return within(ttft, s.TTFT) && within(tpot, s.TPOT) && within(o.E2E(), s.E2E)
}

// Observer is told what happens; nil funcs are skipped. What it is given is valid during the call only.
type Observer struct {
	// Outcome is called once for each request that ended, in the order of their ends.
	Outcome func(*Outcome)
	// Sample is called every Config.SampleEvery.
	Sample func(*Sample)
	// Progress is called every thousand arrivals with the simulated time and how many arrived and ended.
	Progress func(at time.Duration, arrived, ended int)
}

// Sample is the fleet at one moment.
type Sample struct {
	At time.Duration
	// Endpoints is a reading of each that is there.
	Endpoints []EndpointSample
	// InFlight is the requests on all endpoints, Held those that the gate holds back.
	InFlight, Held int
	// Imbalance is the standard deviation of the endpoints' requests over their mean; 0 where nothing is in flight.
	Imbalance float64
	// Since the sample before: requests that arrived, completed and completed within the SLO; prompt tokens that were looked
	// up in engines' caches, and found there.
	Arrived, Completed, Good  int
	LookedUpTokens, HitTokens uint64
}

// HitRatio is the share of prompt tokens found in caches since the sample before.
func (s *Sample) HitRatio() float64 { return ratio(float64(s.HitTokens), float64(s.LookedUpTokens)) }

// EndpointSample is one endpoint at one moment.
type EndpointSample struct {
	ID               string
	Group            int
	Waiting, Running int
	KVUsage          float64 // 0..1
	// Ready is false while it starts up or drains.
	Ready bool
}

// Result is what a run came to. Its methods are about the measured requests.
type Result struct {
	Policy string
	Seed   uint64
	// Simulated is the time at which the run ended, LastArrival that of the last request.
	Simulated, LastArrival time.Duration

	// All counts every request, Measured those that arrived after the warm-up.
	All, Measured Counts
	// Window is the time in which the measured requests arrived.
	Window time.Duration

	// TTFT, TPOT, E2E and Queued are of completed requests that were measured, as in Outcome. ITL is the time between
	// consecutive tokens of all measured requests.
	TTFT, TPOT, ITL, E2E, Queued stats.Histogram

	// Imbalance is the mean over samples, after the warm-up and before the last arrival, of Sample.Imbalance.
	Imbalance float64
	// Retries is how often a request was moved to another endpoint, Crashes how many engines crashed.
	Retries, Crashes int
	// Transfers of KV blocks from prefill to decode endpoints, and their size and the time that they waited for links.
	Transfers     int
	TransferBytes float64
	TransferWait  time.Duration
	// EndpointTime is how long endpoints were there, summed, up to the last arrival: what the fleet cost.
	EndpointTime time.Duration
	// Events is how many events were simulated.
	Events int
}

// Counts of requests and of their tokens.
type Counts struct {
	Arrived int
	Ended   [classes]int // by Class
	// Good completed within the SLO.
	Good int
	// PromptTokens of those that were started by an engine, of which CachedTokens needed no prefill, and OutputTokens.
	PromptTokens, CachedTokens, OutputTokens uint64
	// ReusableTokens of the PromptTokens are in leading blocks that prompts or answers of requests before them had: what a
	// cache shared by all that never forgets could hit. Config.Reuse counts it.
	ReusableTokens uint64
	Preemptions    int
}

// Throughput is completed requests a second of the window; with a drain it can exceed what the fleet can bear.
func (r *Result) Throughput() float64 {
	return ratio(float64(r.Measured.Ended[Completed]), r.Window.Seconds())
}

// Goodput is requests within the SLO a second of the window.
func (r *Result) Goodput() float64 { return ratio(float64(r.Measured.Good), r.Window.Seconds()) }

// GoodShare is the share of the requests that arrived which were answered within the SLO.
func (r *Result) GoodShare() float64 {
	return ratio(float64(r.Measured.Good), float64(r.Measured.Arrived))
}

// HitRatio is the share of prompt tokens that needed no prefill.
func (r *Result) HitRatio() float64 {
	return ratio(float64(r.Measured.CachedTokens), float64(r.Measured.PromptTokens))
}

// ReuseRatio is the share of prompt tokens that had been said before, which bounds HitRatio: no policy on any fleet hits more.
func (r *Result) ReuseRatio() float64 {
	return ratio(float64(r.Measured.ReusableTokens), float64(r.Measured.PromptTokens))
}

// Errors is how many requests did not complete.
func (r *Result) Errors() int { return r.Measured.Arrived - r.Measured.Ended[Completed] }

func ratio(a, b float64) float64 {
	if b == 0 {
		return 0
	}
	return a / b
}
