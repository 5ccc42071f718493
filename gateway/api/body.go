package api

import "bytes"

// BodyObserver finds the token counts in a JSON answer while it is relayed. It is fed with Observe, in chunks that may
// be cut anywhere, and keeps nothing but the value of the top-level "usage", so that the size of the answer does not
// matter. It follows strings and brackets and does not check anything else. The zero value is ready for a body; Reset
// makes it ready for the next and keeps its memory. It is not safe for concurrent use.
type BodyObserver struct {
	usage Usage

	depth    int
	inString bool
	escaped  bool // the next byte of the string is escaped
	inKey    bool // the string is a key of the top-level object
	wantKey  bool // the next string at the top level is a key
	isObject bool // the top level is an object

	key     []byte // of the top-level member being read, as far as it may be "usage"
	capture bool   // the value being read is that of "usage"
	over    bool   // it is too large
	value   []byte
}

// Reset makes o ready for another body.
func (o *BodyObserver) Reset() {
	*o = BodyObserver{key: o.key[:0], value: o.value[:0]}
}

// Usage returns the token counts that the body reported, once it has been observed as far as they are in it.
func (o *BodyObserver) Usage() Usage { return o.usage }

// Observe reads the next chunk. It does not keep p.
func (o *BodyObserver) Observe(p []byte) {
	from := 0 // where in p the value that is captured starts
	for i := 0; i < len(p); i++ {
		if o.inString {
			i = o.inside(p, i)
			continue
		}
		switch c := p[i]; c {
		case '"':
			o.inString = true
			if o.inKey = o.wantKey && o.depth == 1; o.inKey {
				o.key = o.key[:0]
			}
		case '{', '[':
			if o.depth++; o.depth == 1 {
				o.isObject = c == '{'
				o.wantKey = o.isObject
			}
		case ':':
			if o.depth == 1 && o.isObject {
				o.wantKey = false
				if o.capture = string(o.key) == "usage"; o.capture {
					o.value, o.over = o.value[:0], false
					from = i + 1
				}
			}
		case ',', '}', ']':
			if o.depth == 1 && o.isObject {
				o.endValue(p[from:i])
				o.wantKey = true
			}
			if c != ',' && o.depth > 0 {
				o.depth--
			}
		}
	}
	if o.capture {
		o.keep(p[from:])
	}
}

// inside reads a string on from i, and returns the index of the last byte that it took.
func (o *BodyObserver) inside(p []byte, i int) int {
	if o.escaped {
		o.escaped = false
		o.addKey(p[i : i+1])
		return i
	}
	end := i
	for end < len(p) && p[end] != '"' && p[end] != '\\' {
		if next := plain(p, end); next > end {
			end = next
		} else {
			end++ // a control character: not for us to mind
		}
	}
	o.addKey(p[i:end])
	if end == len(p) {
		return end
	}
	if o.escaped = p[end] == '\\'; o.escaped {
		o.addKey(p[end : end+1])
	} else {
		o.inString = false
	}
	return end
}

// addKey keeps what can still make the key "usage": one byte more than it has tells that it is another.
func (o *BodyObserver) addKey(p []byte) {
	if !o.inKey {
		return
	}
	const room = len("usage") + 1
	o.key = append(o.key, p[:min(len(p), room-min(len(o.key), room))]...)
}

func (o *BodyObserver) keep(p []byte) {
	if len(o.value)+len(p) > MaxEventBytes {
		o.over = true
	}
	if !o.over {
		o.value = append(o.value, p...)
	}
}

func (o *BodyObserver) endValue(last []byte) {
	if !o.capture {
		return
	}
	o.capture = false
	o.keep(last)
	if u, ok := parseUsage(bytes.TrimSpace(o.value)); ok && !o.over {
		o.usage = u
	}
}
