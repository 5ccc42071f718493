package proxy

import (
	"net"
	"net/http"
	"net/textproto"
	"strings"

	"github.com/inferloom/inferloom/gateway"
)

const headerRequestID = "X-Request-Id"

// hopByHop reports whether a header concerns one connection only (RFC 9110, 7.6.1, and what older software sends).
// Names are in canonical form, as net/http has them.
func hopByHop(name string) bool {
	switch name {
	case "Connection", "Proxy-Connection", "Keep-Alive", "Proxy-Authenticate", "Proxy-Authorization", "Te", "Trailer",
		"Transfer-Encoding", "Upgrade":
		return true
	}
	return false
}

// gatewaysOwn reports whether a request header is the gateway's to set, so that a client's is removed: what decides
// where a request or a leg of it runs, where it came from, how the body is sent, and how the answer is encoded.
func gatewaysOwn(name string) bool {
	switch name {
	case "Accept-Encoding", "Content-Length", "Expect", "Forwarded", "Host", "X-Real-Ip", headerRequestID:
		return true
	}
	if !strings.HasPrefix(name, "X-") {
		return false
	}
	for _, prefix := range [...]string{"X-Gateway-", "X-Llm-D-", "X-Prefiller-", "X-Kv-Cache-Source-",
		"X-Data-Parallel-", "X-Forwarded-"} {
		if strings.HasPrefix(name, prefix) {
			return true
		}
	}
	return false
}

func credential(name string) bool {
	switch name {
	case "Authorization", "Cookie", "X-Api-Key", "Api-Key":
		return true
	}
	return false
}

// listed reports whether one of the comma-separated values of a header names token.
func listed(values []string, token string) bool {
	for _, list := range values {
		for item := range strings.SplitSeq(list, ",") {
			if strings.EqualFold(textproto.TrimString(item), token) {
				return true
			}
		}
	}
	return false
}

// requestHeader returns the header of the request to an engine. It shares the values of r's header, which nobody
// changes. values has room for those that the proxy sets.
func requestHeader(r *http.Request, id string, credentials bool, edits []gateway.HeaderEdit, values *[4]string) http.Header {
	h := make(http.Header, len(r.Header)+6)
	connection := r.Header["Connection"]
	for name, v := range r.Header {
		if hopByHop(name) || gatewaysOwn(name) || !credentials && credential(name) ||
			connection != nil && listed(connection, name) {
			continue
		}
		h[name] = v
	}
	if te := r.Header["Te"]; te != nil && listed(te, "trailers") {
		h["Te"] = []string{"trailers"}
	}
	set := func(i int, name, value string) {
		values[i] = value
		h[name] = values[i : i+1 : i+1]
	}
	set(0, headerRequestID, id)
	set(1, "X-Forwarded-Host", r.Host)
	set(2, "X-Forwarded-Proto", "http")
	if r.TLS != nil {
		values[2] = "https"
	}
	if host, _, err := net.SplitHostPort(r.RemoteAddr); err == nil {
		set(3, "X-Forwarded-For", host)
	}
	if _, ok := h["User-Agent"]; !ok {
		h["User-Agent"] = nil // or net/http would add its own
	}
	// An empty value is not sent. It tells http.Transport that it may send the request again when a kept connection
	// turns out to be closed; otherwise each engine that closes idle connections would cost requests their endpoint.
	if _, ok := h["X-Idempotency-Key"]; !ok {
		h["X-Idempotency-Key"] = []string{}
	}
	for _, e := range edits {
		if e.Value == "" {
			delete(h, e.Name)
		} else {
			h[e.Name] = []string{e.Value}
		}
	}
	return h
}

// copyResponseHeader puts the header of an engine's answer into that of the client's.
func copyResponseHeader(dst, src http.Header) {
	connection := src["Connection"]
	for name, v := range src {
		if hopByHop(name) || name == headerRequestID || connection != nil && listed(connection, name) {
			continue
		}
		dst[name] = v
	}
	if _, ok := dst["Content-Type"]; !ok {
		dst["Content-Type"] = nil // or net/http would guess one
	}
}

// isEventStream reports whether the media type of a header is that of server-sent events.
func isEventStream(h http.Header) bool { return hasMediaType(h, "text/event-stream") }

func isJSON(h http.Header) bool { return hasMediaType(h, "application/json") }

func hasMediaType(h http.Header, want string) bool {
	v := h["Content-Type"]
	if len(v) == 0 {
		return false
	}
	mediaType, _, _ := strings.Cut(v[0], ";")
	return strings.EqualFold(textproto.TrimString(mediaType), want)
}

// loggable reports whether a client's request id may go into logs and on to engines.
func loggable(id string) bool {
	if id == "" || len(id) > 128 {
		return false
	}
	for i := range len(id) {
		if id[i] <= ' ' || id[i] > '~' {
			return false
		}
	}
	return true
}
