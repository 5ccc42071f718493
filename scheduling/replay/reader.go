package replay

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
	"time"

	"github.com/inferloom/inferloom/scheduling"
)

// Reader reads recorded choices. It is not safe for concurrent use.
type Reader struct {
	lines  *bufio.Reader
	buffer []byte
	number int // of the latest line
	err    error

	start   time.Time
	metrics []scheduling.Metric
	unknown []bool // of a metric: this program has none of its name
	pool    *scheduling.Pool
	ids     []string
	states  []adapterStates
	loads   [][4]int64
	entry   entry
}

// NewReader returns a Reader of r.
func NewReader(r io.Reader) *Reader { return &Reader{lines: bufio.NewReaderSize(r, 64<<10)} }

// Next reads the next choice into m, whose slices it overwrites. The prompt is not in it, nor Candidates and Scores. It returns
// io.EOF at the end, and an error that wraps io.ErrUnexpectedEOF if the recording ends within a line. Any error is the last
// thing.
func (r *Reader) Next(m *scheduling.Moment) error {
	if r.err == nil {
		if r.err = r.next(m); r.err != nil && r.err != io.EOF {
			r.err = fmt.Errorf("line %d: %w", r.number, r.err)
		}
	}
	return r.err
}

func (r *Reader) next(m *scheduling.Moment) error {
	for {
		line, whole, err := r.line()
		if err != nil {
			return err
		}
		if len(line) == 0 {
			continue
		}
		if isHeader(line) || r.metrics == nil {
			err = r.header(line)
		} else if err = r.choice(line, m); err == nil {
			return nil
		}
		if err != nil {
			if !whole {
				return fmt.Errorf("cut short: %w", io.ErrUnexpectedEOF)
			}
			return err
		}
	}
}

// line returns the next line, valid until the next call, and whether it was complete.
func (r *Reader) line() (line []byte, whole bool, err error) {
	r.buffer = r.buffer[:0]
	r.number++
	for {
		part, err := r.lines.ReadSlice('\n')
		r.buffer = append(r.buffer, part...)
		switch {
		case len(r.buffer) > maxLineBytes:
			return nil, false, fmt.Errorf("longer than %d bytes", maxLineBytes)
		case err == nil:
			return r.buffer[:len(r.buffer)-1], true, nil
		case errors.Is(err, bufio.ErrBufferFull):
		case errors.Is(err, io.EOF) && len(r.buffer) > 0:
			return r.buffer, false, nil
		default:
			return nil, false, err
		}
	}
}

func isHeader(line []byte) bool {
	const begins = `{"inferloom_decisions"`
	return len(line) > len(begins) && string(line[:len(begins)]) == begins
}

func (r *Reader) header(line []byte) error {
	var h header
	if err := json.Unmarshal(line, &h); err != nil {
		return fmt.Errorf("header: %w", err)
	}
	if err := h.validate(); err != nil {
		return err
	}
	r.start, r.ids = h.Start, nil
	r.metrics, r.unknown = make([]scheduling.Metric, len(h.Metrics)), make([]bool, len(h.Metrics))
	for i, name := range h.Metrics {
		// What a later version knows more of is passed over: no plugin of this program reads it.
		r.unknown[i] = r.metrics[i].UnmarshalText([]byte(name)) != nil || r.metrics[i] >= scheduling.InFlightRequests
	}
	return nil
}

func (r *Reader) choice(line []byte, m *scheduling.Moment) error {
	e := &r.entry
	*e = entry{Seen: e.Seen[:0], Load: e.Load[:0], Keys: e.Keys[:0]} // the others must be nil where they are missing
	if err := json.Unmarshal(line, e); err != nil {
		return err
	}
	if e.At == nil {
		return errors.New("t is missing")
	}
	var problems []error
	within(&problems, "t", *e.At, -maxTime, maxTime)
	if e.Layout != nil {
		if err := r.layout(e.Layout); err != nil {
			return err
		}
	}
	if r.ids == nil {
		return errors.New("layout is missing, want one below a header")
	}
	states := r.seen(e.Seen, &problems)
	states = append(states, r.lora(e.LoRA, &problems)...)
	if len(problems) > 0 {
		return errors.Join(problems...)
	}
	if len(states) > 0 {
		if err := r.pool.Report(states...); err != nil {
			return err
		}
	}
	r.fill(e, m, &problems)
	return errors.Join(problems...)
}

