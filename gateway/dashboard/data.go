package dashboard

import (
	"cmp"
	"slices"
	"time"

	"github.com/inferloom/inferloom/scheduling"
)

// document is what the page shows. Times are Unix milliseconds, null is unknown.
type document struct {
	Title         string  `json:"title,omitempty"`
	NowMs         int64   `json:"now_ms"`
	StartedMs     int64   `json:"started_ms"`
	RecentSeconds float64 `json:"recent_seconds"`
	WindowSeconds float64 `json:"window_seconds"`
	MaxAgeMs      int64   `json:"max_metric_age_ms"`
	MaxDecisions  int     `json:"max_decisions"`

	Ended     ended         `json:"ended"`  // since started
	Recent    figures       `json:"recent"` // of the whole gateway
	InFlight  inFlight      `json:"in_flight"`
	Endpoints endpointTable `json:"endpoints"`
	Series    series        `json:"series"`
	Flow      *flowTable    `json:"flow"` // null without flow control
	// Decisions and Failures are newest first; of the decisions, those that the page does not have yet.
	Decisions []decision `json:"decisions"`
	Failures  []failure  `json:"failures"`
}

type ended struct {
	Requests   uint64 `json:"requests"`
	Failed     uint64 `json:"failed"`
	Rejected   uint64 `json:"rejected"`
	ClientLeft uint64 `json:"client_left"`
}

func newEnded(c *outcomeCounts) ended {
	return ended{c.total(), c[failed], c[rejected], c[clientLeft]}
}

// figures are of the requests that ended recently.
type figures struct {
	ended
	RequestsPerSecond     optional `json:"requests_per_second"`
	HitRatio              optional `json:"hit_ratio"`
	TTFTp50Ms             optional `json:"ttft_p50_ms"`
	TTFTp95Ms             optional `json:"ttft_p95_ms"`
	OutputTokensPerSecond optional `json:"output_tokens_per_second"`
}

func newFigures(s *sums, covered time.Duration) figures {
	return figures{newEnded(&s.ended), s.rate(covered), s.hitRatio(), s.ttftMillis(0.5), s.ttftMillis(0.95), s.outputRate(covered)}
}

// inFlight is the ledger's word.
type inFlight struct {
	Requests      int `json:"requests"`
	PrefillTokens int `json:"prefill_tokens"`
	KVTokens      int `json:"kv_tokens"`
}

// endpointTable lists the endpoints in the order of the pool; the busiest of them if they are many.
type endpointTable struct {
	Total int        `json:"total"`
	Rows  []endpoint `json:"rows"`
}

type endpoint struct {
	ID       string   `json:"id"`
	Address  string   `json:"address"`
	Rank     int      `json:"rank,omitempty"`
	Role     []string `json:"role,omitempty"` // empty takes everything
	Model    string   `json:"model,omitempty"`
	Waiting  *reading `json:"waiting"`
	Running  *reading `json:"running"`
	KVUsage  *reading `json:"kv_usage"`
	InFlight inFlight `json:"in_flight"`
	figures
}

// reading is what an engine reported of itself, and how long ago.
type reading struct {
	Value optional `json:"value"`
	AgeMs int64    `json:"age_ms"`
}

// series are columns of one value a step, oldest first; all are null before the dashboard started.
type series struct {
	StepMs            int64      `json:"step_ms"`
	EndMs             int64      `json:"end_ms"` // of the last step, which is complete
	RequestsPerSecond []optional `json:"requests_per_second"`
	TTFTp50Ms         []optional `json:"ttft_p50_ms"`
	TTFTp95Ms         []optional `json:"ttft_p95_ms"`
	Failed            []optional `json:"failed"` // the part of the requests, 0 to 1
	Rejected          []optional `json:"rejected"`
}

// document collects what is known now; after is the last decision that the page has. Each part is consistent in itself,
// and requests may end between one and the next.
func (d *Dashboard) document(after uint64) *document {
	now := d.o.Now()
	doc := &document{
		Title: d.o.Title, NowMs: now.UnixMilli(), StartedMs: d.started.UnixMilli(),
		RecentSeconds: d.o.Recent.Seconds(), WindowSeconds: d.o.Window.Seconds(), MaxAgeMs: d.o.MaxMetricAge.Milliseconds(),
		MaxDecisions: d.o.Decisions,
	}
	load := d.o.Pool.Total()
	doc.InFlight = inFlight(load)

	d.mu.Lock()
	d.advance(now)
	last := d.step
	var recent sums
	d.all.add(&recent, last-d.recentSteps()+1, last)
	doc.Ended = newEnded(&d.ever)
	doc.Series = d.series()
	decisions := d.decisions.after(d.have(after))
	failures := d.failures.after(0)
	d.mu.Unlock()

	covered := d.covered(now, last)
	doc.Recent = newFigures(&recent, covered)
	doc.Endpoints = d.table(now, last, covered)
	doc.Flow = d.flow()
	doc.Decisions = make([]decision, 0, len(decisions))
	for _, r := range decisions {
		doc.Decisions = append(doc.Decisions, newDecision(r.number, &r.value))
	}
	doc.Failures = make([]failure, 0, len(failures))
	for _, r := range failures {
		doc.Failures = append(doc.Failures, newFailure(r.number, &r.value))
	}
	return doc
}

