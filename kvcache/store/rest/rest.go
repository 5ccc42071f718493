package rest

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/inferloom/inferloom/kvcache/store"
)

// DefaultMaxPageBytes is the bound on pages where Options do not say.
const DefaultMaxPageBytes = 256 << 20

// Options are the parameters of a Handler; Store is required.
type Options struct {
	Store store.Store
	// MaxPageBytes bounds a page; 0 means DefaultMaxPageBytes.
	MaxPageBytes int64
	// Allow decides whether a request may use a namespace, empty where it wants to list them all. Nil allows everything.
	Allow func(r *http.Request, namespace string) bool
}

// Handler serves a store. It is safe for concurrent use.
type Handler struct {
	o   Options
	mux *http.ServeMux
}

// New makes a Handler.
func New(o Options) (*Handler, error) {
	if o.Store == nil {
		return nil, errors.New("store: nil")
	}
	if o.MaxPageBytes < 0 {
		return nil, fmt.Errorf("max page bytes %d: negative", o.MaxPageBytes)
	}
	if o.MaxPageBytes == 0 {
		o.MaxPageBytes = DefaultMaxPageBytes
	}
	if o.Allow == nil {
		o.Allow = func(*http.Request, string) bool { return true }
	}
	h := &Handler{o: o, mux: http.NewServeMux()}
	h.mux.HandleFunc("GET /v1/pages", h.list)
	for method, serve := range map[string]func(http.ResponseWriter, *http.Request, store.Key) error{
		"PUT": h.put, "GET": h.get, "HEAD": h.head, "DELETE": h.remove,
	} {
		h.mux.HandleFunc(method+" /v1/pages/{name...}", func(w http.ResponseWriter, r *http.Request) {
			// The path as it came: a namespace may hold escaped slashes.
			key, err := store.ParseKey(strings.TrimPrefix(r.URL.EscapedPath(), "/v1/pages/"))
			switch {
			case err != nil:
			case !o.Allow(r, key.Namespace):
				http.Error(w, "this namespace is not yours", http.StatusForbidden)
				return
			default:
				err = serve(w, r, key)
			}
			if err != nil {
				http.Error(w, err.Error(), status(err))
			}
		})
	}
	return h, nil
}

// ServeHTTP implements http.Handler.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) { h.mux.ServeHTTP(w, r) }

func status(err error) int {
	switch {
	case errors.Is(err, store.ErrNotFound):
		return http.StatusNotFound
	case errors.Is(err, store.ErrKey), errors.Is(err, store.ErrAttr):
		return http.StatusBadRequest
	case errors.Is(err, store.ErrTooLarge):
		return http.StatusRequestEntityTooLarge
	case store.Refused(err):
		return http.StatusInsufficientStorage
	case errors.Is(err, store.ErrCorrupt):
		return http.StatusBadGateway
	}
	return http.StatusServiceUnavailable
}

func (h *Handler) put(w http.ResponseWriter, r *http.Request, key store.Key) error {
	attr, err := attrOf(r.Header)
	if err != nil {
		return err
	}
	if r.ContentLength < 0 {
		http.Error(w, "the length of the body must be announced", http.StatusLengthRequired)
		return nil
	}
	if r.ContentLength > h.o.MaxPageBytes {
		return fmt.Errorf("%w: %d bytes, at most %d", store.ErrTooLarge, r.ContentLength, h.o.MaxPageBytes)
	}
	page, err := store.Create(r.Context(), h.o.Store, key, r.ContentLength, attr)
	if err != nil {
		return err
	}
	defer page.Abort()
	if _, err := io.Copy(page, r.Body); err != nil {
		return err
	}
	if err := page.Commit(r.Context()); err != nil {
		return err
	}
	w.WriteHeader(http.StatusNoContent)
	return nil
}

