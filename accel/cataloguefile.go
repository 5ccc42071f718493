package accel

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"
)

// The form of a catalogue's file. Units are in the names of fields.
type (
	catalogueFile struct {
		Sources      map[string]Source `json:"sources,omitempty"`
		Accelerators []acceleratorJSON `json:"accelerators,omitempty"`
		Systems      []systemJSON      `json:"systems,omitempty"`
	}
	figureJSON struct {
		Value   float64  `json:"value"`
		Low     float64  `json:"low,omitempty"`
		High    float64  `json:"high,omitempty"`
		Sources []string `json:"sources,omitempty"`
	}
	acceleratorJSON struct {
		Name      string                `json:"name"`
		Title     string                `json:"title,omitempty"`
		Vendor    string                `json:"vendor,omitempty"`
		Aliases   []string              `json:"aliases,omitempty"`
		Labels    []string              `json:"labels,omitempty"`
		Devices   int                   `json:"devices,omitempty"`
		Peak      map[string]figureJSON `json:"peakTFLOPS"`
		Memory    *figureJSON           `json:"memoryBytes"`
		Bandwidth *figureJSON           `json:"bandwidthGBps"`
		Power     *figureJSON           `json:"watts,omitempty"`
	}
	systemJSON struct {
		Name        string       `json:"name"`
		Title       string       `json:"title,omitempty"`
		Aliases     []string     `json:"aliases,omitempty"`
		Accelerator string       `json:"accelerator"`
		PerNode     int          `json:"perNode"`
		ScaleUp     scaleUpJSON  `json:"scaleUp"`
		ScaleOut    scaleOutJSON `json:"scaleOut"`
	}
	scaleUpJSON struct {
		Kind      FabricKind  `json:"kind"`
		Domain    int         `json:"domain"`
		Bandwidth *figureJSON `json:"oneWayGBps,omitempty"`
		Links     int         `json:"links,omitempty"`
		Latency   float64     `json:"latencyUs"`
		Torus     *torusJSON  `json:"torus,omitempty"`
	}
	torusJSON struct {
		Largest string   `json:"largest"`
		Ring    int      `json:"ring,omitempty"`
		Cube    int      `json:"cube,omitempty"`
		Slices  []string `json:"slices,omitempty"`
	}
	scaleOutJSON struct {
		NICs      int         `json:"nics"`
		Bandwidth *figureJSON `json:"oneWayGBps,omitempty"`
		Latency   float64     `json:"latencyUs"`
		RailOnly  bool        `json:"railOnly,omitempty"`
	}
)

func decodeFile(r io.Reader) (catalogueFile, error) {
	var file catalogueFile
	dec := json.NewDecoder(io.LimitReader(r, maxConfig))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&file); err != nil {
		return file, err
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return file, errors.New("something follows the object")
	}
	return file, nil
}

func (file catalogueFile) addTo(c *Catalogue, bad *problems) {
	for _, name := range slices.Sorted(maps.Keys(file.Sources)) {
		s := file.Sources[name]
		if old, taken := c.sources[name]; taken && old != s {
			bad.add("sources."+name, s.Title, "differs from the source of that name in the catalogue")
		}
		if _, err := time.Parse(time.DateOnly, s.Date); err != nil {
			bad.add("sources."+name+".date", s.Date, "must be a date such as 2026-11-22")
		}
		if !slices.Contains(SourceKinds(), s.Kind) {
			bad.add("sources."+name+".kind", s.Kind, "must be one of "+strings.Join(SourceKinds(), ", "))
		}
		c.sources[name] = s
	}
	for i, a := range file.Accelerators {
		at := fmt.Sprintf("accelerators[%d]", i)
		c.addAccelerator(at, a.read(at, bad), bad)
	}
	for i, s := range file.Systems {
		at := fmt.Sprintf("systems[%d]", i)
		a, err := c.Accelerator(s.Accelerator)
		if err != nil {
			bad.add(at+".accelerator", s.Accelerator, "is not in the catalogue")
		}
		c.addSystem(at, s.read(at, a, bad), bad)
	}
}

const (
	tera = 1e12
	giga = 1e9
)

func (f *figureJSON) read(unit float64) Figure {
	if f == nil {
		return Figure{}
	}
	out := Figure{Value: f.Value * unit, Low: f.Low * unit, High: f.High * unit, Sources: f.Sources}
	if f.Low == 0 {
		out.Low = out.Value
	}
	if f.High == 0 {
		out.High = out.Value
	}
	return out
}

