package record_test

import (
	"bytes"
	"compress/gzip"
	"errors"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/inferloom/inferloom/gateway/record"
)

var start = time.Date(2026, 11, 22, 21, 0, 0, 500e6, time.UTC)

func header(ids string) record.Header {
	return record.Header{Start: start, IDs: ids, BlockTokens: 16, Window: time.Minute}
}

const (
	headerLine = `{"inferloom_trace":1,"start":"2026-11-22T21:00:00.5Z","ids":"a","block_tokens":16,"window_us":60000000}` + "\n"
	entryLine  = `{"t":1250000,"in":1502,"out":200,"cached":1024,"blocks":[[0,16],[40,7]],"tenant":1,"ep":"engine-3","ttft":81000,"total":3200000}` + "\n"
)

// readAll returns the entries of a trace and how reading it ended, nil for its end.
func readAll(r io.Reader) (all []record.Entry, err error) {
	reader := record.NewReader(r)
	for {
		var e record.Entry
		if err := reader.Next(&e); err != nil {
			if again := reader.Next(&e); again != err {
				return all, errors.New("an error is not the last thing")
			}
			if err == io.EOF {
				err = nil
			}
			return all, err
		}
		all = append(all, e)
	}
}

func TestWhatIsWrittenIsRead(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		number := func(name string) int { return rapid.IntRange(0, 1<<27).Draw(t, name) }
		span := func(name string) time.Duration {
			return time.Duration(rapid.Int64Range(0, 1e12).Draw(t, name)) * time.Microsecond
		}
		text := rapid.String().Filter(func(s string) bool { return !strings.ContainsRune(s, '\ufffd') })
		want := rapid.SliceOf(rapid.Custom(func(t *rapid.T) record.Entry {
			return record.Entry{
				At: span("at"), Tenant: rapid.Uint64Range(0, 9).Draw(t, "tenant"), Session: rapid.Uint64Range(0, 9).Draw(t, "session"),
				Model: text.Draw(t, "model"), Adapter: text.Draw(t, "adapter"), Priority: rapid.Int().Draw(t, "priority"),
				Stream: rapid.Bool().Draw(t, "stream"), MaxTokens: number("max"),
				InputTokens: number("in"), OutputTokens: number("out"), CachedTokens: number("cached"),
				Estimated: rapid.Bool().Draw(t, "estimated"),
				Blocks: rapid.SliceOfN(rapid.Custom(func(t *rapid.T) record.Run {
					return record.Run{First: rapid.Uint64Range(0, 1<<40).Draw(t, "first"), Count: rapid.IntRange(1, 1<<20).Draw(t, "count")}
				}), 0, 20).Draw(t, "blocks"),
				Endpoint: text.Draw(t, "endpoint"), Tries: rapid.SampledFrom([]int{0, 2, 3}).Draw(t, "tries"), TTFT: span("ttft"), Total: span("total"),
				Status: rapid.SampledFrom([]int{0, 404, 503}).Draw(t, "status"), End: text.Draw(t, "end"),
			}
		})).Draw(t, "entries")
		var b bytes.Buffer
		h := header("x")
		h.Window = 1e6 * time.Second
		w, err := record.NewWriter(&b, h)
		require.NoError(t, err)
		for i := range want {
			require.NoError(t, w.Write(&want[i]))
		}
		require.Zero(t, w.Late())
		got, err := readAll(&b)
		require.NoError(t, err)
		require.Len(t, got, len(want))
		for i := range want {
			require.Empty(t, cmp.Diff(want[i], got[i], cmpopts.EquateEmpty()))
		}
	})
}

func TestTheFormatIsAsDocumented(t *testing.T) {
	entries, err := readAll(strings.NewReader(headerLine + entryLine + "\n" + `{"t":0,"new":[1,{}]}`))
	require.NoError(t, err, "empty lines and unknown fields are passed over, and the last line needs no end")
	require.Equal(t, []record.Entry{
		{
			At: 1250 * time.Millisecond, InputTokens: 1502, OutputTokens: 200, CachedTokens: 1024,
			Blocks: []record.Run{{First: 0, Count: 16}, {First: 40, Count: 7}}, Tenant: 1,
			TTFT: 81 * time.Millisecond, Total: 3200 * time.Millisecond, Endpoint: "engine-3",
		},
		{},
	}, entries)
	var b bytes.Buffer
	w, err := record.NewWriter(&b, header("a"))
	require.NoError(t, err)
	require.NoError(t, w.Write(&entries[0]))
	require.Equal(t, headerLine+entryLine, b.String())
}

