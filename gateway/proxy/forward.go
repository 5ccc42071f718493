package proxy

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/inferloom/inferloom/gateway"
	"github.com/inferloom/inferloom/gateway/api"
)

var errHeaderTimeout = errors.New("no header of an answer in time")

// tryNext reports whether an answer says that the engine, and not the request, is at fault in a way that another
// engine may not share. A 500 may well be the request's doing and would take down one engine after the other.
func tryNext(status int) bool {
	switch status {
	case http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout:
		return true
	}
	return false
}

// forward sends the request to the targets of the route until one answers, and relays the answer. It returns how the
// route ended, and whether the connection to the client must be cut.
func (x *exchange) forward(ctx context.Context) (abort bool, err error) {
	for attempt := 1; ; attempt++ {
		target := x.route.Target()
		out, err := x.send(ctx, target)
		if err == nil && !tryNext(out.resp.StatusCode) {
			var started bool
			if started, abort, err = x.relay(ctx, out, target); started {
				out.close()
				return abort, err
			}
		}
		if ctx.Err() != nil {
			out.close()
			x.logClientGone(ctx, "before the answer")
			x.w.WriteHeader(statusClientGone)
			return false, clientGone(ctx, nil)
		}
		failure := &gateway.EngineError{Endpoint: target.ID, Err: err}
		if err == nil {
			failure.Status = out.resp.StatusCode
		}
		more := attempt < x.p.options.MaxAttempts && x.route.Next(failure)
		x.p.log.LogAttrs(ctx, slog.LevelWarn, "attempt failed", slog.String("request_id", x.id),
			slog.String("model", x.req.Model), slog.String("endpoint", target.ID), slog.String("address", target.Address),
			slog.Int("attempt", attempt), slog.Bool("next", more), slog.Any("error", failure))
		if !more {
			abort = x.giveUp(ctx, out, target, failure)
			out.close()
			return abort, failure
		}
		out.close()
	}
}

// giveUp answers the client after the last attempt: with the engine's answer, if there is one that an OpenAI client
// understands.
func (x *exchange) giveUp(ctx context.Context, out outcome, target gateway.Target, failure *gateway.EngineError) (abort bool) {
	if failure.Status == 0 {
		writeError(x.w, errUnreachable(), 0)
		return false
	}
	if isJSON(out.resp.Header) {
		started, abort, _ := x.relay(ctx, out, target)
		if started {
			return abort
		}
	}
	if retry := out.resp.Header.Get("Retry-After"); retry != "" {
		x.w.Header().Set("Retry-After", retry)
	}
	writeError(x.w, &api.Error{Status: failure.Status, Code: "engine_unavailable",
		Message: "the engine answered with status " + strconv.Itoa(failure.Status)}, 0)
	return false
}

func clientGone(ctx context.Context, err error) error {
	if cause := context.Cause(ctx); cause != nil {
		err = cause
	}
	return fmt.Errorf("%w: %w", gateway.ErrClientGone, err)
}

// outcome is what came of sending a request once. The zero outcome is that of a failure.
type outcome struct {
	resp   *http.Response
	cancel context.CancelCauseFunc // nil if the attempt has no context of its own
}

func (o outcome) close() {
	if o.resp != nil {
		o.resp.Body.Close() // before its end this also closes the connection, by which the engine knows
	}
	if o.cancel != nil {
		o.cancel(nil)
	}
}

// outgoing is the memory of one request to an engine.
type outgoing struct {
	url    url.URL
	values [4]string
}

// send sends the request to target and returns when the header of an answer is there.
func (x *exchange) send(ctx context.Context, target gateway.Target) (outcome, error) {
	body := x.body
	if len(target.Body) > 0 {
		body = x.p.newBody(api.SplicedLen(x.body.bytes, target.Body))
		body.bytes = api.Splice(body.bytes, x.body.bytes, target.Body)
		defer body.release()
	}
	var timer *time.Timer
	var cancel context.CancelCauseFunc
	if limit := x.p.options.ResponseHeaderTimeout; limit > 0 {
		ctx, cancel = context.WithCancelCause(ctx)
		timer = time.AfterFunc(limit, func() { cancel(errHeaderTimeout) })
	}
	mem := &outgoing{url: url.URL{Scheme: "http", Host: target.Address, Path: x.r.URL.Path, RawQuery: x.r.URL.RawQuery}}
	out := x.r.WithContext(ctx)
	out.URL = &mem.url
	out.Host = ""
	out.Header = requestHeader(x.r, x.id, x.p.options.ForwardCredentials, target.Header, &mem.values)
	out.Body = body.reader()
	out.GetBody = func() (io.ReadCloser, error) { return body.reader(), nil }
	out.ContentLength = int64(len(body.bytes))
	out.TransferEncoding, out.Trailer, out.Close = nil, nil, false

	resp, err := x.p.transport.RoundTrip(out)
	if timer != nil && !timer.Stop() && err == nil { // the header came as time ran out
		resp.Body.Close()
		err = errHeaderTimeout
	}
	if err == nil && resp.StatusCode < 200 {
		resp.Body.Close()
		err = fmt.Errorf("unexpected status %d", resp.StatusCode)
	}
	if err != nil {
		if cancel != nil {
			if context.Cause(ctx) == errHeaderTimeout {
				err = errHeaderTimeout
			}
			cancel(nil)
		}
		return outcome{}, err
	}
	return outcome{resp, cancel}, nil
}