// layout makes the pool hold these endpoints, in slots from 0 up.
func (r *Reader) layout(endpoints []endpoint) error {
	if len(endpoints) > maxEndpoints {
		return fmt.Errorf("layout: %d endpoints, want at most %d", len(endpoints), maxEndpoints)
	}
	if r.pool == nil {
		var err error
		if r.pool, err = scheduling.NewPool(scheduling.PoolOptions{MaxEndpoints: maxEndpoints}); err != nil {
			return err
		}
	}
	// The pool reuses the slot that was left last: leaving the highest first makes the lowest the next.
	var gone []string
	snap := r.pool.Snapshot()
	for _, slot := range slices.Backward(snap.Live()) {
		gone = append(gone, snap.Endpoint(slot).ID)
	}
	r.pool.Remove(gone...)
	list := make([]scheduling.Endpoint, len(endpoints))
	r.ids = make([]string, len(endpoints))
	for i := range endpoints {
		list[i] = endpoints[i].endpoint()
		r.ids[i] = endpoints[i].ID
		if r.ids[i] == "" {
			return fmt.Errorf("layout[%d].id is empty", i)
		}
	}
	if err := r.pool.Upsert(list...); err != nil {
		return fmt.Errorf("layout: %w", err)
	}
	r.states = make([]adapterStates, len(endpoints))
	r.loads = make([][4]int64, len(endpoints))
	return nil
}

// at returns a time that counts from the start.
func (r *Reader) at(since int64) time.Time { return r.start.Add(time.Duration(since)) }

func (r *Reader) seen(reports [][]number, problems *[]error) (states []scheduling.State) {
	for k, report := range reports {
		if len(report) < 2 || len(report)%2 != 0 || !whole(report[0], 0, int64(len(r.ids)-1)) || !whole(report[1], -maxTime, maxTime) {
			*problems = append(*problems, fmt.Errorf("seen[%d] is %.6v, want an endpoint below %d, a time, and pairs of metric and value", k, report, len(r.ids)))
			continue
		}
		state := scheduling.State{Endpoint: r.ids[int(report[0])], At: r.at(int64(report[1]))}
		for i := 2; i < len(report); i += 2 {
			if !whole(report[i], 0, int64(len(r.metrics)-1)) || !(report[i+1] >= 0 && report[i+1] <= math.MaxFloat64) {
				*problems = append(*problems, fmt.Errorf("seen[%d][%d:] is %v, want a metric below %d and a value of at least 0", k, i, report[i:i+2], len(r.metrics)))
				continue
			}
			if metric := int(report[i]); !r.unknown[metric] {
				state.Values = append(state.Values, scheduling.Value{Metric: r.metrics[metric], Value: report[i+1]})
			}
		}
		states = append(states, state)
	}
	return states
}

func (r *Reader) lora(reports []lora, problems *[]error) (states []scheduling.State) {
	for k := range reports {
		l := &reports[k]
		ok := within(problems, fmt.Sprintf("lora[%d].e", k), l.Endpoint, 0, len(r.ids)-1)
		if !within(problems, fmt.Sprintf("lora[%d].t", k), l.At, -maxTime, maxTime) || !ok {
			continue
		}
		if l.State != nil {
			r.states[l.Endpoint] = *l.State
		}
		now := &r.states[l.Endpoint]
		states = append(states, scheduling.State{
			Endpoint: r.ids[l.Endpoint], At: r.at(l.At),
			Adapters: &scheduling.AdapterState{Active: now.Active, Waiting: now.Waiting, Max: now.Max},
		})
	}
	return states
}

