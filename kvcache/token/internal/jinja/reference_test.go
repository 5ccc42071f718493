package jinja

import (
	"bufio"
	"compress/gzip"
	"errors"
	"os"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestExpressions compares with what e2e/token/expressions.py has written; with more than is in testdata if JINJA_CASES names
// another file of it.
func TestExpressions(t *testing.T) {
	path := "testdata/expressions.gz"
	if more := os.Getenv("JINJA_CASES"); more != "" {
		path = more
	}
	f, err := os.Open(path)
	require.NoError(t, err)
	defer f.Close()
	z, err := gzip.NewReader(f)
	require.NoError(t, err)
	in := bufio.NewScanner(z)
	in.Buffer(nil, 1<<24)
	require.True(t, in.Scan())
	v, err := ParseJSON(in.Text())
	require.NoError(t, err)
	d, _ := v.Dict()
	var vars []Var
	for i := range d.Len() {
		name, v := d.At(i)
		vars = append(vars, Var{name, v})
	}
	same, refused, unsupported, wrong := 0, 0, 0, 0
	for in.Scan() {
		v, err := ParseJSON(in.Text())
		require.NoError(t, err)
		d, _ := v.Dict()
		s, _ := d.Get("template")
		source, _ := s.Str()
		want, rendered := d.Get("output")
		text, _ := want.Str()
		got, err := render(source, vars)
		var lacking *UnsupportedError
		switch {
		case errors.As(err, &lacking):
			unsupported++
		case !rendered && err != nil:
			refused++
		case rendered && err == nil && got == text:
			same++
		default:
			if wrong++; wrong <= 20 {
				t.Errorf("%s\ngot  %q, %v\nwant %q, an error: %t", source, got, err, text, !rendered)
			}
		}
	}
	require.NoError(t, in.Err())
	t.Logf("%d the same, %d refused by both, %d unsupported, %d wrong", same, refused, unsupported, wrong)
	require.Greater(t, same, 4*unsupported)
	require.Positive(t, refused)
}

func render(source string, vars []Var) (string, error) {
	tpl, err := Parse(source)
	if err != nil {
		return "", err
	}
	out, err := tpl.Append(nil, vars, Options{MaxBytes: 1 << 20, MaxSteps: 1 << 20})
	return string(out), err
}
