package record

import "bytes"

// parse reads a line that is written as a Writer does, possibly with spaces: known fields, whole numbers, no escapes in
// texts. It reports false for any other, which encoding/json reads or knows the error of.
func (r *Reader) parse(line []byte) bool {
	l := &r.line
	*l = entryJSON{Blocks: l.Blocks[:0]}
	c := cursor{line: line}
	if !c.is('{') {
		return false
	}
	for first := true; !c.is('}'); first = false {
		if !first && !c.is(',') {
			return false
		}
		name := c.text()
		if !c.is(':') {
			return false
		}
		switch string(name) {
		case "t":
			r.at = c.integer()
			l.At = &r.at
		case "in":
			l.Input = int(c.integer())
		case "out":
			l.Output = int(c.integer())
		case "cached":
			l.Cached = int(c.integer())
		case "blocks":
			if !c.is('[') {
				return false
			}
			l.Blocks = l.Blocks[:0]
			for first := true; !c.is(']'); first = false {
				if !first && !c.is(',') || !c.is('[') {
					return false
				}
				number := c.integer()
				comma := c.is(',')
				count := c.integer()
				if !comma || !c.is(']') || number < 0 || count < 0 {
					return false
				}
				l.Blocks = append(l.Blocks, [2]uint64{uint64(number), uint64(count)})
			}
		case "est":
			l.Estimated = c.boolean()
		case "tenant":
			l.Tenant = c.number()
		case "session":
			l.Session = c.number()
		case "model":
			l.Model = r.name(c.text())
		case "adapter":
			l.Adapter = r.name(c.text())
		case "prio":
			l.Priority = int(c.integer())
		case "stream":
			l.Stream = c.boolean()
		case "max":
			l.Max = int(c.integer())
		case "ep":
			l.Endpoint = r.name(c.text())
		case "tries":
			l.Tries = int(c.integer())
		case "ttft":
			l.TTFT = c.integer()
		case "total":
			l.Total = c.integer()
		case "status":
			l.Status = int(c.integer())
		case "end":
			l.End = r.name(c.text())
		default:
			return false
		}
	}
	return !c.failed && c.at == len(line)
}

// maxNames bounds the names that are kept to be used again.
const maxNames = 4096

// name returns a name as a string, one that is in use already if it can.
func (r *Reader) name(b []byte) string {
	if known, ok := r.names[string(b)]; ok {
		return known
	}
	s := string(b)
	if len(r.names) < maxNames {
		r.names[s] = s
	}
	return s
}

// cursor moves through a line.
type cursor struct {
	line   []byte
	at     int
	failed bool // something was not as a Writer writes it
}

func (c *cursor) space() {
	for c.at < len(c.line) && c.line[c.at] == ' ' {
		c.at++
	}
}

// is moves over a byte, and spaces before it, if it is the next.
func (c *cursor) is(b byte) bool {
	c.space()
	if c.at < len(c.line) && c.line[c.at] == b {
		c.at++
		return true
	}
	return false
}

func (c *cursor) integer() int64 {
	negative := c.is('-')
	start, n := c.at, int64(0) // is has passed over spaces
	for c.at < len(c.line) && c.line[c.at]-'0' < 10 {
		n = n*10 + int64(c.line[c.at]-'0')
		c.at++
	}
	digits := c.at - start
	if digits == 0 || digits > 18 || digits > 1 && c.line[start] == '0' {
		c.failed = true
	}
	if negative {
		return -n
	}
	return n
}

// number is an integer from 0 up.
func (c *cursor) number() uint64 {
	n := c.integer()
	c.failed = c.failed || n < 0
	return uint64(n)
}

func (c *cursor) boolean() bool {
	c.space()
	rest := c.line[c.at:]
	switch {
	case bytes.HasPrefix(rest, []byte("true")):
		c.at += len("true")
		return true
	case bytes.HasPrefix(rest, []byte("false")):
		c.at += len("false")
	default:
		c.failed = true
	}
	return false
}

// text is what is between two quotes.
func (c *cursor) text() []byte {
	if !c.is('"') {
		c.failed = true
		return nil
	}
	end := bytes.IndexByte(c.line[c.at:], '"')
	if end < 0 {
		c.failed = true
		return nil
	}
	text := c.line[c.at : c.at+end]
	c.at += end + 1
	for _, b := range text {
		if b < ' ' || b == '\\' || b >= 0x80 {
			c.failed = true
		}
	}
	return text
}
