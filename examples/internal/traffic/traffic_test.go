package traffic

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/inferloom/inferloom/internal/workload"
)

func parsed(t *testing.T, args string) (Options, []string) {
	t.Helper()
	o := Options{Kind: Chats, Rate: 2, Pause: 1}
	f := flag.NewFlagSet("test", flag.ContinueOnError)
	o.Flags(f)
	require.NoError(t, f.Parse(strings.Fields(args)))
	var problems []string
	o.Validate(func(name string, value any, want string) {
		problems = append(problems, fmt.Sprintf("-%s is %v, want %s", name, value, want))
	})
	return o, problems
}

// first returns the first n requests.
func first(t *testing.T, o Options, seed uint64, n int) []workload.Request {
	t.Helper()
	source, _, err := o.Source(seed)
	require.NoError(t, err)
	var all []workload.Request
	for r, err := range workload.Limit(source, n) {
		require.NoError(t, err)
		all = append(all, r)
	}
	return all
}

func TestGeneratedRequests(t *testing.T) {
	o, problems := parsed(t, "-workload single -rate 50 -input 100 -output 10")
	require.Empty(t, problems)
	all := first(t, o, 1, 2000)
	for _, r := range all {
		require.Equal(t, []any{100, 10, 0, true}, []any{r.InputTokens, r.OutputTokens, r.Turn, r.Last})
	}
	assert.InEpsilon(t, 40, all[1999].At.Seconds(), 0.1)
	assert.NotEqual(t, all[0].Messages, first(t, o, 2, 1)[0].Messages, "another seed is other text")

	faster := first(t, o.At(2), 1, 2000)
	assert.InEpsilon(t, 20, faster[1999].At.Seconds(), 0.1)

	o, _ = parsed(t, "-workload single")
	r := first(t, o, 1, 1)[0]
	assert.Equal(t, []int{1024, 128}, []int{r.InputTokens, r.OutputTokens})
	o, _ = parsed(t, "-turns 5 -adapters a,b -input 300")
	later, adapters := 0, map[string]bool{}
	for _, r := range first(t, o, 1, 500) {
		if r.Turn > 0 {
			later++
		}
		adapters[r.Adapter] = true
	}
	assert.Greater(t, later, 200)
	assert.Equal(t, map[string]bool{"a": true, "b": true}, adapters)
}

func TestTraces(t *testing.T) {
	path := filepath.Join(t.TempDir(), "trace.jsonl")
	require.NoError(t, os.WriteFile(path, []byte(`{"timestamp": 0, "input_length": 10, "output_length": 5, "hash_ids": [1]}
{"timestamp": 3000, "input_length": 10, "output_length": 5, "hash_ids": [1]}
`), 0o600))
	o, problems := parsed(t, "-scale 2 -trace "+path)
	require.Empty(t, problems)
	assert.Equal(t, 1500*time.Millisecond, first(t, o, 1, 2)[1].At)
	assert.Equal(t, 500*time.Millisecond, first(t, o.At(3), 1, 2)[1].At)
	_, text, err := o.Source(1)
	require.NoError(t, err)
	assert.Contains(t, text, "mooncake")
}

func TestOptionsAreCheckedAtOnce(t *testing.T) {
	_, problems := parsed(t, "-workload x -rate 0 -scale -1 -burst 0 -input -1 -output -1 -spread -1 -turns 0.5 -pause 0 -trace /no/such")
	assert.Len(t, problems, 10)
	assert.Contains(t, strings.Join(problems, "\n"), `-trace is "/no/such", want a file that can be read (no such file or directory)`)
}
