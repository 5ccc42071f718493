package chat

import (
	"encoding/json"
	"errors"
	"fmt"
)

// ReadConfig reads a model's tokenizer_config.json: its chat template, and the names of its special tokens. A model that has
// its template in chat_template.jinja gives it to o.Template itself.
func (o *Options) ReadConfig(file []byte) error {
	var members map[string]json.RawMessage
	if err := json.Unmarshal(file, &members); err != nil {
		return fmt.Errorf("tokenizer_config.json: %w", err)
	}
	var errs []error
	for _, name := range []string{"bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token"} {
		raw := members[name]
		if len(raw) == 0 || string(raw) == "null" {
			continue
		}
		var text string
		var token struct{ Content string }
		if json.Unmarshal(raw, &text) != nil {
			if err := json.Unmarshal(raw, &token); err != nil {
				errs = append(errs, fmt.Errorf("tokenizer_config.json: %s: %w", name, err))
				continue
			}
			text = token.Content
		}
		if o.Special == nil {
			o.Special = map[string]string{}
		}
		o.Special[name] = text
	}
	if raw := members["chat_template"]; len(raw) > 0 && string(raw) != "null" {
		errs = append(errs, o.readTemplates(raw))
	}
	return errors.Join(errs...)
}

// readTemplates reads one template, or several that have names.
func (o *Options) readTemplates(raw json.RawMessage) error {
	if json.Unmarshal(raw, &o.Template) == nil {
		return nil
	}
	var named []struct{ Name, Template string }
	if err := json.Unmarshal(raw, &named); err != nil {
		return fmt.Errorf("tokenizer_config.json: chat_template: %w", err)
	}
	for _, t := range named {
		switch t.Name {
		case "default":
			o.Template = t.Template
		case "tool_use":
			o.ToolTemplate = t.Template
		}
	}
	return nil
}
