// Package inferloom is the tour of a module of composable LLM-inference-serving primitives.
package inferloom
