package report

import (
	"fmt"
	"math"
	"slices"
	"strings"
)

// Chart is lines over a common axis.
type Chart struct {
	Title, Note string
	X, Y        Axis
	Series      []Series
	// ReadAcross makes the reader step through values of Y instead of X: for distribution functions, where the question is
	// what half of the requests stay below. All series then have the same values of Y.
	ReadAcross bool
	// Wide charts take a whole row of the page.
	Wide bool
	// Mark is a value of X at which a line is drawn, such as a bound; 0 is none.
	Mark float64
}

// Axis is a direction of a chart.
type Axis struct {
	Label  string
	Format Format
	// Log axes need values above 0; others are not drawn.
	Log bool
	// FromZero makes the axis begin at 0, and To end at its value, if above it, whatever the values are.
	FromZero bool
	To       float64
	// Room makes it begin at a tick below the values, as it ends at one above.
	Room bool
}

// Series is a line: points in order of X. A NaN in Y is a gap. Low and High, if given, are a band around it.
type Series struct {
	Name      string
	X, Y      []float64
	Low, High []float64
}

// Distribution is a chart of distribution functions: of each name the values that shares of all stay below, as quantile tells
// them. A bound above 0 is marked.
func Distribution(title, of string, bound float64, names []string, quantile func(i int, q float64) float64) *Chart {
	c := &Chart{
		Title: title, ReadAcross: true, Mark: bound,
		X: Axis{Label: title, Format: Seconds, Log: true},
		Y: Axis{Label: "share of " + of, Format: Percent, FromZero: true, To: 1},
	}
	if bound > 0 {
		c.Note = "The SLO's bound is " + Seconds(bound) + "."
	}
	var levels []float64
	for i := range 50 {
		levels = append(levels, float64(i)/50)
	}
	levels = append(levels, 0.99, 0.995, 0.999, 1)
	for i, name := range names {
		s := Series{Name: name, Y: levels}
		for _, q := range levels {
			s.X = append(s.X, quantile(i, q))
		}
		c.Series = append(c.Series, s)
	}
	return c
}

// Lines are told apart by colour and by dashes, since not everyone sees every colour.
const (
	colours = 6
	dashes  = 4
)

// chartView is a chart for the template. Places are in thousandths of the plot, from its upper left corner.
type chartView struct {
	*Chart
	XTicks, YTicks []tick
	Lines          []lineView
	Summary        string // for who does not see the plot
	Values         *Table
	Points         pointsView
	Empty          bool
	WholeRow       bool
	MarkAt         string
}

type tick struct {
	Label string
	At    float64
	CSS   string // the same in per cent
}

type lineView struct {
	Name, Class, Path, Band string
	Dots                    []dotView
}

type dotView struct{ Left, Top string } // CSS

// pointsView is what the script reads.
type pointsView struct {
	Across bool     `json:"across"`
	Series []string `json:"series"`
	Steps  []step   `json:"steps"`
}

// step is one place of the reader: its label, and for each series the point, or null.
type step struct {
	Label string   `json:"label"`
	At    float64  `json:"at"`
	Cells []*point `json:"cells"`
}

type point struct {
	X    float64 `json:"x"`
	Y    float64 `json:"y"`
	Text string  `json:"text"`
}

func (c *Chart) view() *chartView {
	v := &chartView{Chart: c, WholeRow: c.Wide}
	x, y := newScale(c.X), newScale(c.Y)
	for _, s := range c.Series {
		for i := range s.X {
			if !x.shows(s.X[i]) || !y.shows(s.Y[i]) {
				continue
			}
			x.include(s.X[i])
			y.include(s.Y[i])
			if s.Low != nil && y.shows(s.Low[i]) && y.shows(s.High[i]) {
				y.include(s.Low[i])
				y.include(s.High[i])
			}
		}
	}
	if !x.used {
		v.Empty = true
		return v
	}
	v.XTicks, v.YTicks = x.finish(6), y.finish(5)
	for i := range v.YTicks {
		v.YTicks[i].flip()
	}
	if c.Mark > 0 && x.shows(c.Mark) && c.Mark >= x.low && c.Mark <= x.high {
		v.MarkAt = fmt.Sprintf("%.1f", x.place(c.Mark))
	}
	plot := plot{x, y}
	for i, s := range c.Series {
		line := lineView{Name: s.Name, Class: fmt.Sprintf("c%d d%d", i%colours, i%dashes), Band: plot.band(s)}
		line.Path, line.Dots = plot.path(s)
		v.Lines = append(v.Lines, line)
	}
	v.Points = c.points(plot)
	v.Values = c.values(v.Points)
	v.Summary = c.summary(v.Points)
	return v
}

func (t *tick) flip() {
	t.At = round(1000 - t.At)
	t.CSS = css(t.At)
}

func css(at float64) string { return fmt.Sprintf("%.2f%%", at/10) }

