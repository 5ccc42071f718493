package flow

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
)

// LLMD is the flowControl section of llm-d's EndpointPickerConfig, field by field. Options translates it.
type LLMD struct {
	MaxBytes                    Quantity       `json:"maxBytes,omitempty"`
	MaxRequests                 Quantity       `json:"maxRequests,omitempty"`
	DefaultRequestTTL           *time.Duration `json:"defaultRequestTTL,omitempty"`
	NoEndpointRequestTTL        *time.Duration `json:"noEndpointRequestTTL,omitempty"`
	DefaultPriorityBand         *LLMDBand      `json:"defaultPriorityBand,omitempty"`
	DefaultNegativePriorityBand *LLMDBand      `json:"defaultNegativePriorityBand,omitempty"`
	PriorityBands               []LLMDBand     `json:"priorityBands,omitempty"`
	UsageLimitPolicyPluginRef   string         `json:"usageLimitPolicyPluginRef,omitempty"`
	SaturationDetector          LLMDPluginRef  `json:"saturationDetector,omitzero"`
	EnableEviction              bool           `json:"enableEviction,omitempty"`
}

// LLMDBand is a priority band of llm-d's.
type LLMDBand struct {
	Priority          int            `json:"priority,omitempty"`
	MaxBytes          Quantity       `json:"maxBytes,omitempty"`
	MaxRequests       Quantity       `json:"maxRequests,omitempty"`
	FairnessPolicyRef string         `json:"fairnessPolicyRef,omitempty"`
	OrderingPolicyRef string         `json:"orderingPolicyRef,omitempty"`
	DefaultRequestTTL *time.Duration `json:"defaultRequestTTL,omitempty"`
}

// LLMDPluginRef names a plugin of the file.
type LLMDPluginRef struct {
	PluginRef string `json:"pluginRef,omitempty"`
}

// LLMDPlugin is a plugin of the file that belongs to flow control.
type LLMDPlugin struct {
	Name, Type string
	Parameters json.RawMessage
}

// Quantity is a number as Kubernetes writes it: 5000, 500M, 1Gi.
type Quantity int64

var suffixes = []struct {
	name  string
	times int64
}{
	{"Ki", 1 << 10}, {"Mi", 1 << 20}, {"Gi", 1 << 30}, {"Ti", 1 << 40}, {"k", 1e3}, {"M", 1e6}, {"G", 1e9}, {"T", 1e12}, {"", 1},
}

// UnmarshalText implements encoding.TextUnmarshaler.
func (q *Quantity) UnmarshalText(text []byte) error {
	for _, s := range suffixes {
		digits, ok := strings.CutSuffix(string(text), s.name)
		if !ok {
			continue
		}
		n, err := strconv.ParseInt(digits, 10, 64)
		if err != nil || n < 0 || n > (1<<62)/s.times {
			break
		}
		*q = Quantity(n * s.times)
		return nil
	}
	return fmt.Errorf("quantity %q: want a whole number, with k, M, G, T, Ki, Mi, Gi or Ti behind it or not", text)
}

// Options translates the section and the plugins that it refers to, or reports every problem. Options.Gate is set: it goes into
// the scheduler's profiles. notes say where the result is not quite what llm-d does.
//
// Two things differ always. llm-d opens its gate for the whole pool by the mean of its endpoints; a Gate looks at each endpoint
// that could serve the request, and counts what was placed since the last report. And where llm-d promotes a request of an
// unknown negative priority to 0, it gets a band of its own here.
func (l LLMD) Options(plugins []LLMDPlugin) (o Options, notes []string, err error) {
	t := llmdTranslation{plugins: plugins}
	o = Options{Gate: &Gate{}, MaxBytes: int64(l.MaxBytes), MaxRequests: int(l.MaxRequests), NoEndpointTTL: time.Minute}
	if l.DefaultRequestTTL != nil {
		o.TTL = cmp.Or(*l.DefaultRequestTTL, -1) // an explicit 0 is none
		o.NoEndpointTTL = max(0, *l.DefaultRequestTTL)
	}
	if l.NoEndpointRequestTTL != nil {
		o.NoEndpointTTL = *l.NoEndpointRequestTTL
	}
	t.detector(l.SaturationDetector.PluginRef, o.Gate)
	t.usage(l.UsageLimitPolicyPluginRef, &l, o.Gate)
	for i, b := range l.PriorityBands {
		band := Band{Priority: b.Priority, MaxBytes: int64(b.MaxBytes), MaxRequests: int(b.MaxRequests)}
		band.MaxBytes, band.MaxRequests = cmp.Or(band.MaxBytes, 1e9), cmp.Or(band.MaxRequests, 5000)
		if b.DefaultRequestTTL != nil {
			band.TTL = *b.DefaultRequestTTL
		}
		o.Bands = append(o.Bands, band)
		t.policies(fmt.Sprintf("priorityBands[%d]", i), b, &o)
	}
	t.standard("defaultPriorityBand", l.DefaultPriorityBand, &o)
	t.standard("defaultNegativePriorityBand", l.DefaultNegativePriorityBand, &o)
	if o.Discipline == nil {
		o.Discipline = Strict{} // llm-d's default is no fairness
	}
	if l.EnableEviction {
		zero := 0
		o.EvictFor = &zero
	}
	return o, t.notes, errors.Join(t.problems...)
}

// llmdTranslation collects what comes up on the way.
type llmdTranslation struct {
	plugins  []LLMDPlugin
	problems problems
	notes    []string
	fairness string // the type that all bands have
	ordering string
}

func (t *llmdTranslation) note(format string, args ...any) {
	t.notes = append(t.notes, fmt.Sprintf(format, args...))
}

