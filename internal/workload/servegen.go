package workload

import (
	"cmp"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
)

// ServeGenOptions are the parameters of ServeGen.
type ServeGenOptions struct {
	// Seed determines everything that is drawn.
	Seed uint64
	// From is where in the data to begin, and For how long to go on; 0 means to their end.
	From, For time.Duration
	// Load multiplies the rate of each client, and leaves the changes over the day as long as they are; 0 means 1.
	Load float64
}

// ServeGen returns requests that are distributed as those of a model of the ServeGen project (Xiang et al., "ServeGen:
// Workload Characterization and Generation of Large Language Model Serving in Production", 2025), from the folder of the
// model in its data: for each client a chunk-N-trace.csv with the rate and the distribution of gaps in each ten minutes,
// and a chunk-N-dataset.json with the distributions of lengths in each six hours.
//
// The data are distributions, so the requests are drawn: in each window of a client as many as its rate says, at times
// whose gaps follow the gamma or Weibull distribution named there and fill the window. Prompt and answer are drawn
// independently of each other, since the data have no joint distribution; a multimodal prompt is its text with its
// images, audio and video. Tenant is the client. Nothing is shared: each request is a session of one user message with
// a text of its own.
//
// It reads the folder once, and holds it at less than a third of its size. An error names the file and the line. Each
// iteration begins again.
func ServeGen(folder string, o ServeGenOptions) (Source, error) {
	var errs []error
	if o.From < 0 || o.For < 0 {
		errs = append(errs, fmt.Errorf("From and For are %v and %v, want 0 or more", o.From, o.For))
	}
	if !(o.Load >= 0 && o.Load <= maxRate) {
		errs = append(errs, fmt.Errorf("Load is %v, want 0 to %v", o.Load, maxRate))
	}
	if err := errors.Join(errs...); err != nil {
		return nil, fmt.Errorf("servegen: %w", err)
	}
	o.Load = cmp.Or(o.Load, 1)
	paths, err := filepath.Glob(filepath.Join(escapeGlob(folder), "chunk-*-trace.csv"))
	if err != nil || len(paths) == 0 {
		return nil, fmt.Errorf("%s: no chunk-*-trace.csv of ServeGen in the folder", folder)
	}
	var clients []Source
	some := false
	for _, path := range paths {
		name := strings.TrimSuffix(strings.TrimPrefix(filepath.Base(path), "chunk-"), "-trace.csv")
		c, err := readClient(folder, name, o)
		if err != nil {
			return nil, err
		}
		some = some || len(c.windows) > 0
		clients = append(clients, c.requests)
	}
	if !some {
		return nil, fmt.Errorf("%s: no client has a request in the time asked for", folder)
	}
	return Merge(clients...), nil
}

func escapeGlob(path string) string {
	return strings.NewReplacer(`\`, `\\`, `*`, `\*`, `?`, `\?`, `[`, `\[`).Replace(path)
}

// client is one client of ServeGen's.
type client struct {
	ServeGenOptions
	name    string
	stream  uint64 // of random numbers
	windows []window
}

// window is a time in which the requests of a client are distributed alike. Times are in seconds.
type window struct {
	start, length float64
	rate          float64
	weibull       bool // else gamma
	shape         float64
	lengths       *lengthsOf
}

// maxWindowRequests bounds the requests of a client's window, which are drawn together.
const maxWindowRequests = 1e7

// requests is the Source of the client alone.
func (c *client) requests(yield func(Request, error) bool) {
	n := 0
	for i := range c.windows {
		w := &c.windows[i]
		// Each window has a random source of its own, so that it does not depend on where the run began.
		r := rand.New(rand.NewPCG(c.Seed, mix(c.stream)^uint64(w.start)))
		for _, second := range w.arrivals(r, c.Load) {
			input, output := w.lengths.draw(r)
			at := seconds(second) - c.From
			if at < 0 {
				continue
			}
			if c.For > 0 && at >= c.For {
				return
			}
			request := alone(n, at, input, output, []Piece{{mix(c.Seed ^ mix(c.stream<<32+uint64(n))), input}})
			request.Tenant = c.name
			if n++; !yield(request, nil) {
				return
			}
		}
	}
}

// arrivals draws the times of a window's requests.
func (w *window) arrivals(r *rand.Rand, load float64) []float64 {
	n := int(w.rate*load*w.length + r.Float64())
	at := make([]float64, n+1)
	sum := 0.0
	for i := range at {
		if w.weibull {
			sum += math.Pow(r.ExpFloat64(), 1/w.shape)
		} else {
			sum += gamma(r, w.shape)
		}
		at[i] = sum
	}
	if !(sum > 0) || math.IsInf(sum, 0) { // gaps beyond what floats hold: all come at once
		sum = 1
		clear(at)
	}
	for i := range at {
		at[i] = w.start + at[i]/sum*w.length
	}
	return at[:n]
}

// lengthsOf are the distributions of a client's lengths. The prompt is its parts, of which each but the first comes as
// often as its count says.
type lengthsOf struct {
	parts  []part
	output discrete
}

type part struct{ tokens, count discrete }

func (l *lengthsOf) draw(r *rand.Rand) (input, output int) {
	for _, p := range l.parts {
		times := 1
		if len(p.count.values) > 0 {
			times = p.count.draw(r)
		}
		for range min(times, maxParts) {
			input += p.tokens.draw(r)
		}
	}
	return min(max(1, input), maxTokens), min(max(1, l.output.draw(r)), maxTokens)
}

// maxParts bounds the images of a request.
const maxParts = 1000

// discrete is a distribution of whole numbers.
type discrete struct {
	values []int32
	up     []float32 // cumulative probabilities
}

func (d *discrete) draw(r *rand.Rand) int {
	if len(d.values) == 0 {
		return 0
	}
	share := r.Float32() * d.up[len(d.up)-1]
	i, exact := slices.BinarySearch(d.up, share)
	if exact {
		i++
	}
	return int(d.values[min(i, len(d.values)-1)])
}

// parseDiscrete reads probabilities by value as Python writes them: {224: 0.0003, 225: 0.0007}.
func parseDiscrete(s string) (d discrete, err error) {
	body, ok := strings.CutPrefix(strings.TrimSpace(s), "{")
	if body, ok2 := strings.CutSuffix(body, "}"); ok && ok2 {
		sum := 0.0
		for pair := range strings.SplitSeq(body, ",") {
			if strings.TrimSpace(pair) == "" {
				continue
			}
			left, right, _ := strings.Cut(pair, ":")
			value, err := strconv.ParseInt(strings.TrimSpace(left), 10, 32)
			if err != nil || value < 0 || value > maxTokens {
				return d, fmt.Errorf("%.40q is no number from 0 to %d with its probability", pair, maxTokens)
			}
			p, err := strconv.ParseFloat(strings.TrimSpace(right), 64)
			if err != nil || !(p >= 0 && p <= 1) {
				return d, fmt.Errorf("%.40q has no probability from 0 to 1", pair)
			}
			sum += p
			d.values = append(d.values, int32(value))
			d.up = append(d.up, float32(sum))
		}
		if len(d.values) > 0 && (sum < 0.99 || sum > 1.01) {
			return d, fmt.Errorf("probabilities sum up to %v, want 1", sum)
		}
		d.values, d.up = slices.Clip(d.values), slices.Clip(d.up)
		return d, nil
	}
	return d, fmt.Errorf("%.40q is no {value: probability, ...}", s)
}
