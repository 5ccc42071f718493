package chat

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/inferloom/inferloom/kvcache/token/internal/jinja"
)

// readArguments reads the arguments of a call as e2e/token/chat.py writes them.
func readArguments(t testing.TB, args *jinja.Dict) conversation {
	c := conversation{tools: jinja.None, documents: jinja.None}
	for i := range args.Len() {
		switch key, v := args.At(i); key {
		case "messages":
			c.messages, _ = v.Items()
		case "tools":
			c.tools = v
		case "documents":
			c.documents = v
		case "add_generation_prompt":
			c.addPrompt = true
		case "continue_final_message":
			c.continues = true
		default:
			c.more = append(c.more, jinja.Var{Name: key, Value: v})
		}
	}
	return c
}

// tally is how a template's cases came out.
type tally struct{ equal, refused, unsupported, wrong int }

func (n *tally) add(m tally) {
	n.equal += m.equal
	n.refused += m.refused
	n.unsupported += m.unsupported
	n.wrong += m.wrong
}

// compareCases renders what the reference has rendered.
func compareCases(t *testing.T, source string, cases io.Reader) (n tally) {
	tpl, err := newTemplate(source, Options{})
	require.NoError(t, err)
	now := func() time.Time { return time.Date(2026, 3, 4, 5, 6, 7, 0, time.UTC) }
	in := bufio.NewScanner(cases)
	in.Buffer(nil, 1<<26)
	for in.Scan() {
		v, err := jinja.ParseJSON(in.Text())
		require.NoError(t, err)
		d, _ := v.Dict()
		args, _ := d.Get("args")
		dict, _ := args.Dict()
		want, rendered := d.Get("output")
		got, err := tpl.apply(nil, readArguments(t, dict), jinja.Options{Now: now})
		var unsupported *jinja.UnsupportedError
		text, _ := want.Str()
		switch {
		case errors.As(err, &unsupported):
			if n.unsupported++; n.unsupported == 1 {
				t.Logf("unsupported: %v", err)
			}
		case !rendered && err != nil:
			n.refused++
		case rendered && err == nil && string(got) == text:
			n.equal++
		default:
			if n.wrong++; n.wrong <= 3 {
				reason, _ := d.Get("error")
				message, _ := reason.Str()
				at := 0
				for at < min(len(got), len(text)) && got[at] == text[at] {
					at++
				}
				from := max(0, at-40)
				t.Errorf("got %q\nwant %q\nerror %v, want %q", got[from:min(len(got), at+60)], text[min(from, len(text)):min(len(text), at+60)], err, message)
			}
		}
	}
	require.NoError(t, in.Err())
	return n
}

// TestGolden compares with what the reference made of the templates in testdata.
func TestGolden(t *testing.T) {
	compareFolder(t, "testdata", "testdata", ".cases.gz")
}

// TestReference compares with the reference on real templates: CHAT_TEMPLATES is a folder of them, CHAT_CASES one of what
// e2e/token/chat.py made of them.
func TestReference(t *testing.T) {
	cases := os.Getenv("CHAT_CASES")
	if cases == "" {
		t.Skip("CHAT_CASES is not set")
	}
	compareFolder(t, os.Getenv("CHAT_TEMPLATES"), cases, ".cases")
}

func compareFolder(t *testing.T, templates, cases, suffix string) {
	paths, err := filepath.Glob(filepath.Join(cases, "*"+suffix))
	require.NoError(t, err)
	require.NotEmpty(t, paths)
	var all tally
	for _, path := range paths {
		name := strings.TrimSuffix(filepath.Base(path), suffix)
		t.Run(name, func(t *testing.T) {
			source, err := os.ReadFile(filepath.Join(templates, name+".jinja"))
			require.NoError(t, err)
			data, err := os.ReadFile(path)
			require.NoError(t, err)
			var in io.Reader = bytes.NewReader(data)
			if strings.HasSuffix(suffix, ".gz") {
				in, err = gzip.NewReader(in)
				require.NoError(t, err)
			}
			n := compareCases(t, string(source), in)
			all.add(n)
			t.Logf("%d equal, %d refused by both, %d unsupported, %d wrong", n.equal, n.refused, n.unsupported, n.wrong)
		})
	}
	t.Logf("%d equal, %d refused by both, %d unsupported, %d wrong", all.equal, all.refused, all.unsupported, all.wrong)
}
