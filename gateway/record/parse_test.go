package record

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/stretchr/testify/require"
)

// FuzzParse holds the quick parser to encoding/json: what it takes, it reads alike.
func FuzzParse(f *testing.F) {
	for _, line := range []string{
		`{"t":1250000,"in":1502,"out":200,"cached":1024,"blocks":[[0,16],[40,7]],"tenant":1,"ep":"engine-3","ttft":81000,"total":3200000}`,
		`{ "t" : 0 , "est":true,"stream": false,"prio":-3,"model":"m","adapter":"","max":9,"tries":2,"status":502,"end":"client left","session":7}`,
		`{"t":0,"t":1,"blocks":[[1,2]],"blocks":[]}`, `{"t":01}`, `{"t":- 1}`, `{"t":-0}`, `{"t":1,}`, `{"t":1.5}`, `{"model":"\u0041"}`, `{"blocks":[[1]]}`, `{"t":truex}`,
		`{"t":1}{`, "{\"t\x00\":1}", `{"in":18446744073709551616}`,
	} {
		f.Add(line)
	}
	f.Fuzz(func(t *testing.T, line string) {
		r := NewReader(strings.NewReader(""))
		if !r.parse([]byte(line)) {
			return
		}
		var want entryJSON
		require.NoError(t, json.Unmarshal([]byte(line), &want))
		require.Empty(t, cmp.Diff(want, r.line, cmpopts.EquateEmpty()))
	})
}

func TestWhatAWriterWritesIsParsedQuickly(t *testing.T) {
	e := Entry{
		At: 5, Tenant: 1, Session: 2, Model: "m", Adapter: "a", Priority: -3, Stream: true, MaxTokens: 4, InputTokens: 5, OutputTokens: 6,
		CachedTokens: 7, Estimated: true, Blocks: []Run{{0, 1}, {5, 2}}, Endpoint: "10.0.0.1:8000", Tries: 2, TTFT: 1e6, Total: 1e7, Status: 502, End: "failed",
	}
	line := bytes.TrimSpace(e.appendJSON(nil))
	r := NewReader(strings.NewReader(""))
	require.True(t, r.parse(line))
	require.Zero(t, testing.AllocsPerRun(100, func() { r.parse(line) }))
}
