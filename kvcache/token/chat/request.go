package chat

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/inferloom/inferloom/kvcache/token/internal/jinja"
)

// request is a chat request, understood as vLLM does.
type request struct {
	conversation conversation
	template     *template
	addSpecial   bool // add_special_tokens
}

// elsewhere are fields that change the prompt in ways that are not followed here.
var elsewhere = []string{"chat_template", "truncate_prompt_tokens", "prompt_token_ids", "prompt_embeds"}

func object(body []byte) (*jinja.Dict, error) {
	v, err := jinja.ParseJSON(string(body))
	if err != nil {
		return nil, fmt.Errorf("the body is not JSON: %w", err)
	}
	d, ok := v.Dict()
	if !ok {
		return nil, errors.New("the body is not a JSON object")
	}
	for _, name := range elsewhere {
		if v, ok := d.Get(name); ok && !v.IsNone() {
			return nil, fmt.Errorf("%s: not supported", name)
		}
	}
	return d, nil
}

// flag returns a field that is true or false.
func flag(d *jinja.Dict, name string, fallback bool) (bool, error) {
	v, ok := d.Get(name)
	if !ok {
		return fallback, nil
	}
	on, ok := v.Truth()
	if !ok {
		return false, fmt.Errorf("%s: want true or false", name)
	}
	return on, nil
}

func parseCompletion(body []byte) (prompt string, addSpecial bool, err error) {
	d, err := object(body)
	if err != nil {
		return "", false, err
	}
	v, _ := d.Get("prompt")
	prompt, ok := v.Str()
	if !ok {
		return "", false, errors.New("prompt: not one text")
	}
	addSpecial, err = flag(d, "add_special_tokens", true)
	return prompt, addSpecial, err
}

func (m *Model) parseChat(body []byte) (r request, err error) {
	d, err := object(body)
	if err != nil {
		return r, err
	}
	c := &r.conversation
	c.tools, c.documents = jinja.None, jinja.None
	if c.addPrompt, err = flag(d, "add_generation_prompt", true); err != nil {
		return r, err
	}
	if c.continues, err = flag(d, "continue_final_message", false); err != nil {
		return r, err
	}
	if c.addPrompt && c.continues {
		return r, errors.New("continue_final_message: add_generation_prompt is not false")
	}
	if r.addSpecial, err = flag(d, "add_special_tokens", false); err != nil {
		return r, err
	}
	r.template = m.plain
	if v, ok := d.Get("tools"); ok && !v.IsNone() {
		if c.tools, err = toolList(v); err != nil {
			return r, err
		}
		r.template = m.tools
	}
	if r.template == nil {
		return r, errors.New("the model has no chat template")
	}
	if v, ok := d.Get("documents"); ok {
		c.documents = v
	}
	if c.more, err = m.variables(d); err != nil {
		return r, err
	}
	v, _ := d.Get("messages")
	messages, ok := v.Items()
	if !ok {
		return r, errors.New("messages: not an array")
	}
	c.messages = make([]jinja.Value, len(messages))
	for i, v := range messages {
		if c.messages[i], err = message(v, r.template.parts); err != nil {
			return r, fmt.Errorf("messages[%d]: %w", i, err)
		}
	}
	if m.separator != nil {
		m.separator.conversation(c)
	}
	return r, nil
}

// reserved are names that are not variables but arguments of transformers' function.
var reserved = []string{"conversation", "messages", "tools", "documents", "chat_template", "tokenize", "padding", "truncation",
	"max_length", "return_tensors", "return_dict", "return_assistant_tokens_mask", "tokenizer_kwargs", "processor_kwargs"}

