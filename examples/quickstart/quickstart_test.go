package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/inferloom/inferloom/examples/internal/program"
	"github.com/inferloom/inferloom/kvcache"
	"github.com/inferloom/inferloom/scheduling/policy"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// policies is the JSON that -json prints, exactly.
type policies struct {
	Policies []struct {
		Name           string  `json:"name"`
		Requests       int     `json:"requests"`
		Errors         int     `json:"errors"`
		TTFT50         float64 `json:"ttft_p50_ms"`
		TTFT95         float64 `json:"ttft_p95_ms"`
		TPOT50         float64 `json:"tpot_p50_ms"`
		PrefixHitRatio float64 `json:"prefix_hit_ratio"`
		OutputRate     float64 `json:"output_tokens_per_s"`
	} `json:"policies"`
}

func TestGeneratedChats(t *testing.T) {
	var stdout, stderr bytes.Buffer
	err := run(t.Context(), strings.Fields("-json -duration 5s -timescale 20 -engines 4"), &stdout, &stderr)
	require.NoError(t, err, stderr.String())

	var got policies
	d := json.NewDecoder(&stdout)
	d.DisallowUnknownFields()
	require.NoError(t, d.Decode(&got))
	_, err = d.Token()
	require.ErrorIs(t, err, io.EOF, "one object and nothing else")

	require.Len(t, got.Policies, 2)
	base, aware := got.Policies[0], got.Policies[1]
	assert.Equal(t, "round-robin", base.Name)
	assert.Equal(t, "prefix-aware", aware.Name)
	assert.Equal(t, base.Requests, aware.Requests)
	for _, p := range got.Policies {
		assert.Zero(t, p.Errors, stderr.String())
		assert.Greater(t, p.Requests, 50)
		assert.Positive(t, p.TTFT50)
		assert.Greater(t, p.TTFT95, p.TTFT50)
		assert.Greater(t, p.TPOT50, 16.0, "a decode step takes 16 ms")
		assert.Positive(t, p.OutputRate)
		assert.Less(t, p.PrefixHitRatio, 1.0)
	}
	assert.Greater(t, base.PrefixHitRatio, 0.0)
	assert.Greater(t, aware.PrefixHitRatio, 1.2*base.PrefixHitRatio)
	assert.Contains(t, stderr.String(), "SIMULATED")
}

// A gateway that knows from events what engines hold is right about what they then find.
func TestKVEvents(t *testing.T) {
	index, err := kvcache.New(kvcache.Options{})
	require.NoError(t, err)
	c, err := startCluster(clusterOptions{
		engines: 2, timeScale: 200, seed: 1, profile: policy.Default(index), index: index, logger: slog.New(slog.DiscardHandler),
	})
	require.NoError(t, err)
	defer c.stop()
	defer http.DefaultClient.CloseIdleConnections()
	ask := func(text string) {
		body := fmt.Sprintf(`{"model":"%s","max_tokens":1,"messages":[{"role":"user","content":"%s"}]}`, model, strings.Repeat(text, 50))
		resp, err := http.Post(c.url+"/v1/chat/completions", "application/json", strings.NewReader(body))
		require.NoError(t, err)
		_, err = io.Copy(io.Discard, resp.Body)
		require.NoError(t, err)
		resp.Body.Close()
		require.Equal(t, 200, resp.StatusCode)
	}
	held := func() int { return index.Stats().Blocks - index.Stats().Guesses }
	ask("hello, how is the weather? ")
	require.Eventually(t, func() bool { return held() > 20 }, 10*time.Second, time.Millisecond)
	ask("hello, how is the weather? ")
	ask("something else entirely, ")
	require.Eventually(t, func() bool { return strings.HasPrefix(c.foundText(), "of 3 requests") }, 10*time.Second, time.Millisecond)
	resp, err := http.Get(c.url + "/kv/workers")
	require.NoError(t, err)
	workers, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	resp.Body.Close()
	assert.Contains(t, string(workers), `"instance_id":"engine-1"`)
	var predicted, found, over int
	_, err = fmt.Sscanf(c.foundText(), "of 3 requests, %d tokens were predicted to be cached and %d were found; %d found less", &predicted, &found, &over)
	require.NoError(t, err)
	assert.Positive(t, predicted)
	assert.Equal(t, predicted, found)
	assert.Zero(t, over)

	all, err := config{kvEvents: true}.contenders()
	require.NoError(t, err)
	require.Equal(t, "prefix-exact", all[2].name)
}

// writeTrace writes a trace in which eight documents of 40 blocks are asked about five times each, and returns its path.
func writeTrace(t *testing.T) string {
	t.Helper()
	var b strings.Builder
	next := 1000
	for turn := range 5 {
		for document := range 8 {
			ids := make([]int, 0, 41)
			ids = append(ids, 0)
			for i := range 39 {
				ids = append(ids, 1+document*39+i)
			}
			ids = append(ids, next)
			next++
			list, err := json.Marshal(ids)
			require.NoError(t, err)
			fmt.Fprintf(&b, `{"timestamp": %d, "input_length": 20600, "output_length": 20, "hash_ids": %s}`+"\n", turn*10_000+document*1_100, list)
		}
	}
	path := filepath.Join(t.TempDir(), "trace.jsonl")
	require.NoError(t, os.WriteFile(path, []byte(b.String()), 0o600))
	return path
}

