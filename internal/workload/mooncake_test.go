package workload

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

const line = `{"timestamp": 0, "input_length": 600, "output_length": 5, "hash_ids": [0, 1]}`

// read returns what a trace holds, and how reading it ended.
func read(r io.Reader) ([]Request, error) {
	var all []Request
	for request, err := range Mooncake(r) {
		if err != nil {
			return all, err
		}
		all = append(all, request)
	}
	return all, nil
}

func TestMooncake(t *testing.T) {
	requests, err := read(strings.NewReader(`{"timestamp": 5000, "input_length": 600, "output_length": 5, "hash_ids": [0, 1]}

		{"timestamp": 8000, "input_length": 1100, "output_length": 6, "hash_ids": [0, 1, 2], "extra": null}`))
	require.NoError(t, err)
	assert.Equal(t, []Request{
		{
			At: 0, Session: 0, Last: true, InputTokens: 600, OutputTokens: 5,
			Messages: []Message{{User, []Piece{{0, 512}, {1, 88}}}},
		},
		{
			At: 3 * time.Second, Session: 1, Conversation: 1, Last: true, InputTokens: 1100, OutputTokens: 6,
			Messages: []Message{{User, []Piece{{0, 512}, {1, 512}, {2, 76}}}},
		},
	}, requests)
	shorter := requests[0].Messages[0].AppendText(nil)
	longer := requests[1].Messages[0].AppendText(nil)
	assert.Len(t, shorter, 600*BytesPerToken)
	assert.Equal(t, string(shorter), string(longer[:len(shorter)]), "equal IDs are equal text")
}

func TestBrokenTraces(t *testing.T) {
	trace := func(stamp, input, output, ids string) string {
		return fmt.Sprintf(`{"timestamp": %s, "input_length": %s, "output_length": %s, "hash_ids": %s}`, stamp, input, output, ids)
	}
	for name, tt := range map[string]struct{ second, want string }{
		"no JSON":          {`hello`, "invalid character"},
		"cut short":        {`{"timestamp": 0, "inp`, "unexpected end"},
		"two objects":      {line + line, "invalid character"},
		"an array":         {`[]`, "cannot unmarshal array"},
		"null":             {`null`, "timestamp is missing"},
		"no fields":        {`{}`, "timestamp is missing"},
		"no input":         {`{"timestamp":0,"output_length":1,"hash_ids":[1]}`, "input_length is missing"},
		"no output":        {`{"timestamp":0,"input_length":1,"hash_ids":[1]}`, "output_length is missing"},
		"no blocks":        {`{"timestamp":0,"input_length":1,"output_length":1}`, "0 hash_ids for input_length 1, want 1"},
		"negative time":    {trace("-1", "1", "1", "[1]"), "timestamp is -1"},
		"fractional time":  {trace("0.5", "1", "1", "[1]"), "number 0.5"},
		"huge time":        {trace("9223372036854775807", "1", "1", "[1]"), "too far"},
		"zero input":       {trace("0", "0", "1", "[]"), "input_length is 0"},
		"huge input":       {trace("0", "2000000000", "1", "[]"), "input_length is 2000000000"},
		"zero output":      {trace("0", "1", "0", "[1]"), "output_length is 0"},
		"too few blocks":   {trace("0", "513", "1", "[1]"), "1 hash_ids for input_length 513, want 2"},
		"too many blocks":  {trace("0", "512", "1", "[1, 2]"), "2 hash_ids for input_length 512, want 1"},
		"negative block":   {trace("0", "512", "1", "[-1]"), "number -1"},
		"block of text":    {trace("0", "512", "1", `["a"]`), "cannot unmarshal string"},
		"very long":        {strings.Repeat(" ", maxLineBytes+1), "longer than 1048576 bytes"},
		"back in time":     {line + "\n" + trace("-1", "1", "1", "[1]"), "line 3: timestamp is -1"},
		"everything wrong": {trace("-1", "0", "0", "[]"), "output_length is 0"},
	} {
		t.Run(name, func(t *testing.T) {
			requests, err := read(strings.NewReader(line + "\n" + tt.second + "\n" + line))
			require.ErrorContains(t, err, tt.want)
			assert.ErrorContains(t, err, "line ")
			assert.NotEmpty(t, requests, "what came before the broken line is good")
		})
	}
	_, err := read(strings.NewReader(trace("3000", "1", "1", "[1]") + "\n" + trace("2999", "1", "1", "[1]")))
	assert.EqualError(t, err, "line 2: timestamp 2999 is before the 3000 of an earlier line, want them in order")
}

