package events

import (
	"fmt"
	"strings"
)

// Sink receives what one publisher says, one call at a time.
type Sink interface {
	// Apply receives each batch once, in order. The message and all it holds are valid until Apply returns.
	Apply(m *Message)
	// Lost says that events are missing before the next batch: what is known of this publisher may be wrong.
	Lost(l Loss)
}

// Message is a batch with its place in the publisher's sequence. Replays of vLLM before 0.26 and of SGLang tell no topic: until
// the first live message it is then empty. A batch with Malformed events is incomplete.
type Message struct {
	Topic    Topic
	Sequence uint64
	Replayed bool
	Batch    *Batch
	Cursor   Cursor // behind this message
}

// Cursor is how far into a publisher's sequence something has been applied. Another subscriber goes on from it (Resume) and
// can tell whether the publisher is still the same. The zero Cursor is before the beginning.
type Cursor struct {
	Next uint64 // sequence number of the first batch that is not applied
	Last uint64 // XXH3 of the payload of the one before
}

// Topic is what a publisher calls itself: "kv@pod@model", or anything, or nothing, which is vLLM's default.
type Topic struct {
	Name, Pod, Model string
}

// ParseTopic finds pod and model in a topic. A model may contain "@", a pod may not.
func ParseTopic(name string) Topic {
	t := Topic{Name: name}
	if rest, ok := strings.CutPrefix(name, "kv@"); ok {
		if pod, model, ok := strings.Cut(rest, "@"); ok {
			t.Pod, t.Model = pod, model
		}
	}
	return t
}

// Cause is why events are missing.
type Cause uint8

// The causes. Gap: batches were dropped on the way and cannot be fetched again. Restart: the publisher is a new process, whose
// cache began empty. Undecodable: a batch that makes no sense. Disconnected: a Listener's publisher is gone.
const (
	Gap Cause = iota + 1
	Restart
	Undecodable
	Disconnected
)

func (c Cause) String() string {
	return name(c, "", "gap", "restart", "undecodable", "disconnected")
}

// Loss says what is missing.
type Loss struct {
	Cause  Cause
	Missed uint64 // batches, where it is known
}

// Health is what a Subscriber has seen since it was made.
type Health struct {
	Connected   bool
	CaughtUp    bool // the replay, if there is one, has been asked since the connection was made
	Connections uint64
	Batches     uint64
	Events      uint64
	Replayed    uint64 // batches of the replay endpoint
	Duplicates  uint64 // batches that a replay had brought already

	Missed         uint64 // batches lost in gaps
	Gaps           uint64
	Restarts       uint64
	ReplayFailures uint64

	Undecodable   uint64 // messages that are no batch
	Malformed     uint64 // events left out
	Unknown       uint64 // events of unknown kinds
	UnknownFields uint64

	NoTopic        uint64 // batches whose topic names no pod
	WrongBlockSize uint64 // events of other than the expected block size
	BlockTokens    int    // block size last seen in an event
	WantBlock      int    // block size expected, 0 for any
	LastError      error  // of the connection, a replay, or the codec
}

// Problems names what an operator should look at, one sentence each; none if all is well.
func (h Health) Problems() []string {
	var out []string
	add := func(n uint64, format string, args ...any) {
		if n > 0 {
			out = append(out, fmt.Sprintf(format, args...))
		}
	}
	if !h.Connected {
		out = append(out, "not connected to the publisher")
	} else if h.Batches == 0 {
		out = append(out, "connected, and no batch has arrived: are KV events switched on, and does the topic match?")
	}
	add(h.WrongBlockSize, "%d events have blocks of another size than %d tokens, the last of %d: they match no prompt",
		h.WrongBlockSize, h.WantBlock, h.BlockTokens)
	add(h.Undecodable, "%d messages are no batch of events", h.Undecodable)
	add(h.Malformed, "%d events were left out because a field is wrong", h.Malformed)
	add(h.Gaps, "%d gaps lost %d batches", h.Gaps, h.Missed)
	add(h.ReplayFailures, "%d replays failed", h.ReplayFailures)
	add(h.NoTopic, "%d batches have a topic that names no pod: the connection has to tell whose they are", h.NoTopic)
	if len(out) > 0 && h.LastError != nil {
		out = append(out, "last error: "+h.LastError.Error())
	}
	return out
}