// variables returns what a template is given beside messages and tools: chat_template_kwargs over the defaults, and what
// other fields say.
func (m *Model) variables(d *jinja.Dict) ([]jinja.Var, error) {
	all := &jinja.Dict{}
	for i := range m.kwargs.Len() {
		all.Set(m.kwargs.At(i))
	}
	thinking := false
	if v, ok := d.Get("chat_template_kwargs"); ok && !v.IsNone() {
		kwargs, ok := v.Dict()
		if !ok {
			return nil, errors.New("chat_template_kwargs: not an object")
		}
		for i := range kwargs.Len() {
			name, v := kwargs.At(i)
			if slices.Contains(reserved, name) {
				return nil, fmt.Errorf("chat_template_kwargs.%s: not supported", name)
			}
			if name != "add_generation_prompt" && name != "continue_final_message" {
				all.Set(name, v)
			}
		}
		_, thinking = kwargs.Get("enable_thinking")
	}
	if v, ok := d.Get("reasoning_effort"); ok && !v.IsNone() {
		effort, ok := v.Str()
		if !ok {
			return nil, errors.New("reasoning_effort: not a string")
		}
		all.Set("reasoning_effort", v)
		if !thinking {
			all.Set("enable_thinking", jinja.Bool(effort != "none"))
		}
	}
	vars := make([]jinja.Var, all.Len())
	for i := range vars {
		vars[i].Name, vars[i].Value = all.At(i)
	}
	return vars, nil
}

// ordered returns a dictionary with some fields first, null where they are missing and their fallback is not given.
func ordered(d *jinja.Dict, fields ...jinja.Var) *jinja.Dict {
	out := &jinja.Dict{}
	for _, f := range fields {
		v, ok := d.Get(f.Name)
		if !ok {
			v = f.Value
		}
		if !v.IsUndefined() {
			out.Set(f.Name, v)
		}
	}
	for i := range d.Len() {
		out.Set(d.At(i))
	}
	return out
}

// toolList gives tools the fields and the order of vLLM's types.
func toolList(v jinja.Value) (jinja.Value, error) {
	items, ok := v.Items()
	if !ok || len(items) == 0 {
		return v, errors.New("tools: not an array with tools in it")
	}
	out := make([]jinja.Value, len(items))
	for i, item := range items {
		tool, ok := item.Dict()
		if !ok {
			return v, fmt.Errorf("tools[%d]: not an object", i)
		}
		tool = ordered(tool, jinja.Var{Name: "type", Value: jinja.String("function")}, jinja.Var{Name: "function"})
		kind, _ := tool.Get("type")
		f, _ := tool.Get("function")
		function, ok := f.Dict()
		if name, _ := kind.Str(); name != "function" || !ok {
			return v, fmt.Errorf("tools[%d]: not a function", i)
		}
		tool.Set("function", ordered(function, jinja.Var{Name: "name"}, jinja.Var{Name: "description", Value: jinja.None},
			jinja.Var{Name: "parameters", Value: jinja.None}).Value())
		out[i] = tool.Value()
	}
	return jinja.List(out), nil
}

// message is what vLLM makes of one message.
func message(v jinja.Value, parts bool) (jinja.Value, error) {
	in, ok := v.Dict()
	if !ok {
		return v, errors.New("not an object")
	}
	r, _ := in.Get("role")
	role, ok := r.Str()
	if !ok {
		return v, errors.New("role: not a string")
	}
	out := jinja.NewDict(4)
	out.Set("role", r)
	given, _ := in.Get("content")
	content, err := content(given, parts, role == "tool")
	if err != nil {
		return v, fmt.Errorf("content: %w", err)
	}
	out.Set("content", content)
	switch role {
	case "assistant":
		if calls, ok := in.Get("tool_calls"); ok && !calls.IsNone() {
			list, err := toolCalls(calls)
			if err != nil {
				return v, err
			}
			if len(list) > 0 {
				out.Set("tool_calls", jinja.List(list))
			}
		}
		for _, field := range []string{"reasoning", "reasoning_content"} {
			reasoning, ok := in.Get(field)
			if !ok || reasoning.IsNone() {
				continue
			}
			if _, ok := reasoning.Str(); !ok {
				return v, fmt.Errorf("%s: not a string", field)
			}
			out.Set("reasoning", reasoning)
			out.Set("reasoning_content", reasoning)
			break
		}
	case "tool":
		if id, ok := in.Get("tool_call_id"); ok {
			out.Set("tool_call_id", id)
		}
	}
	for _, field := range []string{"name", "task"} {
		if v, ok := in.Get(field); ok {
			if _, ok := v.Str(); ok {
				out.Set(field, v)
			}
		}
	}
	if role == "developer" {
		tools, ok := in.Get("tools")
		if !ok {
			tools = jinja.None
		}
		out.Set("tools", tools)
	}
	return out.Value(), nil
}

