//go:build race

package moe

// Planners are single-threaded: their long searches would only be slow under the race detector.
const racing = true