func TestBrokenTraces(t *testing.T) {
	for name, row := range map[string]struct{ trace, want string }{
		"no header":         {entryLine, "line 1: the first line is no header"},
		"no JSON":           {"hello\n", "line 1: header: invalid character"},
		"another version":   {`{"inferloom_trace":2}`, "line 1: inferloom_trace is version 2, want 1"},
		"no block size":     {`{"inferloom_trace":1,"start":"2026-11-22T21:00:00Z"}`, "line 1: block_tokens is 0"},
		"no start":          {`{"inferloom_trace":1,"block_tokens":16}`, "start is 0001-01-01"},
		"negative window":   {`{"inferloom_trace":1,"block_tokens":16,"window_us":-1}`, "window_us is -1"},
		"another size":      {headerLine + strings.Replace(headerLine, "16", "32", 1), "line 2: block_tokens changes from 16 to 32"},
		"a broken line":     {headerLine + "{\"t\":\n" + entryLine, "line 2: unexpected end of JSON input"},
		"two broken lines":  {headerLine + "{\"t\":\n{\n" + headerLine, "line 2: unexpected end of JSON input"},
		"no time":           {headerLine + `{}` + "\n", "line 2: t is missing"},
		"negative time":     {headerLine + `{"t":-1}` + "\n", "line 2: t is -1"},
		"all that is wrong": {headerLine + `{"t":0,"in":-1,"out":-2}` + "\n", "in is -1, want 0 to 134217728\nout is -2"},
		"out of order":      {headerLine + `{"t":60000001}` + "\n" + `{"t":0}` + "\n", "line 3: t is 0, which is out of order by more than window_us allows, 60000000"},
		"an empty run":      {headerLine + `{"t":0,"blocks":[[1,0]]}` + "\n", "blocks[0] is [1 0]"},
		"too many blocks":   {headerLine + `{"t":0,"blocks":[[0,134217728],[0,1]]}` + "\n", "134217729 blocks"},
		"a huge number":     {headerLine + `{"t":0,"blocks":[[18446744073709551615,1]]}` + "\n", "blocks[0] is"},
		"text for a number": {headerLine + `{"t":"0"}` + "\n", "cannot unmarshal string"},
		"a long line":       {headerLine + strings.Repeat("x", 1<<20+1) + "\n", "line 2: longer than 1048576 bytes"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := readAll(strings.NewReader(row.trace))
			require.ErrorContains(t, err, row.want)
		})
	}
}

// A gateway that is killed leaves a part of a line.
func TestATraceIsReadUpToWhereItIsCut(t *testing.T) {
	whole := headerLine + entryLine + entryLine
	for cut := len(headerLine); cut < len(whole); cut++ {
		entries, err := readAll(strings.NewReader(whole[:cut]))
		rest := (cut - len(headerLine)) % len(entryLine)
		if rest == 0 || rest == len(entryLine)-1 { // only the end of the line is missing
			require.NoError(t, err)
		} else {
			require.ErrorIs(t, err, io.ErrUnexpectedEOF)
			require.ErrorContains(t, err, "line ")
		}
		require.Len(t, entries, (cut-len(headerLine)+1)/len(entryLine))

		entries, err = readAll(strings.NewReader(whole[:cut] + "\n" + headerLine + entryLine))
		require.NoError(t, err, "the next gateway goes on behind it")
		require.Len(t, entries, (cut-len(headerLine)+1)/len(entryLine)+1)
	}
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	io.WriteString(z, whole)
	z.Flush()
	unpacked, err := gzip.NewReader(&b)
	require.NoError(t, err)
	entries, err := readAll(unpacked)
	require.ErrorIs(t, err, io.ErrUnexpectedEOF)
	require.Len(t, entries, 2)
}

