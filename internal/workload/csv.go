package workload

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strings"
)

// table is the columns of a CSV file, found by the names in its first line.
type table struct {
	names  []string // those that are read, the first required of them necessary
	need   int
	at     []int // the column of each name, -1 if there is none
	width  int
	fields [][]byte // of the current line
}

// header reads the first line.
func (t *table) header(line []byte) error {
	fields, err := splitCSV(nil, line)
	if err != nil {
		return err
	}
	var errs []error
	for i, name := range t.names {
		at := slices.IndexFunc(fields, func(f []byte) bool { return strings.EqualFold(string(bytes.TrimSpace(f)), name) })
		t.at = append(t.at, at)
		if at < 0 && i < t.need {
			errs = append(errs, fmt.Errorf("column %q is missing", name))
		}
	}
	t.width = len(fields)
	if len(errs) > 0 {
		errs = append(errs, fmt.Errorf("the header is %.100q", line))
	}
	return errors.Join(errs...)
}

// row reads a line behind the header.
func (t *table) row(line []byte) (err error) {
	if t.fields, err = splitCSV(t.fields[:0], line); err != nil {
		return err
	}
	if len(t.fields) != t.width {
		return fmt.Errorf("%d columns, want the %d of the header", len(t.fields), t.width)
	}
	return nil
}

// field returns the field in the i-th of the named columns; nil if there is no such column.
func (t *table) field(i int) []byte {
	if t.at[i] < 0 {
		return nil
	}
	return t.fields[t.at[i]]
}

// tokens reads a length.
func (t *table) tokens(i int) (int, error) {
	field := t.field(i)
	n, ok := parseUint(field)
	if !ok || n > maxTokens {
		return 0, fmt.Errorf("%s is %.40q, want a whole number from 0 to %d", t.names[i], field, maxTokens)
	}
	return int(n), nil
}

// splitCSV appends the fields of a line, without the quotes around those that have some. Quotes within a field do not
// occur in what traces consist of.
func splitCSV(fields [][]byte, line []byte) ([][]byte, error) {
	for {
		if len(line) > 0 && line[0] == '"' {
			end := bytes.IndexByte(line[1:], '"') + 1
			if end == 0 {
				return nil, errors.New("a quote is not closed")
			}
			fields = append(fields, line[1:end])
			line = line[end+1:]
			if len(line) == 0 {
				return fields, nil
			}
			if line[0] != ',' {
				return nil, fmt.Errorf("%q follows a closing quote, want a comma", line[0])
			}
			line = line[1:]
			continue
		}
		comma := bytes.IndexByte(line, ',')
		if comma < 0 {
			return append(fields, line), nil
		}
		fields = append(fields, line[:comma])
		line = line[comma+1:]
	}
}

// parseUint reads digits and nothing else.
func parseUint(b []byte) (n int64, ok bool) {
	if len(b) == 0 || len(b) > 18 {
		return 0, false
	}
	for _, c := range b {
		if c < '0' || c > '9' {
			return 0, false
		}
		n = n*10 + int64(c-'0')
	}
	return n, true
}

// parseFraction reads the digits behind a decimal point, up to nine of them, as nanoseconds of a second. What is beyond
// must be digits too and is cut off.
func parseFraction(b []byte) (nanoseconds int64, ok bool) {
	kept := b[:min(len(b), 9)]
	n, ok := parseUint(kept)
	if !ok {
		return 0, false
	}
	for _, c := range b[len(kept):] {
		if c < '0' || c > '9' {
			return 0, false
		}
	}
	for range 9 - len(kept) {
		n *= 10
	}
	return n, true
}

// parseSeconds reads a number of seconds such as 19440110.5, of at most 31 years, as nanoseconds.
func parseSeconds(b []byte) (nanoseconds int64, ok bool) {
	whole, fraction, point := bytes.Cut(b, []byte("."))
	n, ok := parseUint(whole)
	if !ok || n > 1e9 {
		return 0, false
	}
	if point {
		f, ok := parseFraction(fraction)
		return n*1e9 + f, ok
	}
	return n * 1e9, true
}

// rows reads requests from a table whose first three columns are the time of arrival and the tokens of prompt and answer.
type rows struct {
	clock    clock
	table    table
	requests int
}

// request reads a line. It is not ok for the header, and for a request without a prompt or an answer.
func (t *rows) request(line []byte, parse func([]byte) (ns int64, ok bool), want string) (r Request, ok bool, err error) {
	if t.table.width == 0 {
		return r, false, t.table.header(line)
	}
	if err := t.table.row(line); err != nil {
		return r, false, err
	}
	name, stamp := t.table.names[0], t.table.field(0)
	ns, ok := parse(stamp)
	if !ok {
		return r, false, fmt.Errorf("%s is %.40q, want %s", name, stamp, want)
	}
	at, err := t.clock.arrival(name, ns, stamp)
	if err != nil {
		return r, false, err
	}
	input, err := t.table.tokens(1)
	if err != nil {
		return r, false, err
	}
	output, err := t.table.tokens(2)
	if err != nil || input == 0 || output == 0 {
		return r, false, err
	}
	n := t.requests
	t.requests++
	return alone(n, at, input, output, []Piece{{only(n), input}}), true, nil
}
