package record_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/inferloom/inferloom/gateway"
	"github.com/inferloom/inferloom/gateway/api"
	"github.com/inferloom/inferloom/gateway/record"
	"github.com/inferloom/inferloom/scheduling"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// answered is the record of a request with a prompt of tokens from first on, that arrived so many seconds after start.
func answered(seconds int, first, tokens uint32) gateway.Record {
	ids := make([]uint32, tokens)
	for i := range ids {
		ids[i] = first + uint32(i)
	}
	return gateway.Record{
		Start: start.Add(time.Duration(seconds) * time.Second), Model: "m", Endpoint: "e", Attempts: 1,
		PromptKind: gateway.PromptTokenized, PromptTokens: int(tokens), Status: 200,
		Usage:   api.Usage{PromptTokens: int(tokens), CompletionTokens: 3, Known: api.PromptCount | api.CompletionCount},
		Request: &scheduling.Request{Model: "m", Prompt: scheduling.Prompt{Tokens: ids}},
		TTFT:    time.Second, Total: 2 * time.Second,
	}
}

func recorder(t testing.TB, o record.Options) *record.Recorder {
	t.Helper()
	o.Now = func() time.Time { return start }
	r, err := record.New(o)
	require.NoError(t, err)
	t.Cleanup(func() { r.Close() })
	return r
}

func entriesOf(t *testing.T, path string) []record.Entry {
	t.Helper()
	f, err := os.Open(path)
	require.NoError(t, err)
	defer f.Close()
	entries, err := readAll(f)
	require.NoError(t, err)
	return entries
}

func TestWhatIsRecorded(t *testing.T) {
	path := filepath.Join(t.TempDir(), "trace")
	r := recorder(t, record.Options{Path: path, BlockTokens: 16})
	refused := &gateway.Rejection{Status: 429}
	failed := answered(4, 0, 64)
	failed.Err = &gateway.EngineError{Endpoint: "e"}
	failed.Attempts, failed.Status, failed.Usage = 2, 502, api.Usage{}
	failed.PromptKind = gateway.PromptEstimated
	failed.Request.Tenant, failed.Request.Session, failed.Request.Priority, failed.Request.MaxTokens = "t", "s", -1, 9
	for _, rec := range []gateway.Record{
		answered(1, 0, 70), answered(2, 0, 100), answered(3, 5, 20), failed,
		{Start: start.Add(5 * time.Second), Status: 429, Err: refused},
		{Start: start.Add(-time.Hour), Status: 499, Err: gateway.ErrClientGone},
	} {
		r.Observe(rec)
	}
	require.NoError(t, r.Close())
	require.Equal(t, record.Stats{Written: 6, Late: 1}, r.Stats())
	second := time.Second
	require.Equal(t, []record.Entry{
		{At: second, Model: "m", InputTokens: 70, OutputTokens: 3, Blocks: []record.Run{{First: 0, Count: 4}}, Endpoint: "e", TTFT: second, Total: 2 * second},
		{At: 2 * second, Model: "m", InputTokens: 100, OutputTokens: 3, Blocks: []record.Run{{First: 0, Count: 6}}, Endpoint: "e", TTFT: second, Total: 2 * second},
		{At: 3 * second, Model: "m", InputTokens: 20, OutputTokens: 3, Blocks: []record.Run{{First: 6, Count: 1}}, Endpoint: "e", TTFT: second, Total: 2 * second},
		{At: 4 * second, Model: "m", Tenant: 1, Session: 1, Priority: -1, MaxTokens: 9, InputTokens: 64, Estimated: true, Blocks: []record.Run{{First: 0, Count: 4}},
			Endpoint: "e", Tries: 2, TTFT: second, Total: 2 * second, Status: 502, End: "failed"},
		{At: 5 * second, Status: 429, End: "rejected", Estimated: true},
		{At: 0, Status: 499, End: "client left", Estimated: true},
	}, entriesOf(t, path))

	r.Observe(answered(6, 0, 16))
	require.EqualValues(t, 1, r.Stats().Dropped, "after Close")
	require.NoError(t, r.Close())
	info, err := os.Stat(path)
	require.NoError(t, err)
	require.Equal(t, os.FileMode(0o600), info.Mode().Perm())
}

// Prompts in different caches share nothing, however alike they are.
func TestBlocksAreApartWhereCachesAre(t *testing.T) {
	path := filepath.Join(t.TempDir(), "trace")
	r := recorder(t, record.Options{Path: path, BlockTokens: 16})
	for _, edit := range []func(*scheduling.Request){
		func(*scheduling.Request) {},
		func(q *scheduling.Request) { q.Adapter = "a" },
		func(q *scheduling.Request) { q.Model = "n" },
		func(q *scheduling.Request) { q.Prompt.Salt = "s" },
		func(q *scheduling.Request) { q.Prompt.Text, q.Prompt.Tokens = make([]byte, 64), nil },
		func(*scheduling.Request) {},
	} {
		rec := answered(1, 0, 16)
		edit(rec.Request)
		r.Observe(rec)
	}
	require.NoError(t, r.Close())
	var first []uint64
	for _, e := range entriesOf(t, path) {
		require.Equal(t, 1, e.Blocks[0].Count)
		first = append(first, e.Blocks[0].First)
	}
	require.Equal(t, []uint64{0, 1, 2, 3, 4, 0}, first)
}

