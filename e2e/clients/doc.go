// Package clients runs the official OpenAI clients for Python and JavaScript against the gateway. Its test needs both and
// is built with the tag e2e: "make e2e" installs them.
package clients
