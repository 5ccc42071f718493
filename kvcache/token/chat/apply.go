package chat

import (
	"errors"
	"fmt"
	"strings"
	"unicode"

	"github.com/inferloom/inferloom/kvcache/token/internal/jinja"
)

// conversation is what a chat template is rendered with: the arguments of transformers' apply_chat_template.
type conversation struct {
	messages         []jinja.Value
	tools, documents jinja.Value // None where there are none
	addPrompt        bool        // add_generation_prompt
	continues        bool        // continue_final_message
	more             []jinja.Var
}

// reasoningFields are the names that a message's reasoning goes by. The first is what templates read.
var reasoningFields = []string{"reasoning_content", "thinking", "reasoning"}

// continueTag marks where the text of a final message that is to be continued ends.
const continueTag = "CONTINUE_FINAL_MESSAGE_TAG "

// apply appends what the template makes of a conversation, by the rules of transformers 5.
func (t *template) apply(dst []byte, c conversation, o jinja.Options) ([]byte, error) {
	messages := make([]jinja.Value, len(c.messages))
	for i, m := range c.messages {
		d, ok := m.Dict()
		if !ok {
			return dst, fmt.Errorf("messages[%d]: not an object", i)
		}
		messages[i] = aliased(d).Value()
	}
	final := ""
	if c.continues {
		if len(messages) == 0 {
			return dst, errors.New("continue_final_message: there is no message")
		}
		if !strings.Contains(t.source, "content") {
			return dst, errors.New("continue_final_message: the template does not read the content of messages")
		}
		var err error
		last := len(messages) - 1
		if messages[last], final, err = tagged(messages[last]); err != nil {
			return dst, fmt.Errorf("continue_final_message: messages[%d].content: %w", last, err)
		}
	}
	vars := append([]jinja.Var{
		{Name: "messages", Value: jinja.List(messages)}, {Name: "tools", Value: c.tools}, {Name: "documents", Value: c.documents},
		{Name: "add_generation_prompt", Value: jinja.Bool(c.addPrompt)},
	}, t.vars...)
	start := len(dst)
	out, err := t.Append(dst, append(vars, c.more...), o)
	if err != nil || !c.continues {
		return out, err
	}
	text := string(out[start:])
	tag := strings.TrimRight(continueTag, " ")
	at := strings.LastIndex(text, tag)
	if at < 0 || !strings.Contains(text, strings.TrimFunc(final, isSpace)) {
		return dst, errors.New("continue_final_message: the template leaves parts of the final message out")
	}
	if !strings.HasPrefix(text[at:], continueTag) { // the template trims what it prints
		at = len(strings.TrimRightFunc(text[:at], isSpace))
	}
	return out[:start+at], nil
}

// isSpace is Python's.
func isSpace(c rune) bool { return unicode.IsSpace(c) || 0x1c <= c && c <= 0x1f }

// aliased gives a message's reasoning all the names that templates know it by.
func aliased(m *jinja.Dict) *jinja.Dict {
	for _, field := range reasoningFields {
		reasoning, ok := m.Get(field)
		if !ok || reasoning.IsNone() {
			continue
		}
		out := &jinja.Dict{}
		out.Set("thinking", reasoning)
		for i := range m.Len() {
			key, v := m.At(i)
			out.Set(key, v)
		}
		out.Set("reasoning_content", reasoning)
		return out
	}
	return m
}

// tagged marks the end of a message's text, or of the last text in it.
func tagged(message jinja.Value) (jinja.Value, string, error) {
	m, _ := message.Dict()
	content, _ := m.Get("content")
	out := &jinja.Dict{}
	for i := range m.Len() {
		key, v := m.At(i)
		out.Set(key, v)
	}
	if text, ok := content.Str(); ok {
		out.Set("content", jinja.String(text+continueTag))
		return out.Value(), text, nil
	}
	parts, ok := content.Items()
	if !ok {
		return message, "", errors.New("there is nothing to continue")
	}
	parts = append([]jinja.Value(nil), parts...)
	for i := len(parts) - 1; i >= 0; i-- {
		part, ok := parts[i].Dict()
		if !ok {
			return message, "", errors.New("a part is not an object")
		}
		v, ok := part.Get("text")
		if !ok {
			continue
		}
		text, ok := v.Str()
		if !ok {
			return message, "", errors.New("a part's text is not a string")
		}
		marked := &jinja.Dict{}
		for j := range part.Len() {
			key, v := part.At(j)
			marked.Set(key, v)
		}
		marked.Set("text", jinja.String(text+continueTag))
		parts[i] = marked.Value()
		out.Set("content", jinja.List(parts))
		return out.Value(), text, nil
	}
	return message, "", errors.New("there is no text to continue")
}