// plot maps values to places.
type plot struct{ x, y *scale }

func (p plot) at(x, y float64) (float64, float64, bool) {
	if !p.x.shows(x) || !p.y.shows(y) {
		return 0, 0, false
	}
	return p.x.place(x), 1000 - p.y.place(y), true
}

// path draws a series; points without a neighbour, of which a line shows nothing, become dots.
func (p plot) path(s Series) (path string, dots []dotView) {
	var b strings.Builder
	pen := false
	for i := range s.X {
		x, y, ok := p.at(s.X[i], s.Y[i])
		if ok {
			command := byte('L')
			if !pen {
				command = 'M'
				if _, _, next := p.next(s, i); !next {
					dots = append(dots, dotView{css(x), css(y)})
				}
			}
			fmt.Fprintf(&b, "%c%.1f %.1f", command, x, y)
		}
		pen = ok
	}
	return b.String(), dots
}

func (p plot) next(s Series, i int) (float64, float64, bool) {
	if i+1 >= len(s.X) {
		return 0, 0, false
	}
	return p.at(s.X[i+1], s.Y[i+1])
}

func (p plot) band(s Series) string {
	var there, back []string
	for i := range s.Low {
		x, low, ok := p.at(s.X[i], s.Low[i])
		_, high, okHigh := p.at(s.X[i], s.High[i])
		if ok && okHigh {
			there = append(there, fmt.Sprintf("%.1f %.1f", x, low))
			back = append(back, fmt.Sprintf("%.1f %.1f", x, high))
		}
	}
	if len(there) < 2 {
		return ""
	}
	slices.Reverse(back)
	return "M" + strings.Join(append(there, back...), "L") + "Z"
}

// points are the places where values can be read: those of the axis that the reader steps along.
func (c *Chart) points(p plot) pointsView {
	v := pointsView{Across: c.ReadAcross, Steps: []step{}, Series: []string{}}
	along, format, other := func(s Series) []float64 { return s.X }, p.x.Format, p.y.Format
	if c.ReadAcross {
		along, format, other = func(s Series) []float64 { return s.Y }, p.y.Format, p.x.Format
	}
	var stops []float64
	for _, s := range c.Series {
		v.Series = append(v.Series, s.Name)
		stops = append(stops, along(s)...)
	}
	stops = slices.DeleteFunc(stops, math.IsNaN)
	slices.Sort(stops)
	stops = slices.Compact(stops)
	for _, at := range stops {
		st := step{Label: format(at), Cells: make([]*point, len(c.Series))}
		if c.ReadAcross {
			st.At = 1000 - p.y.place(at)
		} else {
			st.At = p.x.place(at)
		}
		found := false
		for i, s := range c.Series {
			k := slices.Index(along(s), at)
			if k < 0 {
				continue
			}
			x, y, ok := p.at(s.X[k], s.Y[k])
			if !ok {
				continue
			}
			value := s.Y[k]
			if c.ReadAcross {
				value = s.X[k]
			}
			text := other(value)
			if s.Low != nil && !math.IsNaN(s.Low[k]) {
				text += " (" + other(s.Low[k]) + " to " + other(s.High[k]) + ")"
			}
			st.Cells[i] = &point{round(x), round(y), text}
			found = true
		}
		if found {
			st.At = round(st.At)
			v.Steps = append(v.Steps, st)
		}
	}
	return v
}

func round(v float64) float64 { return math.Round(v*10) / 10 }

// valueRows bounds the table under a chart.
const valueRows = 40

// values is the chart as a table, thinned out evenly where it is long.
func (c *Chart) values(v pointsView) *Table {
	axis := c.X.Label
	if c.ReadAcross {
		axis = c.Y.Label
	}
	t := &Table{Columns: Columns(axis, v.Series...)}
	every := (len(v.Steps) + valueRows - 1) / valueRows
	for i, s := range v.Steps {
		if i%every != 0 && i != len(v.Steps)-1 {
			continue
		}
		t.Add(append([]string{s.Label}, s.texts()...)...)
	}
	return t
}

func (s step) texts() []string {
	texts := make([]string, len(s.Cells))
	for i, cell := range s.Cells {
		texts[i] = Absent
		if cell != nil {
			texts[i] = cell.Text
		}
	}
	return texts
}

// summary is the chart in a sentence: the middle of a distribution, or the end of a course.
func (c *Chart) summary(v pointsView) string {
	if len(v.Steps) == 0 {
		return c.Title
	}
	s := v.Steps[len(v.Steps)-1]
	if c.ReadAcross {
		s = v.Steps[len(v.Steps)/2]
	}
	var parts []string
	for i, text := range s.texts() {
		parts = append(parts, v.Series[i]+" "+text)
	}
	return fmt.Sprintf("%s. At %s: %s. Arrow keys read single values; all of them are in the table below.", c.Title, s.Label, strings.Join(parts, ", "))
}
