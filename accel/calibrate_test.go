package accel_test

import (
	"bytes"
	"math"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/inferloom/inferloom/accel"
)

func text(t testing.TB, c *accel.Calibration) string {
	var b bytes.Buffer
	_, err := c.WriteTo(&b)
	require.NoError(t, err)
	return b.String()
}

func TestCalibrationReadsWhatItWrites(t *testing.T) {
	once := text(t, accel.Calibrated())
	again, err := accel.ReadCalibration(strings.NewReader(once))
	require.NoError(t, err)
	require.Empty(t, cmp.Diff(once, text(t, again)))
	require.Greater(t, strings.Count(once, "\n"), 100)
}

func TestReadCalibrationRefuses(t *testing.T) {
	for _, row := range []struct{ line, want string }{
		{"speed base weights=1", "quantity is speed"},
		{"tpot", "line is tpot"},
		{"tpot base wings=1", "wings"},
		{"tpot base weights=fast", "weights is fast"},
		{"tpot base weights=NaN", "weights is NaN"},
		{"tpot effect vllm - - - - memory=1", ""},
		{"tpot effect vllm h200-sxm 1x2/3/4 - - memory=1", "key"},
		{"tpot effect vlm - - - - memory=1", "key"},
		{"tpot effect - - 1x2 - - memory=1", "key"},
		{"tpot effect vllm h200-sxm 1x2/3/4 fp99 - memory=1", "dtype"},
		{"tpot effect - - - - 1/2 one=1", "key"},
		{"tpot effect - - - - 1/2/0 one=1", "key"},
		{"tpot effect - - 0x0/0/0 - - one=1", "key"},
		{"tpot effect vllm - - - - points=-1", "points"},
		{"ttft spread sure vllm h200-sxm low=-1 high=1", "evidence"},
		{"ttft spread model vlm h200-sxm low=-1 high=1", "engine"},
		{"ttft spread model vllm h200-sxm low=-1 top=1", "top"},
	} {
		_, err := accel.ReadCalibration(strings.NewReader("# a comment\n\n" + row.line + "\n"))
		if row.want == "" {
			require.NoError(t, err, row.line)
			continue
		}
		require.ErrorContains(t, err, row.want, row.line)
		require.ErrorContains(t, err, "line 3", row.line)
	}
}

func FuzzReadCalibration(f *testing.F) {
	f.Add("tpot base weights=.5\ntpot effect vllm h200-sxm 1x2/3/4 fp8 8/1/1 points=3 memory=-.2 one=.1\nttft spread model - - low=-1 high=2\n")
	f.Fuzz(func(t *testing.T, s string) {
		c, err := accel.ReadCalibration(strings.NewReader(s))
		if err != nil {
			return
		}
		once := text(t, c)
		again, err := accel.ReadCalibration(strings.NewReader(once))
		require.NoError(t, err, once)
		require.Equal(t, once, text(t, again))
	})
}

// slowed are points of a deployment on a system that nobody has measured, which takes factor times what parts usually do.
func slowed(t testing.TB, factor, noise float64) []accel.Point {
	random := rand.New(rand.NewPCG(1, 2))
	var points []accel.Point
	for _, tp := range []int{1, 2, 4} {
		d := deployment(t, "meta-llama/Llama-3.1-8B", "mi300x", accel.Parallelism{TP: tp})
		for _, input := range []int{500, 2000} {
			for load := 1.; load <= 128; load *= 2 {
				w := accel.Workload{InputTokens: input, OutputTokens: 500, Concurrency: load}
				e := estimate(t, accel.Uncalibrated(), d, w)
				scale := func(t time.Duration) time.Duration {
					return time.Duration(float64(t) * factor * math.Exp(noise*random.NormFloat64()))
				}
				points = append(points, accel.Point{Deployment: d, Workload: w, TPOT: scale(e.TPOT.Value), TTFT: scale(e.TTFT.Value)})
			}
		}
	}
	return points
}

