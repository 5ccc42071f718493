package report

import (
	"encoding/json"
	"encoding/xml"
	"io"
	"math"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/inferloom/inferloom/internal/stats"
)

const hostile = `<img src=x onerror="alert(1)">&"'</script><script>`

// sample is a page with a part of each kind, under names that try to break out.
func sample() Page {
	table := &Table{Title: "Policies", Columns: Columns("policy", "requests", "TTFT p50")}
	table.Add("round-robin", "1,000", Seconds(0.4812))
	table.Add(hostile, "1,000")
	levels := []float64{0, 0.25, 0.5, 0.75, 0.95, 1}
	cdf := &Chart{
		Title: "TTFT", X: Axis{Label: "time to first token", Format: Seconds, Log: true}, Y: Axis{Label: "share", Format: Percent, FromZero: true, To: 1},
		ReadAcross: true,
		Series: []Series{
			{Name: "round-robin", X: []float64{0.02, 0.1, 0.3, 0.9, 2.2, 8}, Y: levels},
			{Name: hostile, X: []float64{0.01, 0.03, 0.1, 0.3, 0.8, 2}, Y: levels},
		},
	}
	load := &Chart{
		Title: "Goodput", X: Axis{Label: "load"}, Y: Axis{Label: "goodput", Format: PerSecond, FromZero: true},
		Series: []Series{{Name: "a", X: []float64{1, 2, 3}, Y: []float64{1, math.NaN(), 2.5}, Low: []float64{0.9, math.NaN(), 2.2}, High: []float64{1.1, math.NaN(), 2.9}}},
	}
	differences := &Differences{Title: "Against round-robin", Format: Change, None: 1, Log: true, Rows: []Difference{
		{"default", "TTFT p95", stats.Interval{Estimate: 0.7, Low: 0.6, High: 0.8}, -1},
		{"default", "goodput", stats.Interval{Estimate: 1.01, Low: 0.99, High: 1.03}, 1},
		{hostile, "TTFT p95", stats.Interval{Estimate: 1.4, Low: math.NaN(), High: math.NaN()}, -1},
	}}
	return Page{
		Title: "A comparison " + hostile, Lead: hostile, Facts: []Fact{{"seeds", "10"}, {hostile, hostile}}, Warnings: []string{hostile},
		Sections: []Section{{"Latency", hostile, []Part{table, cdf, load, differences, Text(hostile), &Chart{Title: "empty"}}}},
		Modelled: []string{"queues"}, NotModelled: []string{hostile}, Method: []string{hostile}, Commands: []string{"go run . " + hostile},
		Made: time.Date(2026, 1, 2, 3, 4, 0, 0, time.UTC),
	}
}

func html(t *testing.T, p Page) string {
	t.Helper()
	var b strings.Builder
	require.NoError(t, p.WriteHTML(&b))
	return b.String()
}

var scripts = regexp.MustCompile(`(?s)<(script|style)[^>]*>.*?</(script|style)>`)

func TestPageIsOneWellFormedDocument(t *testing.T) {
	page := html(t, sample())
	d := xml.NewDecoder(strings.NewReader(scripts.ReplaceAllString(page, "")))
	d.Strict, d.AutoClose, d.Entity = false, []string{"meta", "link"}, xml.HTMLEntity
	elements := 0
	for {
		token, err := d.Token()
		if err == io.EOF {
			break
		}
		require.NoError(t, err)
		start, ok := token.(xml.StartElement)
		if !ok {
			continue
		}
		elements++
		require.NotEqual(t, "img", start.Name.Local, "a name became markup")
		for _, a := range start.Attr {
			require.NotEqual(t, "src", a.Name.Local, "%s loads something", start.Name.Local)
			if a.Name.Local == "href" {
				require.Equal(t, "data:,", a.Value)
			}
			require.NotContains(t, a.Value, "NaN")
			require.NotContains(t, a.Value, "ZgotmplZ", "the template refused a value")
		}
	}
	assert.Greater(t, elements, 200)
	assert.False(t, strings.Contains(page, hostile), "a name is there as it was given")
	assert.Empty(t, regexp.MustCompile(`https?:|//[a-z]+\.|@import|url\(`).FindString(page), "something outside is named")
	assert.True(t, strings.Contains(page, "default-src 'none'"), "the policy forbids loading anything")
	assert.Equal(t, 3, strings.Count(page, "<script"), "the values of two charts, and their reader")
}

