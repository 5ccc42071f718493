package remote

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"
)

// rendered is what answers have in them: token_ids in those to render, tokens in those to tokenize.
type rendered struct {
	TokenIDs []uint32        `json:"token_ids"`
	Tokens   json.RawMessage `json:"tokens"`
	Features json.RawMessage `json:"features"`
	Parts    json.RawMessage `json:"content_parts"`
}

// parse returns the ids of an answer: an object, or for completions to render an array with one.
func parse(answer []byte) ([]uint32, error) {
	var one rendered
	if trimmed := bytes.TrimLeft(answer, " \t\r\n"); len(trimmed) > 0 && trimmed[0] == '[' {
		var all []rendered
		if err := json.Unmarshal(answer, &all); err != nil {
			return nil, fmt.Errorf("the answer: %w", err)
		}
		if len(all) > 1 {
			return nil, ErrPrompts
		}
		if len(all) == 1 {
			one = all[0]
		}
	} else if err := json.Unmarshal(answer, &one); err != nil {
		return nil, fmt.Errorf("the answer: %w", err)
	}
	if present(one.Features) || present(one.Parts) {
		return nil, ErrMultimodal
	}
	ids := one.TokenIDs
	if present(one.Tokens) {
		if bytes.HasPrefix(bytes.TrimLeft(one.Tokens[1:], " \t\r\n"), []byte("[")) {
			return nil, ErrPrompts
		}
		if err := json.Unmarshal(one.Tokens, &ids); err != nil {
			return nil, fmt.Errorf("the answer's tokens: %w", err)
		}
	}
	if len(ids) == 0 {
		return nil, errors.New("the answer holds no token ids")
	}
	return ids, nil
}

func present(v json.RawMessage) bool { return len(v) > 0 && string(v) != "null" }

// message finds what an error's body says, in the forms of vLLM, SGLang and FastAPI.
func message(body []byte) string {
	var e struct {
		Error   struct{ Message string }
		Message string
		Detail  json.RawMessage
	}
	text := string(body)
	if json.Unmarshal(body, &e) == nil {
		switch {
		case e.Error.Message != "":
			text = e.Error.Message
		case e.Message != "":
			text = e.Message
		case present(e.Detail):
			text = string(e.Detail)
		}
	}
	text = strings.ToValidUTF8(strings.TrimSpace(text), "\uFFFD")
	const most = 300
	if len(text) > most {
		end := most
		for !utf8.RuneStart(text[end]) {
			end--
		}
		text = text[:end] + "..."
	}
	return text
}
