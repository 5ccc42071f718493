package workload

import (
	"bytes"
	"compress/gzip"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

const (
	azureHead = "TIMESTAMP,ContextTokens,GeneratedTokens\n"
	burstHead = "Timestamp,Model,Request tokens,Response tokens,Total tokens,Log Type\n"
	burst3    = "Timestamp,Session ID,Elapsed time,Model,Request tokens,Response tokens,Total tokens,Log Type\n"
	recorded  = `{"inferloom_trace":1,"start":"2026-11-22T21:00:00Z","ids":"a","block_tokens":16,"window_us":5000000}` + "\n"
)

// all returns what a source yields, and how it ended.
func all(source Source) (list []Request, err error) {
	for r, err := range source {
		if err != nil {
			return list, err
		}
		list = append(list, r)
	}
	return list, nil
}

// traces are small traces in each format, and the arrivals and lengths in them.
var traces = map[Format]struct {
	trace string
	want  []string
}{
	MooncakeFormat: {line + "\n" + strings.Replace(line, `: 0,`, `: 1500,`, 1) + "\n", []string{"0s 600 5", "1.5s 600 5"}},
	AzureFormat: {azureHead + "2023-11-16 18:17:03.9799600,4808,10\n2023-11-16 18:17:04.0319600,3180,8\n2023-11-16 18:17:05,0,8\n",
		[]string{"0s 4808 10", "52ms 3180 8"}},
	BurstGPTFormat: {burstHead + "5,ChatGPT,472,18,490,Conversation log\n45.5,GPT-4,1087,230,1317,API log\n46,GPT-4,1087,0,1087,API log\n",
		[]string{"0s 472 18", "40.5s 1087 230"}},
	RecordFormat: {recorded + `{"t":4000000,"in":40,"out":3,"blocks":[[0,2]]}` + "\n" + `{"t":1000000,"in":100,"out":7}` + "\n" + `{"t":5000000,"status":503,"in":9,"end":"rejected"}` + "\n",
		[]string{"0s 100 7", "3s 40 3"}},
}

func summary(list []Request) (lines []string) {
	for _, r := range list {
		lines = append(lines, fmt.Sprintf("%v %d %d", r.At, r.InputTokens, r.OutputTokens))
	}
	return lines
}

func TestFormatsAreToldFromTheContent(t *testing.T) {
	for format, tt := range traces {
		var packed bytes.Buffer
		z := gzip.NewWriter(&packed)
		io.WriteString(z, tt.trace)
		z.Close()
		for name, content := range map[string]string{
			"plain": tt.trace, "packed": packed.String(), "marked": "\ufeff" + tt.trace, "windows": strings.ReplaceAll(tt.trace, "\n", "\r\n"),
		} {
			t.Run(string(format)+"/"+name, func(t *testing.T) {
				path := filepath.Join(t.TempDir(), "trace")
				require.NoError(t, os.WriteFile(path, []byte(content), 0o600))
				source, got, err := Open(path)
				require.NoError(t, err)
				require.Equal(t, format, got)
				for range 2 { // it can be read again
					list, err := all(source)
					require.NoError(t, err)
					require.Equal(t, tt.want, summary(list))
					for _, r := range list {
						tokens := 0
						for _, m := range r.Messages {
							tokens += m.Tokens()
						}
						require.Equal(t, r.InputTokens, tokens)
						require.True(t, r.Last)
					}
				}
			})
		}
	}
}

func TestWhatIsNoTraceIsRefused(t *testing.T) {
	for name, row := range map[string]struct{ content, want string }{
		"empty":                    {"", "the trace is empty"},
		"blank":                    {"\n \n", "the trace is empty"},
		"prose":                    {"Dear reader,\n", `line 1: no trace in a format of Mooncake, Azure, BurstGPT, ServeGen or a gateway's recorder begins with "Dear reader,"`},
		"no header":                {"2023-11-16 18:17:03.9799600,4808,10\n", "begins with"},
		"a part of ServeGen":       {"0,1.5,1.1,Gamma,0.8,1.2\n", "name the folder"},
		"an idle part of ServeGen": {"0,0,0,,0,0\n", "name the folder"},
		"broken gzip":              {"\x1f\x8b\x00", "gzip: "},
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "trace")
			require.NoError(t, os.WriteFile(path, []byte(row.content), 0o600))
			_, _, err := Open(path)
			require.ErrorContains(t, err, row.want)
			require.ErrorContains(t, err, path)
		})
	}
	_, _, err := Open(filepath.Join(t.TempDir(), "missing"))
	require.ErrorIs(t, err, os.ErrNotExist)
	_, _, err = Open(t.TempDir())
	require.ErrorContains(t, err, "no chunk-*-trace.csv of ServeGen in the folder")
	for _, only := range []string{azureHead, burstHead + "1,ChatGPT,5,0,5,API log\n", recorded} {
		source, _, err := Read(strings.NewReader(only))
		require.NoError(t, err)
		_, err = all(source)
		require.ErrorContains(t, err, "no request in the trace")
	}
	packed := "\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\xff\x00"
	_, _, err = Read(strings.NewReader(packed))
	require.ErrorIs(t, err, io.ErrUnexpectedEOF)
}