func TestPointsOfAChartAreItsValues(t *testing.T) {
	page := html(t, sample())
	var found []pointsView
	for _, m := range regexp.MustCompile(`(?s)class="points">(.*?)</script>`).FindAllStringSubmatch(page, -1) {
		var v pointsView
		require.NoError(t, json.Unmarshal([]byte(m[1]), &v))
		found = append(found, v)
	}
	require.Len(t, found, 2)
	cdf := found[0]
	assert.Equal(t, []string{"round-robin", hostile}, cdf.Series)
	require.Len(t, cdf.Steps, 6)
	assert.Equal(t, "50.0 %", cdf.Steps[2].Label)
	assert.Equal(t, "300 ms", cdf.Steps[2].Cells[0].Text)
	assert.Equal(t, 500.0, cdf.Steps[2].Cells[0].Y)
	load := found[1]
	require.Len(t, load.Steps, 2, "no step where nothing is known")
	assert.Equal(t, "2.50/s (2.20/s to 2.90/s)", load.Steps[1].Cells[0].Text)
}

func TestAGapInALineIsADot(t *testing.T) {
	c := sample().Sections[0].Parts[2].(*Chart)
	v := c.view()
	assert.Equal(t, []dotView{{"0.00%", "66.67%"}, {"100.00%", "16.67%"}}, v.Lines[0].Dots, "two points alone")
	assert.NotContains(t, v.Lines[0].Path, "NaN")
}

func TestTableOnATerminal(t *testing.T) {
	var b strings.Builder
	require.NoError(t, sample().Sections[0].Parts[3].(*Differences).WriteText(&b))
	lines := strings.Split(strings.TrimRight(b.String(), "\n"), "\n")
	require.Len(t, lines, 6)
	assert.Regexp(t, `^default\s+TTFT p95\s+-30\.0 %\s+-40\.0 % to -20\.0 %\s+better$`, lines[3])
	assert.Regexp(t, `^default\s+goodput\s+\+1\.0 %\s+-1\.0 % to \+3\.0 %\s+no difference shown$`, lines[4])
	assert.Regexp(t, `TTFT p95\s+\+40\.0 %\s+–\s+not known$`, lines[5])

	b.Reset()
	table := &Table{Columns: []Column{{Name: "policy", Words: true}, {Name: "rate", Unit: "1/s"}, {Name: "note", Words: true}}, Note: "done"}
	table.Add("größer", "1", "x")
	table.Add("b")
	require.NoError(t, table.WriteText(&b))
	assert.Equal(t, ""+
		"policy  rate (1/s)  note\n"+
		"──────  ──────────  ────\n"+
		"größer           1  x\n"+
		"b                –  –\n"+
		"done\n", b.String())
}

func TestFormats(t *testing.T) {
	for _, tt := range []struct {
		format Format
		value  float64
		want   string
	}{
		{Seconds, 0, "0 ms"}, {Seconds, 0.0000123, "12.3 µs"}, {Seconds, 0.00999, "9.99 ms"}, {Seconds, 0.4812, "481 ms"}, {Seconds, 0.9999, "1.00 s"},
		{Seconds, 0.99951, "1.00 s"}, {Seconds, 12.34, "12.3 s"}, {Seconds, 1234, "1,234 s"}, {Seconds, math.NaN(), Absent},
		{Percent, 0.1234, "12.3 %"}, {Percent, 1, "100 %"}, {Percent, 0, "0.0 %"},
		{Change, 0.77, "-23.0 %"}, {Change, 1, "+0.0 %"}, {Change, 3.5, "+250 %"}, {Change, 0.99999, "+0.0 %"},
		{Points, 0.053, "+5.3 pp"}, {Plain, 1234567, "1,234,567"}, {Plain, -1234, "-1,234"}, {Plain, 0.01234, "0.0123"}, {Plain, 9.996, "10.0"},
		{Plain, math.Inf(1), Absent}, {Times, 2.5, "2.50×"}, {PerSecond, 42, "42.0/s"}, {Plain, 0.00001234, "1.23e-05"}, {Plain, 0.01, "0.0100"},
	} {
		assert.Equal(t, tt.want, tt.format(tt.value), "%v", tt.value)
	}
	assert.Equal(t, "-1,234", Count(-1234))
	assert.Equal(t, "999", Count(999))
}

