package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/inferloom/inferloom/internal/workload"
)

// class says how a request ended.
type class string

const (
	answered    class = "answered"
	noConnect   class = "connect"     // no connection could be made
	timedOut    class = "timeout"     // not complete within -timeout
	badStatus   class = "status"      // an HTTP status other than 200
	malformed   class = "malformed"   // not the streaming answer of this API
	cutShort    class = "cut short"   // the connection ended before the answer did
	engineFail  class = "engine"      // an error as an event of the stream
	unfinished  class = "unfinished"  // not complete at the end of -drain
	notSent     class = "not sent"    // the turn before it failed
	interrupted class = "interrupted" // under way when the run was interrupted: not counted
)

// client speaks the API of one server.
type client struct {
	http                 *http.Client
	url, model, endpoint string
	key                  string
	ignoreEOS            bool
	timeout              time.Duration
	streams              sync.Pool
}

func newClient(c config) *client {
	transport := &http.Transport{
		Proxy:               http.ProxyFromEnvironment,
		MaxIdleConnsPerHost: c.concurrency, DisableCompression: true, ReadBufferSize: 16 << 10, WriteBufferSize: 64 << 10,
		// An HTTP/2 server would put all streams on one connection, where one can hold up the others.
		Protocols: new(http.Protocols),
	}
	transport.Protocols.SetHTTP1(true)
	return &client{
		http: &http.Client{Transport: transport}, url: c.url, model: c.model, endpoint: c.endpoint, key: c.key,
		ignoreEOS: c.ignoreEOS, timeout: c.timeout, streams: sync.Pool{New: func() any { return newStream() }},
	}
}

func (c *client) close() { c.http.CloseIdleConnections() }

// firstModel asks the server for its models.
func (c *client) firstModel(ctx context.Context) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, min(c.timeout, 30*time.Second))
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, c.url+"/v1/models", nil)
	if err != nil {
		return "", err
	}
	c.authorise(r)
	resp, err := c.http.Do(r)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
	if err != nil {
		return "", err
	}
	if resp.StatusCode != http.StatusOK {
		return "", fmt.Errorf("status %d: %s", resp.StatusCode, clip(body))
	}
	var list struct {
		Data []struct {
			ID string `json:"id"`
		} `json:"data"`
	}
	if err := json.Unmarshal(body, &list); err != nil {
		return "", fmt.Errorf("the list of models is not readable: %w", err)
	}
	if len(list.Data) == 0 || list.Data[0].ID == "" {
		return "", errors.New("the server lists no model")
	}
	return list.Data[0].ID, nil
}

func (c *client) authorise(r *http.Request) {
	if c.key != "" {
		r.Header.Set("Authorization", "Bearer "+c.key)
	}
}

// appendPrompt appends what a turn adds to its conversation: messages as JSON, or text for completions.
func (c *client) appendPrompt(dst []byte, messages []workload.Message) []byte {
	for _, m := range messages {
		dst = c.open(dst, m.Role)
		dst = m.AppendText(dst) // the texts of a workload need no escapes
		dst = c.shut(dst)
	}
	return dst
}

// appendAnswer appends an answer, escaped as in JSON, to its conversation.
func (c *client) appendAnswer(dst, text []byte) []byte {
	return c.shut(append(c.open(dst, "assistant"), text...))
}

func (c *client) open(dst []byte, role string) []byte {
	if c.endpoint != "chat" {
		return dst
	}
	if len(dst) > 0 {
		dst = append(dst, ',')
	}
	dst = append(dst, `{"role":"`...)
	dst = append(dst, role...)
	return append(dst, `","content":"`...)
}

func (c *client) shut(dst []byte) []byte {
	if c.endpoint != "chat" {
		return dst
	}
	return append(dst, `"}`...)
}

// body is a request for a streamed answer to a conversation.
func (c *client) body(r *workload.Request, conversation []byte) []byte {
	model := c.model
	if r.Adapter != "" {
		model = r.Adapter
	}
	quoted, _ := json.Marshal(model) // a string cannot fail
	b := make([]byte, 0, len(conversation)+len(quoted)+160)
	b = append(b, `{"model":`...)
	b = append(b, quoted...)
	b = append(b, `,"stream":true,"stream_options":{"include_usage":true},"max_tokens":`...)
	b = strconv.AppendInt(b, int64(r.OutputTokens), 10)
	if c.ignoreEOS {
		b = append(b, `,"ignore_eos":true`...)
	}
	if c.endpoint == "chat" {
		b = append(append(append(b, `,"messages":[`...), conversation...), ']')
	} else {
		b = append(append(append(b, `,"prompt":"`...), conversation...), '"')
	}
	return append(b, '}')
}

// send sends a request and reads its answer into s. The error is classified.
func (c *client) send(ctx context.Context, s *stream, body []byte, now func() time.Duration) error {
	ctx, cancel := context.WithTimeoutCause(ctx, c.timeout, errTimeout)
	defer cancel()
	path := "/v1/chat/completions"
	if c.endpoint != "chat" {
		path = "/v1/completions"
	}
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, c.url+path, bytes.NewReader(body))
	if err != nil {
		return err
	}
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set("Accept", "text/event-stream")
	c.authorise(r)
	resp, err := c.http.Do(r)
	if err != nil {
		return because(ctx, err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		message, _ := io.ReadAll(io.LimitReader(resp.Body, 4<<10))
		return &statusError{resp.StatusCode, clip(message)}
	}
	if kind := resp.Header.Get("Content-Type"); !strings.HasPrefix(kind, "text/event-stream") {
		return fmt.Errorf("%w: Content-Type is %q, want text/event-stream", errMalformed, kind)
	}
	if err := s.read(resp.Body, now); err != nil {
		return because(ctx, err)
	}
	if s.events == 0 {
		return fmt.Errorf("%w: no token in the answer", errMalformed)
	}
	return nil
}

var errTimeout = errors.New("not complete within -timeout")

// because puts the reason for which a request was ended in the place of what that did to its connection.
func because(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return err
}

type statusError struct {
	code int
	text string
}

func (e *statusError) Error() string { return fmt.Sprintf("status %d: %s", e.code, e.text) }

// classify says how a request ended, and in more detail for those that are alike.
func classify(err error) (class, string) {
	status, dial, engine := new(statusError), new(net.OpError), new(engineError)
	switch {
	case err == nil:
		return answered, ""
	case errors.Is(err, errTimeout):
		return timedOut, err.Error()
	case errors.Is(err, errDrained):
		return unfinished, err.Error()
	case errors.Is(err, errInterrupted):
		return interrupted, err.Error()
	case errors.Is(err, errBefore):
		return notSent, err.Error()
	case errors.As(err, &status):
		return badStatus, fmt.Sprintf("%d: %s", status.code, status.text)
	case errors.As(err, &engine):
		return engineFail, engine.text
	case errors.Is(err, errMalformed):
		return malformed, err.Error()
	case errors.As(err, &dial) && dial.Op == "dial":
		return noConnect, dial.Err.Error()
	}
	return cutShort, lastOf(err).Error()
}

// lastOf unwraps an error down to its cause, without addresses in front, which would make all of them different.
func lastOf(err error) error {
	for {
		inner := errors.Unwrap(err)
		if inner == nil {
			return err
		}
		err = inner
	}
}

func clip(b []byte) string {
	b = bytes.TrimSpace(b)
	if len(b) > 200 {
		return string(bytes.ToValidUTF8(b[:200], nil)) + "…"
	}
	return string(b)
}