// have is the last decision that a page has. One that was never made is from before a restart: the page has none.
func (d *Dashboard) have(after uint64) uint64 {
	if after > d.decisions.pushed {
		return 0
	}
	return after
}

// covered is how much time the recent steps cover: Recent less what is left of the running step, or all since the start.
// Less than a second counts as one, for a rate over less says nothing.
func (d *Dashboard) covered(now time.Time, last int64) time.Duration {
	first := max(last-d.recentSteps()+1, 0)
	return max(now.Sub(d.started)-time.Duration(first)*d.o.Step, time.Second)
}

// series reads the complete steps of the window.
func (d *Dashboard) series() series {
	n := int(d.o.Window / d.o.Step)
	s := series{
		StepMs:            d.o.Step.Milliseconds(),
		EndMs:             d.started.Add(time.Duration(d.step) * d.o.Step).UnixMilli(),
		RequestsPerSecond: make([]optional, n), TTFTp50Ms: make([]optional, n), TTFTp95Ms: make([]optional, n),
		Failed: make([]optional, n), Rejected: make([]optional, n),
	}
	for i := range n {
		number := d.step - int64(n-i)
		if number < 0 {
			s.RequestsPerSecond[i], s.TTFTp50Ms[i], s.TTFTp95Ms[i], s.Failed[i], s.Rejected[i] = absent, absent, absent, absent, absent
			continue
		}
		var t sums
		d.all.add(&t, number, number)
		s.RequestsPerSecond[i] = t.rate(d.o.Step)
		s.TTFTp50Ms[i], s.TTFTp95Ms[i] = t.ttftMillis(0.5), t.ttftMillis(0.95)
		s.Failed[i], s.Rejected[i] = t.share(failed), t.share(rejected)
	}
	return s
}

// table reads the endpoints, and each under a lock of its own, so that no request waits for all of them.
func (d *Dashboard) table(now time.Time, last int64, covered time.Duration) endpointTable {
	snap := d.o.Pool.Snapshot()
	slots := d.busiest(snap, last)
	t := endpointTable{Total: len(snap.Live()), Rows: make([]endpoint, 0, len(slots))}
	for _, slot := range slots {
		e := snap.Endpoint(slot)
		var recent sums
		d.mu.Lock()
		if w := d.endpoints[e.ID]; w != nil {
			w.add(&recent, last-d.recentSteps()+1, last)
		}
		d.mu.Unlock()
		t.Rows = append(t.Rows, endpoint{
			ID: e.ID, Address: e.Address, Rank: e.Rank, Role: phases(e.Role), Model: e.Model,
			Waiting:  newReading(snap, slot, scheduling.Waiting, now),
			Running:  newReading(snap, slot, scheduling.Running, now),
			KVUsage:  newReading(snap, slot, scheduling.KVUsage, now),
			InFlight: inFlight(d.o.Pool.InFlight(slot)),
			figures:  newFigures(&recent, covered),
		})
	}
	return t
}

// busiest returns the slots to list, ascending: all of them, or where they are too many those with the most requests in
// flight and recently ended.
func (d *Dashboard) busiest(snap *scheduling.Snapshot, last int64) []scheduling.Slot {
	live := snap.Live()
	if len(live) <= d.o.MaxRows {
		return live
	}
	busy := make([]uint64, snap.Len())
	for _, slot := range live {
		busy[slot] = uint64(d.o.Pool.InFlight(slot).Requests)
		d.mu.Lock()
		if w := d.endpoints[snap.Endpoint(slot).ID]; w != nil {
			busy[slot] += w.requests(last-d.recentSteps()+1, last)
		}
		d.mu.Unlock()
	}
	chosen := slices.Clone(live)
	slices.SortStableFunc(chosen, func(a, b scheduling.Slot) int { return cmp.Compare(busy[b], busy[a]) })
	chosen = chosen[:d.o.MaxRows]
	slices.Sort(chosen)
	return chosen
}

func newReading(snap *scheduling.Snapshot, slot scheduling.Slot, m scheduling.Metric, now time.Time) *reading {
	v, at, ok := snap.Observed(slot, m)
	if !ok {
		return nil
	}
	return &reading{optional(v), max(now.Sub(at).Milliseconds(), 0)}
}

func phases(r scheduling.Role) []string {
	var names []string
	if r&scheduling.Encode != 0 {
		names = append(names, "encode")
	}
	if r&scheduling.Prefill != 0 {
		names = append(names, "prefill")
	}
	if r&scheduling.Decode != 0 {
		names = append(names, "decode")
	}
	return names
}