func TestBrokenTables(t *testing.T) {
	for name, row := range map[string]struct{ trace, want string }{
		"azure: time":       {azureHead + "18:17:03,1,1\n", `line 2: TIMESTAMP is "18:17:03", want a time such as`},
		"azure: no date":    {azureHead + "2023-02-30 18:17:03,1,1\n", `line 2: TIMESTAMP is "2023-02-30`},
		"azure: fraction":   {azureHead + "2023-02-03 18:17:03.,1,1\n", "line 2: TIMESTAMP"},
		"azure: offset":     {azureHead + "2023-02-03 18:17:03+5,1,1\n", "line 2: TIMESTAMP"},
		"azure: columns":    {azureHead + "\n2023-02-03 18:17:03,1\n", "line 3: 2 columns, want the 3 of the header"},
		"azure: tokens":     {azureHead + "2023-02-03 18:17:03,1.5,1\n", `ContextTokens is "1.5", want a whole number from 0 to 134217728`},
		"azure: negative":   {azureHead + "2023-02-03 18:17:03,1,-1\n", `GeneratedTokens is "-1"`},
		"azure: huge":       {azureHead + "2023-02-03 18:17:03,99999999999999999999,1\n", `ContextTokens is "99999999999999999999"`},
		"azure: unsorted":   {azureHead + "2023-02-03 18:17:03.5,1,1\n2023-02-03 18:17:03,1,1\n", "line 3: TIMESTAMP 2023-02-03 18:17:03 is before the 2023-02-03 18:17:03.5 of an earlier line, want them in order"},
		"azure: too long":   {azureHead + "2023-02-03 18:17:03,1,1\n2199-02-03 18:17:03,1,1\n", "line 3: TIMESTAMP 2199-02-03 18:17:03 is too far from the first"},
		"azure: cut":        {azureHead + "2023-02-03 18:17:03,1,1\n2023-02-03 18:1", "line 3: 1 columns"},
		"burst: no columns": {"Timestamp,Request tokens\n", "line 1: column \"Response tokens\" is missing\nthe header is \"Timestamp,Request tokens\""},
		"burst: time":       {burstHead + "1e3,ChatGPT,1,1,2,API log\n", `line 2: Timestamp is "1e3", want seconds`},
		"burst: negative":   {burstHead + "-1,ChatGPT,1,1,2,API log\n", `line 2: Timestamp is "-1"`},
		"burst: unsorted":   {burstHead + "5,ChatGPT,1,1,2,API log\n4,ChatGPT,1,1,2,API log\n", "line 3: Timestamp 4 is before the 5 of an earlier line"},
		"burst: quote":      {burstHead + "5,\"ChatGPT,1,1,2,API log\n", "line 2: a quote is not closed"},
		"burst: quotes":     {burstHead + "5,\"Chat\"GPT,1,1,2,API log\n", "line 2: 'G' follows a closing quote"},
		"recorded":          {recorded + "{}\n{}\n", "line 2: t is missing"},
	} {
		t.Run(name, func(t *testing.T) {
			source, _, err := Read(strings.NewReader(row.trace))
			require.NoError(t, err)
			_, err = all(source)
			require.ErrorContains(t, err, row.want)
		})
	}
}