func TestNumberInJSON(t *testing.T) {
	b, err := json.Marshal([]Number{Number(math.NaN()), 0.123456789, 0, Number(math.Inf(-1)), 123456})
	require.NoError(t, err)
	assert.Equal(t, "[null,0.12346,0,null,123460]", string(b))
	var back []Number
	require.NoError(t, json.Unmarshal(b, &back))
	assert.True(t, math.IsNaN(float64(back[0])))
	assert.Equal(t, Number(0.12346), back[1])
}

func TestScalesHoldTheirValues(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a := Axis{Log: rapid.Bool().Draw(t, "log"), FromZero: rapid.Bool().Draw(t, "from zero")}
		if rapid.Bool().Draw(t, "ends at 1") {
			a.To = 1
		}
		s := newScale(a)
		values := rapid.SliceOfN(rapid.Float64Range(1e-4, 1e6), 1, 20).Draw(t, "values")
		for _, v := range values {
			s.include(v)
		}
		ticks := s.finish(5)
		for _, v := range values {
			require.InDelta(t, 500, s.place(v), 500.001)
		}
		require.NotEmpty(t, ticks)
		require.LessOrEqual(t, len(ticks), 12)
		for i, tick := range ticks {
			require.InDelta(t, 500, tick.At, 500.001)
			if i > 0 {
				require.Greater(t, tick.At, ticks[i-1].At)
			}
		}
	})
}

func TestTicksAreShortAndApart(t *testing.T) {
	for in, want := range map[string]string{"2.00 s": "2 s", "20.0 %": "20 %", "100 ms": "100 ms", "2.50/s": "2.5/s", "-30.0 %": "-30 %", "0 ms": "0 ms", "1.00": "1", "1,000": "1,000", "0.0100": "0.01"} {
		assert.Equal(t, want, short(in))
	}
	s := newScale(Axis{Log: true, Format: Seconds})
	s.include(0.018)
	s.include(0.08)
	ticks := s.finish(6)
	require.GreaterOrEqual(t, len(ticks), 3)
	for i := 1; i < len(ticks); i++ {
		assert.Greater(t, ticks[i].At-ticks[i-1].At, 80.0)
	}
}

func TestAChartAloneTakesItsRow(t *testing.T) {
	chart := func() Part {
		return &Chart{Title: "c", Series: []Series{{Name: "s", X: []float64{1, 2}, Y: []float64{1, 2}}}}
	}
	page := html(t, Page{Sections: []Section{{Title: "s", Parts: []Part{chart(), chart(), chart(), Text("t"), chart()}}}})
	assert.Equal(t, 2, strings.Count(page, `class="chart"`))
	assert.Equal(t, 2, strings.Count(page, `class="chart wide"`))
}

func TestDistributionIsReadByShares(t *testing.T) {
	c := Distribution("TTFT", "requests", 0.7, []string{"a", "b"}, func(i int, q float64) float64 { return 0.1 + q*float64(i+1) })
	v := c.view()
	require.Len(t, v.Points.Steps, 54)
	half := v.Points.Steps[25]
	assert.Equal(t, "50.0 %", half.Label)
	assert.Equal(t, []string{"600 ms", "1.10 s"}, half.texts())
	assert.NotEmpty(t, v.MarkAt)
}

func TestFiles(t *testing.T) {
	path := filepath.Join(t.TempDir(), "out.html")
	require.NoError(t, CheckPath(path))
	require.NoError(t, Page{Title: "t"}.WriteFile(path))
	assert.FileExists(t, path)
	assert.NoError(t, Page{}.WriteFile(""))
	assert.NoError(t, CheckPath(""))
	assert.Error(t, CheckPath(filepath.Join(path, "x", "out.html")))
	assert.ErrorContains(t, CheckPath(filepath.Join(path, "out.html")), "is not a folder")
}

func TestCommandLineIsForAShell(t *testing.T) {
	assert.Equal(t, `go run . -a 1 '' 'it'\''s' '$x'`, CommandLine("go run .", []string{"-a", "1", "", "it's", "$x"}))
}

func TestVersionsNameTheBuild(t *testing.T) {
	assert.Regexp(t, `^inferloom.*go1\.\d+.*/.*cores$`, Versions())
}
