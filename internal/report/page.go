package report

import (
	"embed"
	"fmt"
	"html/template"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"strings"
	"time"
)

// Page is a report. Sections appear in order; what is empty is left out.
type Page struct {
	Title string
	// Lead says in a paragraph what was done.
	Lead string
	// Facts are the conditions: endpoints, requests, seeds.
	Facts []Fact
	// Warnings come first: whatever makes the figures less than they seem.
	Warnings []string
	Sections []Section
	// Modelled and NotModelled say what stands behind simulated figures.
	Modelled, NotModelled []string
	// Method says how figures are defined, a paragraph each.
	Method []string
	// Commands make the figures again.
	Commands []string
	// Made is when the figures were.
	Made time.Time
}

// Fact is a condition with its value.
type Fact struct{ Name, Value string }

// Section is a heading with parts.
type Section struct {
	Title, Note string
	Parts       []Part
}

// A Part is a *Table, a *Chart, *Differences or Text.
type Part interface{ part() view }

// Text is a paragraph.
type Text string

// view is a part for the template: exactly one field is set.
type view struct {
	Text        Text
	Table       *Table
	Chart       *chartView
	Differences *differencesView
}

func (t Text) part() view         { return view{Text: t} }
func (t *Table) part() view       { return view{Table: t} }
func (c *Chart) part() view       { return view{Chart: c.view()} }
func (d *Differences) part() view { return view{Differences: d.view()} }

//go:embed assets
var assets embed.FS

// WriteHTML writes the page.
func (p Page) WriteHTML(w io.Writer) error {
	read := func(name string) (string, error) {
		b, err := assets.ReadFile("assets/" + name)
		return string(b), err
	}
	var sources [3]string
	for i, name := range []string{"page.html", "page.css", "page.js"} {
		var err error
		if sources[i], err = read(name); err != nil {
			return err
		}
	}
	t, err := template.New("page").Parse(sources[0])
	if err != nil {
		return err
	}
	type section struct {
		Title, Note string
		Parts       []view
	}
	data := struct {
		Page
		Sections []section
		Versions string
		When     string
		Style    template.CSS
		Script   template.JS
	}{Page: p, Versions: Versions(), Style: template.CSS(sources[1]), Script: template.JS(sources[2])}
	if !p.Made.IsZero() {
		data.When = p.Made.UTC().Format("2 January 2006, 15:04 UTC")
	}
	for _, s := range p.Sections {
		parts := make([]view, len(s.Parts))
		for i, part := range s.Parts {
			parts[i] = part.part()
		}
		widen(parts)
		data.Sections = append(data.Sections, section{s.Title, s.Note, parts})
	}
	return t.Execute(w, data)
}

// WriteFile writes the page to a file. An empty path means that no page is wanted.
func (p Page) WriteFile(path string) (err error) {
	if path == "" {
		return nil
	}
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	defer func() {
		if closed := f.Close(); err == nil {
			err = closed
		}
	}()
	return p.WriteHTML(f)
}

// CheckPath returns an error if WriteFile would fail for want of a folder, before the work for the page is done.
func CheckPath(path string) error {
	if path == "" {
		return nil
	}
	folder := filepath.Dir(path)
	info, err := os.Stat(folder)
	if err != nil {
		return err
	}
	if !info.IsDir() {
		return fmt.Errorf("%s is not a folder", folder)
	}
	return nil
}

// CommandLine is a command with its arguments as one would type it into a shell.
func CommandLine(command string, args []string) string {
	parts := []string{command}
	for _, a := range args {
		if a == "" || strings.ContainsAny(a, " \t\n\"'\\$`!*?;&|<>(){}[]#~") {
			a = "'" + strings.ReplaceAll(a, "'", `'\''`) + "'"
		}
		parts = append(parts, a)
	}
	return strings.Join(parts, " ")
}

// widen gives a chart that has no neighbour in its row the whole of it.
func widen(parts []view) {
	alone := (*chartView)(nil)
	for _, p := range append(parts, view{}) {
		switch {
		case p.Chart != nil && !p.Chart.Wide && alone == nil:
			alone = p.Chart
		case p.Chart != nil && !p.Chart.Wide:
			alone = nil
		case alone != nil:
			alone.WholeRow, alone = true, nil
		}
	}
}

// Versions says what made the figures: this module's revision, as far as the build knows it, Go and the machine.
func Versions() string {
	parts := []string{"inferloom"}
	if info, ok := debug.ReadBuildInfo(); ok {
		var revision, modified string
		for _, s := range info.Settings {
			switch s.Key {
			case "vcs.revision":
				revision = " " + s.Value[:min(12, len(s.Value))]
			case "vcs.modified":
				if s.Value == "true" {
					modified = " with changes"
				}
			}
		}
		if revision == "" && info.Main.Version != "" {
			revision = " " + info.Main.Version
		}
		parts[0] += revision + modified
	}
	parts = append(parts, runtime.Version(), runtime.GOOS+"/"+runtime.GOARCH, fmt.Sprintf("%d cores", runtime.GOMAXPROCS(0)))
	return strings.Join(parts, ", ")
}
