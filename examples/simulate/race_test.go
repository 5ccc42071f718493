//go:build race

package main

const raceEnabled = true

// small is a comparison that takes a moment.
const small = "-duration 2m -warmup 40s -endpoints 2 -seeds 3 -block-tokens 512 "
