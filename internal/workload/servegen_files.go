package workload

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sort"
	"strconv"
)

// readClient reads the two files of a client, and keeps the windows with requests in the time asked for.
func readClient(folder, name string, o ServeGenOptions) (*client, error) {
	trace := filepath.Join(folder, "chunk-"+name+"-trace.csv")
	windows, err := readFile(trace, readWindows)
	if err != nil {
		return nil, err
	}
	c := &client{ServeGenOptions: o, name: "client-" + name, stream: nameStream(name)}
	end := endOfTime.Seconds()
	if o.For > 0 {
		end = (o.From + o.For).Seconds()
	}
	for _, w := range windows {
		if w.rate > 0 && w.start < end && w.start+w.length > o.From.Seconds() {
			if w.rate*w.length*o.Load > maxWindowRequests {
				return nil, fmt.Errorf("%s: %v requests/s from %v s on, times the load of %v, are too many", trace, w.rate, w.start, o.Load)
			}
			c.windows = append(c.windows, w)
		}
	}
	if len(c.windows) == 0 {
		return c, nil
	}
	dataset := filepath.Join(folder, "chunk-"+name+"-dataset.json")
	lengths, err := readFile(dataset, readLengths)
	if err != nil {
		return nil, err
	}
	if len(lengths) == 0 {
		return nil, fmt.Errorf("%s: no lengths for the requests of %s", dataset, filepath.Base(trace))
	}
	for i := range c.windows {
		// The latest that is not later, and before the first that first.
		w := &c.windows[i]
		at := sort.Search(len(lengths), func(j int) bool { return lengths[j].start > w.start })
		w.lengths = lengths[max(0, at-1)].lengths
	}
	return c, nil
}

// nameStream is the number of a client, as its file is named.
func nameStream(name string) uint64 {
	n, err := strconv.ParseUint(name, 10, 32)
	if err != nil {
		for _, b := range []byte(name) {
			n = mix(n ^ uint64(b))
		}
	}
	return n
}

func readFile[T any](path string, read func(io.Reader) (T, error)) (v T, err error) {
	f, err := os.Open(path)
	if err != nil {
		return v, err
	}
	defer f.Close()
	if v, err = read(bufio.NewReaderSize(f, 64<<10)); err != nil {
		return v, fmt.Errorf("%s: %w", path, err)
	}
	return v, nil
}

// readWindows reads lines of start in seconds, rate, coefficient of variation, distribution of gaps, and its shape and
// scale.
func readWindows(r io.Reader) (windows []window, err error) {
	const day = 86400
	lines := bufio.NewScanner(r)
	var fields [][]byte
	for number := 1; lines.Scan(); number++ {
		wrong := func(format string, v ...any) error {
			return fmt.Errorf("line %d: "+format, append([]any{number}, v...)...)
		}
		line := bytes.TrimSpace(lines.Bytes())
		if len(line) == 0 {
			continue
		}
		if fields, err = splitCSV(fields[:0], line); err != nil {
			return nil, wrong("%w", err)
		}
		if len(fields) != 6 {
			return nil, wrong("%d columns, want 6: start, rate, cv, distribution, shape, scale", len(fields))
		}
		start, ok := parseUint(fields[0])
		if !ok || start > 1e9 {
			return nil, wrong("the start is %.40q, want whole seconds", fields[0])
		}
		rate, err := strconv.ParseFloat(string(fields[1]), 64)
		if err != nil || !(rate >= 0 && rate <= maxRate) {
			return nil, wrong("the rate is %.40q, want requests a second, up to %v", fields[1], maxRate)
		}
		w := window{start: float64(start), length: 600, rate: rate, weibull: string(fields[3]) == "Weibull"}
		switch string(fields[3]) {
		case "": // no requests
			w.rate = 0
		case "Gamma", "Weibull":
			if w.shape, err = strconv.ParseFloat(string(fields[4]), 64); err != nil || !(w.shape > 1e-3 && w.shape < 1e6) {
				return nil, wrong("the shape is %.40q, want a number from 0.001 to 1000000", fields[4])
			}
		default:
			return nil, wrong("the distribution is %.40q, want Gamma, Weibull or none", fields[3])
		}
		if last := len(windows) - 1; last >= 0 {
			if w.start <= windows[last].start {
				return nil, wrong("the start %d is not behind the %v of an earlier line", start, windows[last].start)
			}
			windows[last].length = min(w.start-windows[last].start, day)
			w.length = windows[last].length
		}
		windows = append(windows, w)
	}
	return windows, lines.Err()
}

// lengthsFrom are the lengths from a start in seconds on.
type lengthsFrom struct {
	start   float64
	lengths *lengthsOf
}

// readLengths reads an object of starts, each with an object of distributions by field.
func readLengths(r io.Reader) (all []lengthsFrom, err error) {
	d := json.NewDecoder(r)
	wrong := func(err error) error {
		if errors.Is(err, io.EOF) {
			err = io.ErrUnexpectedEOF
		}
		return fmt.Errorf("at byte %d: %w", d.InputOffset(), err)
	}
	if token, err := d.Token(); err != nil {
		return nil, wrong(err)
	} else if token != json.Delim('{') {
		return nil, wrong(fmt.Errorf("%v, want an object", token))
	}
	for d.More() {
		token, err := d.Token()
		if err != nil {
			return nil, wrong(err)
		}
		key := token.(string) // an object's keys are
		start, ok := parseUint([]byte(key))
		if !ok || start > 1e9 {
			return nil, wrong(fmt.Errorf("the start is %.40q, want whole seconds", key))
		}
		if len(all) > 0 && float64(start) <= all[len(all)-1].start {
			return nil, wrong(fmt.Errorf("the start %d is not behind the one before", start))
		}
		var fields map[string]string
		if err := d.Decode(&fields); err != nil {
			return nil, wrong(err)
		}
		lengths, err := parseLengths(fields)
		if err != nil {
			return nil, wrong(fmt.Errorf("%s: %w", key, err))
		}
		if lengths != nil {
			all = append(all, lengthsFrom{float64(start), lengths})
		}
	}
	_, err = d.Token()
	if err != nil {
		return nil, wrong(err)
	}
	return all, nil
}

// parseLengths reads the distributions of one time; nil if there were no requests.
func parseLengths(fields map[string]string) (*lengthsOf, error) {
	read := func(name string) (discrete, error) {
		s, ok := fields[name]
		if !ok {
			return discrete{}, nil
		}
		d, err := parseDiscrete(s)
		if err != nil {
			err = fmt.Errorf("%s: %w", name, err)
		}
		return d, err
	}
	var errs []error
	l := &lengthsOf{}
	for _, names := range [][2]string{
		{"input_tokens"}, {"text_tokens"}, {"image_tokens", "image_count"}, {"audio_tokens", "audio_count"}, {"video_tokens", "video_count"},
	} {
		tokens, err := read(names[0])
		count, err2 := read(names[1])
		errs = append(errs, err, err2)
		if len(tokens.values) > 0 {
			l.parts = append(l.parts, part{tokens, count})
		}
	}
	output, err := read("output_tokens")
	l.output = output
	if err := errors.Join(append(errs, err)...); err != nil {
		return nil, err
	}
	if len(l.parts) == 0 || len(output.values) == 0 {
		return nil, nil
	}
	return l, nil
}
