package remote

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/sony/gobreaker/v2"
)

// API is what a server offers.
type API int

const (
	// Render is vLLM's /v1/chat/completions/render and /v1/completions/render: of "vllm launch render", and of "vllm serve"
	// with --enable-scale-out. It checks a request as the engine would.
	Render API = iota
	// Tokenize is /tokenize, of vLLM and SGLang.
	Tokenize
)

// Options are the parameters of a Client. URLs is required.
type Options struct {
	// URLs are the servers, all of the same model: "http://host:port", with a path in front of the API's if need be.
	URLs []string
	API  API
	// Model replaces the model that a body names. Render servers know base models, not adapters. Empty sends bodies as
	// they are.
	Model string
	// Header is sent with every request.
	Header http.Header
	// Timeout bounds a call; 0 means 2 seconds.
	Timeout time.Duration
	// MaxConnections bounds the connections to a server, beyond which calls wait; 0 means 64.
	MaxConnections int
	// Failures in a row, 0 means 5, are what it takes for a server to be left alone for Cooldown, 0 means 5 seconds. Then
	// one call tries it.
	Failures int
	Cooldown time.Duration
	// MaxAnswerBytes bounds the body of an answer; 0 means 32 MB, enough for some millions of ids.
	MaxAnswerBytes int64
	// Transport is for tests and proxies; nil means a transport of the Client's own.
	Transport http.RoundTripper
}

var (
	// ErrUnavailable says that no server is to be tried at the moment.
	ErrUnavailable = errors.New("no server is available")
	// ErrMultimodal says that a prompt holds more than text.
	ErrMultimodal = errors.New("the prompt holds more than text")
	// ErrPrompts says that a request has more than one prompt.
	ErrPrompts = errors.New("the request has more than one prompt")
)

// StatusError is a server's refusal.
type StatusError struct {
	URL     string
	Status  int
	Message string // what the server said, shortened
}

func (e *StatusError) Error() string {
	hint := ""
	if e.Status == http.StatusNotFound && strings.HasSuffix(e.URL, "/render") {
		hint = `; "vllm serve" has this path with --enable-scale-out only, "vllm launch render" always`
	}
	return fmt.Sprintf("%s: status %d: %s%s", e.URL, e.Status, e.Message, hint)
}

// servers reports whether the server is at fault. A path or model that it does not have is its fault: clients ask for the
// models of their configuration.
func (e *StatusError) servers() bool {
	switch e.Status {
	case http.StatusNotFound, http.StatusMethodNotAllowed, http.StatusRequestTimeout, http.StatusTooManyRequests, http.StatusUnauthorized, http.StatusForbidden:
		return true
	}
	return e.Status < 400 || e.Status >= 500
}

// Client asks servers for token ids. It is safe for concurrent use.
type Client struct {
	o       Options
	http    http.Client
	servers []*server
	next    atomic.Uint32
}

type server struct {
	chat, completion string
	breaker          *gobreaker.CircuitBreaker[[]uint32]
	last             atomic.Pointer[error] // why it failed the last time
}

// callerLeft is the error of a call that its caller gave up.
type callerLeft struct{ error }

func (e callerLeft) Unwrap() error { return e.error }

// New makes a Client. It reports every invalid option at once.
func New(o Options) (*Client, error) {
	if err := o.validate(); err != nil {
		return nil, fmt.Errorf("remote tokenizer: %w", err)
	}
	o.Timeout = cmp.Or(o.Timeout, 2*time.Second)
	o.MaxConnections = cmp.Or(o.MaxConnections, 64)
	o.Failures = cmp.Or(o.Failures, 5)
	o.Cooldown = cmp.Or(o.Cooldown, 5*time.Second)
	o.MaxAnswerBytes = cmp.Or(o.MaxAnswerBytes, 32<<20)
	if o.Transport == nil {
		o.Transport = &http.Transport{
			MaxConnsPerHost: o.MaxConnections, MaxIdleConnsPerHost: o.MaxConnections, IdleConnTimeout: time.Minute,
		}
	}
	c := &Client{o: o, http: http.Client{Transport: o.Transport}}
	for _, base := range o.URLs {
		base = strings.TrimSuffix(base, "/")
		s := &server{chat: base + "/tokenize", completion: base + "/tokenize"}
		if o.API == Render {
			s.chat, s.completion = base+"/v1/chat/completions/render", base+"/v1/completions/render"
		}
		s.breaker = gobreaker.NewCircuitBreaker[[]uint32](gobreaker.Settings{
			Timeout:      o.Cooldown,
			ReadyToTrip:  func(n gobreaker.Counts) bool { return int(n.ConsecutiveFailures) >= o.Failures },
			IsSuccessful: func(err error) bool { return !isServers(err) },
		})
		c.servers = append(c.servers, s)
	}
	return c, nil
}

