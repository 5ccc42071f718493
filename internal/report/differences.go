package report

import (
	"io"

	"github.com/inferloom/inferloom/internal/stats"
)

// Differences are estimates with their intervals, against a value that means "no difference".
type Differences struct {
	Title, Note string
	Rows        []Difference
	// Format writes an estimate or an end of its range.
	Format Format
	// None is the value that means no difference: 0, or 1 for ratios.
	None float64
	// Log compares ratios: twice and half are drawn equally far from None.
	Log bool
}

// Difference is one row. Better says which direction is: -1 for less, +1 for more, 0 for neither.
type Difference struct {
	Group, Name string
	Interval    stats.Interval
	Better      int
}

// Verdict says in a word what the interval allows to say.
func (d Differences) Verdict(row Difference) string {
	i := row.Interval
	switch {
	case !i.Known():
		return "not known"
	case !i.Excludes(d.None):
		return "no difference shown"
	case row.Better == 0:
		return "differs"
	case (i.Estimate > d.None) == (row.Better > 0):
		return "better"
	default:
		return "worse"
	}
}

// WriteText writes the rows for a terminal.
func (d *Differences) WriteText(w io.Writer) error { return d.table().WriteText(w) }

func (d *Differences) table() *Table {
	t := &Table{Title: d.Title, Note: d.Note, Columns: []Column{
		{Name: "", Words: true}, {Name: "figure", Words: true}, {Name: "difference"}, {Name: "95 % interval"}, {Name: "", Words: true},
	}}
	for _, r := range d.Rows {
		t.Add(r.Group, r.Name, d.Format(r.Interval.Estimate), Between(r.Interval, d.Format), d.Verdict(r))
	}
	return t
}
