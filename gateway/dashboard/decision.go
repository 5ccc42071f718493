package dashboard

import (
	"github.com/inferloom/inferloom/gateway/api"
	"github.com/inferloom/inferloom/scheduling"
)

// How much of an explanation is sent: at a thousand endpoints the whole would be too much to send and to read.
const (
	maxCandidates = 12
	maxRemoved    = 12 // endpoints named for one filter
)

// decision is one request that was placed.
type decision struct {
	Number          uint64   `json:"number"`
	EndedMs         int64    `json:"ended_ms"`
	Model           string   `json:"model"`
	Adapter         string   `json:"adapter,omitempty"`
	Endpoint        string   `json:"endpoint"` // the last that it was sent to
	Stream          bool     `json:"stream,omitempty"`
	Attempts        int      `json:"attempts"` // endpoints that it was sent to
	Outcome         string   `json:"outcome"`
	PromptTokens    optional `json:"prompt_tokens"` // the engine's count
	CachedTokens    optional `json:"cached_tokens"` // the engine's count
	OutputTokens    optional `json:"output_tokens"`
	PredictedCached int      `json:"predicted_cached_tokens"`
	DecideMs        optional `json:"decide_ms"`
	TTFTMs          optional `json:"ttft_ms"`
	TotalMs         optional `json:"total_ms"`
	// Explanation is null for a decision that was not explained.
	Explanation *explanation `json:"explanation"`
}

// explanation is a scheduling.Explanation with its scores as a table.
type explanation struct {
	PromptTokens int         `json:"prompt_tokens"` // the scheduler's estimate
	Attempts     int         `json:"attempts"`      // until no other pick came between
	Scorers      []weighted  `json:"scorers"`
	Candidates   []candidate `json:"candidates"` // best first
	More         int         `json:"more,omitempty"`
	Removed      []removed   `json:"removed,omitempty"`
}

type weighted struct {
	Scorer string  `json:"scorer"`
	Weight float64 `json:"weight"`
}

type candidate struct {
	Endpoint      string     `json:"endpoint"`
	Rank          int        `json:"rank,omitempty"` // 1 is the choice, 0 is not ranked
	Total         optional   `json:"total"`
	Requests      int        `json:"requests"`
	PrefillTokens int        `json:"prefill_tokens"`
	CachedTokens  int        `json:"cached_tokens"`
	Scores        []optional `json:"scores"` // by scorer; null where it abstained
}

// removed is what one filter took out.
type removed struct {
	Filter    string   `json:"filter"`
	Count     int      `json:"count"`
	Endpoints []string `json:"endpoints"` // the first of them
}

func newDecision(number uint64, r *decisionRecord) decision {
	known := func(c api.Counts, n int) optional {
		if !r.usage.Has(c) {
			return absent
		}
		return optional(n)
	}
	d := decision{
		Number: number, EndedMs: r.ended.UnixMilli(), Model: r.model, Adapter: r.adapter, Endpoint: r.endpoint,
		Stream: r.stream, Attempts: r.attempts, Outcome: r.outcome.String(),
		PromptTokens:    known(api.PromptCount, r.usage.PromptTokens),
		CachedTokens:    known(api.CachedCount, r.usage.CachedTokens),
		OutputTokens:    known(api.CompletionCount, r.usage.CompletionTokens),
		PredictedCached: r.predictedCached,
		DecideMs:        millisOf(r.decide), TTFTMs: millisOf(r.ttft), TotalMs: millisOf(r.total),
	}
	if r.explained {
		d.Explanation = newExplanation(&r.explanation)
	}
	return d
}

func newExplanation(x *scheduling.Explanation) *explanation {
	e := &explanation{PromptTokens: x.PromptTokens, Attempts: x.Attempts, Scorers: []weighted{}, Candidates: []candidate{}}
	if len(x.Candidates) > 0 {
		for _, s := range x.Candidates[0].Scores {
			e.Scorers = append(e.Scorers, weighted{s.Scorer, s.Weight})
		}
	}
	shown := min(len(x.Candidates), maxCandidates)
	e.More = len(x.Candidates) - shown
	for _, c := range x.Candidates[:shown] {
		row := candidate{
			Endpoint: c.Endpoint, Rank: c.Rank, Total: optional(c.Total), Requests: c.Requests,
			PrefillTokens: c.PrefillTokens, CachedTokens: c.CachedTokens, Scores: make([]optional, len(c.Scores)),
		}
		for i, s := range c.Scores {
			row.Scores[i] = optional(s.Score)
			if s.Abstained {
				row.Scores[i] = absent
			}
		}
		if len(c.Scores) == 0 {
			row.Total = absent // nobody scored: the picker chose alone
		}
		e.Candidates = append(e.Candidates, row)
	}
	for _, r := range x.Removed {
		// One filter's removals follow one another; the same filter may be in a profile twice.
		if n := len(e.Removed); n == 0 || e.Removed[n-1].Filter != r.Filter {
			e.Removed = append(e.Removed, removed{Filter: r.Filter})
		}
		by := &e.Removed[len(e.Removed)-1]
		by.Count++
		if len(by.Endpoints) < maxRemoved {
			by.Endpoints = append(by.Endpoints, r.Endpoint)
		}
	}
	return e
}

// failure is one request that failed or was rejected.
type failure struct {
	Number   uint64 `json:"number"`
	EndedMs  int64  `json:"ended_ms"`
	Model    string `json:"model"`
	Adapter  string `json:"adapter,omitempty"`
	Endpoint string `json:"endpoint,omitempty"`
	Attempts int    `json:"attempts"`
	Outcome  string `json:"outcome"`
	Error    string `json:"error"`
}

func newFailure(number uint64, r *failureRecord) failure {
	return failure{number, r.ended.UnixMilli(), r.model, r.adapter, r.endpoint, r.attempts, r.outcome.String(), r.err}
}
