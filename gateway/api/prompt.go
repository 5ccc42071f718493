package api

import "math"

// PromptForm is how a request writes its prompt.
type PromptForm uint8

const (
	NoPrompt         PromptForm = iota
	MessagesPrompt              // the turns of a chat
	TextPrompt                  // "prompt": "text"
	TextsPrompt                 // "prompt": ["text", ...]
	TokensPrompt                // "prompt": [1, 2, ...]
	TokenListsPrompt            // "prompt": [[1, 2, ...], ...]
)

// prompt reads the prompt of a completion in any of its four forms.
func (p *parser) prompt() *Error {
	const want = "a string, an array of strings, an array of token ids or an array of those"
	r, start := p.r, p.i+1
	switch p.peek() {
	case '"':
		p.str()
		r.PromptForm = TextPrompt
	case '[':
		for first := true; p.element(first); first = false {
			form := NoPrompt
			switch c := p.peek(); {
			case c == '"':
				form = TextsPrompt
			case '0' <= c && c <= '9':
				form = TokensPrompt
			case c == '[':
				form = TokenListsPrompt
			case valueName(c) == "":
				p.fail("expected a value")
				return nil
			}
			if form == NoPrompt || !first && form != r.PromptForm {
				return p.wrongType("prompt", want)
			}
			r.PromptForm = form
			var err *Error
			switch form {
			case TextsPrompt:
				p.str()
			case TokensPrompt:
				err = p.token()
			case TokenListsPrompt:
				err = p.tokenList()
			}
			if err != nil {
				return err
			}
			if p.what != "" {
				return nil
			}
		}
		if p.what == "" && r.PromptForm == NoPrompt {
			return p.invalid("prompt", "invalid_value", "is empty")
		}
	default:
		return p.wrongType("prompt", want)
	}
	r.Prompt = Span{start, p.i - 1}
	return nil
}

func (p *parser) tokenList() *Error {
	for first := true; p.element(first); first = false {
		if c := p.peek(); c < '0' || c > '9' {
			return p.wrongType("prompt", "token ids")
		}
		if err := p.token(); err != nil || p.what != "" {
			return err
		}
	}
	return nil
}

func (p *parser) token() *Error {
	start := p.i
	if !p.number() {
		return nil
	}
	raw := p.b[start:p.i]
	n, ok := 0, len(raw) <= 10
	for _, c := range raw {
		if c < '0' || c > '9' {
			ok = false
			break
		}
		n = n*10 + int(c-'0')
	}
	if !ok || n > math.MaxUint32 {
		p.i = start
		return p.invalid("prompt", "invalid_value", "wants token ids from 0 to 4294967295, got "+clip(raw))
	}
	return nil
}

// HasTokenIDs reports whether the prompt is given as token ids.
func (r *Request) HasTokenIDs() bool {
	return r.PromptForm == TokensPrompt || r.PromptForm == TokenListsPrompt
}

// AppendTokenIDs appends the token ids of a prompt that is given as such to dst; of several prompts one after the
// other, so that the first one's prefix comes first. It appends nothing to a prompt that is text.
func (r *Request) AppendTokenIDs(dst []uint32) []uint32 {
	if !r.HasTokenIDs() {
		return dst
	}
	id, in := uint32(0), false
	for _, c := range r.PromptBytes() { // valid since Parse: digits, and what may be between them
		if '0' <= c && c <= '9' {
			id, in = id*10+uint32(c-'0'), true
		} else if in {
			dst = append(dst, id)
			id, in = 0, false
		}
	}
	if in {
		dst = append(dst, id)
	}
	return dst
}
