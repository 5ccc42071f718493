package proxy

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/inferloom/inferloom/gateway/api"
)

// statusClientGone is for the eyes of handlers around the Proxy, such as an access log: nobody else gets it.
const statusClientGone = 499

func errNotFound(path string) *api.Error {
	return &api.Error{Status: http.StatusNotFound, Code: "unknown_url", Message: fmt.Sprintf("unknown path %q", path)}
}

func errMethod(method string) *api.Error {
	return &api.Error{Status: http.StatusMethodNotAllowed, Code: "method_not_allowed",
		Message: fmt.Sprintf("method %s is not allowed here", method)}
}

// errUnreachable hides from the client which engines there are; the log says.
func errUnreachable() *api.Error {
	return &api.Error{Status: http.StatusBadGateway, Code: "engine_unreachable",
		Message: "no engine answered the request"}
}

// reject answers a request that never came to be routed.
func (p *Proxy) reject(w http.ResponseWriter, r *http.Request, id string, e *api.Error) {
	p.log.LogAttrs(r.Context(), slog.LevelInfo, "request refused", slog.String("request_id", id),
		slog.String("path", r.URL.Path), slog.Int("status", e.Status), slog.String("reason", e.Message))
	writeError(w, e, 0)
}

func writeError(w http.ResponseWriter, e *api.Error, retryAfter time.Duration) {
	if retryAfter > 0 {
		seconds := (retryAfter + time.Second - 1) / time.Second
		w.Header().Set("Retry-After", strconv.Itoa(int(seconds)))
	}
	writeJSON(w, e.Status, e.AppendJSON(nil))
}

func writeJSON(w http.ResponseWriter, status int, body []byte) {
	h := w.Header()
	h.Set("Content-Type", "application/json")
	h.Set("Content-Length", strconv.Itoa(len(body)))
	w.WriteHeader(status)
	w.Write(body) // a client that is gone needs no answer
}

type modelEntry struct {
	ID      string `json:"id"`
	Object  string `json:"object"`
	Created int64  `json:"created"` // required by clients; engines may come and go, so there is no true one
	OwnedBy string `json:"owned_by"`
}

// serveModels answers GET /v1/models and /v1/models/{model}.
func (p *Proxy) serveModels(w http.ResponseWriter, r *http.Request, id string) {
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		w.Header().Set("Allow", "GET, HEAD")
		p.reject(w, r, id, errMethod(r.Method))
		return
	}
	if p.options.Models == nil {
		p.reject(w, r, id, errNotFound(r.URL.Path))
		return
	}
	models := p.options.Models()
	entry := func(model string) modelEntry { return modelEntry{ID: model, Object: "model", OwnedBy: "inferloom"} }
	var answer any
	if model, one := strings.CutPrefix(r.URL.Path, "/v1/models/"); one {
		if !slices.Contains(models, model) {
			p.reject(w, r, id, &api.Error{Status: http.StatusNotFound, Param: "model", Code: "model_not_found",
				Message: fmt.Sprintf("the model %q does not exist", model)})
			return
		}
		answer = entry(model)
	} else {
		list := make([]modelEntry, len(models))
		for i, model := range models {
			list[i] = entry(model)
		}
		answer = map[string]any{"object": "list", "data": list}
	}
	body, err := json.Marshal(answer)
	if err != nil { // strings and numbers always marshal
		body = []byte("{}")
	}
	writeJSON(w, http.StatusOK, body)
}
