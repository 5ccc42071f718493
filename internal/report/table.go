package report

import (
	"fmt"
	"io"
	"strings"
	"unicode/utf8"
)

// Table is rows of cells. The first column names the row.
type Table struct {
	Title, Note string
	Columns     []Column
	Rows        [][]string
}

// Column heads a column. Figures are set to the right, Words to the left.
type Column struct {
	Name, Unit string
	Words      bool
}

// Columns makes columns of figures behind one of words.
func Columns(first string, figures ...string) []Column {
	columns := []Column{{Name: first, Words: true}}
	for _, f := range figures {
		columns = append(columns, Column{Name: f})
	}
	return columns
}

// Add appends a row. Missing cells are absent values.
func (t *Table) Add(cells ...string) {
	for len(cells) < len(t.Columns) {
		cells = append(cells, Absent)
	}
	t.Rows = append(t.Rows, cells)
}

// WriteText writes the table for a terminal.
func (t *Table) WriteText(w io.Writer) error {
	head := make([]string, len(t.Columns))
	for i, c := range t.Columns {
		head[i] = c.Name
		if c.Unit != "" {
			head[i] += " (" + c.Unit + ")"
		}
	}
	width := make([]int, len(t.Columns))
	for _, row := range append([][]string{head}, t.Rows...) {
		for i, cell := range row[:len(width)] {
			width[i] = max(width[i], utf8.RuneCountInString(cell))
		}
	}
	var b strings.Builder
	if t.Title != "" {
		fmt.Fprintln(&b, t.Title)
	}
	line := func(row []string) {
		var l strings.Builder
		for i, cell := range row[:len(width)] {
			if i > 0 {
				l.WriteString("  ")
			}
			space := strings.Repeat(" ", width[i]-utf8.RuneCountInString(cell))
			if t.Columns[i].Words {
				l.WriteString(cell + space)
			} else {
				l.WriteString(space + cell)
			}
		}
		fmt.Fprintln(&b, strings.TrimRight(l.String(), " "))
	}
	line(head)
	rules := make([]string, len(width))
	for i, n := range width {
		rules[i] = strings.Repeat("─", n)
	}
	line(rules)
	for _, row := range t.Rows {
		line(row)
	}
	if t.Note != "" {
		fmt.Fprintln(&b, t.Note)
	}
	_, err := io.WriteString(w, b.String())
	return err
}
