package api

import "bytes"

// Usage is how many tokens a request took, as far as it is known. The zero Usage knows nothing.
type Usage struct {
	PromptTokens     int
	CachedTokens     int // of the prompt's, those that a cache served
	CompletionTokens int // over all choices

	// Known says which of the counts are known; the others are 0 and mean nothing.
	Known Counts

	// Estimated is set while CompletionTokens is a relay's count of output events, of which an engine usually sends
	// one a token, and not the engine's own count.
	Estimated bool
}

// Counts is a set of the counts of a Usage.
type Counts uint8

const (
	PromptCount Counts = 1 << iota
	CachedCount
	CompletionCount
)

// Has reports whether all of c are known.
func (u Usage) Has(c Counts) bool { return u.Known&c == c }

// facts is what an observer reads in the top level of an answer or of one event of it.
type facts struct {
	usage     Usage
	hasUsage  bool // "usage" is an object
	noChoices bool // "choices" is an empty array: the event carries no output
	isError   bool // "error" is there and not null
}

// parseFacts reads the top level of a JSON object; ok is false if it is none.
func parseFacts(b []byte) (f facts, ok bool) {
	s := scanner{b: b}
	if s.space(); s.peek() != '{' {
		return f, false
	}
	for first := true; ; first = false {
		key, more := s.member(first)
		if !more {
			return f, s.what == ""
		}
		start := s.i
		if !s.value(1) {
			return f, false
		}
		value := b[start:s.i]
		switch string(key) {
		case "usage":
			f.usage, f.hasUsage = parseUsage(value)
		case "error":
			f.isError = string(value) != "null"
		case "choices":
			f.noChoices = value[0] == '[' && len(bytes.TrimSpace(value[1:len(value)-1])) == 0
		}
	}
}

// parseUsage reads a usage object in OpenAI's names; ok is false if b is none. Counts that are not whole numbers from
// 0 up count as absent.
func parseUsage(b []byte) (u Usage, ok bool) {
	s := scanner{b: b}
	if s.space(); s.peek() != '{' {
		return u, false
	}
	for first := true; ; first = false {
		key, more := s.member(first)
		if !more {
			return u, s.what == ""
		}
		start := s.i
		if !s.value(1) {
			return u, false
		}
		switch value := b[start:s.i]; string(key) {
		case "prompt_tokens":
			u.set(PromptCount, &u.PromptTokens, value)
		case "completion_tokens":
			u.set(CompletionCount, &u.CompletionTokens, value)
		case "prompt_tokens_details":
			u.promptDetails(value)
		}
	}
}

func (u *Usage) promptDetails(b []byte) {
	s := scanner{b: b}
	if s.peek() != '{' {
		return
	}
	for first := true; ; first = false {
		key, more := s.member(first)
		if !more {
			return
		}
		start := s.i
		s.value(1) // valid: the caller has passed over it
		if string(key) == "cached_tokens" {
			u.set(CachedCount, &u.CachedTokens, b[start:s.i])
		}
	}
}

func (u *Usage) set(count Counts, v *int, raw []byte) {
	if n, ok := wholeNumber(raw); ok && n >= 0 {
		*v = n
		u.Known |= count
	}
}
