package enginesim

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"time"
)

func (s *Server) serveChat(w http.ResponseWriter, r *http.Request) {
	s.serveCompletion(w, r, s.parseChat)
}

func (s *Server) serveText(w http.ResponseWriter, r *http.Request) {
	s.serveCompletion(w, r, s.parseText)
}

type parser func(http.ResponseWriter, *http.Request) (*generation, *apiError)

func (s *Server) serveCompletion(w http.ResponseWriter, r *http.Request, parse parser) {
	s.count(&s.counters.Requests)
	if f, hit := s.chance(func(f Fault) float64 { return f.StatusRate }); hit {
		s.count(&s.counters.Failed)
		status := f.Status
		if status == 0 {
			status = http.StatusServiceUnavailable
		}
		apiError{status: status, kind: "InternalServerError", message: "injected fault"}.write(w)
		return
	}
	reject := func(e *apiError) {
		s.count(&s.counters.Rejected)
		s.o.Logger.Debug("request rejected", "status", e.status, "reason", e.message)
		e.write(w)
	}
	if err := s.available(); err != nil {
		reject(err)
		return
	}
	g, bad := parse(w, r)
	if bad != nil {
		reject(bad)
		return
	}
	cutAfter := -1
	if f, hit := s.chance(func(f Fault) float64 { return f.CutRate }); hit {
		cutAfter = f.CutAfterTokens
	}
	st, err := s.submit(g)
	if err != nil {
		reject(submitError(err))
		return
	}
	a := answer{s: s, w: w, r: r, g: g, st: st, cutAfter: cutAfter, created: time.Now().Unix()}
	if g.stream {
		err = a.stream()
	} else {
		err = a.whole()
	}
	if err != nil {
		a.abort(err)
	}
}

// errCut is the fault of that name.
var errCut = errors.New("injected fault: cut")

// answer is the answering of one request.
type answer struct {
	s        *Server
	w        http.ResponseWriter
	r        *http.Request
	g        *generation
	st       *stream
	cutAfter int // tokens; -1: not
	created  int64
	begun    bool // the status line is out
}

// fetch is the server's, up to the cut.
func (a *answer) fetch(seen int) (p progress, cut bool, err error) {
	if a.cutAfter == 0 {
		return p, true, nil
	}
	p, err = a.s.fetch(a.r.Context(), a.st, seen)
	if a.cutAfter > 0 && p.produced >= a.cutAfter {
		p.produced, cut = a.cutAfter, true
	}
	return p, cut, err
}

// abort ends an answer that cannot be completed. Where nothing was written yet and somebody still
// listens, a status says so; otherwise the connection is closed.
func (a *answer) abort(err error) {
	a.s.cancel(a.st)
	switch {
	case errors.Is(err, errCut):
		a.s.count(&a.s.counters.Cut)
	case errors.Is(err, errStopped) && !a.begun:
		unavailable("%v", err).write(a.w)
		return
	case errors.Is(err, errStopped):
	default:
		a.s.count(&a.s.counters.Left)
		a.s.o.Logger.Debug("client left", "request", a.st.id, "error", err)
	}
	panic(http.ErrAbortHandler)
}

func (a *answer) id() string {
	prefix := "cmpl-"
	if a.g.chat {
		prefix = "chatcmpl-"
	}
	return prefix + "sim-" + strconv.FormatUint(a.st.id, 10)
}

type usage struct {
	PromptTokens        int `json:"prompt_tokens"`
	CompletionTokens    int `json:"completion_tokens"`
	TotalTokens         int `json:"total_tokens"`
	PromptTokensDetails struct {
		CachedTokens int `json:"cached_tokens"`
	} `json:"prompt_tokens_details"`
}

func (a *answer) usage(p progress) usage {
	u := usage{
		PromptTokens: a.g.promptTokens, CompletionTokens: p.produced,
		TotalTokens: a.g.promptTokens + p.produced,
	}
	u.PromptTokensDetails.CachedTokens = p.cached
	return u
}

