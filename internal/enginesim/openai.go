package enginesim

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"

	"github.com/inferloom/inferloom/internal/engine"
)

// Output lengths of requests that state none.
const (
	defaultChatTokens = 256
	defaultTextTokens = 16
)

// A generation is a request for a completion, understood.
type generation struct {
	model, adapter string
	salt           string
	tokens         []byte // prompt and answer
	promptTokens   int
	outputTokens   int
	limited        bool // outputTokens is the client's wish
	blocks         []uint64
	chat           bool
	stream         bool
	includeUsage   bool
}

// body is what both surfaces have in common.
type body struct {
	Model         string `json:"model"`
	Stream        bool   `json:"stream"`
	StreamOptions *struct {
		IncludeUsage bool `json:"include_usage"`
	} `json:"stream_options"`
	MaxTokens *int   `json:"max_tokens"`
	N         *int   `json:"n"`
	BestOf    *int   `json:"best_of"`
	CacheSalt string `json:"cache_salt"`
}

type chatBody struct {
	body
	MaxCompletionTokens *int            `json:"max_completion_tokens"`
	Messages            []message       `json:"messages"`
	Tools               json.RawMessage `json:"tools"`
}

type message struct {
	Role      string          `json:"role"`
	Content   json.RawMessage `json:"content"`
	ToolCalls json.RawMessage `json:"tool_calls"`
}

type textBody struct {
	body
	Prompt json.RawMessage `json:"prompt"`
}

func (s *Server) parseChat(w http.ResponseWriter, r *http.Request) (*generation, *apiError) {
	var b chatBody
	data, bad := s.decode(w, r, &b)
	if bad != nil {
		return nil, bad
	}
	prompt, bad := b.render()
	if bad != nil {
		return nil, bad
	}
	if s.o.Tokenizer != nil {
		ids, err := s.o.Tokenizer.AppendChat(r.Context(), nil, data)
		if err != nil {
			return nil, badRequest("%v", err)
		}
		prompt = appendTokens(nil, ids)
	}
	limit := b.MaxTokens
	if b.MaxCompletionTokens != nil {
		limit = b.MaxCompletionTokens
	}
	return s.plan(&b.body, prompt, limit, true)
}

// render returns the pseudo-tokens of a chat.
func (b *chatBody) render() ([]byte, *apiError) {
	if len(b.Messages) == 0 {
		return nil, badRequest("messages: want at least one").about("messages")
	}
	var prompt []byte
	if given(b.Tools) {
		prompt = appendMessage(prompt, "tools", string(b.Tools))
	}
	for i, m := range b.Messages {
		if m.Role == "" {
			return nil, badRequest("messages[%d].role: missing", i).about("messages")
		}
		content, err := m.text()
		if err != nil {
			return nil, badRequest("messages[%d].content: %v", i, err).about("messages")
		}
		prompt = appendMessage(prompt, m.Role, content)
	}
	return appendText(prompt, "<|assistant|>"), nil
}

func (s *Server) parseText(w http.ResponseWriter, r *http.Request) (*generation, *apiError) {
	var b textBody
	data, bad := s.decode(w, r, &b)
	if bad != nil {
		return nil, bad
	}
	prompt, err := promptTokens(b.Prompt)
	if err == nil && s.o.Tokenizer != nil && b.Prompt[0] == '"' {
		var ids []uint32
		ids, err = s.o.Tokenizer.AppendCompletion(r.Context(), nil, data)
		prompt = appendTokens(nil, ids)
	}
	if err != nil {
		return nil, badRequest("prompt: %v", err).about("prompt")
	}
	return s.plan(&b.body, prompt, b.MaxTokens, false)
}

// plan settles lengths, answer and hashes.
func (s *Server) plan(b *body, prompt []byte, limit *int, chat bool) (*generation, *apiError) {
	g := &generation{model: b.Model, chat: chat, stream: b.Stream, promptTokens: len(prompt) / tokenBytes}
	g.includeUsage = b.StreamOptions != nil && b.StreamOptions.IncludeUsage
	switch {
	case b.Model == "":
		return nil, badRequest("model: missing").about("model")
	case slices.Contains(s.o.Adapters, b.Model):
		g.adapter = b.Model
	case b.Model != s.o.Model:
		return nil, &apiError{
			status: http.StatusNotFound, kind: "NotFoundError", param: "model",
			message: fmt.Sprintf("The model %q does not exist.", b.Model),
		}
	}
	for _, n := range []*int{b.N, b.BestOf} {
		if n != nil && *n != 1 {
			return nil, badRequest("n: %d answers to one prompt are not supported by the simulator, want 1", *n).about("n")
		}
	}
	if b.StreamOptions != nil && !b.Stream {
		return nil, badRequest("stream_options: only allowed with stream").about("stream_options")
	}
	o := s.engine.Options()
	switch {
	case g.promptTokens == 0:
		return nil, badRequest("prompt: want at least one token").about("prompt")
	case limit == nil && chat:
		g.outputTokens = min(defaultChatTokens, max(1, o.MaxContextTokens-g.promptTokens))
	case limit == nil:
		g.outputTokens = min(defaultTextTokens, max(1, o.MaxContextTokens-g.promptTokens))
	case *limit < 1:
		return nil, badRequest("max_tokens: %d, want at least 1", *limit).about("max_tokens")
	default:
		g.outputTokens, g.limited = *limit, true
	}
	// Before the answer is built: max_tokens can be any number.
	if err := s.engine.Check(g.promptTokens, g.outputTokens); err != nil {
		return nil, badRequest("%v", err).about("max_tokens")
	}
	g.tokens = appendAnswer(prompt, g.outputTokens, s.o.Seed)
	g.salt = b.CacheSalt
	g.blocks = blockHashes(g.tokens, o.BlockTokens, namespace(s.o.Model, g.adapter, g.salt))
	return g, nil
}

