package config

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/inferloom/inferloom/scheduling"
	"github.com/inferloom/inferloom/scheduling/condition"
	"github.com/inferloom/inferloom/scheduling/picker"
)

// assembled is one of the file's profiles.
type assembled struct {
	scheduling.Profile
	parts []*part
}

// stages makes the plan's profile or stages of the file's profiles and its profile handler.
func (l *llmd) stages(c pickerConfig) {
	profiles := map[string]*assembled{}
	var names []string
	for i := range c.Profiles {
		p := &c.Profiles[i]
		path := fmt.Sprintf("schedulingProfiles[%d]", i)
		if p.Name.text == "" {
			l.d.problem(p.Name.at, path+".name", "missing")
		} else if profiles[p.Name.text] != nil {
			l.d.problem(p.Name.at, path+".name", "%q is given twice", p.Name.text)
		}
		profiles[p.Name.text] = l.assemble(p.Plugins, path)
		names = append(names, p.Name.text)
	}
	if len(c.Profiles) == 0 {
		var all []profileEntry
		for _, name := range l.order {
			if p := l.parts[name]; p.inProfile() {
				all = append(all, profileEntry{Ref: located{text: name}})
			}
		}
		names = []string{"default"}
		profiles["default"] = l.assemble(all, "plugins")
	}

	var handlers []string
	for _, name := range l.order {
		if l.parts[name].handler != nil {
			handlers = append(handlers, name)
		}
	}
	h := &handler{}
	switch {
	case len(handlers) > 1:
		l.d.problem(nil, "plugins", "%q are profile handlers: want one", handlers)
		return
	case len(handlers) == 1:
		h = l.parts[handlers[0]].handler
	case len(names) > 1:
		l.d.problem(nil, "plugins", "no profile handler, though there are %d profiles", len(names))
		return
	}
	if s := h.byHeader; s != nil && len(names) > 1 {
		if !slices.Contains(names, s.standard) {
			l.d.problem(nil, h.path+".defaultProfile", "%q is no profile", s.standard)
		}
		merged := *s
		merged.names = names
		for _, name := range names {
			l.produce(profiles[name], name, false)
		}
		l.plan.Options.Profile = merged.merge(profiles)
		return
	}
	if !h.disagg {
		if len(names) > 1 {
			l.d.problem(nil, "schedulingProfiles", "%d of them: %s takes one", len(names), handlers[0])
			return
		}
		only := profiles[names[0]]
		l.produce(only, names[0], false)
		l.plan.Options.Profile = only.Profile
		return
	}
	l.disaggregate(h, names, profiles)
}

// assemble collects the plugins of a profile.
func (l *llmd) assemble(entries []profileEntry, path string) *assembled {
	a := &assembled{}
	for _, name := range l.order {
		a.Filters = append(a.Filters, l.parts[name].screeners...)
	}
	for i, entry := range entries {
		at := fmt.Sprintf("%s.plugins[%d].pluginRef", path, i)
		p, ok := l.parts[entry.Ref.text]
		switch {
		case entry.Ref.text == "":
			l.d.problem(entry.Ref.at, at, "missing")
			continue
		case !ok:
			l.d.problem(entry.Ref.at, at, "%q names no plugin", entry.Ref.text)
			continue
		case !p.inProfile():
			if !p.failed {
				l.d.problem(entry.Ref.at, at, "%q is no filter, scorer or picker", entry.Ref.text)
			}
			continue
		}
		a.parts = append(a.parts, p)
		if p.filter != nil {
			a.Filters = append(a.Filters, p.filter)
		}
		if p.scorer != nil {
			weight := 1.0
			if entry.Weight != nil {
				weight = *entry.Weight
			}
			if !(weight >= 0) {
				l.d.problem(entry.Ref.at, fmt.Sprintf("%s.plugins[%d].weight", path, i), "%v: want a number of at least 0", weight)
			} else if weight > 0 { // 0 counts for nothing
				a.Scorers = append(a.Scorers, scheduling.Weighted{Scorer: p.scorer, Weight: weight})
			}
		} else if entry.Weight != nil {
			l.note("%s.plugins[%d].weight: %q is no scorer, and its weight means nothing", path, i, entry.Ref.text)
		}
		if p.picker != nil {
			if a.Picker != nil {
				l.d.problem(entry.Ref.at, at, "%q: the profile has a picker already", entry.Ref.text)
			}
			a.Picker = p.picker
		}
	}
	for _, name := range l.order {
		if a.Picker == nil {
			a.Picker = l.parts[name].picker
		}
	}
	if a.Picker == nil {
		a.Picker = picker.MaxScore{}
	}
	return a
}

