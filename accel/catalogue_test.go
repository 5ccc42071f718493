package accel_test

import (
	"encoding/json"
	"math"
	"net/url"
	"reflect"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/inferloom/inferloom/accel"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// figures calls f with every known figure of the catalogue and what it is.
func figures(c *accel.Catalogue, f func(what string, fig accel.Figure)) {
	visit := func(what string, fig accel.Figure) {
		if fig.Known() {
			f(what, fig)
		}
	}
	for _, a := range c.Accelerators() {
		visit(a.Name+" memory", a.Memory)
		visit(a.Name+" bandwidth", a.Bandwidth)
		visit(a.Name+" power", a.Power)
		for _, d := range a.Peaks() {
			p, _ := a.Peak(d)
			visit(a.Name+" "+d.String(), p)
		}
	}
	for _, s := range c.Systems() {
		visit(s.Name+" scale-up", s.ScaleUp.Bandwidth)
		visit(s.Name+" scale-out", s.ScaleOut.Bandwidth)
	}
}

func TestEveryFigureHasASource(t *testing.T) {
	c := accel.Builtin()
	used := map[string]bool{}
	n := 0
	figures(c, func(what string, fig accel.Figure) {
		n++
		assert.NotEmpty(t, fig.Sources, what)
		for _, name := range fig.Sources {
			used[name] = true
			s, ok := c.Source(name)
			require.True(t, ok, "%s: %s", what, name)
			u, err := url.Parse(s.URL)
			assert.NoError(t, err)
			assert.Equal(t, "https", u.Scheme, name)
			if s.Kind == "assumed" {
				assert.Contains(t, what, "scale-out", "only networks, which differ from site to site, may be assumed")
			}
		}
		assert.LessOrEqual(t, fig.Low, fig.Value, what)
		assert.GreaterOrEqual(t, fig.High, fig.Value, what)
		assert.Less(t, fig.High, 2.5*fig.Low, "%s: sources that disagree that much are not about the same thing", what)
	})
	assert.Greater(t, n, 150)
}

// peak in FLOP/s, 0 if there is none.
func peak(a accel.Accelerator, d accel.DType) float64 {
	f, _ := a.Peak(d)
	return f.Value
}

// Ratios between types are a property of the design: a sparse figure among dense ones breaks them.
func TestPeaksAreDense(t *testing.T) {
	for _, a := range accel.Builtin().Accelerators() {
		bf16, fp8, int8 := peak(a, accel.BF16), peak(a, accel.FP8), peak(a, accel.INT8)
		require.Positive(t, bf16, a.Name)
		switch a.Name {
		case "gaudi3", "tpu-v5p", "tpu-v6e":
			assert.Equal(t, bf16, fp8, "%s gains nothing from FP8", a.Name)
		case "a100-sxm", "a100-pcie", "gaudi2", "max-1550", "arc-pro-b60", "tpu-v5e":
			assert.Zero(t, fp8, "%s has no FP8, or none that we could verify", a.Name)
		default:
			assert.InEpsilon(t, 2, fp8/bf16, .015, a.Name)
		}
		switch a.Name {
		case "b300-sxm", "gb300":
			assert.Less(t, int8, .05*fp8, "INT8 collapses on Blackwell Ultra")
		default:
			if int8 > 0 {
				assert.InEpsilon(t, 2, int8/bf16, .015, a.Name)
			}
		}
		fp4 := max(peak(a, accel.NVFP4), peak(a, accel.MXFP4))
		switch a.Name {
		case "b300-sxm":
			assert.InEpsilon(t, 14./4.5, fp4/fp8, 1e-9, "1.5 times Blackwell's, less by power")
		case "gb300":
			assert.InEpsilon(t, 3, fp4/fp8, 1e-9)
		default:
			if fp4 > 0 {
				assert.InEpsilon(t, 2, fp4/fp8, .01, a.Name)
			}
		}
		if a.Vendor != "amd" {
			assert.Equal(t, peak(a, accel.MXFP4), peak(a, accel.NVFP4), a.Name)
		}
	}
}

// What NVIDIA prints for FP8 with 2:4 sparsity, halved. L40S is the trap: 733 is its sparse BF16 and its dense FP8.
func TestDenseIsHalfTheHeadline(t *testing.T) {
	c := accel.Builtin()
	for name, sparse := range map[string]float64{
		"h100-sxm": 3957.8, "h200-sxm": 3957.8, "h100-pcie": 3026, "l40s": 1466, "l4": 485, "b200-sxm": 9000, "b300-sxm": 9000, "gb200": 10000, "gb300": 10000,
	} {
		a, err := c.Accelerator(name)
		require.NoError(t, err)
		assert.InEpsilon(t, sparse/2, peak(a, accel.FP8)/1e12, .003, name)
	}
	gb300, err := c.Accelerator("gb300")
	require.NoError(t, err)
	assert.InEpsilon(t, .75*20000, peak(gb300, accel.NVFP4)/1e12, 1e-9, "of Blackwell Ultra's FP4 dense is three quarters")
}

// Peaks that follow from units, operations a clock and frequency.
func TestPeaksFollowFromClocks(t *testing.T) {
	c := accel.Builtin()
	for _, row := range []struct {
		name          string
		d             accel.DType
		units, ops, g float64
	}{
		{"mi300x", accel.FP8, 304, 4096, 2.1},
		{"mi355x", accel.FP8, 256, 8192, 2.4},
		{"max-1550", accel.BF16, 128, 4096, 1.6},
		{"arc-pro-b60", accel.BF16, 20, 2048, 2.4},
	} {
		a, err := c.Accelerator(row.name)
		require.NoError(t, err)
		assert.InEpsilon(t, row.units*row.ops*row.g*1e9, peak(a, row.d), 1e-3, row.name)
	}
}

func TestUnitsAreSane(t *testing.T) {
	c := accel.Builtin()
	for _, a := range c.Accelerators() {
		ridge := peak(a, accel.BF16) / a.Bandwidth.Value
		assert.True(t, ridge > 30 && ridge < 600, "%s: %.0f FLOP a byte", a.Name, ridge)
		assert.True(t, a.Memory.Value > 14e9 && a.Memory.Value < 400e9, a.Name)
		seconds := a.Memory.Value / a.Bandwidth.Value
		assert.True(t, seconds > .01 && seconds < .1, "%s reads its memory in %.3f s", a.Name, seconds)
		if a.Power.Known() {
			perWatt := peak(a, accel.BF16) / a.Power.Value / 1e12
			assert.True(t, perWatt > .3 && perWatt < 3, "%s: %.2f TFLOP/s a watt", a.Name, perWatt)
		}
	}
	for _, s := range c.Systems() {
		assert.Zero(t, s.ScaleUp.Domain%s.PerNode, s.Name)
		if s.ScaleUp.Bandwidth.Known() {
			assert.GreaterOrEqual(t, s.ScaleUp.Bandwidth.Value*2, s.ScaleOut.Bandwidth.Value, s.Name)
			assert.Less(t, s.ScaleUp.Bandwidth.Value, s.Accelerator.Bandwidth.Value, s.Name)
		}
		if s.ScaleUp.Kind == accel.PCIe {
			assert.LessOrEqual(t, s.ScaleUp.Bandwidth.Value, 64e9, s.Name)
		}
	}
}

// Links are quoted both ways by NVIDIA, Google and AMD, NICs one way; here all are one way.
func TestLinksAreOneWay(t *testing.T) {
	c := accel.Builtin()
	for name, bothWays := range map[string]float64{
		"a100-sxm": 600, "h100-sxm": 900, "h200-sxm": 900, "h800-sxm": 400, "b200-sxm": 1800, "gb200-nvl72": 1800, "gb300-nvl72": 1800,
		"mi300x": 896, "mi355x": 1075.2, "gaudi3": 1050, "gaudi2": 525, "tpu-v5e": 400, "tpu-v5p": 1200, "tpu-v6e": 800, "tpu7x": 1200,
	} {
		s, err := c.System(name)
		require.NoError(t, err)
		assert.InEpsilon(t, bothWays/2*1e9, s.ScaleUp.Bandwidth.Value, 1e-6, name)
	}
	h20, err := c.System("h20")
	require.NoError(t, err)
	assert.InEpsilon(t, float64(h20.ScaleOut.NICs)*400e9/8, h20.ScaleOut.Bandwidth.Value*float64(h20.PerNode), 1e-9, "4 NICs of 400 Gb/s for 8")
}

// The same silicon at another power is another board.
func TestBoardsNotDies(t *testing.T) {
	c := accel.Builtin()
	for _, pair := range [][2]string{{"b200-sxm", "gb200"}, {"b300-sxm", "gb300"}, {"h100-pcie", "h100-sxm"}, {"a100-pcie", "a100-sxm"}} {
		slow, err := c.Accelerator(pair[0])
		require.NoError(t, err)
		fast, err := c.Accelerator(pair[1])
		require.NoError(t, err)
		assert.Less(t, slow.Power.Value, fast.Power.Value)
		assert.LessOrEqual(t, peak(slow, accel.BF16), peak(fast, accel.BF16))
		assert.Less(t, slow.Bandwidth.Value, fast.Bandwidth.Value)
	}
}

func TestAcceleratorRate(t *testing.T) {
	c := accel.Builtin()
	for _, row := range []struct {
		name     string
		d, want  accel.DType
		teraFLOP float64
	}{
		{"h100-sxm", accel.FP8Block, accel.FP8, 1978.9},
		{"h100-sxm", accel.NVFP4, accel.BF16, 989.4},
		{"a100-sxm", accel.FP8, accel.BF16, 312},
		{"b200-sxm", accel.INT4G32, accel.BF16, 2250},
		{"b200-sxm", accel.NVFP4, accel.NVFP4, 9000},
		{"b300-sxm", accel.INT8, accel.INT8, 153.5},
	} {
		a, err := c.Accelerator(row.name)
		require.NoError(t, err)
		d, flops, ok := a.Rate(row.d)
		require.True(t, ok)
		assert.Equal(t, row.want, d)
		assert.InEpsilon(t, row.teraFLOP*1e12, flops, 1e-9)
	}
	a, err := c.Accelerator("h100")
	require.NoError(t, err)
	_, _, ok := a.Rate(accel.FP32)
	assert.False(t, ok, "nothing is widened to FP32")
}

func TestCatalogueNames(t *testing.T) {
	c := accel.Builtin()
	for _, name := range []string{"b200_sxm", "h100_sxm", "h200_sxm", "b300_sxm", "gb200", "gb300", "B200", "TPU v5e", "mi300x", "tpu-v7", "a100-sxm-80"} {
		_, err := c.System(name)
		assert.NoError(t, err, name)
	}
	_, err := c.System("h201")
	require.ErrorIs(t, err, accel.ErrUnknown)
	assert.ErrorContains(t, err, "h20")
	_, err = c.Accelerator("mi350")
	require.ErrorIs(t, err, accel.ErrUnknown)
	assert.ErrorContains(t, err, "mi355x")
	_, err = new(accel.Catalogue).System("h200")
	assert.ErrorIs(t, err, accel.ErrUnknown)
}

// Written out and read again it is the same.
func TestCatalogueJSON(t *testing.T) {
	c := accel.Builtin()
	b, err := json.Marshal(c)
	require.NoError(t, err)
	again, err := new(accel.Catalogue).Read(strings.NewReader(string(b)))
	require.NoError(t, err)
	approx := cmp.Comparer(func(a, b float64) bool { return math.Abs(a-b) <= 1e-12*math.Abs(a+b) })
	exported := cmp.Exporter(func(reflect.Type) bool { return true })
	assert.Empty(t, cmp.Diff(c.Accelerators(), again.Accelerators(), approx, exported))
	assert.Empty(t, cmp.Diff(c.Systems(), again.Systems(), approx, exported))
}

func TestUserCatalogue(t *testing.T) {
	c := accel.Builtin()
	file := `{
		"sources": {"datasheet": {"title": "our card", "url": "https://example.com", "date": "2026-01-02", "kind": "vendor"}},
		"accelerators": [{"name": "npu-1", "peakTFLOPS": {"bf16": {"value": 500, "sources": ["datasheet"]}, "fp8": {"value": 1000}},
			"memoryBytes": {"value": 64e9}, "bandwidthGBps": {"value": 2000}}],
		"systems": [
			{"name": "npu", "accelerator": "npu-1", "perNode": 4, "scaleUp": {"kind": "mesh", "domain": 4, "links": 3, "oneWayGBps": {"value": 90}, "latencyUs": 1}, "scaleOut": {"nics": 1, "latencyUs": 5}},
			{"name": "h200-4nic", "accelerator": "h200", "perNode": 8, "scaleUp": {"kind": "switch", "domain": 8, "latencyUs": 2}, "scaleOut": {"nics": 4, "oneWayGBps": {"value": 25}, "latencyUs": 5, "railOnly": true}}
		]}`
	mine, err := c.Read(strings.NewReader(file))
	require.NoError(t, err)
	s, err := mine.System("npu")
	require.NoError(t, err)
	assert.Equal(t, 500e12, peak(s.Accelerator, accel.BF16))
	assert.False(t, s.ScaleOut.Bandwidth.Known(), "absent, not zero")
	s, err = mine.System("h200-4nic")
	require.NoError(t, err)
	assert.Equal(t, "h200-sxm", s.Accelerator.Name)
	assert.True(t, s.ScaleOut.RailOnly)
	_, err = c.System("npu")
	assert.ErrorIs(t, err, accel.ErrUnknown, "the other catalogue has not changed")

	a, err := mine.Accelerator("npu-1")
	require.NoError(t, err)
	a.Name, a.Aliases = "npu-2", []string{"h200"}
	_, err = mine.With([]accel.Accelerator{a}, nil)
	assert.ErrorContains(t, err, "h200: is taken by accelerator h200-sxm")
	a.Aliases = nil
	faster, err := mine.With([]accel.Accelerator{a.WithPeak(accel.FP8, accel.Figure{Value: 2e15, Low: 2e15, High: 2e15})}, nil)
	require.NoError(t, err)
	a, err = faster.Accelerator("npu-2")
	require.NoError(t, err)
	assert.Equal(t, 2e15, peak(a, accel.FP8))
}

func TestCatalogueRefuses(t *testing.T) {
	for want, file := range map[string]string{
		"unexpected EOF":                         `{`,
		"unknown field":                          `{"chips": []}`,
		"something follows":                      `{} {}`,
		"accelerators[0].name":                   `{"accelerators": [{}]}`,
		"accelerators[0].memoryBytes":            `{"accelerators": [{"name": "x"}]}`,
		"accelerators[0].peakTFLOPS[bf16]":       `{"accelerators": [{"name": "x"}]}`,
		"accelerators[0].peakTFLOPS is fp7":      `{"accelerators": [{"name": "x", "peakTFLOPS": {"fp7": {"value": 1}}}]}`,
		"accelerators[0].peakTFLOPS is int4":     `{"accelerators": [{"name": "x", "peakTFLOPS": {"int4": {"value": 1}}}]}`,
		"leave out what is not known":            `{"accelerators": [{"name": "x", "peakTFLOPS": {"fp8": {"value": 0}}}]}`,
		"must be positive and finite":            `{"accelerators": [{"name": "x", "bandwidthGBps": {"value": -1}}]}`,
		"must be between low":                    `{"accelerators": [{"name": "x", "bandwidthGBps": {"value": 1, "low": 2}}]}`,
		"nowhere: is not among the sources":      `{"accelerators": [{"name": "x", "bandwidthGBps": {"value": 1, "sources": ["nowhere"]}}]}`,
		"h200: is taken by accelerator h200-sxm": `{"accelerators": [{"name": "h200"}]}`,
		"is taken by accelerator l4":             `{"accelerators": [{"name": "x", "labels": ["NVIDIA-L4"]}]}`,
		"systems[0].accelerator is y":            `{"systems": [{"name": "x", "accelerator": "y"}]}`,
		"systems[0].perNode is 0":                `{"systems": [{"name": "x", "accelerator": "l4"}]}`,
		"must be pcie, switch, mesh or torus":    `{"systems": [{"name": "x", "accelerator": "l4", "scaleUp": {"kind": "web"}}]}`,
		"systems[0].scaleUp.torus is false":      `{"systems": [{"name": "x", "accelerator": "l4", "perNode": 1, "scaleUp": {"kind": "torus", "domain": 4, "links": 4}}]}`,
		"systems[0].scaleUp.latencyUs is -1":     `{"systems": [{"name": "x", "accelerator": "l4", "scaleUp": {"kind": "pcie", "latencyUs": -1}}]}`,
		"sources.a.date":                         `{"sources": {"a": {"date": "May", "kind": "vendor"}}}`,
		"sources.a.kind":                         `{"sources": {"a": {"date": "2026-01-01", "kind": "friend"}}}`,
		"sources.smi":                            `{"sources": {"smi": {"date": "2026-01-01", "kind": "vendor"}}}`,
	} {
		_, err := accel.Builtin().Read(strings.NewReader(file))
		assert.ErrorContains(t, err, want, file)
	}
}

func FuzzCatalogue(f *testing.F) {
	b, err := json.Marshal(accel.Builtin())
	if err != nil {
		f.Fatal(err)
	}
	f.Add(string(b))
	f.Add(`{"accelerators": [{"name": "x", "devices": -1, "peakTFLOPS": {"bf16": {"value": 1}}, "memoryBytes": {"value": 1}, "bandwidthGBps": {"value": 1}}]}`)
	f.Fuzz(func(t *testing.T, file string) {
		c, err := new(accel.Catalogue).Read(strings.NewReader(file))
		if err != nil {
			return
		}
		for _, s := range c.Systems() {
			if g, err := s.Group(s.PerNode); err == nil && (math.IsNaN(g.Up.AllToAll) || g.Up.AllToAll < 0) {
				t.Fatalf("%s: %+v", s.Name, g)
			}
		}
		if _, err := json.Marshal(c); err != nil {
			t.Fatal(err)
		}
	})
}
