package scheduling

import (
	"errors"
	"fmt"
	"math"
	"reflect"
	"slices"
	"strings"
	"time"
)

// plan is what a scheduler makes of its options. It does not change; a decision stays with the plan that made it.
type plan struct {
	scheduler *Scheduler
	stages    []stage // in the order in which they run
	names     []string
	maxAge    time.Duration
}

// stage is a Stage, checked and prepared.
type stage struct {
	plan     *plan
	index    int // in Options.Stages; 0 is the primary stage
	name     string
	profile  Profile
	after    []int
	when     Condition
	optional bool
	takes    Role
	// produces is the same number for stages with the same producers.
	produces         int
	predictors       []Predictor
	committers       []Committer
	filters, scorers []string // their names
}

func (st *stage) primary() bool { return st.index == 0 }

// holdsKV reports whether the prompt's KV cache is on the stage's endpoint.
func (st *stage) holdsKV() bool { return st.primary() || st.takes&(Prefill|Decode) != 0 }

// compile makes a plan of options, or reports every problem that they have.
func (s *Scheduler) compile(o Options) (*plan, error) {
	p := &plan{scheduler: s, maxAge: o.MaxMetricAge}
	if p.maxAge == 0 {
		p.maxAge = DefaultMaxMetricAge
	}
	var problems problems
	if o.MaxMetricAge < 0 {
		problems.add("max metric age %v: negative", o.MaxMetricAge)
	}
	if len(o.Stages) == 0 {
		p.stages = []stage{problems.stage("", Stage{Profile: o.Profile})}
	} else {
		if pr := o.Profile; pr.Picker != nil || len(pr.Producers)+len(pr.Filters)+len(pr.Scorers) > 0 {
			problems.add("profile: not empty, though there are stages")
		}
		p.stages = problems.stages(o.Stages)
	}
	if len(problems) > 0 {
		return nil, errors.Join(problems...)
	}
	for i := range p.stages {
		st := &p.stages[i]
		st.plan = p
		p.names = append(p.names, st.name)
		st.produces = i + 1
		for j := range p.stages[:i] {
			if slices.EqualFunc(p.stages[j].profile.Producers, st.profile.Producers, same) {
				st.produces = p.stages[j].produces
				break
			}
		}
	}
	return p, nil
}

// same reports whether two producers are one, or equal.
func same(a, b Producer) bool {
	return reflect.TypeOf(a) == reflect.TypeOf(b) && reflect.TypeOf(a).Comparable() && a == b
}

type problems []error

func (p *problems) add(format string, args ...any) { *p = append(*p, fmt.Errorf(format, args...)) }

// stages prepares all stages and puts them in the order in which they run.
func (p *problems) stages(list []Stage) []stage {
	indices := map[string]int{}
	stages := make([]stage, len(list))
	for i, s := range list {
		path := fmt.Sprintf("stages[%d].", i)
		stages[i] = p.stage(path, s)
		stages[i].index = i
		if _, ok := indices[s.Name]; ok {
			p.add("%sname %q: given twice", path, s.Name)
		}
		if s.Name == "" {
			p.add("%sname: empty", path)
		}
		indices[s.Name] = i
		if i == 0 && s.When != nil {
			p.add("%swhen: the primary stage always runs", path)
		}
		if i == 0 && s.Optional {
			p.add("%soptional: the primary stage is not", path)
		}
		if s.Takes&^(Prefill|Decode|Encode) != 0 {
			p.add("%stakes %v: unknown phase", path, s.Takes)
		}
	}
	for i, s := range list {
		for j, name := range s.After {
			if earlier, ok := indices[name]; ok {
				stages[i].after = append(stages[i].after, earlier)
			} else {
				p.add("stages[%d].after[%d] %q: no such stage", i, j, name)
			}
		}
	}
	var order []stage
	done := make([]bool, len(stages))
	for len(order) < len(stages) {
		next := slices.IndexFunc(stages, func(st stage) bool {
			return !done[st.index] && !slices.ContainsFunc(st.after, func(i int) bool { return !done[i] })
		})
		if next < 0 {
			p.add("stages: %s: each waits for the next", circle(stages, done))
			return nil
		}
		done[next] = true
		order = append(order, stages[next])
	}
	return order
}

// circle names stages that wait for each other, of which there are some among those not done.
func circle(stages []stage, done []bool) string {
	at := slices.Index(done, false)
	var path []int
	for !slices.Contains(path, at) {
		path = append(path, at)
		at = stages[at].after[slices.IndexFunc(stages[at].after, func(i int) bool { return !done[i] })]
	}
	var names []string
	for _, i := range append(path[slices.Index(path, at):], at) {
		names = append(names, fmt.Sprintf("%q", stages[i].name))
	}
	return strings.Join(names, " after ")
}

// stage prepares one stage, except for its place among others.
func (p *problems) stage(path string, s Stage) stage {
	st := stage{name: s.Name, profile: s.Profile, when: s.When, optional: s.Optional, takes: s.Takes}
	check := func(plugin any, at string) (name string) {
		if v := reflect.ValueOf(plugin); !v.IsValid() || v.Kind() == reflect.Pointer && v.IsNil() {
			p.add("%s%s: nil", path, at)
			return ""
		}
		name = nameOf(plugin)
		if v, ok := plugin.(Validator); ok {
			if err := v.Validate(); err != nil {
				p.add("%s%s (%s): %w", path, at, name, err)
			}
		}
		if c, ok := plugin.(Committer); ok {
			st.committers = append(st.committers, c)
		}
		return name
	}
	for i, pr := range s.Profile.Producers {
		check(pr, fmt.Sprintf("profile.producers[%d]", i))
		if p, ok := pr.(Predictor); ok {
			st.predictors = append(st.predictors, p)
		}
	}
	for i, f := range s.Profile.Filters {
		st.filters = append(st.filters, check(f, fmt.Sprintf("profile.filters[%d]", i)))
	}
	st.profile.Scorers = slices.Clone(s.Profile.Scorers)
	for i := range st.profile.Scorers {
		w := &st.profile.Scorers[i]
		st.scorers = append(st.scorers, check(w.Scorer, fmt.Sprintf("profile.scorers[%d]", i)))
		if w.Weight < 0 || math.IsNaN(w.Weight) || math.IsInf(w.Weight, 0) {
			p.add("%sprofile.scorers[%d].weight %v: not a positive number", path, i, w.Weight)
		}
		if w.Weight == 0 {
			w.Weight = 1
		}
	}
	if s.Profile.Picker != nil {
		check(s.Profile.Picker, "profile.picker")
	}
	if s.When != nil {
		check(s.When, "when")
	}
	return st
}

// nameOf is a plugin's type as a user wrote it, scorer.Queue, or what it calls itself: one type may stand for several
// things. A plugin that only wraps another one may say so by Unwrap.
func nameOf(plugin any) string {
	if w, ok := plugin.(interface{ Unwrap() any }); ok {
		plugin = w.Unwrap()
	}
	if s, ok := plugin.(fmt.Stringer); ok {
		return s.String()
	}
	return strings.TrimPrefix(fmt.Sprintf("%T", plugin), "*")
}
