package api

import "bytes"

// MaxEventBytes bounds what a StreamObserver keeps of one event of a stream, and a BodyObserver of a usage object.
// What is larger is counted but not read.
const MaxEventBytes = 256 << 10

var (
	usageKey = []byte(`"usage"`)
	errorKey = []byte(`"error"`)
)

// StreamObserver reads a stream of server-sent events while it is relayed. It is fed with Observe, in chunks that may
// be cut anywhere. Only events in which "usage" or "error" occurs as a JSON string are parsed. The zero value is ready
// for a stream; Reset makes it ready for the next and keeps its memory. It is not safe for concurrent use.
type StreamObserver struct {
	outputs int
	usage   Usage
	done    bool
	failed  bool

	line     []byte // the unfinished line, at most MaxEventBytes of it
	lineOver bool   // the line is longer than that
	afterCR  bool   // a line has just ended with CR, so that an LF would belong to it

	data       []byte // of the unfinished event; in joined or, within Observe, in the chunk
	joined     []byte
	hasData    bool
	dataOver   bool // a part of data is missing
	eventError bool // the event's name is "error"
}

// Reset makes o ready for another stream.
func (o *StreamObserver) Reset() {
	*o = StreamObserver{line: o.line[:0], joined: o.joined[:0]}
}

// Outputs returns how many events with output there were: those with data that are neither errors, nor [DONE], nor
// token counts without a choice. Engines send about one a token.
func (o *StreamObserver) Outputs() int { return o.outputs }

// Usage returns the last token counts that the engine reported.
func (o *StreamObserver) Usage() Usage { return o.usage }

// Done reports whether [DONE] was seen: the engine said that the stream is complete.
func (o *StreamObserver) Done() bool { return o.done }

// Failed reports whether the engine sent an error as an event.
func (o *StreamObserver) Failed() bool { return o.failed }

// BetweenEvents reports whether the stream so far ends with a complete event, so that another could follow.
func (o *StreamObserver) BetweenEvents() bool {
	return !o.hasData && !o.eventError && len(o.line) == 0 && !o.lineOver
}

// Observe reads the next chunk. It does not keep p.
func (o *StreamObserver) Observe(p []byte) {
	if o.afterCR && len(p) > 0 {
		if o.afterCR = false; p[0] == '\n' {
			p = p[1:]
		}
	}
	hasCR := bytes.IndexByte(p, '\r') >= 0
	for len(p) > 0 {
		end := 0
		if hasCR {
			end = bytes.IndexAny(p, "\r\n")
		} else {
			end = bytes.IndexByte(p, '\n')
		}
		if end < 0 {
			o.keepLine(p)
			break
		}
		o.endLine(p[:end])
		if p[end] == '\r' {
			if end+1 == len(p) {
				o.afterCR = true
			} else if p[end+1] == '\n' {
				end++
			}
		}
		p = p[end+1:]
	}
	if o.hasData && len(o.joined) == 0 && len(o.data) > 0 { // still in the chunk, which the caller reuses
		o.joined = append(o.joined, o.data...)
		o.data = o.joined
	}
}

func (o *StreamObserver) keepLine(p []byte) {
	if room := MaxEventBytes - len(o.line); len(p) > room {
		p = p[:room]
		o.lineOver = true
	}
	o.line = append(o.line, p...)
}

// endLine takes the last piece of a line, without what ended it.
func (o *StreamObserver) endLine(piece []byte) {
	kept := len(o.line) > 0
	line := piece
	if kept || len(piece) > MaxEventBytes {
		o.keepLine(piece)
		line, kept = o.line, true
	}
	if len(line) == 0 {
		o.endEvent()
		return
	}
	name, value, _ := bytes.Cut(line, []byte{':'})
	if len(value) > 0 && value[0] == ' ' {
		value = value[1:]
	}
	switch string(name) {
	case "data":
		o.addData(value, kept)
	case "event":
		o.eventError = string(value) == "error"
	}
	o.line, o.lineOver = o.line[:0], false
}

// addData adds the data of one line to the event; inLine says that value is in o.line, which the next line overwrites.
func (o *StreamObserver) addData(value []byte, inLine bool) {
	o.dataOver = o.dataOver || o.lineOver
	if !o.hasData {
		o.hasData = true
		if o.data = value; inLine {
			o.joined = append(o.joined, value...)
			o.data = o.joined
		}
		return
	}
	if len(o.joined) == 0 {
		o.joined = append(o.joined, o.data...)
	}
	if len(o.joined)+1+len(value) > MaxEventBytes {
		o.dataOver = true
	} else {
		o.joined = append(append(o.joined, '\n'), value...)
	}
	o.data = o.joined
}

func (o *StreamObserver) endEvent() {
	if o.hasData {
		o.readEvent(o.data)
	}
	o.data, o.joined = nil, o.joined[:0]
	o.hasData, o.dataOver, o.eventError = false, false, false
}

func (o *StreamObserver) readEvent(data []byte) {
	switch {
	case len(data) == 0:
		return
	case string(data) == "[DONE]":
		o.done = true
		return
	case o.eventError:
		o.failed = true
		return
	}
	if !o.dataOver && (bytes.Contains(data, usageKey) || bytes.Contains(data, errorKey)) {
		if f, ok := parseFacts(data); ok {
			if f.isError {
				o.failed = true
				return
			}
			if f.hasUsage {
				o.usage = f.usage
			}
			if f.noChoices {
				return
			}
		}
	}
	o.outputs++
}
