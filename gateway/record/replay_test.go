package record_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/inferloom/inferloom/gateway/record"
	"github.com/inferloom/inferloom/internal/testenv"
	"github.com/inferloom/inferloom/internal/workload"
)

// usage is what an engine tells a client.
type usage struct {
	Prompt     int `json:"prompt_tokens"`
	Completion int `json:"completion_tokens"`
	Details    struct {
		Cached int `json:"cached_tokens"`
	} `json:"prompt_tokens_details"`
}

// ask sends a completion and returns its usage.
func ask(t *testing.T, url, model, prompt, session, user string, tokens int) (u usage, status int) {
	t.Helper()
	body, err := json.Marshal(map[string]any{"model": model, "prompt": prompt, "max_tokens": tokens, "user": user, "priority": -2})
	require.NoError(t, err)
	r, err := http.NewRequest(http.MethodPost, url+"/v1/completions", bytes.NewReader(body))
	require.NoError(t, err)
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set("X-Session-Id", session)
	answer, err := http.DefaultClient.Do(r)
	require.NoError(t, err)
	defer answer.Body.Close()
	var v struct{ Usage usage }
	require.NoError(t, json.NewDecoder(answer.Body).Decode(&v))
	return v.Usage, answer.StatusCode
}

// hits is how many of all blocks an unbounded cache would have, the blocks of each request being named in order.
func hits(requests [][]string) (hit, total int) {
	seen := map[string]bool{}
	for _, blocks := range requests {
		for _, b := range blocks {
			if total++; seen[b] {
				hit++
			}
			seen[b] = true
		}
	}
	return hit, total
}

// A real gateway and simulated engines serve conversations; the recording, replayed, is what they served.
func TestAReplayIsWhatWasServed(t *testing.T) {
	const blockTokens = 32
	path := filepath.Join(t.TempDir(), "traffic.jsonl")
	recorder, err := record.New(record.Options{Path: path, BlockTokens: blockTokens})
	require.NoError(t, err)
	cluster := testenv.NewCluster(t, 3)
	cluster.Records.Tell(recorder)

	var mu sync.Mutex
	var sent [][]string
	counts := map[string]int{}
	var clients sync.WaitGroup
	for session := range 8 {
		clients.Go(func() {
			model := []string{"m", "poet"}[session%2]
			prompt := string(workload.Piece{ID: 1, Tokens: 200}.AppendText(nil)) // a system prompt
			for turn := range 5 {
				prompt += string(workload.Piece{ID: uint64(100 + 10*session + turn), Tokens: 50 + 7*session}.AppendText(nil))
				u, status := ask(t, cluster.URL, model, prompt, fmt.Sprint("s", session), fmt.Sprint("u", session%3), 5+turn)
				if status != http.StatusOK {
					t.Errorf("status %d", status)
					return
				}
				var blocks []string
				for end := 4 * blockTokens; end <= len(prompt); end += 4 * blockTokens {
					blocks = append(blocks, model+prompt[:end])
				}
				mu.Lock()
				sent = append(sent, blocks)
				counts[fmt.Sprint(u.Prompt, " ", u.Completion)]++
				mu.Unlock()
			}
		})
	}
	clients.Wait()
	_, status := ask(t, cluster.URL, "nobody", "hello", "", "", 1)
	require.Equal(t, http.StatusNotFound, status)
	cluster.RequireIdle(t)
	require.NoError(t, recorder.Close())
	require.Equal(t, record.Stats{Written: 41}, recorder.Stats())

	content, err := os.ReadFile(path)
	require.NoError(t, err)
	text := string(workload.Piece{ID: 1, Tokens: 1}.AppendText(nil))
	for _, secret := range []string{text, "hello", `"s1"`, `"u1"`} {
		require.NotContains(t, string(content), secret, "no texts and no names of users")
	}
	require.Contains(t, string(content), `"status":404,"end":"rejected"`)

	source, format, err := workload.Open(path)
	require.NoError(t, err)
	require.Equal(t, workload.RecordFormat, format)
	var replayed [][]string
	sessions, tenants, adapters := map[int]int{}, map[string]int{}, map[string]int{}
	for r, err := range source {
		require.NoError(t, err)
		counts[fmt.Sprint(r.InputTokens, " ", r.OutputTokens)]--
		sessions[r.Conversation]++
		tenants[r.Tenant]++
		adapters[r.Adapter]++
		require.Equal(t, "m", r.Model)
		require.Equal(t, 2, r.Priority)
		var blocks []string
		for _, p := range r.Messages[0].Pieces {
			if p.Tokens == blockTokens {
				blocks = append(blocks, fmt.Sprint(p.ID))
			}
		}
		replayed = append(replayed, blocks)
	}
	for count, left := range counts {
		require.Zero(t, left, "requests of %s tokens, served and not replayed", count)
	}
	require.Len(t, sessions, 8)
	require.Equal(t, map[string]int{"tenant-1": tenants["tenant-1"], "tenant-2": tenants["tenant-2"], "tenant-3": tenants["tenant-3"]}, tenants)
	require.Equal(t, map[string]int{"": 20, "poet": 20}, adapters)
	hit, total := hits(sent)
	hit2, total2 := hits(replayed)
	require.Equal(t, total, total2)
	require.Equal(t, hit, hit2, "prompts share what they shared")
	require.Positive(t, hit)
	require.Less(t, strings.Count(string(content), "["), 41*15, "prompts are few runs of blocks")
}
