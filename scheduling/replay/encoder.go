package replay

import (
	"encoding/json"
	"slices"
	"strconv"
	"time"

	"github.com/inferloom/inferloom/scheduling"
)

// encoder turns moments into lines. What a line has depends on those before it.
type encoder struct {
	headers []string

	start    time.Time
	metrics  []scheduling.Metric
	snapshot *scheduling.Snapshot // of the line before
	index    []int32              // of an endpoint in the layout, by slot
	live     []scheduling.Slot
	seen     []int64                    // when each metric was seen, by metric and then endpoint; in nanoseconds since 1970
	states   []*scheduling.AdapterState // by endpoint
	unseen   bool                       // something was seen already that this snapshot does not have yet
	loads    [][4]int64                 // by endpoint
}

// append appends a moment as a line, and a header before it where one is due.
func (e *encoder) append(dst []byte, m *scheduling.Moment) []byte {
	if e.start.IsZero() || m.At.Sub(e.start) > maxTime/2 || m.At.Before(e.start.Add(-maxTime/2)) {
		dst = e.header(dst, m.At)
	}
	dst = append(dst, `{"t":`...)
	dst = strconv.AppendInt(dst, e.since(m.At.UnixNano()), 10)
	start := len(dst)
	if dst = e.pool(dst, m); e.unseen {
		// Picks that run at once do not end in the order of their snapshots.
		e.unseen, e.snapshot = false, nil
		dst = e.pool(dst[:start], m)
	}
	dst = e.ledger(dst, m)
	dst = e.match(dst, m)
	dst = e.request(dst, m)
	dst = append(dst, `,"seed":`...)
	dst = strconv.AppendUint(dst, m.Seed, 10)
	dst = append(dst, `,"pick":`...)
	dst = strconv.AppendInt(dst, int64(e.index[m.Choice.Slot]), 10)
	dst = append(dst, `,"score":`...)
	dst = strconv.AppendFloat(dst, m.Score, 'g', -1, 64)
	return append(dst, "}\n"...)
}

func (e *encoder) header(dst []byte, at time.Time) []byte {
	e.start, e.snapshot, e.metrics = at.UTC().Round(0), nil, nil
	version := Version
	h := header{Version: &version, Start: e.start}
	for m := scheduling.Waiting; m < scheduling.InFlightRequests; m++ {
		e.metrics = append(e.metrics, m)
		h.Metrics = append(h.Metrics, m.String())
	}
	return append(appendJSON(dst, h), '\n')
}

// since is a time of the format. What was seen before there are times is as stale as what was seen at the first.
func (e *encoder) since(unixNano int64) int64 { return max(unixNano-e.start.UnixNano(), -maxTime) }

// appendJSON is for what is rare or may need escapes.
func appendJSON(dst []byte, v any) []byte {
	b, err := json.Marshal(v)
	if err != nil { // nothing that is written can fail to
		b = []byte("null")
	}
	return append(dst, b...)
}

// pool appends the layout, if it changed, and what engines reported since the line before.
func (e *encoder) pool(dst []byte, m *scheduling.Moment) []byte {
	snap := m.Snapshot
	if snap == e.snapshot {
		return dst
	}
	if e.snapshot == nil || snap.Layout() != e.snapshot.Layout() {
		dst = e.layout(dst, snap)
	}
	e.snapshot = snap
	seen := list{open: `,"seen":[`}
	adapters := list{open: `,"lora":[`}
	for i, slot := range e.live {
		dst = e.reports(dst, snap, i, slot, &seen)
	}
	dst = seen.close(dst)
	for i, slot := range e.live {
		state, at, ok := snap.ObservedAdapters(slot)
		memo := &e.seen[len(e.metrics)*len(e.live)+i]
		if !ok {
			e.unseen = e.unseen || *memo != 0
			continue
		}
		if *memo == at.UnixNano() {
			continue
		}
		*memo = at.UnixNano()
		l := lora{Endpoint: i, At: e.since(*memo)}
		if old := e.states[i]; old == nil || old.Max != state.Max || !slices.Equal(old.Active, state.Active) || !slices.Equal(old.Waiting, state.Waiting) {
			l.State = &adapterStates{state.Active, state.Waiting, state.Max}
			e.states[i] = state
		}
		dst = appendJSON(adapters.next(dst), l)
	}
	return adapters.close(dst)
}