func TestNumbersOfDifferentGatewaysStayApart(t *testing.T) {
	section := func(ids string, at time.Time, numbers ...uint64) string {
		var b strings.Builder
		h := header(ids)
		h.Start = at
		w, err := record.NewWriter(&b, h)
		require.NoError(t, err)
		for i, n := range numbers {
			require.NoError(t, w.Write(&record.Entry{
				At: time.Duration(i) * time.Second, Tenant: n, Session: n, Blocks: []record.Run{{First: n, Count: 3}},
			}))
		}
		return b.String()
	}
	entries, err := readAll(strings.NewReader(section("a", start, 5) + section("b", start.Add(time.Hour), 0, 5) + section("a", start, 5) +
		section("b", start.Add(-time.Hour), 5) + section("b", start.Add(-time.Hour), 5, 5)))
	require.NoError(t, err)
	var blocks, tenants []uint64
	var at []time.Duration
	for _, e := range entries {
		blocks = append(blocks, e.Blocks[0].First)
		tenants = append(tenants, e.Tenant)
		at = append(at, e.At)
	}
	require.Equal(t, []uint64{5, 8, 13, 5, 13, 13, 13}, blocks)
	require.Equal(t, []uint64{5, 0, 10, 5, 10, 10, 10}, tenants)
	second := time.Second
	require.Equal(t, []time.Duration{0, 3600 * second, 3601 * second, 3601 * second, 3601 * second, 3601 * second, 3602 * second}, at)
}

func TestLateEntriesMoveToTheEdgeOfTheWindow(t *testing.T) {
	var b bytes.Buffer
	w, err := record.NewWriter(&b, header("a"))
	require.NoError(t, err)
	for _, at := range []time.Duration{10 * time.Minute, 9 * time.Minute, 8 * time.Minute} {
		require.NoError(t, w.Write(&record.Entry{At: at}))
	}
	require.EqualValues(t, 1, w.Late())
	entries, err := readAll(&b)
	require.NoError(t, err)
	require.Equal(t, 9*time.Minute, entries[2].At)
}

// Whatever an engine reports, a Reader takes what a Writer wrote.
func TestExtremeValuesAreCut(t *testing.T) {
	var b bytes.Buffer
	w, err := record.NewWriter(&b, header("a"))
	require.NoError(t, err)
	e := record.Entry{At: -1, InputTokens: 1 << 40, OutputTokens: -5, TTFT: -time.Second, Status: 10000, Model: "\xff\n\x00\"", Tries: -1}
	for i := range 200_000 {
		e.Blocks = append(e.Blocks, record.Run{First: uint64(2 * i), Count: 1})
	}
	require.NoError(t, w.Write(&e))
	entries, err := readAll(&b)
	require.NoError(t, err)
	require.Equal(t, "\ufffd\n\x00\"", entries[0].Model)
	require.Equal(t, 1<<27, entries[0].InputTokens)
	require.Equal(t, e.Blocks[:100_000], entries[0].Blocks, "the first blocks, as many as fit a line")
	require.Len(t, e.Blocks, 200_000)
}

func FuzzReader(f *testing.F) {
	f.Add(headerLine + entryLine)
	f.Add(headerLine + entryLine[:30] + "\n" + headerLine + entryLine)
	f.Add(headerLine + strings.Replace(headerLine, `"a"`, `"b"`, 1) + `{"t":5,"model":"m","adapter":"é","prio":-3,"stream":true,"max":9,"end":"failed","status":502,"tries":2,"est":true}`)
	f.Add(`{"inferloom_trace":null}`)
	f.Fuzz(func(t *testing.T, trace string) {
		entries, _ := readAll(strings.NewReader(trace))
		if len(entries) == 0 {
			return
		}
		var b bytes.Buffer
		h := header("z")
		h.Window = 1 << 61
		w, err := record.NewWriter(&b, h)
		require.NoError(t, err)
		for i := range entries {
			require.NoError(t, w.Write(&entries[i]))
		}
		again, err := readAll(&b)
		require.NoError(t, err, "what was read can be written, and read again")
		require.Len(t, again, len(entries))
		for i := range entries {
			if entries[i].Tries == 1 {
				entries[i].Tries = 0
			}
			if entries[i].Status == 200 {
				entries[i].Status = 0
			}
			require.Equal(t, entries[i], again[i])
		}
	})
}