// fill makes a moment of an entry and of what is known from those before it.
func (r *Reader) fill(e *entry, m *scheduling.Moment, problems *[]error) {
	n := len(r.ids)
	snap := r.pool.Snapshot()
	for k, l := range e.Load {
		field := fmt.Sprintf("load[%d]", k)
		ok := within(problems, field+"[0]", l[0], 0, int64(n-1))
		for i, most := range [...]int64{maxRequests, maxPrefill, maxKV, maxRequests} {
			ok = within(problems, fmt.Sprintf("%s[%d]", field, i+1), l[i+1], 0, most) && ok
		}
		if ok {
			r.loads[l[0]] = [4]int64(l[1:])
		}
	}
	m.Eligible = m.Eligible[:0]
	if e.Eligible == nil {
		m.Eligible = append(m.Eligible, snap.Live()...)
	}
	next := 0
	for k, run := range e.Eligible {
		if run[0] < next || run[1] < 1 || run[0] > n || run[1] > n-run[0] {
			*problems = append(*problems, fmt.Errorf("eligible[%d] is %v, want [first, how many] of %d endpoints, ascending", k, run, n))
			continue
		}
		for i := range run[1] {
			m.Eligible = append(m.Eligible, scheduling.Slot(run[0]+i))
		}
		next = run[0] + run[1]
	}
	size := snap.Len()
	m.InFlight, m.Reported = cleared(m.InFlight, size), cleared(m.Reported, size)
	for _, slot := range m.Eligible {
		l := &r.loads[slot]
		m.InFlight[slot] = scheduling.Load{Requests: int(l[0]), PrefillTokens: int(l[1]), KVTokens: int(l[2])}
		m.Reported[slot] = int(l[3])
	}
	m.Match.Known = e.Match != nil
	m.Match.Cached = cleared(m.Match.Cached, size)
	m.Match.Media = m.Match.Media[:0]
	if e.Media != nil {
		m.Match.Media = cleared(m.Match.Media, size)
	}
	r.sparse("match", e.Match, m.Match.Cached, problems)
	r.sparse("media", e.Media, m.Match.Media, problems)

	m.Stage, m.Snapshot, m.At, m.Seed, m.Score = e.Stage, snap, r.at(*e.At), e.Seed, e.Score
	m.Candidates, m.Scores = m.Candidates[:0], m.Scores[:0]
	m.Keys = m.Keys[:0]
	for k, key := range e.Keys {
		if key[0] > math.MaxInt {
			*problems = append(*problems, fmt.Errorf("keys[%d][0] is %d, want at most %d", k, key[0], math.MaxInt))
			continue
		}
		m.Keys = append(m.Keys, scheduling.PromptKey{Tokens: int(key[0]), Key: key[1]})
	}
	m.Request = e.request(problems)
	m.PromptTokens = e.Tokens
	m.Earlier = m.Earlier[:0]
	for k, c := range e.Earlier {
		if !within(problems, fmt.Sprintf("earlier[%d].e", k), c.Endpoint, 0, n-1) {
			continue
		}
		slot := scheduling.Slot(c.Endpoint)
		m.Earlier = append(m.Earlier, scheduling.StageChoice{Stage: c.Stage, Choice: scheduling.Choice{
			Endpoint: snap.Endpoint(slot), Slot: slot, CachedTokens: int(c.Cached),
		}})
	}
	if e.Pick == nil || !slices.Contains(m.Eligible, scheduling.Slot(*e.Pick)) || *e.Pick < 0 {
		*problems = append(*problems, errors.New("pick is missing, or no endpoint that was eligible"))
		return
	}
	slot := scheduling.Slot(*e.Pick)
	m.Choice = scheduling.Choice{Endpoint: snap.Endpoint(slot), Slot: slot, CachedTokens: int(m.Match.Cached[slot])}
}

// sparse fills a column.
func (r *Reader) sparse(field string, pairs [][2]int64, column []int32, problems *[]error) {
	for k, p := range pairs {
		ok := within(problems, fmt.Sprintf("%s[%d][0]", field, k), p[0], 0, int64(len(r.ids)-1))
		if within(problems, fmt.Sprintf("%s[%d][1]", field, k), p[1], 0, math.MaxInt32) && ok {
			column[p[0]] = int32(p[1])
		}
	}
}

// request is what was asked for, without the prompt.
func (e *entry) request(problems *[]error) *scheduling.Request {
	within(problems, "tokens", e.Tokens, 0, maxTokens)
	within(problems, "max", e.Max, 0, maxTokens)
	within(problems, "ttft", e.TTFT, 0, maxTime)
	within(problems, "tpot", e.TPOT, 0, maxTime)
	r := &scheduling.Request{
		Model: e.Model, Adapter: e.Adapter, Tenant: e.Tenant, Session: e.Session, Pinned: e.Pinned, Priority: e.Priority,
		MaxTokens: e.Max, TTFT: time.Duration(e.TTFT), TPOT: time.Duration(e.TPOT), Modality: scheduling.Modality(e.Modality),
	}
	for _, size := range e.Sizes {
		r.Media = append(r.Media, scheduling.Media{Size: size})
	}
	if headers := e.Headers; headers != nil {
		r.Header = func(name string) string { return headers[name] }
	}
	if e.Peer != nil {
		peer := e.Peer.endpoint()
		r.Peer = &peer
	}
	return r
}

// cleared returns a slice of n zeros in the memory of s.
func cleared[T any](s []T, n int) []T {
	s = slices.Grow(s[:0], n)[:n]
	clear(s)
	return s
}
