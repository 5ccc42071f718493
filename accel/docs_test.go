package accel_test

import (
	"flag"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/inferloom/inferloom/accel"
	"github.com/stretchr/testify/require"
)

var update = flag.Bool("update", false, "write the tables of docs/accelerators.md")

// The tables of the documentation are what the catalogue says. Run with -update to write them.
func TestDocumentation(t *testing.T) {
	const path = "../docs/accelerators.md"
	old, err := os.ReadFile(path)
	require.NoError(t, err)
	text := string(old)
	for name, table := range map[string]string{
		"accelerators": acceleratorTable(), "systems": systemTable(), "sources": sourceTable(), "models": modelTable(t),
	} {
		begin, end := "<!-- "+name+" -->\n", "<!-- end -->"
		before, rest, ok := strings.Cut(text, begin)
		require.True(t, ok, begin)
		_, after, ok := strings.Cut(rest, end)
		require.True(t, ok, end)
		text = before + begin + table + end + after
	}
	if *update {
		require.NoError(t, os.WriteFile(path, []byte(text), 0o644))
		return
	}
	require.Equal(t, text, string(old), "run go test ./accel -run Documentation -update")
}

// sourceNumbers gives each source the number that tables refer to.
func sourceNumbers(c *accel.Catalogue) map[string]int {
	numbers := map[string]int{}
	figures(c, func(_ string, fig accel.Figure) {
		for _, s := range fig.Sources {
			if numbers[s] == 0 {
				numbers[s] = len(numbers) + 1
			}
		}
	})
	return numbers
}

func acceleratorTable() string {
	c := accel.Builtin()
	numbers := sourceNumbers(c)
	cell := func(f accel.Figure, unit float64) string { return figureText(c, f, unit, numbers) }
	var b strings.Builder
	b.WriteString("| name | BF16 | FP8 | INT8 | FP4 | memory GiB | GB/s | W |\n|---|---|---|---|---|---|---|---|\n")
	for _, a := range c.Accelerators() {
		at := func(types ...accel.DType) string {
			for _, d := range types {
				if f, ok := a.Peak(d); ok {
					return cell(f, 1e12)
				}
			}
			return "-"
		}
		fmt.Fprintf(&b, "| %s | %s | %s | %s | %s | %s | %s | %s |\n", a.Name, at(accel.BF16), at(accel.FP8), at(accel.INT8),
			at(accel.NVFP4, accel.MXFP4), cell(a.Memory, gib), cell(a.Bandwidth, 1e9), cell(a.Power, 1))
	}
	return b.String()
}

func systemTable() string {
	c := accel.Builtin()
	numbers := sourceNumbers(c)
	var b strings.Builder
	b.WriteString("| name | what | accelerator | a node | scale-up | domain | GB/s one way | NICs a node | GB/s one way |\n|---|---|---|---|---|---|---|---|---|\n")
	for _, s := range c.Systems() {
		fmt.Fprintf(&b, "| %s | %s | %s | %d | %s | %d | %s | %d | %s |\n", s.Name, s.Title, s.Accelerator.Name, s.PerNode, s.ScaleUp.Kind, s.ScaleUp.Domain,
			figureText(c, s.ScaleUp.Bandwidth, 1e9, numbers), s.ScaleOut.NICs, figureText(c, s.ScaleOut.Bandwidth, 1e9, numbers))
	}
	return b.String()
}

// figureText is a figure with its range and sources, marked where it is assumed.
func figureText(c *accel.Catalogue, f accel.Figure, unit float64, numbers map[string]int) string {
	if !f.Known() {
		return "-"
	}
	number := func(v float64) string {
		if v >= 1000 {
			return fmt.Sprintf("%.0f", v)
		}
		return fmt.Sprintf("%.4g", v)
	}
	text := number(f.Value / unit)
	if f.Low != f.High {
		text += " (" + number(f.Low/unit) + "-" + number(f.High/unit) + ")"
	}
	var refs []int
	for _, name := range f.Sources {
		refs = append(refs, numbers[name])
		if s, _ := c.Source(name); s.Kind == "assumed" {
			text += "*"
		}
	}
	slices.Sort(refs)
	return text + " " + strings.ReplaceAll(fmt.Sprint(refs), " ", ",")
}

func sourceTable() string {
	c := accel.Builtin()
	numbers := sourceNumbers(c)
	rows := make([]string, len(numbers))
	for name, n := range numbers {
		s, _ := c.Source(name)
		rows[n-1] = fmt.Sprintf("| %d | %s | %s | %s | %s |\n", n, s.Title, s.Kind, s.Date, s.URL)
	}
	return "| | source | kind | date | |\n|---|---|---|---|---|\n" + strings.Join(rows, "")
}

func modelTable(t *testing.T) string {
	var b strings.Builder
	b.WriteString("| model | layers | parameters, B | active, B | KV elements a token | published as |\n|---|---|---|---|---|---|\n")
	for _, name := range accel.KnownModels() {
		m, err := accel.LookupModel(name)
		require.NoError(t, err)
		p := m.Resolve(accel.Precision{})
		types := p.Weights.String()
		if p.Experts != p.Weights && m.MoE() {
			types += ", experts " + p.Experts.String()
		}
		if p.Attention != p.Weights {
			types += ", attention " + p.Attention.String()
		}
		fmt.Fprintf(&b, "| %s | %d | %.4g | %.3g | %d | %s |\n", name, m.Layers(), float64(m.Params().Total())/1e9, float64(m.ActiveParams().Total())/1e9,
			m.KVElements(), types)
	}
	return b.String()
}