func TestATraceIsReadAsItIsUsed(t *testing.T) {
	broken := errors.New("disk on fire")
	requests, err := read(io.MultiReader(strings.NewReader(line+"\n"), iotest.ErrReader(broken)))
	assert.Len(t, requests, 1)
	require.ErrorIs(t, err, broken)
	assert.ErrorContains(t, err, "line 2")

	requests, err = read(strings.NewReader("\n \n"))
	assert.NoError(t, err)
	assert.Empty(t, requests)
}

// TestPublishedTrace checks the numbers that Chats was made from against the trace itself, if MOONCAKE_TRACE names it.
func TestPublishedTrace(t *testing.T) {
	path := os.Getenv("MOONCAKE_TRACE")
	if path == "" {
		t.Skip("MOONCAKE_TRACE is not set")
	}
	f, err := os.Open(path)
	require.NoError(t, err)
	defer f.Close()
	requests, err := read(f)
	require.NoError(t, err)
	require.Len(t, requests, 12031)
	seen := map[uint64]bool{}
	blocks, repeated := 0, 0
	for _, r := range requests {
		for _, p := range r.Messages[0].Pieces {
			blocks++
			if seen[p.ID] {
				repeated++
			}
			seen[p.ID] = true
		}
	}
	assert.InDelta(t, 0.37, float64(repeated)/float64(blocks), 0.005)
	assert.InDelta(t, 3537, requests[len(requests)-1].At.Seconds(), 1)
}

func FuzzMooncake(f *testing.F) {
	f.Add(line)
	f.Add(line + "\n\n" + strings.Replace(line, `"timestamp": 0`, `"timestamp": 3000`, 1))
	f.Add(`{"timestamp": 1e3, "input_length": 1, "output_length": 1, "hash_ids": [18446744073709551615]}`)
	f.Add("\ufeff" + line)
	f.Fuzz(func(t *testing.T, trace string) {
		at, requests, failed := time.Duration(0), 0, false
		for r, err := range Mooncake(bufio.NewReader(strings.NewReader(trace))) {
			require.False(t, failed, "an error is the last thing")
			if err != nil {
				require.ErrorContains(t, err, "line ")
				failed = true
				continue
			}
			require.GreaterOrEqual(t, r.At, at)
			at = r.At
			require.Equal(t, requests, r.Session)
			require.Positive(t, r.OutputTokens)
			require.Equal(t, r.InputTokens, r.Messages[0].Tokens())
			for _, p := range r.Messages[0].Pieces {
				require.Positive(t, p.Tokens)
			}
			requests++
		}
	})
}

// FuzzMooncakeLine holds the quick parser to encoding/json: what it takes, it reads alike.
func FuzzMooncakeLine(f *testing.F) {
	for _, l := range []string{line, `{"hash_ids":[],"timestamp":1 , "input_length":2,"output_length":3}`, `{}`, `{"timestamp":01}`, `{"timestamp":1,"timestamp":2}`, `{"timestamp":-1}`} {
		f.Add(l)
	}
	f.Fuzz(func(t *testing.T, line string) {
		var quick, slow mooncakeLine
		if quick.parse([]byte(line)) {
			require.NoError(t, slow.decode([]byte(line)))
			if len(quick.blocks)+len(slow.blocks) == 0 {
				quick.blocks, slow.blocks = nil, nil
			}
			slow.has |= quick.has & hasBlocks
			require.Equal(t, slow, quick)
		}
	})
}
