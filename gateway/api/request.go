package api

import (
	"bytes"
	"fmt"
	"math"
	"net/http"
	"strconv"
	"unicode/utf8"
)

// Request is what a gateway knows of an inference request: the values that decide where it runs, and where in the body
// the long ones are. Parse fills it; a test may write one down.
type Request struct {
	Kind Kind
	Body []byte // as the client sent it

	Model     string
	ModelSpan Span // the value of "model" in Body, quotes included

	Stream       bool // the answer is to be a stream of events
	IncludeUsage bool // stream_options.include_usage: the stream is to end with the token counts

	MaxTokens    int  // the most tokens that the answer may have, for each choice; read it only if HasMaxTokens
	HasMaxTokens bool // the client limits the answer. For Chat, max_completion_tokens wins over max_tokens
	N            int  // choices asked for, at least 1

	Priority  int    // as vLLM reads it: lower is served earlier; 0 when absent
	User      string // the client's own end user
	CacheSalt string // requests with different salts must not share cached prefixes

	// Prompt is where the prompt is: the text between the brackets of "messages" (Chat), or what is between the quotes
	// or brackets of "prompt" (Completion). A longer conversation has its earlier turns as a prefix of these bytes.
	Prompt     Span
	PromptForm PromptForm
	Tools      Span // the value of "tools", brackets included

	// Header looks up a header of the request by its canonical name; nil where there are none. Parse leaves it alone.
	Header func(name string) string
}

// ParseRequest parses body into a new Request. See [Request.Parse].
func ParseRequest(kind Kind, body []byte) (*Request, error) {
	r := new(Request)
	if err := r.Parse(kind, body); err != nil {
		return nil, err
	}
	return r, nil
}

// Parse scans body once, checks that it is JSON as a request of that kind has it, and fills r; only r.Header is kept.
// A field that is null counts as absent. The error is an [*Error] with status 400 that names the field, what is
// wrong, and the offset; r is then undefined.
func (r *Request) Parse(kind Kind, body []byte) error {
	p := parser{scanner: scanner{b: body}, r: r, model: r.Model, user: r.User, salt: r.CacheSalt}
	*r = Request{Kind: kind, Body: body, N: 1, Header: r.Header}
	if err := p.body(); err != nil {
		return err
	}
	return nil
}

// PromptBytes returns the bytes of r.Prompt.
func (r *Request) PromptBytes() []byte { return r.Prompt.Of(r.Body) }

// HeaderValue returns the value of a header, or "" if the request has none.
func (r *Request) HeaderValue(name string) string {
	if r.Header == nil {
		return ""
	}
	return r.Header(name)
}

// field is a top-level field that Parse reads, as a bit of the set of those already seen.
type field uint16

const (
	fieldModel field = 1 << iota
	fieldStream
	fieldStreamOptions
	fieldMaxTokens
	fieldMaxCompletionTokens
	fieldN
	fieldUser
	fieldCacheSalt
	fieldPriority
	fieldPrompt
	fieldMessages
	fieldTools
)

const longestField = len("max_completion_tokens")

func fieldOf(key []byte) field {
	switch string(key) {
	case "model":
		return fieldModel
	case "stream":
		return fieldStream
	case "stream_options":
		return fieldStreamOptions
	case "max_tokens":
		return fieldMaxTokens
	case "max_completion_tokens":
		return fieldMaxCompletionTokens
	case "n":
		return fieldN
	case "user":
		return fieldUser
	case "cache_salt":
		return fieldCacheSalt
	case "priority":
		return fieldPriority
	case "prompt":
		return fieldPrompt
	case "messages":
		return fieldMessages
	case "tools":
		return fieldTools
	}
	return 0
}

// unescapedKey returns key without escapes, in buf. A key that is too long to be one of ours stays as it is.
func unescapedKey(buf *[longestField]byte, key []byte) []byte {
	if len(key) > 6*longestField || bytes.IndexByte(key, '\\') < 0 {
		return key
	}
	return appendUnquoted(buf[:0], key)
}

// parser fills a Request from a scan.
type parser struct {
	scanner
	r                 *Request
	model, user, salt string // of the Request's previous life: kept when the new value is equal, to save the allocation
	seen              field
}

func (p *parser) body() *Error {
	p.space()
	if c := p.peek(); c != '{' {
		if c == 0 {
			return p.syntax("the body is empty")
		}
		return p.syntax("the body is not a JSON object")
	}
	var buf [longestField]byte
	for first := true; ; first = false {
		key, ok := p.member(first)
		if !ok {
			break
		}
		f := fieldOf(unescapedKey(&buf, key))
		if f&p.seen != 0 {
			return p.invalid(f.name(), "duplicate_field", "is given twice")
		}
		p.seen |= f
		start := p.i
		if err := p.field(f); err != nil {
			return err
		}
		if p.i == start { // not read above
			p.value(1)
		}
		if p.what != "" {
			break
		}
	}
	if p.what == "" {
		if p.space(); p.i < len(p.b) {
			p.what = "something follows the JSON object"
		}
	}
	if p.what != "" {
		return p.syntax(p.what)
	}
	return p.required()
}

