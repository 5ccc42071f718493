package config

import (
	"reflect"

	"go.yaml.in/yaml/v3"

	"github.com/inferloom/inferloom/scheduling"
)

// part is what one plugin of an llm-d file comes to.
type part struct {
	filter    scheduling.Filter
	scorer    scheduling.Scorer
	picker    scheduling.Picker
	producer  scheduling.Producer
	screeners []scheduling.Filter // for every profile
	// decider makes the condition of a stage; it is told the stage that decodes, or nil means always.
	decider func(earlier string) scheduling.Condition
	handler *handler

	matches, embeds, source bool   // what the producer is: of prefixes, of embeddings, of KV sources
	match, media            bool   // what it goes by
	producerName            string // whose match
	own                     bool   // of a type that llm-d does not have
	failed                  bool   // a problem is reported already
	notes                   []string
}

func (p *part) inProfile() bool { return p.filter != nil || p.scorer != nil || p.picker != nil }

func (p *part) all() []any {
	var list []any
	if p.producer != nil {
		list = append(list, p.producer)
	}
	if p.filter != nil {
		list = append(list, p.filter)
	}
	if p.scorer != nil {
		list = append(list, p.scorer)
	}
	if p.picker != nil {
		list = append(list, p.picker)
	}
	for _, f := range p.screeners {
		list = append(list, f)
	}
	return list
}

// plugin returns the part's first plugin, or nil.
func (p *part) plugin() any {
	if all := p.all(); len(all) > 0 {
		return all[0]
	}
	return nil
}

// handler is what llm-d's profile handlers say.
type handler struct {
	path                          string
	disagg, prefillFirst          bool
	decode, prefill, encode       string
	prefillDecider, encodeDecider string
	byHeader                      *profileSwitch
}

// parameters are those of one plugin.
type parameters struct {
	*llmd
	node  *yaml.Node
	path  string
	name  string // the plugin's
	notes []string
}

func (p *parameters) into(v any) { p.d.into(p.node, reflect.ValueOf(v).Elem(), p.path) }

func (p *parameters) none() { p.into(new(struct{})) }

// note says where the part is not quite what was asked for.
func (p *parameters) note(text string) { p.notes = append(p.notes, p.name+": "+text) }

func (p *parameters) problem(field, format string, args ...any) {
	p.d.problem(p.node, p.path+"."+field, format, args...)
}

// metric says which metric an attribute is.
func (p *parameters) metric(field, attribute string) scheduling.Metric {
	if m, ok := p.loader.Attributes[attribute]; ok {
		return m
	}
	switch attribute {
	case "WaitingQueueSize":
		return scheduling.Waiting
	case "RunningRequestsSize":
		return scheduling.Running
	case "KVCacheUsagePercent":
		return scheduling.KVUsage
	}
	p.problem(field, "attribute %q is unknown: say which metric it is in Loader.Attributes", attribute)
	return scheduling.Waiting
}

// matched is a part that goes by a prefix match.
func matched(p part, producer string) *part {
	p.match, p.producerName = true, producer
	return &p
}

// byMatch is the parameter that names a prefix producer.
type byMatch struct {
	Producer string `json:"prefixMatchInfoProducerName"`
}

// byLoad is the parameter that names the producer of loads: the ledger, here.
type byLoad struct {
	Load string `json:"inFlightLoadProducerName"`
}

const (
	multiclusterQueue = "llm-d.ai/multicluster-queue-size"
	multiclusterKV    = "llm-d.ai/multicluster-kv-cache-utilization"
)
