package accel

import (
	"embed"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"math"
	"slices"
	"strings"
)

// Source says where figures come from.
type Source struct {
	Title string `json:"title"`
	URL   string `json:"url"`
	Date  string `json:"date"` // of publication, or of reading where that is not known: 2026-11-22
	Kind  string `json:"kind"` // see SourceKinds
}

// SourceKinds are what a source can be, the most reliable first: the vendor itself, a vendor's table on another's pages,
// something read off running hardware, other sites, and what is only customary.
func SourceKinds() []string { return []string{"vendor", "reprint", "measured", "secondary", "assumed"} }

// Catalogue holds accelerators and systems by name. The zero value is empty. It is not changed once made.
type Catalogue struct {
	sources      map[string]Source
	accelerators []Accelerator
	systems      []System
}

// ErrUnknown is wrapped by what the catalogue returns for a name or a label that it does not have.
var ErrUnknown = errors.New("not in the catalogue")

//go:embed catalogue/*.json
var builtin embed.FS

// Builtin is the catalogue that comes with this package: what is sold for inference from A100 to TPU7x. It is read anew at
// each call; keep it.
func Builtin() *Catalogue {
	c := &Catalogue{}
	err := fs.WalkDir(builtin, "catalogue", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		f, err := builtin.Open(path)
		if err != nil {
			return err
		}
		defer f.Close()
		c, err = c.Read(f)
		return err
	})
	if err != nil {
		panic("accel: built-in catalogue: " + err.Error()) // a test reads it, so this is never seen
	}
	return c
}

// Read returns a catalogue with what is in this one and in a JSON file of the form of docs/accelerators.md. Its systems may
// refer to accelerators of this catalogue. All problems are reported at once, by field; a name that is taken is one.
func (c *Catalogue) Read(r io.Reader) (*Catalogue, error) {
	file, err := decodeFile(r)
	if err != nil {
		return nil, fmt.Errorf("read catalogue: %w", err)
	}
	n := &Catalogue{sources: maps.Clone(c.sources), accelerators: slices.Clone(c.accelerators), systems: slices.Clone(c.systems)}
	if n.sources == nil {
		n.sources = map[string]Source{}
	}
	var bad problems
	file.addTo(n, &bad)
	if err := bad.err(); err != nil {
		return nil, fmt.Errorf("read catalogue: %w", err)
	}
	return n, nil
}

// With returns a catalogue with one more accelerator or system, made in Go. Both are checked as a file's are.
func (c *Catalogue) With(a []Accelerator, s []System) (*Catalogue, error) {
	n := &Catalogue{sources: c.sources, accelerators: slices.Clone(c.accelerators), systems: slices.Clone(c.systems)}
	var bad problems
	for _, a := range a {
		n.addAccelerator("accelerator "+a.Name, a, &bad)
	}
	for _, s := range s {
		n.addSystem("system "+s.Name, s, &bad)
	}
	if err := bad.err(); err != nil {
		return nil, err
	}
	return n, nil
}

// Accelerators returns all of them, in the order of the files.
func (c *Catalogue) Accelerators() []Accelerator { return slices.Clone(c.accelerators) }

// Systems returns all of them, in the order of the files.
func (c *Catalogue) Systems() []System { return slices.Clone(c.systems) }

// Source returns a source by the name that figures have for it.
func (c *Catalogue) Source(name string) (Source, bool) {
	s, ok := c.sources[name]
	return s, ok
}

// Accelerator returns one by its name or an alias; case and "_" for "-" do not matter. The error wraps [ErrUnknown] and
// lists near names.
func (c *Catalogue) Accelerator(name string) (Accelerator, error) {
	for _, a := range c.accelerators {
		if named(name, a.Name, a.Aliases) {
			return a, nil
		}
	}
	var names []string
	for _, a := range c.accelerators {
		names = append(names, a.Name)
	}
	return Accelerator{}, unknown("accelerator", name, names)
}

// System returns one by its name or an alias, as Accelerator does, or by that of its accelerator.
func (c *Catalogue) System(name string) (System, error) {
	for _, s := range c.systems {
		if named(name, s.Name, s.Aliases) {
			return s, nil
		}
	}
	if a, err := c.Accelerator(name); err == nil {
		if s, ok := c.systemOf(a); ok {
			return s, nil
		}
	}
	var names []string
	for _, s := range c.systems {
		names = append(names, s.Name)
	}
	return System{}, unknown("system", name, names)
}

func unknown(what, name string, names []string) error {
	if len(names) == 0 {
		return fmt.Errorf("%s %q: %w", what, name, ErrUnknown)
	}
	return fmt.Errorf("%s %q: %w; near names are %s", what, name, ErrUnknown, strings.Join(nearest(canonical(name), names, 3), ", "))
}

func named(name, own string, aliases []string) bool {
	name = canonical(name)
	return name == canonical(own) || slices.ContainsFunc(aliases, func(a string) bool { return canonical(a) == name })
}

