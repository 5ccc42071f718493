package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"
)

// Errors that a stream can end with, beside those of the connection.
var (
	errCut       = errors.New("the stream ended before [DONE]")
	errMalformed = errors.New("malformed")
)

// usage is the token counts of an answer, as far as the server reports them.
type usage struct {
	Prompt     *int `json:"prompt_tokens"`
	Completion *int `json:"completion_tokens"`
	Details    *struct {
		Cached *int `json:"cached_tokens"`
	} `json:"prompt_tokens_details"`
}

// stream reads the server-sent events of one answer. It is used again for the next.
type stream struct {
	buf []byte

	events      int // that brought tokens
	first, last time.Duration
	gaps        []time.Duration // between them
	usage       usage
	keepText    bool
	text        []byte // of the answer, escaped as in JSON
}

// maxEvent bounds one event.
const maxEvent = 4 << 20

func newStream() *stream { return &stream{buf: make([]byte, 32<<10)} }

func (s *stream) reset(keepText bool) {
	*s = stream{buf: s.buf, gaps: s.gaps[:0], text: s.text[:0], keepText: keepText}
}

// read reads to the end. Now is asked once for each piece that the connection delivers: what is in one piece arrived at once.
func (s *stream) read(body io.Reader, now func() time.Duration) error {
	start, end := 0, 0 // of what is in buf and not read yet
	done := false
	for {
		n, err := body.Read(s.buf[end:])
		at := now()
		scanned := end // there is no line end before this
		end += n
		for {
			i := bytes.IndexByte(s.buf[scanned:end], '\n')
			if i < 0 {
				break
			}
			line := s.buf[start : scanned+i]
			start = scanned + i + 1
			scanned = start
			last, err := s.line(line, at)
			if err != nil {
				return err
			}
			done = done || last
		}
		switch {
		case err == io.EOF && done:
			return nil
		case err == io.EOF:
			return errCut
		case err != nil:
			return err
		}
		end = copy(s.buf, s.buf[start:end])
		start = 0
		if end == len(s.buf) {
			if end >= maxEvent {
				return fmt.Errorf("%w: an event of more than %d bytes", errMalformed, maxEvent)
			}
			s.buf = append(s.buf, make([]byte, end)...)
		}
	}
}

// line takes one line without its end. Servers of this API put each event into one line.
func (s *stream) line(line []byte, at time.Duration) (done bool, err error) {
	data, ok := bytes.CutPrefix(line, []byte("data:"))
	if !ok {
		return false, nil
	}
	data = bytes.TrimSpace(data)
	switch {
	case len(data) == 0:
		return false, nil
	case string(data) == "[DONE]":
		return true, nil
	}
	text, quick := content(data)
	if !quick {
		if text, err = s.slow(data); err != nil {
			return false, err
		}
	}
	if text == nil {
		return false, nil
	}
	if s.events++; s.events == 1 {
		s.first = at
	} else {
		s.gaps = append(s.gaps, at-s.last)
	}
	s.last = at
	if s.keepText {
		s.text = append(s.text, text...)
	}
	return false, nil
}

var (
	usageKey   = []byte(`"usage":`)
	errorKey   = []byte(`"error"`)
	contentKey = []byte(`"content":"`)
	textKey    = []byte(`"text":"`)
)

// content returns the text of an event that is like nearly all are, as it is written in JSON; quick is false for events that
// need a closer look. A quoted name with a colon behind it cannot be within a string, where quotes are escaped.
func content(data []byte) (text []byte, quick bool) {
	if data[0] != '{' || data[len(data)-1] != '}' || bytes.Contains(data, errorKey) {
		return nil, false
	}
	if i := bytes.Index(data, usageKey); i >= 0 && !bytes.HasPrefix(data[i+len(usageKey):], []byte("null")) {
		return nil, false
	}
	key := contentKey
	i := bytes.Index(data, key)
	if i < 0 {
		key = textKey
		if i = bytes.Index(data, key); i < 0 {
			return nil, false
		}
	}
	text = data[i+len(key):]
	end := 0
	for {
		j := bytes.IndexAny(text[end:], `"\`)
		if j < 0 {
			return nil, false
		}
		if end += j; text[end] == '"' {
			break
		}
		if end += 2; end > len(text) {
			return nil, false
		}
	}
	if end == 0 {
		return nil, false // tokens may be elsewhere
	}
	return text[:end], true
}

// slow reads any event. The text is nil if the event brings no token, and empty if it brings others than text, such as those of
// a tool call.
func (s *stream) slow(data []byte) (text []byte, err error) {
	var e struct {
		Choices []struct {
			Text  string `json:"text"`
			Delta struct {
				Content          string          `json:"content"`
				Reasoning        string          `json:"reasoning"`
				ReasoningContent string          `json:"reasoning_content"`
				ToolCalls        json.RawMessage `json:"tool_calls"`
			} `json:"delta"`
		} `json:"choices"`
		Usage *usage          `json:"usage"`
		Error json.RawMessage `json:"error"`
	}
	if err := json.Unmarshal(data, &e); err != nil {
		return nil, fmt.Errorf("%w: event: %w", errMalformed, err)
	}
	if len(e.Error) > 0 && string(e.Error) != "null" {
		return nil, &engineError{clip(e.Error)}
	}
	if e.Usage != nil {
		s.usage = *e.Usage
	}
	if len(e.Choices) == 0 {
		return nil, nil
	}
	c := e.Choices[0]
	if plain := c.Text + c.Delta.Content; plain != "" {
		quoted, err := json.Marshal(plain)
		if err != nil {
			return nil, err
		}
		return quoted[1 : len(quoted)-1], nil
	}
	if c.Delta.Reasoning != "" || c.Delta.ReasoningContent != "" || len(c.Delta.ToolCalls) > 2 && string(c.Delta.ToolCalls) != "null" {
		return []byte{}, nil
	}
	return nil, nil
}

// engineError is an error that the server reports in the stream.
type engineError struct{ text string }

func (e *engineError) Error() string { return "error in the stream: " + e.text }