// field reads the value of f. It may leave the value unread, when its kind of request does not have the field; a
// failure of the scan is left in p.what.
func (p *parser) field(f field) *Error {
	r := p.r
	switch f {
	case 0:
		return nil
	case fieldPrompt:
		if r.Kind != Completion {
			return nil
		}
	case fieldMessages, fieldMaxCompletionTokens:
		if r.Kind != Chat {
			return nil
		}
	}
	if p.peek() == 'n' {
		p.literal("null")
		return nil
	}
	switch f {
	case fieldModel:
		start := p.i
		s, err := p.text("model", p.model)
		r.Model, r.ModelSpan = s, Span{start, p.i}
		return err
	case fieldStream:
		return p.boolean("stream", &r.Stream)
	case fieldStreamOptions:
		return p.streamOptions()
	case fieldMaxTokens, fieldMaxCompletionTokens:
		n, err := p.integer(f.name(), 0)
		if f == fieldMaxCompletionTokens || p.seen&fieldMaxCompletionTokens == 0 || !r.HasMaxTokens {
			r.MaxTokens, r.HasMaxTokens = n, true
		}
		return err
	case fieldN:
		n, err := p.integer("n", 1)
		r.N = n
		return err
	case fieldPriority:
		n, err := p.integer("priority", math.MinInt)
		r.Priority = n
		return err
	case fieldUser:
		s, err := p.text("user", p.user)
		r.User = s
		return err
	case fieldCacheSalt:
		s, err := p.text("cache_salt", p.salt)
		r.CacheSalt = s
		return err
	case fieldPrompt:
		return p.prompt()
	case fieldMessages:
		return p.messages()
	case fieldTools:
		if p.peek() != '[' {
			return p.wrongType("tools", "an array")
		}
		start := p.i
		p.value(1)
		r.Tools = Span{start, p.i}
	}
	return nil
}

func (p *parser) required() *Error {
	if !p.r.ModelSpan.Present() {
		return &Error{Status: http.StatusBadRequest, Param: "model", Code: "missing_required_parameter",
			Message: "model: the request names no model"}
	}
	if p.r.Model == "" {
		return &Error{Status: http.StatusBadRequest, Param: "model", Code: "invalid_value",
			Message: fmt.Sprintf(`model: the name is empty, "" at offset %d`, p.r.ModelSpan.Start)}
	}
	if p.r.Prompt.Present() {
		return nil
	}
	switch p.r.Kind {
	case Chat:
		return &Error{Status: http.StatusBadRequest, Param: "messages", Code: "missing_required_parameter",
			Message: "messages: the request has no messages"}
	case Completion:
		return &Error{Status: http.StatusBadRequest, Param: "prompt", Code: "missing_required_parameter",
			Message: "prompt: the request has no prompt"}
	}
	return nil
}

func (p *parser) streamOptions() *Error {
	if p.peek() != '{' {
		return p.wrongType("stream_options", "an object")
	}
	var buf [longestField]byte
	seen := false
	for first := true; ; first = false {
		key, ok := p.member(first)
		if !ok {
			return nil
		}
		if string(unescapedKey(&buf, key)) != "include_usage" {
			if !p.value(2) {
				return nil
			}
			continue
		}
		if seen {
			return p.invalid("stream_options.include_usage", "duplicate_field", "is given twice")
		}
		seen = true
		if p.peek() == 'n' {
			p.literal("null")
		} else if err := p.boolean("stream_options.include_usage", &p.r.IncludeUsage); err != nil {
			return err
		}
		if p.what != "" {
			return nil
		}
	}
}

func (p *parser) messages() *Error {
	if p.peek() != '[' {
		return p.wrongType("messages", "an array")
	}
	start := p.i + 1
	n := 0
	for ; p.element(n == 0); n++ {
		if c := p.peek(); c != '{' {
			if valueName(c) == "" {
				p.fail("expected a value")
				return nil
			}
			return p.wrongType(fmt.Sprintf("messages[%d]", n), "an object")
		}
		if !p.value(2) {
			return nil
		}
	}
	if p.what != "" {
		return nil
	}
	if n == 0 {
		return p.invalid("messages", "invalid_value", "is empty")
	}
	p.r.Prompt, p.r.PromptForm = Span{start, p.i - 1}, MessagesPrompt
	return nil
}