func TestTimesOfAzure(t *testing.T) {
	list, err := all(Azure(strings.NewReader(azureHead + strings.Join([]string{
		"2024-05-10 00:00:00.009930+00:00,1,1", "2024-05-10 00:00:00.5,1,1", "2024-05-10T00:00:01Z,1,1", "2024-05-10 05:30:01.25+05:30,1,1",
		"2024-05-09 19:00:02.123456789123-05:00,1,1",
	}, "\n"))))
	require.NoError(t, err)
	var at []time.Duration
	for _, r := range list {
		at = append(at, r.At)
	}
	first := 9930 * time.Microsecond
	require.Equal(t, []time.Duration{0, 500*time.Millisecond - first, time.Second - first, 1250*time.Millisecond - first, 2123456789 - first}, at)
	require.NotEqual(t, list[0].Messages[0].Pieces[0].ID, list[1].Messages[0].Pieces[0].ID, "nothing is shared")

	list, err = all(Azure(strings.NewReader("TIMESTAMP,NumImages,ContextTokens,GeneratedTokens\n2024-10-15 00:00:01,3,50,6\n")))
	require.NoError(t, err)
	require.Equal(t, []string{"0s 50 6"}, summary(list), "the multimodal trace has a column more")
}

func TestConversationsOfBurstGPT(t *testing.T) {
	list, err := all(BurstGPT(strings.NewReader(burst3 + strings.Join([]string{
		"19440110.0,a,43,GPT-4,900,100,1000,Conversation log",
		"19440111.0,,2,ChatGPT,36,29,65,API log",
		"19440112.0,b,2,ChatGPT,10,0,10,Conversation log",    // failed
		"19440160.5,a,2,GPT-4,1200,50,1250,Conversation log", // 900 and 100 were there
		"19440170.0,a,2,GPT-4,1250,50,1300,Conversation log", // nothing new
		"19440180.0,a,2,GPT-4,1299,50,1300,Conversation log", // too short to go on
	}, "\n"))))
	require.NoError(t, err)
	require.Equal(t, []string{"0s 900 100", "1s 36 29", "50.5s 1200 50", "1m0s 1250 50", "1m10s 1299 50"}, summary(list))
	require.Equal(t, []string{"GPT-4", "ChatGPT"}, []string{list[0].Model, list[1].Model})
	var conversations []int
	for _, r := range list {
		conversations = append(conversations, r.Conversation)
	}
	require.Equal(t, []int{0, 1, 0, 0, 0}, conversations)
	text := func(i int) string { return string(list[i].Messages[0].AppendText(nil)) }
	assert.True(t, strings.HasPrefix(text(2), text(0)))
	assert.True(t, strings.HasPrefix(text(3), text(2)))
	assert.NotEqual(t, text(4)[:100], text(0)[:100])
}

// endless is a trace of so many lines that is made as it is read.
type endless struct {
	head, rest []byte
	line       func(n int) string
	n, lines   int
}

func (e *endless) Read(b []byte) (int, error) {
	if e.head != nil {
		e.rest, e.head = e.head, nil
	}
	for len(e.rest) < len(b) && e.n < e.lines {
		e.rest = append(e.rest, e.line(e.n)...)
		e.n++
	}
	n := copy(b, e.rest)
	e.rest = e.rest[:copy(e.rest, e.rest[n:])]
	if n == 0 {
		return 0, io.EOF
	}
	return n, nil
}

// generated returns a large trace of each format. Traces of ten requests a second, for a recording's window is held.
func generated(format Format, lines int) *endless {
	e := &endless{lines: lines}
	start := time.Date(2024, 5, 10, 0, 0, 0, 0, time.UTC)
	switch format {
	case MooncakeFormat:
		e.line = func(n int) string {
			ids := strings.Repeat(fmt.Sprintf("%d, ", n), 15)
			return fmt.Sprintf(`{"timestamp": %d, "input_length": 8000, "output_length": 52, "hash_ids": [%s0]}`+"\n", 100*n, ids)
		}
	case AzureFormat:
		e.head = []byte(azureHead)
		e.line = func(n int) string {
			return start.Add(time.Duration(n)*100*time.Millisecond).Format("2006-01-02 15:04:05.000000+00:00") + ",4808,10\n"
		}
	case BurstGPTFormat:
		e.head = []byte(burst3)
		e.line = func(n int) string {
			return fmt.Sprintf("%d.%d,1722ac82-0a46-4bf0-aa08-%d,43,GPT-4,%d,446,1352,Conversation log\n", n/10, n%10, n/5, 900+1000*(n%5))
		}
	case RecordFormat:
		e.head = []byte(recorded)
		e.line = func(n int) string {
			return fmt.Sprintf(`{"t":%d,"in":8000,"out":200,"cached":4096,"blocks":[[%d,250],[%d,250]],"tenant":%d,"session":%d,"model":"llama","ep":"engine-%d","ttft":81000,"total":3200000}`+"\n",
				100000*n, 250*n, 250*n+1000, n%7+1, n/3+1, n%4)
		}
	}
	return e
}

