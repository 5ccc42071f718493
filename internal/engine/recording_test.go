package engine

import (
	"cmp"
	"compress/gzip"
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// A recording is what a real engine did under a load, step by step. e2e/engine/record.py makes them.
type recording struct {
	Engine         string // name and version
	Name           string
	BlockTokens    int `json:"block_tokens"`
	Blocks         int
	MaxRunning     int `json:"max_running"`
	MaxBatchTokens int `json:"max_batch_tokens"`
	Requests       []recorded
	Steps          []recordedStep
	Events         []recordedEvent
}

// Times are in milliseconds.
type recorded struct {
	ID                     string
	Sent                   float64 // by the client
	Added                  float64 // to the engine's queue
	Prompt, Output, Cached int
	Blocks                 []uint64
}

type recordedStep struct {
	Planned, Ended   float64
	Running, Waiting int // after planning
	Used             float64
	Tokens           []share
	Preempted        []string
}

// A share is what a step computes of one request.
type share struct {
	request          string
	computed, tokens int
}

func (s *share) UnmarshalJSON(b []byte) error {
	return json.Unmarshal(b, &[]any{&s.request, &s.computed, &s.tokens})
}

type recordedEvent struct {
	Stored  []uint64
	Parent  uint64
	Removed []uint64
}

func millis(ms float64) time.Duration { return time.Duration(ms * float64(time.Millisecond)) }

// request is the recorded one as this engine takes it.
func (r *recorded) request(id int) Request {
	return Request{ID: uint64(id), PromptTokens: r.Prompt, OutputTokens: r.Output, Blocks: r.Blocks}
}

func (r *recording) options() Options {
	return Options{
		BlockTokens: r.BlockTokens, Blocks: r.Blocks, MaxRunning: r.MaxRunning, MaxBatchTokens: r.MaxBatchTokens,
		MaxContextTokens: 4096,
	}
}

// recordings reads all of a folder: testdata, or the one that ENGINE_RECORDINGS names.
func recordings(t *testing.T) []*recording {
	folder := cmp.Or(os.Getenv("ENGINE_RECORDINGS"), "testdata")
	paths, err := filepath.Glob(filepath.Join(folder, "*.json*"))
	require.NoError(t, err)
	require.NotEmpty(t, paths, "no recordings in %s", folder)
	var all []*recording
	for _, path := range paths {
		f, err := os.Open(path)
		require.NoError(t, err)
		defer f.Close()
		r := &recording{}
		if strings.HasSuffix(path, ".gz") {
			z, err := gzip.NewReader(f)
			require.NoError(t, err)
			require.NoError(t, json.NewDecoder(z).Decode(r))
		} else {
			require.NoError(t, json.NewDecoder(f).Decode(r))
		}
		require.True(t, slices.IsSortedFunc(r.Requests, func(a, b recorded) int { return cmp.Compare(a.Added, b.Added) }))
		all = append(all, r)
	}
	return all
}

// TestDecisionsOfARealEngine gives each step the length that it had in the real engine and requires the same decision at
// each: which requests compute how many tokens, who is preempted, what was found in the prefix cache, how much memory is
// used, which blocks enter and leave the cache.
func TestDecisionsOfARealEngine(t *testing.T) {
	for _, rec := range recordings(t) {
		t.Run(rec.Name, func(t *testing.T) {
			cached := map[int]int{}
			var preempted []string
			var events []recordedEvent
			e, err := New(0, rec.options(), Hooks{
				Started:   func(_ time.Duration, id uint64, tokens int) { cached[int(id)] = tokens },
				Preempted: func(_ time.Duration, id uint64) { preempted = append(preempted, rec.Requests[id].ID) },
				Stored: func(b StoredBlocks) {
					events = append(events, recordedEvent{Stored: slices.Clone(b.Hashes), Parent: b.Parent})
				},
				Removed: func(_ time.Duration, hashes []uint64) {
					events = append(events, recordedEvent{Removed: slices.Clone(hashes)})
				},
			})
			require.NoError(t, err)
			added := map[string]float64{}
			for _, r := range rec.Requests {
				added[r.ID] = r.Added
			}
			next := 0
			for k, step := range rec.Steps {
				at := millis(step.Planned)
				for ; next < len(rec.Requests) && rec.Requests[next].Added <= step.Planned; next++ {
					r := &rec.Requests[next]
					require.NoError(t, e.Submit(at, r.request(next)))
				}
				preempted = nil
				e.Advance(at)
				require.True(t, e.step.inFlight, "step %d at %v: nothing to do", k, at)
				var got []share
				for _, s := range e.running {
					if s.scheduled > 0 {
						got = append(got, share{rec.Requests[s.ID].ID, s.computed, s.scheduled})
					}
				}
				require.Equal(t, step.Tokens, got, "step %d at %v", k, at)
				require.ElementsMatch(t, step.Preempted, preempted, "step %d at %v", k, at)
				require.Equal(t, step.Running, len(e.running), "step %d at %v", k, at)
				require.Equal(t, step.Waiting, e.waiting.len, "step %d at %v", k, at)
				require.InDelta(t, step.Used, e.Stats().KVUsage, 1e-5, "step %d at %v", k, at)

				// The step lasts until the next is planned; before a pause, until its output is there.
				e.step.end, e.step.shortestLeft = millis(step.Ended), 0
				if k+1 < len(rec.Steps) && slices.ContainsFunc(rec.Steps[k+1].Tokens, func(s share) bool { return added[s.request] <= step.Ended }) {
					e.step.end = millis(rec.Steps[k+1].Planned)
				}
			}
			require.Equal(t, len(rec.Requests), next)
			e.Advance(e.step.end)
			require.Zero(t, e.Stats().Running+e.Stats().Waiting)
			for i, r := range rec.Requests {
				require.Equal(t, r.Cached, cached[i], "cached tokens of request %s", r.ID)
			}
			requireSameEvents(t, rec.Events, events)
		})
	}
}

// requireSameEvents compares block by block: how many travel in one event is the engine's choice.
func requireSameEvents(t *testing.T, want, got []recordedEvent) {
	type change struct {
		Hash, Parent uint64
		Removed      bool
	}
	flat := func(events []recordedEvent) (out []change) {
		for _, e := range events {
			parent := e.Parent
			for _, h := range e.Stored {
				out = append(out, change{Hash: h, Parent: parent})
				parent = h
			}
			for _, h := range e.Removed {
				out = append(out, change{Hash: h, Removed: true})
			}
		}
		return out
	}
	w, g := flat(want), flat(got)
	for i := range min(len(w), len(g)) {
		require.Equal(t, w[i], g[i], "change %d of the cache", i)
	}
	require.Len(t, g, len(w))
}
