package s3_test

import (
	"bytes"
	"cmp"
	"encoding/xml"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/minio/minio-go/v7"
	"github.com/stretchr/testify/require"
)

// bucket is as much of an S3 service as the level needs, so that its faults can be chosen. The end-to-end tests use a real one.
type bucket struct {
	mu      sync.Mutex
	objects map[string][]byte
	// fault may answer a request in the service's place.
	fault func(w http.ResponseWriter, r *http.Request) bool
}

func (b *bucket) set(fault func(w http.ResponseWriter, r *http.Request) bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.fault = fault
}

// start serves the bucket and returns a client of it.
func (b *bucket) start(t *testing.T) *minio.Client {
	t.Helper()
	b.objects = map[string][]byte{}
	server := httptest.NewServer(b)
	transport := &http.Transport{}
	t.Cleanup(func() { transport.CloseIdleConnections(); server.Close() })
	client, err := minio.New(strings.TrimPrefix(server.URL, "http://"), &minio.Options{Region: "here", Transport: transport, MaxRetries: 1})
	require.NoError(t, err)
	return client
}

func (b *bucket) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return
	}
	if strings.HasPrefix(r.Header.Get("X-Amz-Content-Sha256"), "STREAMING-") {
		body = unchunk(body)
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.fault != nil && b.fault(w, r) {
		return
	}
	name := strings.TrimPrefix(r.URL.Path, "/pages-of-kv/")
	switch {
	case r.Method == http.MethodPut:
		b.objects[name] = body
		w.Header().Set("ETag", `"e"`)
	case r.Method == http.MethodDelete:
		delete(b.objects, name)
		w.WriteHeader(http.StatusNoContent)
	case name == "":
		b.list(w, r)
	default:
		b.get(w, r, name)
	}
}

// unchunk takes the data out of the chunks in which clients of S3 send it: a length in hexadecimal, a signature, the data.
func unchunk(body []byte) (data []byte) {
	for {
		head, rest, _ := bytes.Cut(body, []byte("\r\n"))
		length, _, _ := bytes.Cut(head, []byte(";"))
		n, err := strconv.ParseInt(string(length), 16, 32)
		if err != nil || n == 0 {
			return data
		}
		data, body = append(data, rest[:n]...), rest[n+2:]
	}
}

func (b *bucket) get(w http.ResponseWriter, r *http.Request, name string) {
	object, ok := b.objects[name]
	if !ok {
		fail(w, http.StatusNotFound, "NoSuchKey")
		return
	}
	w.Header().Set("ETag", `"e"`)
	w.Header().Set("Last-Modified", "Wed, 25 Nov 2026 00:00:00 GMT")
	var first, last int
	if n, _ := fmt.Sscanf(r.Header.Get("Range"), "bytes=%d-%d", &first, &last); n == 2 {
		last = min(last, len(object)-1)
		w.Header().Set("Content-Range", fmt.Sprintf("bytes %d-%d/%d", first, last, len(object)))
		object = object[first : last+1]
	}
	w.Header().Set("Content-Length", strconv.Itoa(len(object)))
	if w.Header().Get("Content-Range") != "" {
		w.WriteHeader(http.StatusPartialContent)
	}
	_, _ = w.Write(object)
}

// list answers with pages of five names.
func (b *bucket) list(w http.ResponseWriter, r *http.Request) {
	type content struct {
		Key          string
		Size         int
		LastModified string
		ETag         string
	}
	var answer struct {
		XMLName               xml.Name `xml:"ListBucketResult"`
		Contents              []content
		IsTruncated           bool
		NextContinuationToken string
	}
	from := cmp.Or(r.URL.Query().Get("continuation-token"), r.URL.Query().Get("start-after"))
	for _, name := range slices.Sorted(maps.Keys(b.objects)) {
		if !strings.HasPrefix(name, r.URL.Query().Get("prefix")) || name <= from {
			continue
		}
		if len(answer.Contents) == 5 {
			answer.IsTruncated = true
			break
		}
		answer.NextContinuationToken = name
		answer.Contents = append(answer.Contents, content{name, len(b.objects[name]), "2026-11-25T00:00:00.000Z", "e"})
	}
	_ = xml.NewEncoder(w).Encode(answer)
}

func fail(w http.ResponseWriter, status int, code string) {
	w.Header().Set("Content-Type", "application/xml")
	w.WriteHeader(status)
	_, _ = io.WriteString(w, "<Error><Code>"+code+"</Code><Message>status "+strconv.Itoa(status)+"</Message></Error>")
}
