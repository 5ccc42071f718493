package main

import (
	"bytes"
	"errors"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestSummary(t *testing.T) {
	ms := time.Millisecond
	outcomes := []outcome{
		{ttft: 300 * ms, tpot: 20 * ms, input: 1000, cached: 100, output: 50, ended: time.Second},
		{ttft: 100 * ms, tpot: 30 * ms, input: 2000, cached: 800, output: 150, ended: 4 * time.Second},
		{ttft: 200 * ms, input: 1000, cached: 100, output: 1, ended: 2 * time.Second},
		{err: errors.New("lost"), ended: time.Hour},
		{err: errors.New("lost"), ended: time.Hour},
	}
	assert.Equal(t, result{
		Name: "x", Requests: 5, Errors: 2, TTFT50: 200, TTFT95: 300, TPOT50: 20,
		PrefixHitRatio: 0.25, OutputRate: 201.0 / 4, prefillLoad: 0.5, causes: map[string]int{"lost": 2},
	}, summarise("x", outcomes, 1500))
}

func TestTable(t *testing.T) {
	better := result{Name: "new", Requests: 1000, TTFT50: 500, TTFT95: 1000, TPOT50: 20, PrefixHitRatio: 0.3, OutputRate: 1100, prefillLoad: 0.4}
	base := result{Name: "old", Requests: 1000, TTFT50: 1000, TTFT95: 4000, TPOT50: 25, PrefixHitRatio: 0.1, OutputRate: 1000, prefillLoad: 0.6}
	none := summarise("none", []outcome{{err: errors.New("down")}}, 1)
	for name, tt := range map[string]struct {
		results []result
		want    string
	}{
		"better": {[]result{base, better}, `
  policy  requests  errors  TTFT p50  TTFT p95  TPOT p50  prefix hits  tokens/s  prefill load
     old      1000       0   1000 ms   4000 ms   25.0 ms       10.0 %      1000          60 %
     new      1000       0    500 ms   1000 ms   20.0 ms       30.0 %      1100          40 %
(prefill load: prompt tokens that no cache served, against what the engines could prefill in the whole run)

new against old: 3.0x the prefix hit ratio, TTFT p50 -50 %, TTFT p95 -75 %, TPOT p50 -20 %, tokens/s +10 %
`},
		"worse": {[]result{better, base}, `
  policy  requests  errors  TTFT p50  TTFT p95  TPOT p50  prefix hits  tokens/s  prefill load
     new      1000       0    500 ms   1000 ms   20.0 ms       30.0 %      1100          40 %
     old      1000       0   1000 ms   4000 ms   25.0 ms       10.0 %      1000          60 %
(prefill load: prompt tokens that no cache served, against what the engines could prefill in the whole run)

old against new: 0.3x the prefix hit ratio, TTFT p50 +100 %, TTFT p95 +300 %, TPOT p50 +25 %, tokens/s -9 %
`},
		"nothing measured": {[]result{base, none}, `
  policy  requests  errors  TTFT p50  TTFT p95  TPOT p50  prefix hits  tokens/s  prefill load
     old      1000       0   1000 ms   4000 ms   25.0 ms       10.0 %      1000          60 %
    none         1       1         -         -         -            -         -             -
(prefill load: prompt tokens that no cache served, against what the engines could prefill in the whole run)

none against old: nothing to compare; 1 errors against 0
`},
	} {
		t.Run(name, func(t *testing.T) {
			var b bytes.Buffer
			require.NoError(t, writeTable(&b, tt.results))
			assert.Equal(t, tt.want, b.String())
		})
	}

	var b bytes.Buffer
	require.NoError(t, writeJSON(&b, []result{none}))
	assert.JSONEq(t, `{"policies":[{"name":"none","requests":1,"errors":1,"ttft_p50_ms":null,"ttft_p95_ms":null,
		"tpot_p50_ms":null,"prefix_hit_ratio":null,"output_tokens_per_s":null}]}`, b.String())
}
