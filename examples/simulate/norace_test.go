//go:build !race

package main

const raceEnabled = false

// small is a comparison that takes a moment.
const small = "-duration 3m -warmup 1m -endpoints 2 -seeds 3 -block-tokens 512 "