func (a acceleratorJSON) read(at string, bad *problems) Accelerator {
	out := Accelerator{
		Name: a.Name, Title: a.Title, Vendor: a.Vendor, Aliases: a.Aliases, Labels: a.Labels, Devices: a.Devices,
		Memory: a.Memory.read(1), Bandwidth: a.Bandwidth.read(giga), Power: a.Power.read(1),
	}
	if a.Devices < 0 {
		bad.add(at+".devices", a.Devices, "must not be negative")
	}
	for _, name := range slices.Sorted(maps.Keys(a.Peak)) {
		d, err := ParseDType(name)
		if err != nil || d.Peak() != d {
			bad.add(at+".peakTFLOPS", name, "must be one of fp32, bf16, fp8, int8, nvfp4, mxfp4")
			continue
		}
		f := a.Peak[name]
		out.peaks[d] = f.read(tera)
		if f.Value == 0 {
			bad.add(fmt.Sprintf("%s.peakTFLOPS[%s]", at, name), f.Value, "must be positive; leave out what is not known")
		}
	}
	return out
}

func (s systemJSON) read(at string, a Accelerator, bad *problems) System {
	out := System{
		Name: s.Name, Title: s.Title, Aliases: s.Aliases, Accelerator: a, PerNode: s.PerNode,
		ScaleUp: ScaleUp{
			Kind: s.ScaleUp.Kind, Domain: s.ScaleUp.Domain, Bandwidth: s.ScaleUp.Bandwidth.read(giga),
			Links: s.ScaleUp.Links, Latency: microseconds(at+".scaleUp.latencyUs", s.ScaleUp.Latency, bad),
		},
		ScaleOut: ScaleOut{
			NICs: s.ScaleOut.NICs, Bandwidth: s.ScaleOut.Bandwidth.read(giga),
			Latency: microseconds(at+".scaleOut.latencyUs", s.ScaleOut.Latency, bad), RailOnly: s.ScaleOut.RailOnly,
		},
	}
	if t := s.ScaleUp.Torus; t != nil {
		out.ScaleUp.Torus = t.read(at+".scaleUp.torus", bad)
	}
	return out
}

func microseconds(at string, us float64, bad *problems) time.Duration {
	if us < 0 || us > 1e6 {
		bad.add(at, us, "must be from 0 to 1000000")
		return 0
	}
	return time.Duration(us * float64(time.Microsecond))
}

func (t torusJSON) read(at string, bad *problems) *Torus {
	out := &Torus{Cube: t.Cube, Ring: t.Ring}
	var err error
	if out.Largest, err = ParseShape(t.Largest); err != nil {
		bad.add(at+".largest", t.Largest, "must be a topology such as 16x16")
	}
	for _, name := range t.Slices {
		shape, err := ParseShape(name)
		if err != nil {
			bad.add(at+".slices", name, "must be a topology such as 4x4")
			continue
		}
		out.Slices = append(out.Slices, shape)
	}
	return out
}

// MarshalJSON writes the catalogue in the form that Read reads.
func (c *Catalogue) MarshalJSON() ([]byte, error) {
	file := catalogueFile{Sources: c.sources}
	for _, a := range c.accelerators {
		file.Accelerators = append(file.Accelerators, a.json())
	}
	for _, s := range c.systems {
		file.Systems = append(file.Systems, s.json())
	}
	return json.Marshal(file)
}

func (f Figure) json(unit float64) *figureJSON {
	if !f.Known() {
		return nil
	}
	out := &figureJSON{Value: f.Value / unit, Sources: f.Sources}
	if f.Low != f.Value {
		out.Low = f.Low / unit
	}
	if f.High != f.Value {
		out.High = f.High / unit
	}
	return out
}

func (a Accelerator) json() acceleratorJSON {
	out := acceleratorJSON{
		Name: a.Name, Title: a.Title, Vendor: a.Vendor, Aliases: a.Aliases, Labels: a.Labels, Peak: map[string]figureJSON{},
		Memory: a.Memory.json(1), Bandwidth: a.Bandwidth.json(giga), Power: a.Power.json(1),
	}
	if a.Devices > 1 {
		out.Devices = a.Devices
	}
	for _, d := range a.Peaks() {
		out.Peak[d.String()] = *a.peaks[d].json(tera)
	}
	return out
}

func (s System) json() systemJSON {
	out := systemJSON{
		Name: s.Name, Title: s.Title, Aliases: s.Aliases, Accelerator: s.Accelerator.Name, PerNode: s.PerNode,
		ScaleUp: scaleUpJSON{
			Kind: s.ScaleUp.Kind, Domain: s.ScaleUp.Domain, Bandwidth: s.ScaleUp.Bandwidth.json(giga),
			Links: s.ScaleUp.Links, Latency: float64(s.ScaleUp.Latency) / float64(time.Microsecond),
		},
		ScaleOut: scaleOutJSON{
			NICs: s.ScaleOut.NICs, Bandwidth: s.ScaleOut.Bandwidth.json(giga),
			Latency: float64(s.ScaleOut.Latency) / float64(time.Microsecond), RailOnly: s.ScaleOut.RailOnly,
		},
	}
	if t := s.ScaleUp.Torus; t != nil {
		out.ScaleUp.Torus = &torusJSON{Largest: t.Largest.String(), Ring: t.Ring, Cube: t.Cube}
		for _, slice := range t.Slices {
			out.ScaleUp.Torus.Slices = append(out.ScaleUp.Torus.Slices, slice.String())
		}
	}
	return out
}