// produce adds the producers that the plugins of a profile need, which llm-d makes where the file does not name them.
func (l *llmd) produce(a *assembled, path string, match bool) {
	wanted := map[string]bool{}
	media := false
	for _, p := range a.parts {
		if p.match {
			wanted[p.producerName] = true
		}
		media = media || p.media
	}
	sources := []*part{}
	for _, name := range l.order {
		if p := l.parts[name]; p.source {
			wanted[p.producerName] = true
			sources = append(sources, p)
		}
	}
	if match && len(wanted) == 0 {
		wanted[""] = true
	}
	if wanted[""] {
		delete(wanted, "")
		switch {
		case len(wanted) == 0:
			wanted[l.matcher()] = true
		case len(wanted) == 1: // a pick has one match
			l.note("profile %q: plugins that name no prefix producer go by %s", path, quoted(wanted))
		}
	}
	if len(wanted) > 1 {
		l.d.problem(nil, "schedulingProfiles", "the plugins of profile %q go by different prefix producers: %s", path, quoted(wanted))
		return
	}
	for name := range wanted {
		if p := l.parts[name]; p != nil && p.matches {
			a.Producers = append(a.Producers, p.producer)
		} else {
			l.d.problem(nil, "schedulingProfiles", "profile %q: %q is no prefix producer", path, name)
		}
	}
	if media {
		a.Producers = append(a.Producers, l.implicit("mm-embeddings-cache-producer").producer)
	}
	for _, p := range sources {
		a.Producers = append(a.Producers, p.producer)
	}
	for _, name := range l.order { // nobody needs to refer to producers of the program's own
		if p := l.parts[name]; p.own && p.producer != nil && !wanted[name] {
			a.Producers = append(a.Producers, p.producer)
		}
	}
}

// matcher returns the name of the producer that a plugin goes by which names none.
func (l *llmd) matcher() string {
	const standard = "approx-prefix-cache-producer"
	l.implicit(standard)
	return standard
}

// implicit returns the part of a name, which is made where the file does not have it.
func (l *llmd) implicit(name string) *part {
	if l.parts[name] == nil {
		l.parts[name] = l.part(name, llmdSpec{Type: located{text: name}}, name)
	}
	return l.parts[name]
}

// disaggregate makes the stages of llm-d's disagg-profile-handler.
func (l *llmd) disaggregate(h *handler, names []string, profiles map[string]*assembled) {
	used := map[string]bool{}
	find := func(name string) *assembled {
		used[name] = true
		if profiles[name] == nil {
			l.d.problem(nil, "schedulingProfiles", "no profile %q, which the profile handler runs", name)
		}
		return profiles[name]
	}
	decide := func(ref, field, earlier string) scheduling.Condition {
		p := l.parts[ref]
		if p == nil || p.decider == nil {
			if p == nil || !p.failed {
				l.d.problem(nil, h.path+".deciders."+field, "%q names no decider", ref)
			}
			return nil
		}
		return p.decider(earlier)
	}
	decode := scheduling.Stage{Name: h.decode}
	prefill := scheduling.Stage{Name: h.prefill, Takes: scheduling.Prefill, Optional: true}
	encode := scheduling.Stage{Name: h.encode, Takes: scheduling.Encode, Optional: true}
	withEncode, withPrefill := h.encodeDecider != "", h.prefillDecider != "" || h.prefillFirst
	if h.prefillFirst {
		decode.After = []string{prefill.Name}
		if withEncode {
			encode.After, decode.After = []string{prefill.Name}, append(decode.After, encode.Name)
			encode.When = decide(h.encodeDecider, "encode", prefill.Name)
		}
		if h.prefillDecider != "" {
			l.d.problem(nil, h.path+".deciders.prefill", "not with stageOrder prefill-first, which always prefills elsewhere")
		}
	} else {
		if withEncode {
			encode.After = []string{decode.Name}
			encode.When = decide(h.encodeDecider, "encode", decode.Name)
		}
		if withPrefill {
			prefill.After = []string{decode.Name}
			if withEncode {
				prefill.After = append(prefill.After, encode.Name)
			}
			prefill.When = decide(h.prefillDecider, "prefill", decode.Name)
		}
	}
	_, byMatch := prefill.When.(condition.Uncached)
	stages := []*scheduling.Stage{&decode}
	if withEncode {
		stages = append(stages, &encode)
	}
	if withPrefill {
		stages = append(stages, &prefill)
	}
	for _, st := range stages {
		a := find(st.Name)
		if a == nil {
			continue
		}
		l.produce(a, st.Name, byMatch && st != &encode)
		st.Profile = a.Profile
		l.plan.Options.Stages = append(l.plan.Options.Stages, *st)
	}
	for _, name := range names {
		if !used[name] {
			l.note("profile %q: nothing runs it, there is no decider for it", name)
		}
	}
}

func quoted(set map[string]bool) string {
	var names []string
	for name := range set {
		names = append(names, strconv.Quote(name))
	}
	slices.Sort(names)
	return strings.Join(names, ", ")
}