func (h *Handler) get(w http.ResponseWriter, r *http.Request, key store.Key) error {
	page, err := h.o.Store.Get(r.Context(), key)
	if err != nil {
		return err
	}
	defer page.Release()
	describe(w.Header(), page.Attr())
	http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(page.Bytes()))
	return nil
}

func (h *Handler) head(w http.ResponseWriter, r *http.Request, key store.Key) error {
	info, err := h.o.Store.Stat(r.Context(), key)
	if err != nil {
		return err
	}
	describe(w.Header(), info.Attr)
	w.Header().Set("Content-Length", strconv.FormatInt(info.Bytes, 10))
	if info.Level != "" {
		w.Header().Set("Page-Level", info.Level)
	}
	return nil
}

func (h *Handler) remove(w http.ResponseWriter, r *http.Request, key store.Key) error {
	if err := h.o.Store.Delete(r.Context(), key); err != nil {
		return err
	}
	w.WriteHeader(http.StatusNoContent)
	return nil
}

// listed is a line of a list.
type listed struct {
	Key    string        `json:"key"`
	Bytes  int64         `json:"bytes"`
	Level  string        `json:"level,omitempty"`
	Parent string        `json:"parent,omitempty"` // hexadecimal
	Depth  int           `json:"depth,omitempty"`
	Tokens int           `json:"tokens,omitempty"`
	Cost   time.Duration `json:"cost_nanos,omitempty"`
}

func (h *Handler) list(w http.ResponseWriter, r *http.Request) {
	namespace := r.URL.Query().Get("namespace")
	if !h.o.Allow(r, namespace) {
		http.Error(w, "this namespace is not yours", http.StatusForbidden)
		return
	}
	w.Header().Set("Content-Type", "application/x-ndjson")
	lines := json.NewEncoder(w)
	begun := false
	for e, err := range h.o.Store.Scan(r.Context(), namespace) {
		if err != nil {
			if !begun {
				http.Error(w, err.Error(), status(err))
				return
			}
			panic(http.ErrAbortHandler) // the list must not look whole
		}
		begun = true
		a := e.Info.Attr
		if lines.Encode(listed{e.Key.String(), e.Info.Bytes, e.Info.Level, hex.EncodeToString([]byte(a.Parent)), a.Depth, a.Tokens, a.Cost}) != nil {
			return
		}
	}
}

// Headers of a page.
const (
	headerParent = "Page-Parent"
	headerDepth  = "Page-Depth"
	headerTokens = "Page-Tokens"
	headerCost   = "Page-Cost"
)

func describe(h http.Header, a store.Attr) {
	h.Set("Content-Type", "application/octet-stream")
	if a.Chained {
		h.Set(headerParent, hex.EncodeToString([]byte(a.Parent)))
		h.Set(headerDepth, strconv.Itoa(a.Depth))
	}
	if a.Tokens != 0 {
		h.Set(headerTokens, strconv.Itoa(a.Tokens))
	}
	if a.Cost != 0 {
		h.Set(headerCost, a.Cost.String())
	}
}

// attrOf reads what describe writes. Every problem is reported.
func attrOf(h http.Header) (a store.Attr, err error) {
	var problems []error
	check := func(name string, parse func(text string) error) bool {
		text := h.Get(name)
		if text == "" {
			return len(h.Values(name)) > 0
		}
		if err := parse(text); err != nil {
			problems = append(problems, fmt.Errorf("%w: %s: %w", store.ErrAttr, name, err))
		}
		return true
	}
	a.Chained = check(headerParent, func(text string) error {
		parent, err := hex.DecodeString(text)
		a.Parent = string(parent)
		return err
	})
	check(headerDepth, func(text string) (err error) { a.Depth, err = strconv.Atoi(text); return err })
	check(headerTokens, func(text string) (err error) { a.Tokens, err = strconv.Atoi(text); return err })
	check(headerCost, func(text string) (err error) { a.Cost, err = time.ParseDuration(text); return err })
	if len(problems) == 0 {
		problems = append(problems, a.Validate())
	}
	return a, errors.Join(problems...)
}