func TestAFileIsContinued(t *testing.T) {
	path := filepath.Join(t.TempDir(), "trace")
	require.NoError(t, os.WriteFile(path, []byte(headerLine+entryLine+entryLine[:20]), 0o600))
	for range 2 {
		r := recorder(t, record.Options{Path: path, BlockTokens: 16})
		r.Observe(answered(1, 0, 32))
		require.NoError(t, r.Close())
	}
	entries := entriesOf(t, path)
	require.Len(t, entries, 3)
	require.NotEqual(t, entries[1].Blocks, entries[2].Blocks, "each run has numbers of its own")
}

func TestFilesArePutAside(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "trace")
	r := recorder(t, record.Options{Path: path, BlockTokens: 16, RotateBytes: 2000})
	const n = 100
	for i := range n {
		r.Observe(answered(i, 0, 160))
	}
	require.NoError(t, r.Close())
	require.EqualValues(t, n, r.Stats().Written)
	files, err := filepath.Glob(path + ".*")
	require.NoError(t, err)
	require.Greater(t, len(files), 4)
	// The names sort by length, then by themselves: one moment, as the test's clock stands.
	var together []byte
	total := 0
	for _, name := range append(byLength(files), path) {
		info, err := os.Stat(name)
		require.NoError(t, err)
		require.Less(t, info.Size(), int64(2200))
		total += len(entriesOf(t, name))
		content, err := os.ReadFile(name)
		require.NoError(t, err)
		together = append(together, content...)
	}
	require.Equal(t, n, total)
	all := filepath.Join(dir, "all")
	require.NoError(t, os.WriteFile(all, together, 0o600))
	for i, e := range entriesOf(t, all) {
		require.Equal(t, time.Duration(i)*time.Second, e.At, "the time goes on")
		require.Equal(t, []record.Run{{First: 0, Count: 10}}, e.Blocks, "and so do the numbers")
	}
}

func byLength(names []string) []string {
	var sorted []string
	for length := range 500 {
		for _, name := range names {
			if len(name) == length {
				sorted = append(sorted, name)
			}
		}
	}
	return sorted
}

func TestAFailingDiskEndsRecordingOnly(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "dir")
	require.NoError(t, os.Mkdir(dir, 0o700))
	r := recorder(t, record.Options{Path: filepath.Join(dir, "trace"), RotateBytes: 1})
	require.NoError(t, os.RemoveAll(dir))
	for i := range 10 {
		r.Observe(answered(i, 0, 16))
	}
	require.ErrorIs(t, r.Close(), os.ErrNotExist)
	stats := r.Stats()
	require.EqualValues(t, 10, stats.Written+stats.Dropped)
	require.GreaterOrEqual(t, stats.Dropped, uint64(9))
	require.ErrorContains(t, stats.Err, "recording to "+dir)
}

func TestARecorderIsSafeForConcurrentUse(t *testing.T) {
	path := filepath.Join(t.TempDir(), "trace")
	r := recorder(t, record.Options{Path: path, Queue: 64})
	var observers sync.WaitGroup
	const n, each = 8, 200
	for i := range n {
		observers.Go(func() {
			for k := range each {
				r.Observe(answered(i*each+k, uint32(i), 640))
				if i == 0 && k == each/2 {
					observers.Go(func() { r.Close() })
				}
			}
		})
	}
	observers.Wait()
	require.NoError(t, r.Close())
	stats := r.Stats()
	require.EqualValues(t, n*each, stats.Written+stats.Dropped)
	require.Len(t, entriesOf(t, path), int(stats.Written))
}

func TestOptionsAreChecked(t *testing.T) {
	_, err := record.New(record.Options{BlockTokens: -1, RememberBlocks: -2, Queue: -3, RotateBytes: -4, Window: -5})
	for _, problem := range []string{"path: empty", "block tokens -1", "remember blocks -2", "queue -3", "rotate bytes -4", "window -5ns"} {
		require.ErrorContains(t, err, problem)
	}
	_, err = record.New(record.Options{Path: filepath.Join(t.TempDir(), "missing", "trace")})
	require.ErrorIs(t, err, os.ErrNotExist)
	_, err = record.NewWriter(nil, record.Header{Window: -1})
	require.ErrorContains(t, err, "block_tokens is 0")
	broken := errors.New("broken")
	_, err = record.NewWriter(failing{broken}, header("a"))
	require.ErrorIs(t, err, broken)
}

type failing struct{ err error }

func (f failing) Write([]byte) (int, error) { return 0, f.err }

func BenchmarkObserve(b *testing.B) {
	for _, tokens := range []uint32{0, 1000, 10000} {
		b.Run(fmt.Sprintf("tokens=%d", tokens), func(b *testing.B) {
			r := recorder(b, record.Options{Path: filepath.Join(b.TempDir(), "trace"), Queue: 1 << 16})
			rec := answered(0, 0, tokens)
			b.ReportAllocs()
			for b.Loop() {
				r.Observe(rec)
			}
			b.ReportMetric(float64(r.Stats().Dropped)/float64(b.N), "dropped/op")
		})
	}
}
