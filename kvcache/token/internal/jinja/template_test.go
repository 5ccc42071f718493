package jinja

import (
	"errors"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// Whatever a template and its values are, time, memory and the stack are bounded.
func TestRenderingIsBounded(t *testing.T) {
	deep := strings.Repeat(`{"a":[`, 100) + "1" + strings.Repeat(`]}`, 100)
	v, err := ParseJSON(deep)
	require.NoError(t, err)
	long := String(strings.Repeat("x", 1000))
	for name, source := range map[string]string{
		"endless macro":     "{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}",
		"macros in turn":    "{% macro a() %}{{ b() }}{% endmacro %}{% macro b() %}{{ a() }}{% endmacro %}{{ a() }}",
		"endless loop":      "{% for x in [1] recursive %}{{ loop([1]) }}{% endfor %}",
		"doubling":          "{% set ns = namespace(s=long) %}{% for i in range(100) %}{% set ns.s = ns.s + ns.s %}{% endfor %}",
		"doubling lists":    "{% set ns = namespace(s=[1]) %}{% for i in range(100) %}{% set ns.s = ns.s + ns.s %}{% endfor %}",
		"repeating":         "{{ long * 100000000 }}",
		"repeating lists":   "{{ [1] * 9000000000000000000 }}",
		"replacing":         "{% set a = long.replace('x', long) %}{{ a.replace('x', long) }}",
		"joining":           "{{ long.join(range(100000) | map('string')) }}",
		"padding":           "{{ 'x'.zfill(100000000000) }}",
		"loops in loops":    "{% for a in range(100000) %}{% for b in range(100000) %}{% endfor %}{% endfor %}",
		"output":            "{% for a in range(100000) %}{{ long }}{% endfor %}",
		"writing":           "{% macro m() %}{% for a in range(100000) %}{{ long }}{% endfor %}{% endmacro %}{{ m() | length }}",
		"ranges":            "{{ range(1000000000) | list }}",
		"sorting":           "{% for a in range(1000) %}{% set b = range(100000) | sort(reverse=true) %}{% endfor %}",
		"formats":           "{% set ns = namespace(s='%s%s') %}{% for i in range(40) %}{% set ns.s = ns.s % (ns.s, ns.s) %}{% endfor %}{{ ns.s }}",
		"what is deep":      "{% set ns = namespace(d=deep) %}{% for i in range(1000) %}{% set ns.d = [ns.d] %}{% endfor %}{{ ns.d }}{{ ns.d == ns.d }}",
		"JSON that is deep": "{% set ns = namespace(d=deep) %}{% for i in range(1000) %}{% set ns.d = [ns.d] %}{% endfor %}{{ ns.d | tojson }}",
	} {
		t.Run(name, func(t *testing.T) {
			tpl, err := Parse(source)
			require.NoError(t, err)
			_, err = tpl.Append(nil, []Var{{"long", long}, {"deep", v}}, Options{MaxBytes: 10 << 20, MaxSteps: 1_000_000})
			var refused *Error
			require.ErrorAs(t, err, &refused)
		})
	}
	for name, source := range map[string]string{
		"parentheses": "{{ " + strings.Repeat("(", 10000) + "1" + strings.Repeat(")", 10000) + " }}",
		"brackets":    "{{ " + strings.Repeat("[", 10000),
		"signs":       "{{ " + strings.Repeat("-", 10000) + "1 }}",
		"nots":        "{{ " + strings.Repeat("not ", 10000) + "1 }}",
		"tags":        strings.Repeat("{% if 1 %}", 10000) + strings.Repeat("{% endif %}", 10000),
		"branches":    "{% if 1 %}" + strings.Repeat("{% elif 1 %}", 10000) + "{% endif %}",
	} {
		t.Run(name, func(t *testing.T) {
			_, err := Parse(source)
			require.Error(t, err)
		})
	}
	_, err = ParseJSON(strings.Repeat("[", 100000))
	require.ErrorContains(t, err, "nested deeper")
	_, err = ParseJSON(strings.Repeat("9", 5000))
	require.ErrorContains(t, err, "digits")
}

func TestErrorsNameTheLine(t *testing.T) {
	for source, want := range map[string]string{
		"\n\n{{ x.y }}":                        "line 3: 'x' is undefined",
		"{% if 1 %}\n{% for x in 5 %}":         "line 2: the template ends, expected endfor",
		"{{ 1 +\n }}":                          "line 2: unexpected }}",
		"a\n{% nosuch %}":                      "line 2: unknown tag nosuch",
		"{{ 'a }}":                             "line 1: a string does not end",
		"{# a":                                 "line 1: a comment does not end",
		"{{ a":                                 "line 1: a tag does not end",
		"{% raw %}":                            "line 1: raw does not end",
		"{% break %}":                          "line 1: break outside of a loop",
		"{{ raise_exception('no ' ~ 'way') }}": "line 1: no way",
		"{{ ] }}":                              `line 1: unexpected "]"`,
		"{{ ? }}":                              "line 1: unexpected '?'",
		"{% set true = 1 %}":                   "line 1: cannot assign to true",
		"{{ f(*a) }}":                          "line 1: unpacking arguments is not supported",
		"{{ a | groupby('x') }}":               "line 1: the filter groupby is not supported",
		"{{ 'ß'.upper() }}":                    "line 1: to change the case of letters such as ß is not supported",
		"{% import 'x' as y %}":                "line 1: the tag import is not supported",
		"{{ cycler(1) }}":                      "line 1: the name cycler is not supported",
	} {
		_, err := render(source, nil)
		require.EqualError(t, err, want, source)
	}
	var e *Error
	_, err := render("{{ raise_exception('x') }}", nil)
	require.True(t, errors.As(err, &e) && e.Raised)
}

// vLLM's rule, on templates of the kinds that it was made for.
func TestContentParts(t *testing.T) {
	for source, want := range map[string]bool{
		"{% for m in messages %}{{ m.content }}{% endfor %}":                                                 false,
		"{% for m in messages %}{% for c in m.content %}{% endfor %}{% endfor %}":                            true,
		"{% for m in messages[1:] %}{% for c in m['content'] | list %}{% endfor %}{% endfor %}":              true,
		"{% set all = messages %}{% for m in all %}{% for c in m.content %}{% endfor %}{% endfor %}":         true,
		"{% set ns.all = messages %}{% for m in messages %}{% for c in m.content %}{% endfor %}{% endfor %}": false,
		"{% for m in messages %}{% set c = m.content %}{% for p in c %}{% endfor %}{% endfor %}":             false,
		"{% for m in messages %}{% for c in m.tool_calls %}{% endfor %}{% endfor %}":                         false,
	} {
		tpl, err := Parse(source)
		require.NoError(t, err)
		require.Equal(t, want, tpl.ContentParts(), source)
	}
}

func FuzzTemplate(f *testing.F) {
	for _, source := range []string{"{{ a.b[1:2] | join(',') }}", "{% for x in l recursive %}{{ loop(x) }}{% endfor %}", "{%- set x -%} {{ x }} {%- endset +%}", "{% macro m(a, b=1) %}{% endmacro %}"} {
		f.Add(source, `{"l": [1, "x"]}`)
	}
	f.Fuzz(func(t *testing.T, source, value string) {
		tpl, err := Parse(source)
		if err != nil {
			return
		}
		v, err := ParseJSON(value)
		if err != nil {
			v = String("x")
		}
		_, _ = tpl.Append(nil, []Var{{"a", v}, {"l", v}, {"x", v}}, Options{MaxBytes: 1 << 16, MaxSteps: 1 << 12})
	})
}
