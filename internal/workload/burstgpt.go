package workload

import (
	"io"
	"slices"
)

// BurstGPT reads a trace in the format of the BurstGPT project (Wang et al., KDD '25):
//
//	Timestamp,Model,Request tokens,Response tokens,Total tokens,Log Type
//	5,ChatGPT,472,18,490,Conversation log
//
// Columns are found by name, so that of the third release, which has Session ID and Elapsed time behind the first, are
// read too. Timestamps are seconds, in order; arrival is counted from the first request. Model is that of the request.
//
// Requests without an answer, which the traces keep as failures with 0 tokens, and those with an empty prompt are passed
// over. An error names the line. The sequence can be iterated once; it holds one line at a time, and the lengths of the
// conversations of late.
//
// The traces have no content. A request without a session has a text of its own. One with a session belongs to the
// Conversation of that name, and is taken to begin with the prompt and the answer before it there if it is long enough to
// hold both: the trace does not say. Else its text is its own, too.
func BurstGPT(r io.Reader) Source {
	return readLines(r, &burstTrace{rows: rows{
		clock: clock{unit: 1},
		table: table{names: []string{"Timestamp", "Request tokens", "Response tokens", "Model", "Session ID"}, need: 3},
	}})
}

type burstTrace struct {
	rows
	conversations recent[conversation]
}

// conversation is what its next turn needs to know of it.
type conversation struct {
	number        int
	prompt        []Piece // of the latest turn
	input, output int     // and its lengths
}

func (t *burstTrace) read(line []byte) (r Request, ok bool, err error) {
	n := t.requests
	if r, ok, err = t.request(line, parseSeconds, "seconds such as 45 or 45.5"); !ok {
		return r, false, err
	}
	r.Model = modelName(t.table.field(3))
	if id := t.table.field(4); len(id) > 0 {
		c := t.conversations.get(id)
		if c.input == 0 {
			c.number = n
		} else if said := c.input + c.output; r.InputTokens >= said && len(c.prompt) < maxPieces {
			pieces := append(slices.Clip(c.prompt), Piece{mix(only(n)), c.output})
			if r.InputTokens > said {
				pieces = append(pieces, Piece{only(n), r.InputTokens - said})
			}
			r.Messages[0].Pieces = pieces
		}
		r.Conversation = c.number
		c.prompt, c.input, c.output = r.Messages[0].Pieces, r.InputTokens, r.OutputTokens
	}
	return r, true, nil
}

// maxPieces bounds the pieces of a prompt; a conversation that is longer goes on with a text of its own.
const maxPieces = 2000

// modelName returns the name, without an allocation for those of the published traces.
func modelName(b []byte) string {
	switch string(b) {
	case "ChatGPT":
		return "ChatGPT"
	case "GPT-4":
		return "GPT-4"
	}
	return string(b)
}

// recentSize is how many values a recent remembers at least.
const recentSize = 1 << 16

// recent remembers values by name: the latest recentSize that were asked for, and up to as many more.
type recent[T any] struct{ now, before map[string]*T }

// get returns the value of a name, a zero one if it is not remembered.
func (m *recent[T]) get(name []byte) *T {
	if v, ok := m.now[string(name)]; ok {
		return v
	}
	v, ok := m.before[string(name)]
	if !ok {
		v = new(T)
	}
	if m.now == nil || len(m.now) >= recentSize {
		m.now, m.before = map[string]*T{}, m.now
	}
	m.now[string(name)] = v
	return v
}
