package api

import "strings"

// Kind is the API that a request speaks. The zero Kind is none that this package knows.
type Kind uint8

const (
	Unknown    Kind = iota
	Chat            // POST /v1/chat/completions
	Completion      // POST /v1/completions
	Models          // GET /v1/models and /v1/models/{model}
)

// KindOf returns the Kind that the path of a URL names, compared exactly: a path that an engine would normalise
// differently must not reach it under the rights of another.
func KindOf(path string) Kind {
	switch path {
	case "/v1/chat/completions":
		return Chat
	case "/v1/completions":
		return Completion
	case "/v1/models":
		return Models
	}
	if id, ok := strings.CutPrefix(path, "/v1/models/"); ok && id != "" {
		return Models
	}
	return Unknown
}

// String returns the name of k, for logs and metrics.
func (k Kind) String() string {
	switch k {
	case Chat:
		return "chat"
	case Completion:
		return "completion"
	case Models:
		return "models"
	}
	return "unknown"
}