func canonical(name string) string {
	return strings.NewReplacer("_", "-", " ", "-").Replace(strings.ToLower(strings.TrimSpace(name)))
}

func (c *Catalogue) addAccelerator(at string, a Accelerator, bad *problems) {
	a.Devices = max(a.Devices, 1)
	if canonical(a.Name) == "" {
		bad.add(at+".name", `""`, "is needed")
	}
	for _, name := range append([]string{a.Name}, a.Aliases...) {
		for _, other := range c.accelerators {
			if named(name, other.Name, other.Aliases) {
				bad.add(at+".name", name, "is taken by accelerator "+other.Name)
			}
		}
	}
	for _, label := range a.Labels {
		for _, other := range c.accelerators {
			if slices.Contains(other.Labels, label) {
				bad.add(at+".labels", label, "is taken by accelerator "+other.Name)
			}
		}
	}
	if a.Devices > 64 {
		bad.add(at+".devices", a.Devices, "must be from 1 to 64")
	}
	if !a.Memory.Known() {
		bad.add(at+".memoryBytes", "absent", "is needed")
	}
	if !a.Bandwidth.Known() {
		bad.add(at+".bandwidthGBps", "absent", "is needed")
	}
	c.checkFigure(at+".memoryBytes", a.Memory, bad)
	c.checkFigure(at+".bandwidthGBps", a.Bandwidth, bad)
	c.checkFigure(at+".watts", a.Power, bad)
	for d := range numDTypes {
		c.checkFigure(fmt.Sprintf("%s.peakTFLOPS[%s]", at, d), a.peaks[d], bad)
	}
	if !a.peaks[BF16].Known() {
		bad.add(at+".peakTFLOPS[bf16]", "absent", "is needed")
	}
	c.accelerators = append(c.accelerators, a)
}

func (c *Catalogue) addSystem(at string, s System, bad *problems) {
	if canonical(s.Name) == "" {
		bad.add(at+".name", `""`, "is needed")
	}
	for _, name := range append([]string{s.Name}, s.Aliases...) {
		for _, other := range c.systems {
			if named(name, other.Name, other.Aliases) {
				bad.add(at+".name", name, "is taken by system "+other.Name)
			}
		}
	}
	if s.PerNode < 1 || s.PerNode > 1<<10 {
		bad.add(at+".perNode", s.PerNode, "must be from 1 to 1024")
	}
	if s.ScaleUp.Domain < 1 || s.ScaleUp.Domain > 1<<20 {
		bad.add(at+".scaleUp.domain", s.ScaleUp.Domain, "must be at least 1")
	}
	if s.ScaleUp.Kind > TorusKind {
		bad.add(at+".scaleUp.kind", s.ScaleUp.Kind, "must be pcie, switch, mesh or torus")
	}
	if k := s.ScaleUp.Kind; (k == Mesh || k == TorusKind) && s.ScaleUp.Links < 1 {
		bad.add(at+".scaleUp.links", s.ScaleUp.Links, "is needed for a mesh or a torus")
	}
	if (s.ScaleUp.Kind == TorusKind) != (s.ScaleUp.Torus != nil) {
		bad.add(at+".scaleUp.torus", s.ScaleUp.Torus != nil, "must be there for a torus, and for nothing else")
	}
	if t := s.ScaleUp.Torus; t != nil && (t.Largest.Size() > 1<<16 || t.Cube < 0 || t.Ring < 0) {
		bad.add(at+".scaleUp.torus", t.Largest, "must have at most 65536 accelerators, and no negative cube or ring")
	}
	if s.ScaleUp.Latency < 0 || s.ScaleOut.Latency < 0 {
		bad.add(at+".latencyUs", min(s.ScaleUp.Latency, s.ScaleOut.Latency), "must not be negative")
	}
	if s.ScaleOut.NICs < 0 {
		bad.add(at+".scaleOut.nics", s.ScaleOut.NICs, "must not be negative")
	}
	c.checkFigure(at+".scaleUp.oneWayGBps", s.ScaleUp.Bandwidth, bad)
	c.checkFigure(at+".scaleOut.oneWayGBps", s.ScaleOut.Bandwidth, bad)
	c.systems = append(c.systems, s)
}

// checkFigure accepts an absent figure.
func (c *Catalogue) checkFigure(at string, f Figure, bad *problems) {
	if f.Value == 0 && f.Low == 0 && f.High == 0 {
		return
	}
	for _, v := range [3]float64{f.Value, f.Low, f.High} {
		if math.IsNaN(v) || math.IsInf(v, 0) || v <= 0 || v > 1e18 {
			bad.add(at, v, "must be positive and finite")
			return
		}
	}
	if f.Low > f.Value || f.High < f.Value {
		bad.add(at, f.Value, fmt.Sprintf("must be between low %g and high %g", f.Low, f.High))
	}
	for _, s := range f.Sources {
		if _, ok := c.sources[s]; !ok {
			bad.add(at+".sources", s, "is not among the sources")
		}
	}
}
