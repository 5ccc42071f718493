package sim

import (
	"io"
	"strconv"
	"time"

	"github.com/inferloom/inferloom/scheduling"
)

// decisionLog writes a line for each decision, with tabs between: the time in nanoseconds, "pick" or "next" (the request was
// moved), the request's number, the endpoint, the tokens believed to be cached there, and the score. Where there was no
// endpoint the line ends after the number, with "none" for the kind.
type decisionLog struct {
	w   io.Writer
	buf []byte
	err error
}

const logBytes = 32 << 10

func (l *decisionLog) decision(at time.Duration, kind string, request int, d *scheduling.Decision) {
	if l.w == nil {
		return
	}
	l.begin(at, kind, request)
	l.buf = append(append(l.buf, '\t'), d.Endpoint.ID...)
	l.buf = strconv.AppendInt(append(l.buf, '\t'), int64(d.CachedTokens), 10)
	l.buf = strconv.AppendFloat(append(l.buf, '\t'), d.Score, 'g', -1, 64)
	l.end()
}

func (l *decisionLog) none(at time.Duration, request int) {
	if l.w != nil {
		l.begin(at, "none", request)
		l.end()
	}
}

func (l *decisionLog) begin(at time.Duration, kind string, request int) {
	l.buf = strconv.AppendInt(l.buf, int64(at), 10)
	l.buf = append(append(l.buf, '\t'), kind...)
	l.buf = strconv.AppendInt(append(l.buf, '\t'), int64(request), 10)
}

func (l *decisionLog) end() {
	if l.buf = append(l.buf, '\n'); len(l.buf) > logBytes {
		_ = l.flush() // the error is kept, and returned at the end
	}
}

func (l *decisionLog) flush() error {
	if l.w != nil && l.err == nil && len(l.buf) > 0 {
		_, l.err = l.w.Write(l.buf)
	}
	l.buf = l.buf[:0]
	return l.err
}