func (e *encoder) layout(dst []byte, snap *scheduling.Snapshot) []byte {
	e.live = append(e.live[:0], snap.Live()...)
	e.index = slices.Grow(e.index[:0], snap.Len())[:snap.Len()]
	endpoints := make([]endpoint, len(e.live))
	for i, slot := range e.live {
		e.index[slot] = int32(i)
		endpoints[i] = newEndpoint(snap.Endpoint(slot))
	}
	e.seen = make([]int64, (len(e.metrics)+1)*len(e.live))
	e.states = make([]*scheduling.AdapterState, len(e.live))
	e.loads = make([][4]int64, len(e.live))
	return appendJSON(append(dst, `,"layout":`...), endpoints)
}

// reports appends what is new of an endpoint's metrics: one list for each time at which some were seen.
func (e *encoder) reports(dst []byte, snap *scheduling.Snapshot, i int, slot scheduling.Slot, seen *list) []byte {
	for first := range e.metrics {
		var when int64
		for k := first; k < len(e.metrics); k++ {
			value, at, ok := snap.Observed(slot, e.metrics[k])
			memo := &e.seen[k*len(e.live)+i]
			if !ok {
				e.unseen = e.unseen || *memo != 0
				continue
			}
			if *memo == at.UnixNano() || when != 0 && at.UnixNano() != when {
				continue
			}
			*memo = at.UnixNano()
			if when == 0 {
				when = *memo
				dst = append(seen.next(dst), '[')
				dst = strconv.AppendInt(dst, int64(i), 10)
				dst = append(dst, ',')
				dst = strconv.AppendInt(dst, e.since(when), 10)
			}
			dst = append(dst, ',')
			dst = strconv.AppendInt(dst, int64(k), 10)
			dst = append(dst, ',')
			dst = strconv.AppendFloat(dst, value, 'g', -1, 64)
		}
		if when != 0 {
			dst = append(dst, ']')
		}
	}
	return dst
}

// ledger appends what changed on the ledger, of the endpoints that were eligible, and who was if not all.
func (e *encoder) ledger(dst []byte, m *scheduling.Moment) []byte {
	loads := list{open: `,"load":[`}
	for _, slot := range m.Eligible {
		i, in := e.index[slot], &m.InFlight[slot]
		now := [4]int64{int64(in.Requests), int64(in.PrefillTokens), int64(in.KVTokens), int64(m.Reported[slot])}
		if e.loads[i] == now {
			continue
		}
		e.loads[i] = now
		dst = append(loads.next(dst), '[')
		dst = strconv.AppendInt(dst, int64(i), 10)
		for _, v := range now {
			dst = append(dst, ',')
			dst = strconv.AppendInt(dst, v, 10)
		}
		dst = append(dst, ']')
	}
	dst = loads.close(dst)
	if len(m.Eligible) == len(e.live) {
		return dst
	}
	eligible := list{open: `,"eligible":[`}
	for at := 0; at < len(m.Eligible); {
		first, n := e.index[m.Eligible[at]], 1
		for at+n < len(m.Eligible) && e.index[m.Eligible[at+n]] == first+int32(n) {
			n++
		}
		dst = appendPair(eligible.next(dst), int64(first), int64(n))
		at += n
	}
	return eligible.close(dst)
}

func (e *encoder) match(dst []byte, m *scheduling.Moment) []byte {
	if m.Match.Known {
		dst = append(e.sparse(append(dst, `,"match":[`...), m.Match.Cached), ']')
	}
	if len(m.Match.Media) > 0 {
		dst = append(e.sparse(append(dst, `,"media":[`...), m.Match.Media), ']')
	}
	return dst
}

func (e *encoder) sparse(dst []byte, bySlot []int32) []byte {
	comma := false
	for i, slot := range e.live {
		if bySlot[slot] > 0 {
			if comma {
				dst = append(dst, ',')
			}
			comma = true
			dst = appendPair(dst, int64(i), int64(bySlot[slot]))
		}
	}
	return dst
}

