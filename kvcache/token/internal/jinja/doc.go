// Package jinja renders the chat templates of models: the part of Jinja2 that they are written in, with Python's values and
// the extras that Hugging Face's transformers gives to templates (tojson, raise_exception, strftime_now, loop controls, the
// generation tag), in the environment that it sets up (blocks trimmed and stripped on the left, a sandbox without side
// effects, nothing escaped).
//
//	t, err := jinja.Parse(source)
//	text, err := t.Append(nil, vars, jinja.Options{})
//
// # Guarantees
//
// What is rendered is what Jinja2 renders, byte for byte, or there is an error: where Jinja2 or Python would refuse (what is
// undefined has no attributes, a number and a string have no sum), and where this package lacks something, an
// [UnsupportedError]. Most of what it lacks is found by [Parse]: tags, filters, tests, functions and methods that it does not
// have. Time and memory are bounded by [Options], whatever a template and its values are; recursion is too. A [Template] is
// safe for concurrent use.
//
// # Caveats
//
// Unicode's tables are Go's. Texts in which letters change their number between cases ("ß" and "SS") are refused by upper,
// lower, title and capitalize. Whole numbers beyond 64 bits can be printed and compared, not computed with. Generators, such
// as what select returns, are made at once.
package jinja