// answer is the text of tokens [from, to) of the answer.
func (g *generation) answer(from, to int) []byte {
	text := g.tokens[g.promptTokens*tokenBytes:]
	return text[from*tokenBytes : to*tokenBytes]
}

func (g *generation) finishReason() string {
	if g.limited {
		return "length"
	}
	return "stop"
}

func (s *Server) decode(w http.ResponseWriter, r *http.Request, into any) ([]byte, *apiError) {
	data, err := io.ReadAll(http.MaxBytesReader(w, r.Body, s.o.MaxBodyBytes))
	var tooLarge *http.MaxBytesError
	switch {
	case errors.As(err, &tooLarge):
		return nil, &apiError{
			status: http.StatusRequestEntityTooLarge, kind: "BadRequestError",
			message: fmt.Sprintf("the body is larger than %d bytes", tooLarge.Limit),
		}
	case err != nil:
		return nil, badRequest("reading the body: %v", err)
	}
	if err := json.Unmarshal(data, into); err != nil {
		return nil, badRequest("the body is not a valid request: %v", err)
	}
	return data, nil
}

// text returns the content of a message: a string, or parts of type text; null is empty.
func (m message) text() (string, error) {
	text := ""
	switch {
	case !given(m.Content):
	case m.Content[0] == '"':
		if err := json.Unmarshal(m.Content, &text); err != nil {
			return "", err
		}
	default:
		var parts []struct {
			Type string `json:"type"`
			Text string `json:"text"`
		}
		if err := json.Unmarshal(m.Content, &parts); err != nil {
			return "", errors.New("want a string or an array of parts")
		}
		var joined bytes.Buffer
		for i, p := range parts {
			if p.Type != "text" {
				return "", fmt.Errorf("part %d has type %q, the simulator reads only text", i, p.Type)
			}
			joined.WriteString(p.Text)
		}
		text = joined.String()
	}
	if given(m.ToolCalls) {
		text += string(m.ToolCalls)
	}
	return text, nil
}

// promptTokens reads the four forms of a completion's prompt, as long as it is only one prompt.
func promptTokens(raw json.RawMessage) ([]byte, error) {
	if !given(raw) {
		return nil, errors.New("missing")
	}
	var text string
	if raw[0] == '"' {
		if err := json.Unmarshal(raw, &text); err != nil {
			return nil, err
		}
		return appendText(nil, text), nil
	}
	var ids []uint32
	if json.Unmarshal(raw, &ids) == nil {
		return appendTokens(nil, ids), nil
	}
	var list []json.RawMessage
	if err := json.Unmarshal(raw, &list); err != nil {
		return nil, errors.New("want a string, an array of token ids, or an array of one of these")
	}
	if len(list) != 1 {
		return nil, fmt.Errorf("%d prompts in one request are not supported by the simulator, want 1", len(list))
	}
	if json.Unmarshal(list[0], &text) == nil {
		return appendText(nil, text), nil
	}
	if json.Unmarshal(list[0], &ids) == nil {
		return appendTokens(nil, ids), nil
	}
	return nil, errors.New("want a string, an array of token ids, or an array of one of these")
}

func given(raw json.RawMessage) bool {
	return len(raw) > 0 && string(raw) != "null"
}

// apiError is an answer that is an error, in vLLM's form of OpenAI's.
type apiError struct {
	status  int
	kind    string
	param   string
	message string
}

func badRequest(format string, args ...any) *apiError {
	return &apiError{status: http.StatusBadRequest, kind: "BadRequestError", message: fmt.Sprintf(format, args...)}
}

func unavailable(format string, args ...any) *apiError {
	return &apiError{status: http.StatusServiceUnavailable, kind: "ServiceUnavailableError", message: fmt.Sprintf(format, args...)}
}

func (e *apiError) about(param string) *apiError {
	e.param = param
	return e
}

func (e apiError) write(w http.ResponseWriter) {
	var param *string
	if e.param != "" {
		param = &e.param
	}
	writeJSON(w, e.status, map[string]any{"error": map[string]any{
		"message": e.message, "type": e.kind, "param": param, "code": e.status,
	}})
}

// submitError is the answer to a request that the engine refused.
func submitError(err error) *apiError {
	switch {
	case errors.Is(err, engine.ErrQueueFull):
		return &apiError{status: http.StatusTooManyRequests, kind: "TooManyRequestsError", message: err.Error()}
	case errors.Is(err, errStopped):
		return unavailable("%v", err)
	}
	return badRequest("%v", err)
}

func writeJSON(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(v) // the client is gone: nobody to tell
}