// content returns the contents of a message in the form that the template reads. Results of tools are strings always.
func content(v jinja.Value, parts, tool bool) (jinja.Value, error) {
	if text, ok := v.Str(); ok {
		if !parts || tool {
			return v, nil
		}
		return jinja.List([]jinja.Value{textPart(text)}), nil
	}
	var texts []string
	if items, ok := v.Items(); ok {
		for i, item := range items {
			text, present, err := partText(item)
			if err != nil {
				return v, fmt.Errorf("[%d]: %w", i, err)
			}
			if present {
				texts = append(texts, text)
			}
		}
	} else if !v.IsNone() && !v.IsUndefined() {
		return v, errors.New("neither a string nor an array")
	}
	if !parts || tool {
		return jinja.String(strings.Join(texts, "\n")), nil
	}
	list := make([]jinja.Value, len(texts))
	for i, text := range texts {
		list[i] = textPart(text)
	}
	return jinja.List(list), nil
}

func textPart(text string) jinja.Value {
	d := jinja.NewDict(2)
	d.Set("type", jinja.String("text"))
	d.Set("text", jinja.String(text))
	return d.Value()
}

// partText returns the text of a part; one that is null is left out.
func partText(v jinja.Value) (text string, present bool, err error) {
	if text, ok := v.Str(); ok {
		return text, true, nil
	}
	d, ok := v.Dict()
	if !ok {
		return "", false, errors.New("neither a string nor an object")
	}
	t, _ := d.Get("type")
	kind, _ := t.Str()
	field := kind
	switch kind {
	case "text", "input_text", "output_text":
		field = "text"
	case "refusal", "thinking":
	default:
		return "", false, fmt.Errorf("a part of type %q has no tokens of its own", kind)
	}
	value, ok := d.Get(field)
	if ok && value.IsNone() {
		return "", false, nil
	}
	if text, ok = value.Str(); !ok {
		return "", false, fmt.Errorf("%s: not a string", field)
	}
	return text, true, nil
}

// toolCalls gives calls the order of the OpenAI client's types, and makes objects of their arguments.
func toolCalls(v jinja.Value) ([]jinja.Value, error) {
	items, ok := v.Items()
	if !ok {
		return nil, errors.New("tool_calls: not an array")
	}
	out := make([]jinja.Value, len(items))
	for i, item := range items {
		call, ok := item.Dict()
		if !ok {
			return nil, fmt.Errorf("tool_calls[%d]: not an object", i)
		}
		call = ordered(call, jinja.Var{Name: "id"}, jinja.Var{Name: "function"}, jinja.Var{Name: "type"})
		f, _ := call.Get("function")
		function, ok := f.Dict()
		if !ok {
			return nil, fmt.Errorf("tool_calls[%d].function: not an object", i)
		}
		function = ordered(function, jinja.Var{Name: "arguments"}, jinja.Var{Name: "name"})
		arguments := (&jinja.Dict{}).Value()
		given, _ := function.Get("arguments")
		if text, ok := given.Str(); ok {
			if read, err := jinja.ParseJSON(text); err == nil {
				arguments = read
			}
		} else if _, ok := given.Dict(); ok {
			arguments = given
		} else if _, ok := given.Items(); ok {
			arguments = given
		}
		function.Set("arguments", arguments)
		call.Set("function", function.Value())
		out[i] = call.Value()
	}
	return out, nil
}
