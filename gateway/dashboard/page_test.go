package dashboard

import (
	"encoding/json"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/inferloom/inferloom/gateway"
)

func get(d http.Handler, method, target string) *httptest.ResponseRecorder {
	w := httptest.NewRecorder()
	d.ServeHTTP(w, httptest.NewRequest(method, target, nil))
	return w
}

func TestServeHTTP(t *testing.T) {
	d, _ := newTest(t, Options{Title: "north"})
	for _, row := range []struct {
		method, target string
		status         int
		contentType    string
	}{
		{"GET", "/dashboard", 200, "text/html; charset=utf-8"},
		{"GET", "/dashboard/", 200, "text/html; charset=utf-8"},
		{"HEAD", "/dashboard", 200, "text/html; charset=utf-8"},
		{"GET", "/dashboard/data", 200, "application/json"},
		{"HEAD", "/dashboard/data", 200, "application/json"},
		{"GET", "/dashboard/data?after=3", 200, "application/json"},
		{"GET", "/dashboard/data?after=-1", 400, "text/plain; charset=utf-8"},
		{"GET", "/dashboard/data/", 404, "text/plain; charset=utf-8"},
		{"GET", "/", 404, "text/plain; charset=utf-8"},
		{"POST", "/dashboard", 405, "text/plain; charset=utf-8"},
		{"DELETE", "/dashboard/data", 405, "text/plain; charset=utf-8"},
		{"OPTIONS", "/dashboard/", 405, "text/plain; charset=utf-8"},
	} {
		w := get(d, row.method, row.target)
		require.Equal(t, row.status, w.Code, row)
		require.Equal(t, row.contentType, w.Header().Get("Content-Type"), row)
		require.Equal(t, "nosniff", w.Header().Get("X-Content-Type-Options"), row)
		if row.status == 405 {
			require.Equal(t, "GET, HEAD", w.Header().Get("Allow"))
		}
	}
	var doc map[string]any
	require.NoError(t, json.Unmarshal(get(d, "GET", "/dashboard/data").Body.Bytes(), &doc))
	require.Equal(t, "north", doc["title"])
}

// The policy names exactly the script and the style that the page has, and the page has nothing that it would refuse.
func TestPageKeepsItsPolicy(t *testing.T) {
	d, _ := newTest(t, Options{})
	w := get(d, "GET", "/dashboard")
	policy, page := w.Header().Get("Content-Security-Policy"), w.Body.String()
	require.Contains(t, policy, "default-src 'none'")
	require.NotContains(t, policy, "unsafe")
	for tag, directive := range map[string]string{"script": "script-src ", "style": "style-src "} {
		found := regexp.MustCompile(`(?s)<`+tag+`>(.*?)</`+tag+`>`).FindAllStringSubmatch(page, -1)
		require.Len(t, found, 1, tag)
		require.Contains(t, policy, directive+sourceHash(found[0][1]))
	}
	for _, refused := range []string{` style="`, ` onclick=`, ` src=`, `http://www.w3.org/1999`, `https://`} {
		require.NotContains(t, page, refused)
	}
}

// Data reaches the page as text nodes. These are the ways around that.
func TestScriptWritesNoMarkup(t *testing.T) {
	require.NoError(t, fs.WalkDir(assets, "assets", func(path string, entry fs.DirEntry, err error) error {
		if err != nil || !strings.HasSuffix(path, ".js") {
			return err
		}
		b, err := assets.ReadFile(path)
		require.Contains(t, scripts, entry.Name(), "not in the page")
		require.NotRegexp(t, `innerHTML|outerHTML|insertAdjacentHTML|document\.write|DOMParser|createContextualFragment|setHTML|\beval\b|new Function|javascript:`, string(b), path)
		return err
	}))
}

func TestHostileNamesStayInsideStrings(t *testing.T) {
	d, _ := newTest(t, Options{})
	const name = "</script><img src=x onerror=alert(1)>\u2028"
	d.Observe(gateway.Record{Model: name, Endpoint: "a"})
	body := get(d, "GET", "/dashboard/data").Body.String()
	require.NotContains(t, body, "<")
	require.NotContains(t, body, "\u2028")
	var doc document
	require.NoError(t, json.Unmarshal([]byte(body), &struct {
		Decisions *[]decision `json:"decisions"`
	}{&doc.Decisions}))
	require.Equal(t, name, doc.Decisions[0].Model)
}

func TestOptionalNumbers(t *testing.T) {
	for want, v := range map[string]optional{
		"null": absent, "0": 0, "12345": 12345, "0.3333": 1.0 / 3, "-1": -1, "1.235e+06": 1234567.8, "1e+20": 1e20,
	} {
		got, err := json.Marshal(v)
		require.NoError(t, err)
		require.Equal(t, want, string(got))
	}
}

func TestHandlerWorksUnderAPrefix(t *testing.T) {
	d, _ := newTest(t, Options{})
	w := get(http.StripPrefix("/ops", d), "GET", "/ops/dashboard/data")
	require.Equal(t, 200, w.Code)
}