func (p *parser) boolean(param string, v *bool) *Error {
	switch p.peek() {
	case 't':
		*v = p.literal("true")
	case 'f':
		p.literal("false")
		*v = false
	default:
		return p.wrongType(param, "true or false")
	}
	return nil
}

// text reads a string; it returns was when that is equal.
func (p *parser) text(param, was string) (string, *Error) {
	if p.peek() != '"' {
		return "", p.wrongType(param, "a string")
	}
	start := p.i + 1
	if !p.str() {
		return "", nil
	}
	raw := p.b[start : p.i-1]
	if bytes.IndexByte(raw, '\\') >= 0 || !utf8.Valid(raw) {
		return string(appendUnquoted(nil, raw)), nil
	}
	if string(raw) == was {
		return was, nil
	}
	return string(raw), nil
}

// integer reads a whole number that is at least least. A number such as 16.0 or 1e2 is whole, as it is to pydantic and
// thus to the engines.
func (p *parser) integer(param string, least int) (int, *Error) {
	if c := p.peek(); c != '-' && (c < '0' || c > '9') {
		return 0, p.wrongType(param, "an integer")
	}
	start := p.i
	if !p.number() {
		return 0, nil
	}
	raw := p.b[start:p.i]
	n, ok := wholeNumber(raw)
	if !ok {
		p.i = start
		return 0, p.invalid(param, "invalid_type", "wants an integer, got "+clip(raw))
	}
	if n < least {
		p.i = start
		return 0, p.invalid(param, "invalid_value", "wants at least "+strconv.Itoa(least)+", got "+clip(raw))
	}
	return n, nil
}

func wholeNumber(raw []byte) (int, bool) {
	n := 0
	for _, c := range raw {
		if c < '0' || c > '9' || len(raw) > 18 {
			return wholeNumberSlow(string(raw))
		}
		n = n*10 + int(c-'0')
	}
	return n, len(raw) > 0
}

func wholeNumberSlow(raw string) (int, bool) {
	if n, err := strconv.Atoi(raw); err == nil {
		return n, true
	}
	const exact = 1 << 53 // beyond it a float64 does not hold every integer
	f, err := strconv.ParseFloat(raw, 64)
	if err != nil || f != math.Trunc(f) || math.Abs(f) > exact {
		return 0, false
	}
	return int(f), true
}

func (f field) name() string {
	switch f {
	case fieldModel:
		return "model"
	case fieldStream:
		return "stream"
	case fieldStreamOptions:
		return "stream_options"
	case fieldMaxTokens:
		return "max_tokens"
	case fieldMaxCompletionTokens:
		return "max_completion_tokens"
	case fieldN:
		return "n"
	case fieldUser:
		return "user"
	case fieldCacheSalt:
		return "cache_salt"
	case fieldPriority:
		return "priority"
	case fieldPrompt:
		return "prompt"
	case fieldMessages:
		return "messages"
	case fieldTools:
		return "tools"
	}
	return ""
}

func (p *parser) syntax(what string) *Error {
	return &Error{Status: http.StatusBadRequest, Code: "invalid_json",
		Message: fmt.Sprintf("the body is not valid JSON: %s at offset %d%s", what, p.i, p.found())}
}

func (p *parser) found() string {
	if p.i >= len(p.b) {
		return ", where the body ends"
	}
	return fmt.Sprintf(", found %q", p.b[p.i])
}

// invalid says what is wrong with the value of param, which is at or before p.i.
func (p *parser) invalid(param, code, what string) *Error {
	return &Error{Status: http.StatusBadRequest, Param: param, Code: code,
		Message: fmt.Sprintf("%s: %s (offset %d)", param, what, p.i)}
}

// wrongType says that the value at p.i is not what param wants. The value itself is shown only if it is short and no
// container: prompts do not belong in messages that end up in logs.
func (p *parser) wrongType(param, want string) *Error {
	got := valueName(p.peek())
	if got == "" {
		return p.syntax("expected a value")
	}
	if start := p.i; got == "a number" || got == "true" || got == "false" {
		if p.value(MaxDepth) {
			got = clip(p.b[start:p.i])
		}
		p.i = start
	}
	return p.invalid(param, "invalid_type", "wants "+want+", got "+got)
}

// valueName names the type of the value that starts with c; "" if none does.
func valueName(c byte) string {
	switch {
	case c == '"':
		return "a string"
	case c == '{':
		return "an object"
	case c == '[':
		return "an array"
	case c == 't':
		return "true"
	case c == 'f':
		return "false"
	case c == 'n':
		return "null"
	case c == '-', '0' <= c && c <= '9':
		return "a number"
	}
	return ""
}

func clip(raw []byte) string {
	const most = 32
	if len(raw) > most {
		return string(raw[:most]) + "..."
	}
	return string(raw)
}