func TestTrace(t *testing.T) {
	var stdout, stderr bytes.Buffer
	// Seven engines and eight documents: in turn, a document comes to another engine each time.
	err := run(t.Context(), []string{"-trace", writeTrace(t), "-duration", "10s", "-timescale", "10", "-engines", "7"}, &stdout, &stderr)
	require.NoError(t, err, stderr.String())
	assert.Contains(t, stdout.String(), "7 SIMULATED engines")
	assert.Contains(t, stdout.String(), "workload: 40 requests")

	number := regexp.MustCompile(`(?m)^ *(round-robin|prefix-aware) +40 +0 .* ([0-9.]+) % +\d+ +\d+ %`)
	rows := number.FindAllStringSubmatch(stdout.String(), -1)
	require.Len(t, rows, 2, stdout.String())
	hits := func(row []string) float64 {
		percent, err := strconv.ParseFloat(row[2], 64)
		require.NoError(t, err)
		return percent
	}
	// 2 % is the one block that all share. The bound leaves room for requests that overtake each other on a busy machine.
	assert.Less(t, hits(rows[0]), 10.0, "round robin finds no document where it left it")
	assert.Greater(t, hits(rows[1]), 60.0, "prefix-aware finds all but a bit, four times of five")
	assert.Regexp(t, `prefix-aware against round-robin: \d+\.\dx the prefix hit ratio, TTFT p50 [-+]\d+ %, TTFT p95 [-+]\d+ %`, stdout.String())
}

func TestServe(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	stdout, w := io.Pipe()
	ended := make(chan error, 1)
	go func() {
		ended <- run(ctx, strings.Fields("-serve -duration 0 -addr 127.0.0.1:0 -engines 2 -timescale 100"), w, io.Discard)
		w.Close()
	}()

	var text strings.Builder
	lines := bufio.NewScanner(stdout)
	for lines.Scan() && !strings.Contains(lines.Text(), " -d ") {
		text.WriteString(lines.Text())
	}
	curl := regexp.MustCompile(`curl -N (http://\S+) -H 'Content-Type: application/json' \\`).FindStringSubmatch(text.String())
	require.NotNil(t, curl, text.String())
	body := strings.Trim(strings.TrimPrefix(strings.TrimSpace(lines.Text()), "-d "), "'")
	go io.Copy(io.Discard, stdout)

	client := &http.Client{Transport: &http.Transport{}}
	defer client.CloseIdleConnections()
	resp, err := client.Post(curl[1], "application/json", strings.NewReader(body))
	require.NoError(t, err)
	defer resp.Body.Close()
	answer, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	assert.Equal(t, http.StatusOK, resp.StatusCode, string(answer))
	assert.Contains(t, string(answer), "data: [DONE]")

	page, err := client.Get(strings.TrimSuffix(curl[1], "/v1/chat/completions") + "/dashboard")
	require.NoError(t, err)
	defer page.Body.Close()
	assert.Equal(t, http.StatusOK, page.StatusCode)
	_, err = io.Copy(io.Discard, page.Body)
	require.NoError(t, err)

	cancel()
	assert.NoError(t, <-ended, "an interrupt is how serving ends")
}

// signalWriter closes seen when something is written that contains a text.
type signalWriter struct {
	text string
	seen chan struct{}
	once bool
}

func (w *signalWriter) Write(p []byte) (int, error) {
	if !w.once && bytes.Contains(p, []byte(w.text)) {
		w.once = true
		close(w.seen)
	}
	return len(p), nil
}

func TestInterrupt(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	stderr := &signalWriter{text: "under way", seen: make(chan struct{})}
	ended := make(chan error, 1)
	var stdout bytes.Buffer
	go func() { ended <- run(ctx, strings.Fields("-json -duration 1m -engines 2"), &stdout, stderr) }()
	<-stderr.seen
	cancel()
	require.ErrorIs(t, <-ended, errInterrupted)
	assert.Empty(t, stdout.String(), "no half of a comparison")
}

func TestBadCommandLines(t *testing.T) {
	broken := filepath.Join(t.TempDir(), "broken.jsonl")
	require.NoError(t, os.WriteFile(broken, []byte("\n{}\n"), 0o600))
	for args, want := range map[string]string{
		"-duration 5":              `invalid value "5" for flag -duration`,
		"-duration -5s":            "-duration is -5s, want 0 or more",
		"-duration 0":              "-duration is 0s, want more than 0 without -serve",
		"-engines 0":               "-engines is 0, want 1 to 256",
		"-engines many":            `invalid value "many" for flag -engines`,
		"-seed -1":                 `invalid value "-1" for flag -seed`,
		"-timescale 0":             "-timescale is 0, want above 0",
		"-timescale NaN":           "-timescale is NaN, want above 0",
		"-addr 8080":               `-addr is "8080", want host:port`,
		"-serve -addr 127.0.0.1:x": `-addr is "127.0.0.1:x"`,
		"-trace /does/not/exist":   `-trace is "/does/not/exist": open`,
		"-trace " + broken:         "line 2: timestamp is missing",
		"-nonsense":                "flag provided but not defined: -nonsense",
		"more":                     `unexpected argument "more"`,
	} {
		t.Run(args, func(t *testing.T) {
			err := run(t.Context(), strings.Fields(args), io.Discard, io.Discard)
			require.ErrorAs(t, err, new(program.UsageError))
			assert.ErrorContains(t, err, want)
		})
	}
}
