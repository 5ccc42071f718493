package chat

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/inferloom/inferloom/kvcache/token"
	"github.com/inferloom/inferloom/kvcache/token/internal/jinja"
)

// ContentFormat says in what form a template is given the contents of messages.
type ContentFormat uint8

const (
	// ContentAuto is parts where the template loops over contents, else strings.
	ContentAuto ContentFormat = iota
	// ContentString joins parts with line breaks.
	ContentString
	// ContentParts makes a string a list of one part.
	ContentParts
)

// Options are the parameters of a Model. Tokenizer is required.
type Options struct {
	Tokenizer *token.Tokenizer
	// Template is the model's chat template; without one, AppendChat refuses. ToolTemplate, if there is one, is for requests
	// with tools.
	Template, ToolTemplate string
	// Special is what templates know special tokens by: "bos_token" and the like.
	Special map[string]string
	// ContentFormat is the engine's --chat-template-content-format.
	ContentFormat ContentFormat
	// Kwargs are variables for templates, a JSON object: the engine's --default-chat-template-kwargs. Requests' own win.
	Kwargs string
	// Separate keeps what users write text, even the names of special tokens. Engines do not.
	Separate bool
	// CacheBytes bounds the texts and ids that are kept; 0 means token.DefaultCacheMaxBytes.
	CacheBytes int
	// Now is the clock of templates that ask for the date; nil means time.Now.
	Now func() time.Time
}

// Model turns requests into token ids. It is safe for concurrent use.
type Model struct {
	tokenizer    *token.Tokenizer
	cache        *token.Cache
	plain, tools *template // nil where there is none
	kwargs       *jinja.Dict
	rendering    jinja.Options
	separator    *separator // nil unless asked for
	texts        sync.Pool
}

// New makes a Model. It reports every problem of the options.
func New(o Options) (*Model, error) {
	var errs []error
	m := &Model{tokenizer: o.Tokenizer, kwargs: &jinja.Dict{}, rendering: jinja.Options{Now: o.Now}}
	if o.Tokenizer == nil {
		errs = append(errs, errors.New("Tokenizer: nil"))
	} else {
		var err error
		if m.cache, err = token.NewCache(o.Tokenizer, token.CacheOptions{MaxBytes: o.CacheBytes}); err != nil {
			errs = append(errs, fmt.Errorf("CacheBytes: %w", err))
		}
	}
	if o.ContentFormat > ContentParts {
		errs = append(errs, fmt.Errorf("ContentFormat: %d is none", o.ContentFormat))
	}
	if o.Kwargs != "" {
		v, err := jinja.ParseJSON(o.Kwargs)
		d, ok := v.Dict()
		switch {
		case err != nil:
			errs = append(errs, fmt.Errorf("Kwargs: %w", err))
		case !ok:
			errs = append(errs, errors.New("Kwargs: not a JSON object"))
		default:
			m.kwargs = d
		}
	}
	for _, t := range []struct {
		field, source string
		to            **template
	}{{"Template", o.Template, &m.plain}, {"ToolTemplate", o.ToolTemplate, &m.tools}} {
		if t.source == "" {
			continue
		}
		read, err := newTemplate(t.source, o)
		if err == nil {
			err = m.probe(read)
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", t.field, err))
		}
		*t.to = read
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	if m.tools == nil {
		m.tools = m.plain
	}
	if o.Separate {
		m.separator = newSeparator(o.Tokenizer, o.Template+o.ToolTemplate)
		m.rendering.Keep = openMark + closeMark
	}
	return m, nil
}

// AppendChat appends the ids of the prompt of a request to /v1/chat/completions.
func (m *Model) AppendChat(_ context.Context, dst []uint32, body []byte) ([]uint32, error) {
	r, err := m.parseChat(body)
	if err != nil {
		return dst, err
	}
	buf := m.borrow()
	defer m.giveBack(buf)
	if *buf, err = r.template.apply((*buf)[:0], r.conversation, m.rendering); err != nil {
		return dst, err
	}
	return m.encode(dst, *buf, r.addSpecial), nil
}

// AppendPrompt appends the text that a chat request's prompt is rendered to.
func (m *Model) AppendPrompt(dst, body []byte) ([]byte, error) {
	r, err := m.parseChat(body)
	if err != nil {
		return dst, err
	}
	start := len(dst)
	dst, err = r.template.apply(dst, r.conversation, m.rendering)
	if m.separator != nil {
		dst = append(dst[:start], m.separator.unmark(dst[start:])...)
	}
	return dst, err
}

// AppendCompletion appends the ids of the prompt, one text, of a request to /v1/completions.
func (m *Model) AppendCompletion(_ context.Context, dst []uint32, body []byte) ([]uint32, error) {
	prompt, addSpecial, err := parseCompletion(body)
	if err != nil {
		return dst, err
	}
	buf := m.borrow()
	defer m.giveBack(buf)
	if *buf = append((*buf)[:0], prompt...); m.separator != nil {
		*buf = append((*buf)[:0], m.separator.mark(prompt)...)
	}
	return m.encode(dst, *buf, addSpecial), nil
}

func (m *Model) encode(dst []uint32, text []byte, addSpecial bool) []uint32 {
	if addSpecial {
		dst = append(dst, m.tokenizer.Begin()...)
	}
	if m.separator != nil && m.separator.marked(text) {
		dst = m.tokenizer.AppendParts(dst, m.separator.parts(text)...)
	} else {
		dst = m.cache.AppendSpecial(dst, text)
	}
	if addSpecial {
		dst = append(dst, m.tokenizer.End()...)
	}
	return dst
}

// keepBytes is how large a text may be for its buffer to be kept.
const keepBytes = 4 << 20

func (m *Model) borrow() *[]byte {
	if b, ok := m.texts.Get().(*[]byte); ok {
		return b
	}
	return new([]byte)
}

func (m *Model) giveBack(b *[]byte) {
	if cap(*b) <= keepBytes {
		m.texts.Put(b)
	}
}
