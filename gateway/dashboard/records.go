package dashboard

import (
	"strings"
	"time"
	"unicode/utf8"

	"github.com/inferloom/inferloom/gateway"
	"github.com/inferloom/inferloom/gateway/api"
	"github.com/inferloom/inferloom/scheduling"
)

// unexplainedAfter is how long there must have been no explained decision before one without is kept: among many
// requests the few explained ones are what a reader comes for, among few every one is.
const unexplainedAfter = 10 * time.Second

// Texts that clients have a say in are kept no longer than this, in bytes.
const (
	maxNameBytes  = 200
	maxErrorBytes = 500
)

// decisionRecord is what is kept of a request that was placed.
type decisionRecord struct {
	ended           time.Time
	model, adapter  string
	endpoint        string
	stream          bool
	attempts        int
	outcome         outcome
	usage           api.Usage
	predictedCached int
	decide, ttft    time.Duration
	total           time.Duration
	explained       bool
	explanation     scheduling.Explanation // without the names of the request
}

// worthKeeping tells whether a record goes among the last decisions.
func (d *Dashboard) worthKeeping(r *gateway.Record, now time.Time) bool {
	if r.Endpoint == "" {
		return false // rejected
	}
	if r.Explanation != nil {
		d.explained = now
		return true
	}
	return d.explained.IsZero() || now.Sub(d.explained) > unexplainedAfter
}

func newDecisionRecord(r *gateway.Record, now time.Time, o outcome) decisionRecord {
	k := decisionRecord{
		ended: now, model: clip(r.Model, maxNameBytes), adapter: clip(r.Adapter, maxNameBytes), endpoint: r.Endpoint,
		stream: r.Stream, attempts: r.Attempts, outcome: o, usage: r.Usage, predictedCached: r.PredictedCached,
		decide: r.Decide, ttft: r.TTFT, total: r.Total,
	}
	if r.Explanation != nil {
		k.explained, k.explanation = true, *r.Explanation
		k.explanation.Model, k.explanation.Adapter = "", "" // they may be long, and are kept above
	}
	return k
}

// failureRecord is what is kept of a request that failed or was rejected.
type failureRecord struct {
	ended          time.Time
	model, adapter string
	endpoint       string
	attempts       int
	outcome        outcome
	err            string
}

func newFailureRecord(r *gateway.Record, now time.Time, o outcome) failureRecord {
	return failureRecord{now, clip(r.Model, maxNameBytes), clip(r.Adapter, maxNameBytes), r.Endpoint, r.Attempts, o,
		clip(r.Err.Error(), maxErrorBytes)}
}

// clip returns s if it is short, else a copy of its beginning, so that the rest is not kept in memory.
func clip(s string, bytes int) string {
	if len(s) <= bytes {
		return s
	}
	for bytes > 0 && !utf8.RuneStart(s[bytes]) {
		bytes--
	}
	return strings.Clone(s[:bytes]) + "…"
}
