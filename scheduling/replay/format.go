package replay

import (
	"errors"
	"fmt"
	"math"
	"time"

	"github.com/inferloom/inferloom/scheduling"
)

// Version is that of the format.
const Version = 1

// The largest things that a recording may have.
const (
	maxLineBytes = 64 << 20
	maxEndpoints = 1 << 16
	maxMetrics   = 256
	maxTokens    = 1 << 31
	maxTime      = 1 << 53 // nanoseconds, 104 days, so that every language can read them
	maxRequests  = 1<<16 - 1
	maxPrefill   = 1<<32 - 1
	maxKV        = 1<<48 - 1
)

// header is the first line.
type header struct {
	Version *int      `json:"inferloom_decisions"`
	Start   time.Time `json:"start"`
	Metrics []string  `json:"metrics"`
}

// entry is one choice.
type entry struct {
	At       *int64     `json:"t"`
	Layout   []endpoint `json:"layout"`
	Seen     [][]number `json:"seen"`
	LoRA     []lora     `json:"lora"`
	Load     [][5]int64 `json:"load"`
	Eligible [][2]int   `json:"eligible"`
	Match    [][2]int64 `json:"match"`
	Media    [][2]int64 `json:"media"`

	Stage   string    `json:"stage"`
	Earlier []earlier `json:"earlier"`

	Model    string            `json:"model"`
	Adapter  string            `json:"adapter"`
	Tokens   int               `json:"tokens"`
	Tenant   string            `json:"tenant"`
	Session  string            `json:"session"`
	Pinned   string            `json:"pinned"`
	Priority int               `json:"prio"`
	Max      int               `json:"max"`
	TTFT     int64             `json:"ttft"`
	TPOT     int64             `json:"tpot"`
	Modality uint8             `json:"modality"`
	Sizes    []int32           `json:"sizes"`
	Headers  map[string]string `json:"headers"`
	Peer     *endpoint         `json:"peer"`

	Keys  [][2]uint64 `json:"keys"`
	Seed  uint64      `json:"seed"`
	Pick  *int        `json:"pick"`
	Score float64     `json:"score"`
}

// number is a metric's value, or a whole number.
type number = float64

// endpoint is a scheduling.Endpoint as it is written.
type endpoint struct {
	ID          string            `json:"id"`
	Address     string            `json:"addr"`
	Rank        int               `json:"rank,omitempty"`
	Role        uint8             `json:"role,omitempty"`
	Model       string            `json:"model,omitempty"`
	Adapters    []string          `json:"adapters,omitempty"`
	Labels      map[string]string `json:"labels,omitempty"`
	BlockTokens int               `json:"block,omitempty"`
	CacheBlocks int               `json:"cache,omitempty"`
}

func newEndpoint(e *scheduling.Endpoint) endpoint {
	return endpoint{e.ID, e.Address, e.Rank, uint8(e.Role), e.Model, e.Adapters, e.Labels, e.BlockTokens, e.CacheBlocks}
}

func (e *endpoint) endpoint() scheduling.Endpoint {
	return scheduling.Endpoint{
		ID: e.ID, Address: e.Address, Rank: e.Rank, Role: scheduling.Role(e.Role), Model: e.Model, Adapters: e.Adapters,
		Labels: e.Labels, BlockTokens: e.BlockTokens, CacheBlocks: e.CacheBlocks,
	}
}

// lora is what an engine reported of its adapters.
type lora struct {
	Endpoint int            `json:"e"`
	At       int64          `json:"t"`
	State    *adapterStates `json:"state,omitempty"`
}

type adapterStates struct {
	Active  []string `json:"active,omitempty"`
	Waiting []string `json:"waiting,omitempty"`
	Max     int      `json:"max,omitempty"`
}

// earlier is the choice of a stage before.
type earlier struct {
	Stage    string `json:"stage"`
	Endpoint int    `json:"e"`
	Cached   int32  `json:"cached,omitempty"`
}

func (h *header) validate() error {
	if h.Version == nil {
		return errors.New("no header: want a line with inferloom_decisions first")
	}
	if *h.Version != Version {
		return fmt.Errorf("inferloom_decisions is version %d, want %d", *h.Version, Version)
	}
	if y := h.Start.Year(); y < 1970 || y > 2200 {
		return fmt.Errorf("start is %v, want a time from 1970 to 2200", h.Start)
	}
	if len(h.Metrics) > maxMetrics {
		return fmt.Errorf("metrics: %d of them, want at most %d", len(h.Metrics), maxMetrics)
	}
	return nil
}

// within adds a problem unless a field's value is in a range.
func within[T int | int32 | int64 | float64](problems *[]error, field string, v, least, most T) bool {
	if v >= least && v <= most {
		return true
	}
	*problems = append(*problems, fmt.Errorf("%s is %v, want %v to %v", field, v, least, most))
	return false
}

// whole reports whether a number is an integer of a range.
func whole(v number, least, most int64) bool {
	return v == math.Trunc(v) && v >= number(least) && v <= number(most)
}