func (a *answer) whole() error {
	var p progress
	for !p.done {
		var cut bool
		var err error
		if p, cut, err = a.fetch(p.produced); err != nil {
			return err
		}
		if cut {
			return errCut
		}
	}
	text := string(a.g.answer(0, p.produced))
	choice := map[string]any{"index": 0, "logprobs": nil, "finish_reason": a.g.finishReason()}
	object := "text_completion"
	if a.g.chat {
		object = "chat.completion"
		choice["message"] = map[string]any{"role": "assistant", "content": text}
	} else {
		choice["text"] = text
	}
	writeJSON(a.w, http.StatusOK, map[string]any{
		"id": a.id(), "object": object, "created": a.created, "model": a.g.model,
		"system_fingerprint": simulator,
		"choices":            []any{choice},
		"usage":              a.usage(p),
	})
	return nil
}

// stream sends server-sent events. The head of the answer goes out at once, as from vLLM, and each
// write holds all tokens that are there.
func (a *answer) stream() error {
	h := a.w.Header()
	h.Set("Content-Type", "text/event-stream; charset=utf-8")
	h.Set("Cache-Control", "no-cache")
	a.w.WriteHeader(http.StatusOK)
	a.begun = true
	flush := http.NewResponseController(a.w).Flush
	if err := flush(); err != nil {
		return fmt.Errorf("streaming needs a connection that can flush: %w", err)
	}
	sse := newWriter(a)
	seen := 0
	for {
		p, cut, err := a.fetch(seen)
		if err != nil {
			return err
		}
		if p.produced > seen {
			if seen == 0 && a.g.chat {
				sse.role()
			}
			finish := ""
			if p.done && !cut {
				finish = a.g.finishReason()
			}
			sse.text(a.g.answer(seen, p.produced), finish)
			seen = p.produced
		}
		if p.done && !cut {
			if a.g.includeUsage {
				sse.usage(a.usage(p))
			}
			sse.done()
		}
		if _, err := a.w.Write(sse.take()); err != nil {
			return err
		}
		if err := flush(); err != nil {
			return err
		}
		if cut {
			return errCut
		}
		if p.done {
			return nil
		}
	}
}

// writer makes the chunks of one stream. All of a chunk but its choice is the same each time.
type writer struct {
	buf  []byte
	head []byte // up to the value of "choices"
	chat bool
}

func newWriter(a *answer) *writer {
	object := "text_completion"
	if a.g.chat {
		object = "chat.completion.chunk"
	}
	model, _ := json.Marshal(a.g.model) // a string cannot fail
	return &writer{chat: a.g.chat, head: fmt.Appendf(nil,
		`data: {"id":"%s","object":"%s","created":%d,"model":%s,"system_fingerprint":"%s","choices":`,
		a.id(), object, a.created, model, simulator)}
}

func (w *writer) take() []byte {
	b := w.buf
	w.buf = w.buf[:0]
	return b
}

func (w *writer) role() {
	w.buf = append(w.buf, w.head...)
	w.buf = append(w.buf, `[{"index":0,"delta":{"role":"assistant","content":""},"logprobs":null,"finish_reason":null}]}`+"\n\n"...)
}

// text writes a piece of the answer, which holds nothing that JSON escapes.
func (w *writer) text(piece []byte, finish string) {
	w.buf = append(w.buf, w.head...)
	if w.chat {
		w.buf = append(w.buf, `[{"index":0,"delta":{"content":"`...)
		w.buf = append(w.buf, piece...)
		w.buf = append(w.buf, `"}`...)
	} else {
		w.buf = append(w.buf, `[{"index":0,"text":"`...)
		w.buf = append(w.buf, piece...)
		w.buf = append(w.buf, '"')
	}
	w.buf = append(w.buf, `,"logprobs":null,"finish_reason":`...)
	if finish == "" {
		w.buf = append(w.buf, "null"...)
	} else {
		w.buf = append(w.buf, '"')
		w.buf = append(w.buf, finish...)
		w.buf = append(w.buf, '"')
	}
	w.buf = append(w.buf, "}]}\n\n"...)
}

func (w *writer) usage(u usage) {
	b, _ := json.Marshal(u) // plain integers cannot fail
	w.buf = append(w.buf, w.head...)
	w.buf = append(w.buf, `[],"usage":`...)
	w.buf = append(w.buf, b...)
	w.buf = append(w.buf, "}\n\n"...)
}

func (w *writer) done() {
	w.buf = append(w.buf, "data: [DONE]\n\n"...)
}