func (o *Options) validate() error {
	var errs []error
	wrong := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	if len(o.URLs) == 0 {
		wrong("URLs: none")
	}
	for i, s := range o.URLs {
		if u, err := url.Parse(s); err != nil {
			wrong("URLs[%d]: %w", i, err)
		} else if u.Scheme != "http" && u.Scheme != "https" || u.Host == "" || u.RawQuery != "" || u.Fragment != "" {
			wrong("URLs[%d] is %q, want http or https, a host, and no query", i, s)
		}
	}
	if o.API != Render && o.API != Tokenize {
		wrong("API is %d, want Render or Tokenize", o.API)
	}
	if o.Timeout < 0 {
		wrong("Timeout is %v, want 0 or more", o.Timeout)
	}
	if o.MaxConnections < 0 {
		wrong("MaxConnections is %d, want 0 or more", o.MaxConnections)
	}
	if o.Failures < 0 {
		wrong("Failures is %d, want 0 or more", o.Failures)
	}
	if o.Cooldown < 0 {
		wrong("Cooldown is %v, want 0 or more", o.Cooldown)
	}
	if o.MaxAnswerBytes < 0 {
		wrong("MaxAnswerBytes is %d, want 0 or more", o.MaxAnswerBytes)
	}
	return errors.Join(errs...)
}

// AppendChat appends the ids of the prompt that the body of a chat completion makes.
func (c *Client) AppendChat(ctx context.Context, dst []uint32, body []byte) ([]uint32, error) {
	return c.ask(ctx, dst, body, func(s *server) string { return s.chat })
}

// AppendCompletion appends the ids of the prompt in the body of a completion.
func (c *Client) AppendCompletion(ctx context.Context, dst []uint32, body []byte) ([]uint32, error) {
	return c.ask(ctx, dst, body, func(s *server) string { return s.completion })
}

// Close closes the connections that are not in use.
func (c *Client) Close() { c.http.CloseIdleConnections() }

func (c *Client) ask(ctx context.Context, dst []uint32, body []byte, path func(*server) string) ([]uint32, error) {
	body, err := c.rename(body)
	if err != nil {
		return dst, err
	}
	deadline := time.Now().Add(c.o.Timeout)
	ctx, cancel := context.WithDeadline(ctx, deadline)
	defer cancel()
	var errs []error
	first := int(c.next.Add(1) % uint32(len(c.servers)))
	for i := range c.servers {
		s := c.servers[(first+i)%len(c.servers)]
		ids, err := s.breaker.Execute(func() ([]uint32, error) {
			share := time.Until(deadline) / time.Duration(len(c.servers)-i)
			attempt, cancel := context.WithTimeout(ctx, share)
			defer cancel()
			ids, err := c.post(attempt, path(s), body)
			if err != nil && ctx.Err() != nil && time.Now().Before(deadline) {
				err = callerLeft{err}
			}
			return ids, err
		})
		switch {
		case err == nil:
			return append(dst, ids...), nil
		case errors.Is(err, gobreaker.ErrOpenState), errors.Is(err, gobreaker.ErrTooManyRequests):
			err = ErrUnavailable
			if last := s.last.Load(); last != nil {
				err = fmt.Errorf("%w: after %w", err, *last)
			}
		case !isServers(err):
			return dst, err
		default:
			s.last.Store(&err)
			if ctx.Err() != nil {
				return dst, err
			}
		}
		errs = append(errs, err)
	}
	return dst, errors.Join(errs...)
}

// isServers reports whether an error is the server's, so that its breaker counts it and another server may do better; not
// the request's or the caller's.
func isServers(err error) bool {
	var left callerLeft
	if err == nil || errors.As(err, &left) || errors.Is(err, ErrMultimodal) || errors.Is(err, ErrPrompts) {
		return false
	}
	var status *StatusError
	return !errors.As(err, &status) || status.servers()
}

// rename puts the Client's model into a body.
func (c *Client) rename(body []byte) ([]byte, error) {
	if c.o.Model == "" {
		return body, nil
	}
	var fields map[string]json.RawMessage
	if err := json.Unmarshal(body, &fields); err != nil {
		return nil, fmt.Errorf("body: %w", err)
	}
	if fields == nil {
		return nil, errors.New("body: null, want an object")
	}
	fields["model"], _ = json.Marshal(c.o.Model)
	return json.Marshal(fields)
}

func (c *Client) post(ctx context.Context, to string, body []byte) ([]uint32, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, to, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	for name, values := range c.o.Header {
		request.Header[name] = slices.Clone(values)
	}
	request.Header.Set("Content-Type", "application/json")
	response, err := c.http.Do(request)
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	answer, err := io.ReadAll(io.LimitReader(response.Body, c.o.MaxAnswerBytes+1))
	switch {
	case err != nil:
		return nil, fmt.Errorf("%s: reading the answer: %w", to, err)
	case response.StatusCode != http.StatusOK:
		return nil, &StatusError{URL: to, Status: response.StatusCode, Message: message(answer)}
	case int64(len(answer)) > c.o.MaxAnswerBytes:
		return nil, fmt.Errorf("%s: the answer is longer than %d bytes", to, c.o.MaxAnswerBytes)
	}
	ids, err := parse(answer)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", to, err)
	}
	return ids, nil
}
