package workload

import (
	"errors"
	"io"
	"strconv"
	"time"

	"github.com/inferloom/inferloom/gateway/record"
)

// Recorded reads a trace that a gateway has recorded, see gateway/record, and sorts it by arrival; it holds the requests of
// the time that entries can be out of order, ten minutes if the recorder was not told otherwise. Arrival is counted from
// the first request. A request is a session of one user message with a piece for each block, so that prompts share what
// they shared in front of the gateway, and a text of its own behind them, up to the length that the engine counted.
// Requests of one recorded session belong to one Conversation.
//
// Requests without a known answer are passed over: those that were rejected, or failed early. So is a last line that is
// cut short, as a gateway that dies leaves it. An error names the line. The sequence can be iterated once.
func Recorded(r io.Reader) Source {
	return func(yield func(Request, error) bool) {
		t := recordedTrace{entries: record.NewReader(r), tenants: map[uint64]string{0: ""}}
		var pending queue
		var first time.Duration
		started := false
		release := func(until time.Duration) bool {
			for len(pending) > 0 && pending[0].At <= until {
				r := pending.pop()
				if !started {
					started, first = true, r.At
				}
				r.At -= first
				if !yield(r, nil) {
					return false
				}
			}
			return true
		}
		var e record.Entry
		latest := time.Duration(0)
		for {
			err := t.entries.Next(&e)
			if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
				release(endOfTime)
				return
			}
			if err != nil {
				yield(Request{}, err)
				return
			}
			latest = max(latest, e.At)
			if e.InputTokens > 0 && e.OutputTokens > 0 {
				pending.push(t.request(&e))
			}
			if !release(latest - t.entries.Header().Window) {
				return
			}
		}
	}
}

type recordedTrace struct {
	entries  *record.Reader
	requests int
	tenants  map[uint64]string
}

func (t *recordedTrace) request(e *record.Entry) Request {
	blockTokens := t.entries.Header().BlockTokens
	blocks := 0
	for _, run := range e.Blocks {
		blocks += run.Count
	}
	pieces := make([]Piece, 0, min(blocks, e.InputTokens/blockTokens+1)+1)
	left := e.InputTokens
	for _, run := range e.Blocks {
		for i := 0; i < run.Count && left > 0; i++ {
			n := min(left, blockTokens)
			pieces = append(pieces, Piece{run.First + uint64(i), n})
			left -= n
		}
	}
	n := t.requests
	t.requests++
	if left > 0 {
		pieces = append(pieces, Piece{only(n), left})
	}
	r := alone(n, e.At, e.InputTokens, e.OutputTokens, pieces)
	r.Conversation = 2 * n
	if e.Session != 0 {
		r.Conversation = 2*int(e.Session) + 1
	}
	r.Tenant, r.Model, r.Adapter, r.Priority = t.tenant(e.Tenant), e.Model, e.Adapter, e.Priority
	return r
}

// maxTenants bounds the names that are kept to be used again.
const maxTenants = 1 << 16

func (t *recordedTrace) tenant(number uint64) string {
	name, ok := t.tenants[number]
	if !ok {
		name = "tenant-" + strconv.FormatUint(number, 10)
		if len(t.tenants) < maxTenants {
			t.tenants[number] = name
		}
	}
	return name
}
