package scheduling

import (
	"errors"
	"fmt"
	"maps"
	"net"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Slot is an endpoint's place in a pool: a small dense integer that it keeps while it is in the pool. A slot is reused
// only under a new generation.
type Slot = uint32

// Role is the set of phases of a request that an endpoint takes. The zero Role takes all.
type Role uint8

// The phases of a request.
const (
	Prefill Role = 1 << iota
	Decode
	Encode
)

var phases = [...]struct {
	phase Role
	name  string
}{{Encode, "encode"}, {Prefill, "prefill"}, {Decode, "decode"}}

// String returns the phases joined by hyphens, as in "prefill-decode"; the zero Role is "all".
func (r Role) String() string {
	if r == 0 {
		return "all"
	}
	var names []string
	for _, p := range phases {
		if r&p.phase != 0 {
			names = append(names, p.name)
			r &^= p.phase
		}
	}
	if r != 0 {
		names = append(names, fmt.Sprintf("%#x", uint8(r)))
	}
	return strings.Join(names, "-")
}

// MarshalText implements encoding.TextMarshaler.
func (r Role) MarshalText() ([]byte, error) { return []byte(r.String()), nil }

// UnmarshalText implements encoding.TextUnmarshaler. It takes what String returns, the phases in any order, and "both" for
// prefill-decode: the values of llm-d's label llm-d.ai/role.
func (r *Role) UnmarshalText(text []byte) error {
	switch string(text) {
	case "all":
		*r = 0
		return nil
	case "both":
		*r = Prefill | Decode
		return nil
	}
	var role Role
next:
	for name := range strings.SplitSeq(string(text), "-") {
		for _, p := range phases {
			if name == p.name && role&p.phase == 0 {
				role |= p.phase
				continue next
			}
		}
		return fmt.Errorf("role %q: want all, both, or some of encode, prefill and decode joined by hyphens", text)
	}
	*r = role
	return nil
}

// Takes reports whether an endpoint of role r takes the phase.
func (r Role) Takes(phase Role) bool { return r == 0 || r&phase == phase }

// Endpoint is one place that a request can be sent to: an engine, or one data-parallel rank of it. A pool copies what it
// is given, and what it hands out is never changed.
type Endpoint struct {
	// ID is unique in the pool. Empty means the address, with "#rank" behind it where Rank is not 0.
	ID string
	// Address is "host:port".
	Address string
	// Rank is the data-parallel rank behind the address.
	Rank int
	// Role is what the endpoint takes part in; zero is everything.
	Role Role
	// Model is the base model that it serves; empty serves any.
	Model string
	// Adapters are the LoRA adapters that it can serve.
	Adapters []string
	// Labels are free for filters and scorers.
	Labels map[string]string
	// BlockTokens is the KV block size in tokens, and CacheBlocks how many blocks its cache holds; 0 means unknown.
	BlockTokens, CacheBlocks int
}

// normalised returns a copy with its ID filled in, or every problem that the endpoint has.
func (e Endpoint) normalised() (*Endpoint, error) {
	var problems []error
	host, port, err := net.SplitHostPort(e.Address)
	switch {
	case err != nil:
		problems = append(problems, fmt.Errorf("address %q: want host:port", e.Address))
	case host == "":
		problems = append(problems, fmt.Errorf("address %q: empty host", e.Address))
	default:
		if n, err := strconv.Atoi(port); err != nil || n < 1 || n > 65535 {
			problems = append(problems, fmt.Errorf("address %q: port %q is not in 1..65535", e.Address, port))
		}
	}
	if e.Rank < 0 {
		problems = append(problems, fmt.Errorf("rank %d: negative", e.Rank))
	}
	if e.BlockTokens < 0 {
		problems = append(problems, fmt.Errorf("block tokens %d: negative", e.BlockTokens))
	}
	if e.CacheBlocks < 0 {
		problems = append(problems, fmt.Errorf("cache blocks %d: negative", e.CacheBlocks))
	}
	if e.Role&^(Prefill|Decode|Encode) != 0 {
		problems = append(problems, fmt.Errorf("role %#x: unknown phase", uint8(e.Role)))
	}
	if e.ID == "" {
		e.ID = e.Address
		if e.Rank != 0 {
			e.ID += "#" + strconv.Itoa(e.Rank)
		}
	}
	if len(problems) > 0 {
		return nil, fmt.Errorf("endpoint %q: %w", e.ID, errors.Join(problems...))
	}
	e.Adapters = slices.Clone(e.Adapters)
	e.Labels = maps.Clone(e.Labels)
	return &e, nil
}

func (e *Endpoint) equal(o *Endpoint) bool {
	return e.ID == o.ID && e.Address == o.Address && e.Rank == o.Rank && e.Role == o.Role && e.Model == o.Model &&
		e.BlockTokens == o.BlockTokens && e.CacheBlocks == o.CacheBlocks &&
		slices.Equal(e.Adapters, o.Adapters) && maps.Equal(e.Labels, o.Labels)
}

// Metric names one number that engines report.
type Metric uint8

// The metrics that the built-in plugins read.
const (
	// Waiting is how many requests queue in the engine.
	Waiting Metric = iota
	// Running is how many requests the engine is working on.
	Running
	// KVUsage is the used fraction of the KV cache, 0 to 1.
	KVUsage

	firstCustom
	metrics = firstCustom + CustomMetrics // how many can be reported
)

// Counts of the pool's ledger, which are read like metrics and are never missing or stale.
const (
	// InFlightRequests is Cycle.Requests.
	InFlightRequests Metric = metrics + iota
	// InFlightPrefillTokens is Cycle.PrefillTokens.
	InFlightPrefillTokens
	// InFlightKVTokens is Cycle.KVTokens.
	InFlightKVTokens

	counts = iota
)

// CustomMetrics is how many metrics of its own a program can have.
const CustomMetrics = 8

// Custom returns the i-th metric of a program's own, whose meaning is the program's, for i below CustomMetrics. It panics for
// others.
func Custom(i int) Metric {
	if i < 0 || i >= CustomMetrics {
		panic(fmt.Sprintf("scheduling: custom metric %d, want 0 to %d", i, CustomMetrics-1))
	}
	return firstCustom + Metric(i)
}

var metricNames = map[Metric]string{
	Waiting: "waiting", Running: "running", KVUsage: "kv_usage",
	InFlightRequests: "in_flight_requests", InFlightPrefillTokens: "in_flight_prefill_tokens", InFlightKVTokens: "in_flight_kv_tokens",
}

func (m Metric) String() string {
	if name, ok := metricNames[m]; ok {
		return name
	}
	if m >= firstCustom && m < metrics {
		return fmt.Sprintf("custom(%d)", m-firstCustom)
	}
	return fmt.Sprintf("metric(%d)", uint8(m))
}

// Valid reports whether there is such a metric.
func (m Metric) Valid() bool { return m < metrics+counts }

// MarshalText implements encoding.TextMarshaler.
func (m Metric) MarshalText() ([]byte, error) { return []byte(m.String()), nil }

// UnmarshalText implements encoding.TextUnmarshaler: it takes what String returns.
func (m *Metric) UnmarshalText(text []byte) error {
	for i := range metrics + counts {
		if i.String() == string(text) {
			*m = i
			return nil
		}
	}
	return fmt.Errorf("metric %q is unknown: want waiting, running, kv_usage, in_flight_requests, in_flight_prefill_tokens, "+
		"in_flight_kv_tokens, or custom(0) to custom(%d)", text, CustomMetrics-1)
}

// Value is one metric's reading.
type Value struct {
	Metric Metric
	Value  float64
}

// State is what was observed of one endpoint. What is not in it stays as it was and ages.
type State struct {
	// Endpoint is the ID.
	Endpoint string
	// At is when the reading was taken; zero means now.
	At time.Time
	// Values are the readings. One that is negative or not finite is passed over, as if it were missing.
	Values []Value
	// Adapters is the state of LoRA adapters; nil means that nothing was said of them.
	Adapters *AdapterState
	// BlockTokens and CacheBlocks are the KV cache's geometry; 0 means not said.
	BlockTokens, CacheBlocks int
}

// AdapterState is which LoRA adapters an engine runs.
type AdapterState struct {
	// Active adapters have requests running, Waiting ones have requests that wait.
	Active, Waiting []string
	// Max is how many adapters the engine can run at once.
	Max int
}
