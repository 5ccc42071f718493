package rest_test

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/inferloom/inferloom/kvcache/store"
	"github.com/inferloom/inferloom/kvcache/store/rest"
	"github.com/inferloom/inferloom/kvcache/store/storetest"
)

func serve(t testing.TB, o rest.Options) string {
	t.Helper()
	if o.Store == nil {
		o.Store = &storetest.Map{}
	}
	h, err := rest.New(o)
	require.NoError(t, err)
	s := httptest.NewServer(h)
	t.Cleanup(s.Close)
	return s.URL
}

// ask sends a request, with headers "Name: value", and returns the status and the body.
func ask(t testing.TB, method, url, body string, headers ...string) (status int, answer string, header http.Header) {
	t.Helper()
	r, err := http.NewRequest(method, url, strings.NewReader(body))
	require.NoError(t, err)
	for _, h := range headers {
		name, value, _ := strings.Cut(h, ": ")
		r.Header.Set(name, value)
	}
	res, err := http.DefaultClient.Do(r)
	require.NoError(t, err)
	defer res.Body.Close()
	got, err := io.ReadAll(res.Body)
	require.NoError(t, err)
	return res.StatusCode, string(got), res.Header
}

func TestPages(t *testing.T) {
	url := serve(t, rest.Options{MaxPageBytes: 10})
	page := url + "/v1/pages/a%2Fb%20c/00ff/1/2"
	status, _, _ := ask(t, "PUT", page, "0123456789", "Page-Parent: 0a", "Page-Depth: 7", "Page-Tokens: 16", "Page-Cost: 1.5ms")
	require.Equal(t, http.StatusNoContent, status)

	status, body, header := ask(t, "GET", page, "")
	require.Equal(t, http.StatusOK, status)
	require.Equal(t, "0123456789", body)
	require.Equal(t, []string{"0a", "7", "16", "1.5ms"}, []string{header.Get("Page-Parent"), header.Get("Page-Depth"), header.Get("Page-Tokens"), header.Get("Page-Cost")})
	status, body, _ = ask(t, "GET", page, "", "Range: bytes=2-4")
	require.Equal(t, http.StatusPartialContent, status)
	require.Equal(t, "234", body)
	status, _, header = ask(t, "HEAD", page, "")
	require.Equal(t, http.StatusOK, status)
	require.Equal(t, []string{"10", "7"}, []string{header.Get("Content-Length"), header.Get("Page-Depth")})

	line := `{"key":"a%2Fb%20c/00ff/1/2","bytes":10,"parent":"0a","depth":7,"tokens":16,"cost_nanos":1500000}` + "\n"
	for namespace, want := range map[string]string{"": line, "a/b c": line, "x": ""} {
		status, body, _ = ask(t, "GET", url+"/v1/pages?namespace="+strings.ReplaceAll(namespace, " ", "+"), "")
		require.Equal(t, http.StatusOK, status)
		require.Equal(t, want, body)
	}
	for range 2 {
		status, _, _ = ask(t, "DELETE", page, "")
		require.Equal(t, http.StatusNoContent, status)
	}
	status, body, _ = ask(t, "GET", page, "")
	require.Equal(t, http.StatusNotFound, status)
	require.Equal(t, "page not found\n", body)
}

func TestTheFirstBlockOfAChain(t *testing.T) {
	url := serve(t, rest.Options{}) + "/v1/pages/n/00/0/0"
	r, err := http.NewRequest("PUT", url, nil)
	require.NoError(t, err)
	r.Header["Page-Parent"] = []string{""}
	res, err := http.DefaultClient.Do(r)
	require.NoError(t, err)
	require.NoError(t, res.Body.Close())
	_, _, header := ask(t, "GET", url, "")
	require.Equal(t, []string{""}, header.Values("Page-Parent"))
	require.Equal(t, "0", header.Get("Page-Depth"))
}

func TestRequestsThatMakeNoSense(t *testing.T) {
	url := serve(t, rest.Options{MaxPageBytes: 10, Allow: func(_ *http.Request, namespace string) bool { return namespace == "n" }}) + "/v1/pages"
	for name, row := range map[string]struct {
		method, path, body string
		headers            []string
		status             int
		answer             string
	}{
		"no key":          {"GET", "/n/00", "", nil, 400, `"n/00" is not the name of a key`},
		"another writing": {"GET", "/n/0F/0/0", "", nil, 400, "is not the name of a key"},
		"too large":       {"PUT", "/n/00/0/0", "01234567890", nil, 413, "11 bytes, at most 10"},
		"attributes":      {"PUT", "/n/00/0/0", "", []string{"Page-Depth: x", "Page-Cost: 7"}, 400, "Page-Depth"},
		"no chain":        {"PUT", "/n/00/0/0", "", []string{"Page-Depth: 3"}, 400, "Depth need Chained"},
		"another's":       {"GET", "/o/00/0/0", "", nil, 403, "not yours"},
		"all":             {"GET", "", "", nil, 403, "not yours"},
		"method":          {"PATCH", "/n/00/0/0", "", nil, 405, ""},
	} {
		status, answer, _ := ask(t, row.method, url+row.path, row.body, row.headers...)
		require.Equal(t, row.status, status, name)
		require.Contains(t, answer, row.answer, name)
	}
	r, err := http.NewRequest("PUT", url+"/n/00/0/0", io.LimitReader(strings.NewReader("abc"), 3))
	require.NoError(t, err)
	r.ContentLength = -1
	res, err := http.DefaultClient.Do(r)
	require.NoError(t, err)
	require.NoError(t, res.Body.Close())
	require.Equal(t, http.StatusLengthRequired, res.StatusCode)
}

func TestFaults(t *testing.T) {
	fault := storetest.NewFault(&storetest.Map{})
	url := serve(t, rest.Options{Store: fault})
	for err, want := range map[error]int{
		store.ErrFull: 507, store.ErrQuota: 507, store.ErrShed: 507, store.ErrCorrupt: 502, store.ErrClosed: 503, errors.New("on fire"): 503,
	} {
		fault.Fail(err)
		for _, row := range [][2]string{{"PUT", "/v1/pages/n/00/0/0"}, {"GET", "/v1/pages/n/00/0/0"}, {"DELETE", "/v1/pages/n/00/0/0"}, {"GET", "/v1/pages"}} {
			status, answer, _ := ask(t, row[0], url+row[1], "")
			require.Equal(t, want, status, fmt.Sprint(row, err))
			require.Equal(t, err.Error()+"\n", answer)
		}
	}
}

func TestOptionsAreChecked(t *testing.T) {
	_, err := rest.New(rest.Options{})
	require.EqualError(t, err, "store: nil")
	_, err = rest.New(rest.Options{Store: &storetest.Map{}, MaxPageBytes: -1})
	require.EqualError(t, err, "max page bytes -1: negative")
}