// find returns the plugin of a name; a reference to a type of which there is no plugin stands for one without parameters.
func (t *llmdTranslation) find(ref string) LLMDPlugin {
	for _, p := range t.plugins {
		if cmp.Or(p.Name, p.Type) == ref {
			return p
		}
	}
	return LLMDPlugin{Name: ref, Type: ref}
}

func (t *llmdTranslation) parameters(path string, p LLMDPlugin, v any) {
	if len(p.Parameters) == 0 {
		return
	}
	if err := json.Unmarshal(p.Parameters, v); err != nil {
		t.problems.add("%s: %s: %w", path, p.Type, err)
	}
}

func (t *llmdTranslation) detector(ref string, g *Gate) {
	const path = "saturationDetector"
	switch p := t.find(cmp.Or(ref, "utilization-detector")); p.Type {
	case "utilization-detector":
		v := struct {
			QueueDepth int     `json:"queueDepthThreshold"`
			KVUsage    float64 `json:"kvCacheUtilThreshold"`
		}{5, .8}
		t.parameters(path, p, &v)
		g.MaxWaiting, g.MaxKVUsage = v.QueueDepth, v.KVUsage
	case "concurrency-detector":
		v := struct {
			Mode   string `json:"concurrencyMode"`
			Max    int    `json:"maxConcurrency"`
			Tokens int    `json:"maxTokenConcurrency"`
		}{"requests", 100, 1_000_000}
		t.parameters(path, p, &v)
		if v.Mode != "tokens" {
			g.MaxRequests = v.Max
		}
		if v.Mode != "requests" {
			g.MaxPrefillTokens = v.Tokens
			t.note("%s: maxTokenConcurrency bounds prompt tokens to prefill", path)
		}
	default:
		t.problems.add("%s: %q is no saturation detector that is known", path, ref)
	}
}

// usage translates a policy that lets bands fill only a part.
func (t *llmdTranslation) usage(ref string, l *LLMD, g *Gate) {
	const path = "usageLimitPolicyPluginRef"
	switch p := t.find(cmp.Or(ref, "static-usage-limit-policy")); p.Type {
	case "static-usage-limit-policy":
		v := struct {
			Threshold float64 `json:"threshold"`
		}{1}
		t.parameters(path, p, &v)
		if v.Threshold < 1 {
			g.Ceilings = []Ceiling{{Below: int(^uint(0) >> 1), Share: v.Threshold}}
		}
	case "priority-holdback-policy":
		v := struct {
			Domain string  `json:"domain"`
			Min    float64 `json:"minCeiling"`
			Max    float64 `json:"maxCeiling"`
		}{"rank", 0, 1}
		t.parameters(path, p, &v)
		g.Ceilings = holdback(l.priorities(), v.Domain == "value", v.Min, v.Max)
	default:
		t.problems.add("%s: %q is no usage limit policy that is known", path, ref)
	}
}

// priorities are those that are listed, and 0, highest first.
func (l *LLMD) priorities() []int {
	all := []int{0}
	for _, b := range l.PriorityBands {
		all = append(all, b.Priority)
	}
	slices.SortFunc(all, func(a, b int) int { return cmp.Compare(b, a) })
	return slices.Compact(all)
}

// standard translates what is for bands that are not listed.
func (t *llmdTranslation) standard(path string, b *LLMDBand, o *Options) {
	if b == nil {
		return
	}
	t.policies(path, *b, o)
	if b.MaxBytes != 0 || b.MaxRequests != 0 || b.DefaultRequestTTL != nil {
		t.note("%s: bounds of bands that are not listed are those of the whole queue", path)
	}
}

func (t *llmdTranslation) policies(path string, b LLMDBand, o *Options) {
	fairness, ordering := t.find(cmp.Or(b.FairnessPolicyRef, "global-strict-fairness-policy")).Type, t.find(cmp.Or(b.OrderingPolicyRef, "fcfs-ordering-policy")).Type
	if t.fairness != "" && (t.fairness != fairness || t.ordering != ordering) {
		t.problems.add("%s: %s with %s, where another band has %s with %s: all bands have the same here", path, fairness, ordering, t.fairness, t.ordering)
		return
	}
	t.fairness, t.ordering = fairness, ordering
	switch fairness {
	case "global-strict-fairness-policy":
		o.Discipline = Strict{}
	case "round-robin-fairness-policy":
		o.Discipline = RoundRobin{}
	case "program-aware-fairness":
		o.Discipline = &LeastAttained{}
		t.note("%s: program-aware-fairness goes by attained service alone, which is charged at dispatch", path)
	default:
		t.problems.add("%s.fairnessPolicyRef: %q is no fairness policy that is known", path, b.FairnessPolicyRef)
	}
	switch ordering {
	case "fcfs-ordering-policy":
		o.Order = FirstCome
	case "edf-ordering-policy":
		o.Order = EarliestDeadline
	case "slo-deadline-ordering-policy":
		o.Order = ObjectiveDeadline
	default:
		t.problems.add("%s.orderingPolicyRef: %q is no ordering policy that is known", path, b.OrderingPolicyRef)
	}
}

// holdback is llm-d's linear ceilings from highest for the first of some priorities to lowest for the last, by rank or by value.
func holdback(priorities []int, byValue bool, lowest, highest float64) []Ceiling {
	var ceilings []Ceiling
	last := len(priorities) - 1
	for i := 1; i <= last; i++ {
		part := float64(i) / float64(last)
		if byValue {
			part = float64(priorities[0]-priorities[i]) / float64(priorities[0]-priorities[last])
		}
		ceilings = append(ceilings, Ceiling{Below: priorities[i-1], Share: highest - part*(highest-lowest)})
	}
	return ceilings
}