func (e *encoder) request(dst []byte, m *scheduling.Moment) []byte {
	r := m.Request
	dst = appendText(dst, `,"stage":`, m.Stage)
	if len(m.Earlier) > 0 {
		all := make([]earlier, len(m.Earlier))
		for i, c := range m.Earlier {
			all[i] = earlier{c.Stage, int(e.index[c.Slot]), int32(c.CachedTokens)}
		}
		dst = appendJSON(append(dst, `,"earlier":`...), all)
	}
	dst = appendText(dst, `,"model":`, r.Model)
	dst = appendText(dst, `,"adapter":`, r.Adapter)
	dst = appendInt(dst, `,"tokens":`, bounded(m.PromptTokens, maxTokens))
	dst = appendText(dst, `,"tenant":`, r.Tenant)
	dst = appendText(dst, `,"session":`, r.Session)
	dst = appendText(dst, `,"pinned":`, r.Pinned)
	dst = appendInt(dst, `,"prio":`, int64(r.Priority))
	dst = appendInt(dst, `,"max":`, bounded(r.MaxTokens, maxTokens))
	dst = appendInt(dst, `,"ttft":`, bounded(r.TTFT, maxTime))
	dst = appendInt(dst, `,"tpot":`, bounded(r.TPOT, maxTime))
	dst = appendInt(dst, `,"modality":`, int64(r.Modality))
	if len(r.Media) > 0 {
		sizes := make([]int32, len(r.Media))
		for i := range r.Media {
			sizes[i] = max(r.Media[i].Size, 0)
		}
		dst = appendJSON(append(dst, `,"sizes":`...), sizes)
	}
	if r.Header != nil && len(e.headers) > 0 {
		values := map[string]string{}
		for _, name := range e.headers {
			if v := r.Header(name); v != "" {
				values[name] = v
			}
		}
		if len(values) > 0 {
			dst = appendJSON(append(dst, `,"headers":`...), values)
		}
	}
	if r.Peer != nil {
		dst = appendJSON(append(dst, `,"peer":`...), newEndpoint(r.Peer))
	}
	keys := list{open: `,"keys":[`}
	for _, k := range m.Keys {
		dst = append(keys.next(dst), '[')
		dst = strconv.AppendInt(dst, int64(k.Tokens), 10)
		dst = append(dst, ',')
		dst = strconv.AppendUint(dst, k.Key, 10)
		dst = append(dst, ']')
	}
	return keys.close(dst)
}

// list is a JSON array that is written only if it has elements.
type list struct {
	open  string
	begun bool
}

// next appends what comes before an element.
func (l *list) next(dst []byte) []byte {
	if l.begun {
		return append(dst, ',')
	}
	l.begun = true
	return append(dst, l.open...)
}

func (l *list) close(dst []byte) []byte {
	if l.begun {
		return append(dst, ']')
	}
	return dst
}

func appendPair(dst []byte, a, b int64) []byte {
	dst = strconv.AppendInt(append(dst, '['), a, 10)
	dst = strconv.AppendInt(append(dst, ','), b, 10)
	return append(dst, ']')
}

// bounded is a number of a request as far as a Reader takes it: what is beyond makes no sense, or no difference.
func bounded[T int | time.Duration](v T, most int64) int64 { return min(max(int64(v), 0), most) }

// appendInt appends a field unless it is 0.
func appendInt(dst []byte, name string, v int64) []byte {
	if v == 0 {
		return dst
	}
	return strconv.AppendInt(append(dst, name...), v, 10)
}

// appendText appends a field unless it is empty.
func appendText(dst []byte, name, v string) []byte {
	if v == "" {
		return dst
	}
	dst = append(dst, name...)
	for i := range len(v) {
		if c := v[i]; c < ' ' || c >= 0x7f || c == '"' || c == '\\' {
			return appendJSON(dst, v)
		}
	}
	dst = append(dst, '"')
	dst = append(dst, v...)
	return append(dst, '"')
}
