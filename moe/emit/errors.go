package emit

import (
	"errors"
	"fmt"
	"regexp"
	"strings"
	"unicode/utf8"

	"github.com/inferloom/inferloom/moe"
)

// problems collects what is wrong with an input.
type problems []error

func (p *problems) add(field string, value any, want string) {
	*p = append(*p, &moe.FieldError{Field: field, Value: value, Want: want})
}

func (p problems) err() error { return errors.Join(p...) }

var (
	dnsLabel   = regexp.MustCompile(`^[a-z]([-a-z0-9]*[a-z0-9])?$`)
	labelValue = regexp.MustCompile(`^([A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?)?$`)
	labelKey   = regexp.MustCompile(`^([a-z0-9]([-a-z0-9.]*[a-z0-9])?/)?[A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?$`)
	variable   = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*$`)
	notLabel   = regexp.MustCompile(`[^A-Za-z0-9_.-]+`)
)

// longestName leaves room for what controllers append to it: pods and services get at most 63 characters.
const longestName = 40

func (p *problems) name(field, value string) {
	if len(value) > longestName || !dnsLabel.MatchString(value) {
		p.add(field, quoted(value), fmt.Sprintf("must be at most %d lower-case letters, digits and dashes, a letter first", longestName))
	}
}

func (p *problems) key(field, value string) {
	_, name, prefixed := strings.Cut(value, "/")
	if !prefixed {
		name = value
	}
	if len(name) > 63 || len(value) > 253+1+63 || !labelKey.MatchString(value) {
		p.add(field, quoted(value), "must be a label key, such as example.com/rack")
	}
}

func (p *problems) labels(field string, pairs map[string]string) {
	for _, k := range sortedKeys(pairs) {
		p.key(field, k)
		if v := pairs[k]; len(v) > 63 || !labelValue.MatchString(v) {
			p.add(field+"["+k+"]", quoted(v), "must be a label value: at most 63 letters, digits, dashes, dots and underscores")
		}
	}
}

// text refuses what no YAML file or command line can carry.
func (p *problems) text(field, value string) {
	if !utf8.ValidString(value) || strings.ContainsRune(value, 0) {
		p.add(field, quoted(value), "must be UTF-8 without zero bytes")
	}
}

// word also refuses white space, and a dash first, which a command line would take for a flag.
func (p *problems) word(field, value string) {
	p.text(field, value)
	if value == "" || strings.HasPrefix(value, "-") || strings.ContainsFunc(value, func(r rune) bool { return r <= ' ' || r == 0x7f }) {
		p.add(field, quoted(value), "must be a word that does not start with a dash")
	}
}

func quoted(s string) string {
	if len(s) > 80 {
		s = s[:80] + "..."
	}
	return fmt.Sprintf("%q", s)
}

// asLabel makes a label value of a name such as deepseek-ai/DeepSeek-R1.
func asLabel(name string) string {
	name = name[strings.LastIndexByte(name, '/')+1:]
	name = notLabel.ReplaceAllString(name, "-")
	if len(name) > 63 {
		name = name[:63]
	}
	return strings.Trim(name, "-_.")
}
