package config

import (
	"cmp"
	"slices"
	"strings"

	"github.com/inferloom/inferloom/scheduling"
)

// profileSwitch makes one profile of several, of which a request header names the one that counts: llm-d's
// header-profile-handler. The plugins of the others do nothing for the request. A name that is no profile's leaves none.
type profileSwitch struct {
	header, standard string
	names            []string
}

func (s *profileSwitch) of(r *scheduling.Request) string {
	name := ""
	if r.Header != nil {
		name = strings.TrimSpace(r.Header(s.header))
	}
	return cmp.Or(name, s.standard)
}

// merge returns the profile.
func (s *profileSwitch) merge(profiles map[string]*assembled) scheduling.Profile {
	p := scheduling.Profile{Filters: []scheduling.Filter{knownProfile{s}}}
	pickers := casePicker{s, map[string]scheduling.Picker{}}
	for _, name := range s.names {
		from := profiles[name]
		for _, x := range from.Producers {
			p.Producers = append(p.Producers, caseProducer{inCase[scheduling.Producer]{s, name, x}})
		}
		for _, x := range from.Filters {
			p.Filters = append(p.Filters, caseFilter{inCase[scheduling.Filter]{s, name, x}})
		}
		for _, x := range from.Scorers {
			p.Scorers = append(p.Scorers, scheduling.Weighted{Scorer: caseScorer{inCase[scheduling.Scorer]{s, name, x.Scorer}}, Weight: x.Weight})
		}
		pickers.pickers[name] = from.Picker
	}
	p.Picker = pickers
	return p
}

// inCase is a plugin that counts for one profile.
type inCase[T any] struct {
	*profileSwitch
	name   string
	plugin T
}

func (p inCase[T]) counts(c *scheduling.Cycle) bool { return p.of(c.Request) == p.name }

// Unwrap returns the plugin itself, which explanations name.
func (p inCase[T]) Unwrap() any { return p.plugin }

// Commit implements scheduling.Committer.
func (p inCase[T]) Commit(c *scheduling.Cycle, chosen scheduling.Slot) {
	if committer, ok := any(p.plugin).(scheduling.Committer); ok && p.counts(c) {
		committer.Commit(c, chosen)
	}
}

type caseProducer struct {
	inCase[scheduling.Producer]
}

// Produce implements scheduling.Producer.
func (p caseProducer) Produce(c *scheduling.Cycle) {
	if p.counts(c) {
		p.plugin.Produce(c)
	}
}

type caseFilter struct{ inCase[scheduling.Filter] }

// Filter implements scheduling.Filter.
func (p caseFilter) Filter(c *scheduling.Cycle, slots []scheduling.Slot) []scheduling.Slot {
	if p.counts(c) {
		return p.plugin.Filter(c, slots)
	}
	return slots
}

type caseScorer struct{ inCase[scheduling.Scorer] }

// Score implements scheduling.Scorer.
func (p caseScorer) Score(c *scheduling.Cycle, slots []scheduling.Slot, scores []float64) {
	if p.counts(c) {
		p.plugin.Score(c, slots, scores)
		return
	}
	for i := range scores {
		scores[i] = scheduling.Abstain
	}
}

type casePicker struct {
	*profileSwitch
	pickers map[string]scheduling.Picker
}

// Pick implements scheduling.Picker.
func (p casePicker) Pick(c *scheduling.Cycle, slots []scheduling.Slot, scores []float64, ranked []int) []int {
	return p.pickers[p.of(c.Request)].Pick(c, slots, scores, ranked)
}

// Commit implements scheduling.Committer.
func (p casePicker) Commit(c *scheduling.Cycle, chosen scheduling.Slot) {
	if committer, ok := p.pickers[p.of(c.Request)].(scheduling.Committer); ok {
		committer.Commit(c, chosen)
	}
}

// knownProfile leaves nobody for a request that names no profile of the switch.
type knownProfile struct{ *profileSwitch }

// Filter implements scheduling.Filter.
func (k knownProfile) Filter(c *scheduling.Cycle, slots []scheduling.Slot) []scheduling.Slot {
	if slices.Contains(k.names, k.of(c.Request)) {
		return slots
	}
	return slots[:0]
}
