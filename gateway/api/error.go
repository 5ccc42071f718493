package api

import (
	"encoding/json"
	"net/http"
	"strconv"
)

// Error is an error as OpenAI's API answers it.
type Error struct {
	Status  int    // HTTP status
	Type    string // OpenAI's class of error, such as "invalid_request_error"; TypeOf(Status) when empty
	Param   string // the request field at fault, if one is
	Code    string // machine-readable reason, such as "model_not_found"
	Message string // for a person; never holds prompt text
}

// Error returns the status, the code and the message.
func (e *Error) Error() string {
	s := strconv.Itoa(e.Status)
	if e.Code != "" {
		s += " " + e.Code
	}
	return s + ": " + e.Message
}

// AppendJSON appends the error envelope, {"error":{"message":...,"type":...,"param":...,"code":...}}, to dst. An empty
// Param or Code is null, as OpenAI's own answers have it.
func (e *Error) AppendJSON(dst []byte) []byte {
	typ := e.Type
	if typ == "" {
		typ = TypeOf(e.Status)
	}
	dst = append(dst, `{"error":{"message":`...)
	dst = appendString(dst, e.Message)
	dst = append(dst, `,"type":`...)
	dst = appendString(dst, typ)
	dst = append(dst, `,"param":`...)
	dst = appendStringOrNull(dst, e.Param)
	dst = append(dst, `,"code":`...)
	dst = appendStringOrNull(dst, e.Code)
	return append(dst, "}}"...)
}

// TypeOf returns the OpenAI error type that goes with an HTTP status.
func TypeOf(status int) string {
	switch {
	case status == http.StatusUnauthorized:
		return "authentication_error"
	case status == http.StatusForbidden:
		return "permission_error"
	case status == http.StatusTooManyRequests:
		return "rate_limit_error"
	case status >= 500:
		return "server_error"
	}
	return "invalid_request_error"
}

func appendStringOrNull(dst []byte, s string) []byte {
	if s == "" {
		return append(dst, "null"...)
	}
	return appendString(dst, s)
}

func appendString(dst []byte, s string) []byte {
	quoted, err := json.Marshal(s)
	if err != nil { // a string always marshals
		return append(dst, `""`...)
	}
	return append(dst, quoted...)
}