func TestCalibrateRecoversAFactor(t *testing.T) {
	for _, factor := range []float64{.7, 1, 1.9} {
		points := slowed(t, factor, .03)
		c, err := accel.Uncalibrated().Calibrate(points)
		require.NoError(t, err)
		for _, pt := range points {
			e := estimate(t, c, pt.Deployment, pt.Workload)
			assert.InEpsilon(t, float64(pt.TPOT), float64(e.TPOT.Value), .12)
			assert.Equal(t, accel.DeploymentMeasured, e.Evidence)
		}
		// Loads in between, and a cut that was not measured.
		d := deployment(t, "meta-llama/Llama-3.1-8B", "mi300x", accel.Parallelism{TP: 8})
		for _, load := range []float64{3, 24, 100} {
			w := accel.Workload{InputTokens: 1000, OutputTokens: 500, Concurrency: load}
			for _, d := range []accel.Deployment{d, points[0].Deployment} {
				truth := estimate(t, accel.Uncalibrated(), d, w)
				e := estimate(t, c, d, w)
				assert.InEpsilon(t, factor*float64(truth.TPOT.Value), float64(e.TPOT.Value), .15, "factor %v load %v", factor, load)
			}
		}
	}
}

// A few wild measurements do not pull the others along.
func TestCalibrateIsRobust(t *testing.T) {
	points := slowed(t, 1.5, .02)
	want := points[7]
	for i := 0; i < len(points); i += 12 {
		points[i].TPOT *= 20
	}
	c, err := accel.Uncalibrated().Calibrate(points)
	require.NoError(t, err)
	assert.InEpsilon(t, float64(want.TPOT), float64(estimate(t, c, want.Deployment, want.Workload).TPOT.Value), .1)
}

// A user's points count on top of ours and leave what they say nothing about as it was.
func TestCalibrateOnTop(t *testing.T) {
	c := accel.Calibrated()
	d := deepSeek(t)
	before := text(t, c)
	var points []accel.Point
	for load := 4.; load <= 64; load *= 2 {
		w := accel.Workload{InputTokens: 3000, OutputTokens: 300, Concurrency: load}
		e := estimate(t, c, d, w)
		points = append(points, accel.Point{Deployment: d, Workload: w, TPOT: 2 * e.TPOT.Value})
	}
	own, err := c.Calibrate(points)
	require.NoError(t, err)
	require.Equal(t, before, text(t, c), "the calibration that it starts from stays as it is")
	for _, pt := range points {
		assert.InEpsilon(t, float64(pt.TPOT), float64(estimate(t, own, d, pt.Workload).TPOT.Value), .15)
	}
	other := deployment(t, "meta-llama/Llama-3.1-8B", "h100-sxm", accel.Parallelism{TP: 1})
	assert.InEpsilon(t, float64(estimate(t, c, other, chat).TPOT.Value), float64(estimate(t, own, other, chat).TPOT.Value), .1)
}

func TestCalibrateRefuses(t *testing.T) {
	d := deepSeek(t)
	_, err := accel.Calibrated().Calibrate(nil)
	require.ErrorContains(t, err, "points")
	_, err = accel.Calibrated().Calibrate([]accel.Point{
		{Deployment: d, Workload: chat, TPOT: time.Millisecond},
		{Deployment: d, Workload: chat},
		{Deployment: d, Workload: chat, TPOT: -1},
		{Workload: chat, TPOT: 1},
		{Deployment: d, Workload: accel.Workload{InputTokens: 1, OutputTokens: 1, Rate: 1}, TPOT: 1},
	})
	for _, want := range []string{"point 1: ", "point 2: ", "point 3: Deployment.Model", "point 4: Workload.Rate"} {
		assert.ErrorContains(t, err, want)
	}
	assert.NotContains(t, err.Error(), "point 0")
}

// Fit finds how wide its own errors are.
func TestFitMeasuresItsErrors(t *testing.T) {
	points := slowed(t, 1.4, .1)
	c, err := accel.Fit(points)
	require.NoError(t, err)
	inside := 0
	for _, pt := range slowed(t, 1.4, .1) {
		if e := estimate(t, c, pt.Deployment, pt.Workload); e.TPOT.Low <= pt.TPOT && pt.TPOT <= e.TPOT.High {
			inside++
		}
	}
	assert.GreaterOrEqual(t, float64(inside)/float64(len(points)), .85)
	e := estimate(t, c, points[0].Deployment, points[0].Workload)
	assert.Less(t, float64(e.TPOT.High), 1.6*float64(e.TPOT.Value))
}
