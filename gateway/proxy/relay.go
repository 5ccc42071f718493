package proxy

import (
	"context"
	"io"
	"log/slog"
	"net/http"

	"github.com/inferloom/inferloom/gateway"
	"github.com/inferloom/inferloom/gateway/api"
)

const (
	// bufferBytes is the size of the buffer that an answer passes through.
	bufferBytes = 32 << 10

	// usageStep is after how many output events of a stream the route hears of the tokens so far: a KV block of most
	// engines.
	usageStep = 16
)

// streamError is what a client gets as the last event of a stream whose engine died. OpenAI's clients turn an event
// with an "error" into an exception with its message, whereas a cut connection shows as an error of their HTTP library
// and a clean end without [DONE] as a complete answer.
const streamError = `data: {"error":{"message":"the engine failed before the answer was complete","type":"server_error",` +
	`"param":null,"code":"engine_failed"}}` + "\n\n"

// relay passes an answer on to the client. started is false if the engine failed before its first bytes were passed on:
// the client has then seen nothing, and err says why. Otherwise err is how the route ends, and abort says that the
// connection to the client must be cut.
func (x *exchange) relay(ctx context.Context, out outcome, target gateway.Target) (started, abort bool, err error) {
	resp := out.resp
	buffer := x.p.buffers.Get().(*[bufferBytes]byte)
	defer x.p.buffers.Put(buffer)
	buf := buffer[:]

	events := isEventStream(resp.Header)
	n, readErr := readFirst(resp, events, buf)
	if readErr != nil && readErr != io.EOF {
		if n == 0 || !streams(resp, events) {
			return false, false, readErr
		}
	}

	success := resp.StatusCode < 400
	if success && n > 0 {
		x.route.FirstByte()
	}
	watch := x.watch(success, events, resp.Header)
	x.route.Status(resp.StatusCode)
	x.writeHeader(resp, events)
	flush := streams(resp, events)
	controller := http.NewResponseController(x.w)
	reported := 0
	for {
		if n > 0 {
			_, err := x.w.Write(buf[:n])
			if err == nil && flush {
				err = controller.Flush()
			}
			watch.observe(buf[:n])
			if err != nil {
				x.report(watch)
				x.logClientGone(ctx, "during the answer")
				return true, true, clientGone(ctx, err)
			}
			if o := watch.stream; o != nil && o.Outputs() >= reported+usageStep {
				reported = o.Outputs()
				x.report(watch)
			}
		}
		if readErr != nil {
			break
		}
		n, readErr = resp.Body.Read(buf)
	}
	x.report(watch)
	if readErr == io.EOF {
		x.writeTrailer(resp)
		if resp.StatusCode >= 500 {
			x.p.log.LogAttrs(ctx, slog.LevelWarn, "the engine answered with an error", slog.String("request_id", x.id),
				slog.String("model", x.req.Model), slog.String("endpoint", target.ID), slog.Int("status", resp.StatusCode))
			return true, false, &gateway.EngineError{Endpoint: target.ID, Status: resp.StatusCode}
		}
		return true, false, nil
	}
	if ctx.Err() != nil {
		x.logClientGone(ctx, "during the answer")
		return true, true, clientGone(ctx, readErr)
	}
	failure := &gateway.EngineError{Endpoint: target.ID, Err: readErr}
	x.p.log.LogAttrs(ctx, slog.LevelError, "engine failed during the answer", slog.String("request_id", x.id),
		slog.String("model", x.req.Model), slog.String("endpoint", target.ID), slog.String("address", target.Address),
		slog.Int("output_events", x.stream.Outputs()), slog.Any("error", readErr))
	return true, !x.endStream(events, resp), failure
}

// endStream tells the client of a stream that its engine died, if the bytes so far allow it: within an event, or where
// the length was announced, only a cut connection can.
func (x *exchange) endStream(events bool, resp *http.Response) bool {
	if !events || resp.ContentLength >= 0 || !x.stream.BetweenEvents() {
		return false
	}
	_, err := io.WriteString(x.w, streamError)
	return err == nil
}

// streams reports whether an answer comes bit by bit, so that each bit is to be passed on at once.
func streams(resp *http.Response, events bool) bool { return events || resp.ContentLength < 0 }

// readFirst reads the first bytes of the body: of a stream what there is, of an answer that was complete when the
// engine sent it as much as the buffer holds. If the engine dies over that, another can still take its place.
func readFirst(resp *http.Response, events bool, buf []byte) (n int, err error) {
	whole := !streams(resp, events)
	for err == nil && (n == 0 || whole && n < len(buf)) {
		var more int
		more, err = resp.Body.Read(buf[n:])
		n += more
	}
	return n, err
}

// writeHeader sends the status and the header, and announces the trailers that the engine has announced.
func (x *exchange) writeHeader(resp *http.Response, events bool) {
	h := x.w.Header()
	copyResponseHeader(h, resp.Header)
	if events {
		if _, ok := h["X-Accel-Buffering"]; !ok {
			h["X-Accel-Buffering"] = []string{"no"} // proxies in front must not collect events
		}
	}
	for name := range resp.Trailer {
		h.Add("Trailer", name)
	}
	x.w.WriteHeader(resp.StatusCode)
}

// writeTrailer passes on the trailers, also those that the engine sent without having announced them.
func (x *exchange) writeTrailer(resp *http.Response) {
	if len(resp.Trailer) == 0 {
		return
	}
	h := x.w.Header()
	announced := h["Trailer"]
	for name, v := range resp.Trailer {
		if !listed(announced, name) {
			name = http.TrailerPrefix + name
		}
		h[name] = v
	}
}

// watcher is the observer that fits an answer; neither if it has no tokens to count.
type watcher struct {
	stream *api.StreamObserver
	whole  *api.BodyObserver
}

func (x *exchange) watch(success, events bool, h http.Header) watcher {
	x.stream.Reset()
	x.whole.Reset()
	switch {
	case success && events:
		return watcher{stream: &x.stream}
	case success && isJSON(h):
		return watcher{whole: &x.whole}
	}
	return watcher{}
}

func (w watcher) observe(p []byte) {
	switch {
	case w.stream != nil:
		w.stream.Observe(p)
	case w.whole != nil:
		w.whole.Observe(p)
	}
}

// report tells the route of the tokens so far: the engine's counts, and where it has not said how many it put out, the
// number of events that it sent.
func (x *exchange) report(w watcher) {
	var u api.Usage
	switch {
	case w.stream != nil:
		u = w.stream.Usage()
		if n := w.stream.Outputs(); !u.Has(api.CompletionCount) && n > 0 {
			u.CompletionTokens, u.Estimated = n, true
			u.Known |= api.CompletionCount
		}
	case w.whole != nil:
		u = w.whole.Usage()
	}
	if u.Known != 0 {
		x.route.Usage(u)
	}
}