// A trace of any length is read in the same memory.
func TestMemoryDoesNotGrowWithATrace(t *testing.T) {
	if testing.Short() {
		t.Skip("reads some hundred megabytes")
	}
	lines := 100_000
	if raceEnabled {
		lines = 10_000
	}
	for format := range traces {
		t.Run(string(format), func(t *testing.T) {
			source, got, err := Read(generated(format, lines))
			require.NoError(t, err)
			require.Equal(t, format, got)
			heap := func() uint64 {
				runtime.GC()
				var m runtime.MemStats
				runtime.ReadMemStats(&m)
				return m.HeapAlloc
			}
			base, most, n := heap(), uint64(0), 0
			for r, err := range source {
				require.NoError(t, err)
				require.Positive(t, r.InputTokens)
				if n++; n%(lines/10) == 0 {
					most = max(most, heap())
				}
			}
			require.Equal(t, lines, n)
			// BurstGPT's conversations of late are remembered, at a few hundred bytes each.
			limit := uint64(4 << 20)
			if format == BurstGPTFormat {
				limit = 100 << 20
			}
			require.Less(t, most, base+limit)
		})
	}
}

func BenchmarkRead(b *testing.B) {
	for _, format := range []Format{MooncakeFormat, AzureFormat, BurstGPTFormat, RecordFormat} {
		b.Run("format="+string(format), func(b *testing.B) {
			const lines = 10_000
			content, err := io.ReadAll(generated(format, lines))
			require.NoError(b, err)
			b.SetBytes(int64(len(content)))
			b.ReportAllocs()
			for b.Loop() {
				source, _, err := Read(bytes.NewReader(content))
				if err != nil {
					b.Fatal(err)
				}
				for _, err := range source {
					if err != nil {
						b.Fatal(err)
					}
				}
			}
			requests := float64(b.N) * lines
			b.ReportMetric(requests/b.Elapsed().Seconds(), "requests/s")
		})
	}
}

// TestPublishedTables reads published traces, if AZURE_TRACE names the one of code of 2023.
func TestPublishedTables(t *testing.T) {
	path := os.Getenv("AZURE_TRACE")
	if path == "" {
		t.Skip("AZURE_TRACE is not set")
	}
	source, format, err := Open(path)
	require.NoError(t, err)
	require.Equal(t, AzureFormat, format)
	list, err := all(source)
	require.NoError(t, err)
	require.Len(t, list, 8819)
	require.InDelta(t, 3435, list[len(list)-1].At.Seconds(), 60)
}

func FuzzRead(f *testing.F) {
	for _, tt := range traces {
		f.Add(tt.trace)
	}
	f.Add(burst3 + "1.5,a,43,GPT-4,900,100,1000,x\n2,a,43,GPT-4,\"1200\",100,1000,x")
	f.Fuzz(func(t *testing.T, trace string) {
		source, _, err := Read(strings.NewReader(trace))
		if err != nil {
			return
		}
		at, failed := time.Duration(0), false
		for r, err := range source {
			require.False(t, failed, "an error is the last thing")
			if err != nil {
				failed = true
				continue
			}
			require.GreaterOrEqual(t, r.At, at)
			at = r.At
			require.Positive(t, r.OutputTokens)
			require.Equal(t, r.InputTokens, r.Messages[0].Tokens())
			for _, p := range r.Messages[0].Pieces {
				require.Positive(t, p.Tokens)
			}
		}
	})
}
