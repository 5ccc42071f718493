package main

import (
	"bufio"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	goredis "github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/inferloom/inferloom/examples/internal/program"
	"github.com/inferloom/inferloom/kvcache/events"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m, goleak.IgnoreTopFunction("net/http.(*persistConn).writeLoop"), goleak.IgnoreAnyFunction("net/http.(*persistConn).readLoop"))
}

// start runs the daemon and returns its addresses and what stops it.
func start(t *testing.T, args ...string) (addresses map[string]string, stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	out, stdout := io.Pipe()
	ended := make(chan error, 1)
	args = append([]string{"-memory", "32MiB", "-resp", "127.0.0.1:0", "-grpc", "127.0.0.1:0", "-http", "127.0.0.1:0", "-grace", "5s"}, args...)
	go func() { ended <- run(ctx, args, stdout, io.Discard); _ = stdout.Close() }()
	addresses = map[string]string{}
	lines := bufio.NewScanner(out)
	for len(addresses) < 3 && lines.Scan() {
		name, address, ok := strings.Cut(lines.Text(), " on ")
		require.True(t, ok, lines.Text())
		addresses[name] = address
	}
	go func() { _, _ = io.Copy(io.Discard, out) }()
	stopped := false
	stop = func() {
		if !stopped {
			stopped = true
			cancel()
			require.NoError(t, <-ended)
		}
	}
	t.Cleanup(stop)
	require.Len(t, addresses, 3)
	return addresses, stop
}

func connect(t *testing.T, address, user, password string) *goredis.Client {
	t.Helper()
	c := goredis.NewClient(&goredis.Options{Addr: address, Username: user, Password: password, MaxRetries: -1})
	t.Cleanup(func() { _ = c.Close() })
	return c
}

func get(t *testing.T, url, user, password string) (status int, body string) {
	t.Helper()
	r, err := http.NewRequest(http.MethodGet, url, nil)
	require.NoError(t, err)
	if user != "" {
		r.SetBasicAuth(user, password)
	}
	res, err := http.DefaultClient.Do(r)
	require.NoError(t, err)
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	require.NoError(t, err)
	return res.StatusCode, string(text)
}

// A page that an engine writes through the Redis protocol is seen by HTTP, counted, and survives in the tiers below memory.
func TestPagesGoThroughTheTiers(t *testing.T) {
	folder := t.TempDir()
	addresses, stop := start(t, "-disk", folder, "-disk-size", "64MiB")
	ctx := t.Context()
	c := connect(t, addresses["Redis protocol"], "", "")
	value := strings.Repeat("page", 64<<10)
	for n := range 200 { // 50 MiB, more than the memory has
		require.NoError(t, c.Set(ctx, fmt.Sprintf("key-%d", n), value, 0).Err())
	}
	found := 0
	for n := range 200 {
		got, err := c.Get(ctx, fmt.Sprintf("key-%d", n)).Result()
		if err == nil {
			require.True(t, got == value, "page %d", n)
			found++
		} else {
			require.ErrorIs(t, err, goredis.Nil)
		}
	}
	require.Greater(t, found, 150, "memory has 32 MiB, the disk 64")
	url := "http://" + addresses["HTTP"]
	status, body := get(t, url+"/v1/pages/resp/"+hex.EncodeToString([]byte("key-199"))+"/0/0", "", "")
	require.Equal(t, http.StatusOK, status)
	require.True(t, body == value)
	_, body = get(t, url+"/metrics", "", "")
	require.Contains(t, body, `kvstore_commands_total{command="set",outcome="ok"} 200`)
	require.Regexp(t, regexp.MustCompile(`kvstore_pages\{level="disk"\} [1-9]`), body)
	_, body = get(t, url+"/", "", "")
	require.Contains(t, body, "<td>disk<td>")
	for _, path := range []string{"/healthz", "/readyz"} {
		status, body = get(t, url+path, "", "")
		require.Equal(t, "200 ok\n", fmt.Sprint(status, " ", body))
	}
	stop()

	addresses, _ = start(t, "-disk", folder, "-disk-size", "64MiB")
	keys, err := connect(t, addresses["Redis protocol"], "", "").DBSize(ctx).Result()
	require.NoError(t, err)
	require.Positive(t, keys, "the disk has kept what memory evicted")
}

// A router hears of a block whose place in a prefix is known, and not of what the Redis protocol brings.
func TestEventsTellRouters(t *testing.T) {
	live, replay := freeAddress(t), freeAddress(t)
	addresses, _ := start(t, "-events", live, "-events-replay", replay)
	require.NoError(t, connect(t, addresses["Redis protocol"], "", "").Set(t.Context(), "k", "page", 0).Err())
	page := "http://" + addresses["HTTP"] + "/v1/pages/llama/0102030405060708/0/0"
	r, err := http.NewRequest(http.MethodPut, page, strings.NewReader("page"))
	require.NoError(t, err)
	r.Header["Page-Parent"] = []string{""}
	r.Header.Set("Page-Tokens", "16")
	res, err := http.DefaultClient.Do(r)
	require.NoError(t, err)
	require.NoError(t, res.Body.Close())
	require.Equal(t, http.StatusNoContent, res.StatusCode)

	ctx, cancel := context.WithCancel(t.Context())
	var heard heard
	sub, err := events.NewSubscriber(events.Options{Endpoint: "tcp://" + live, Replay: "tcp://" + replay}, &heard)
	require.NoError(t, err)
	done := make(chan error, 1)
	go func() { done <- sub.Run(ctx) }()
	require.Eventually(t, func() bool { return len(heard.get()) > 0 }, 10*time.Second, 5*time.Millisecond)
	require.Equal(t, []uint64{0x0102030405060708}, heard.get())
	cancel()
	<-done
}

// heard are the hashes that were told of as stored in CPU memory.
type heard struct {
	mu     sync.Mutex
	hashes []uint64
}

func (h *heard) Apply(m *events.Message) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, e := range m.Batch.Events {
		if e.Kind == events.Stored && e.Tier == events.CPU && e.Owner == owner {
			h.hashes = append(h.hashes, e.Hashes...)
		}
	}
}

func (*heard) Lost(events.Loss) {}

func (h *heard) get() []uint64 {
	h.mu.Lock()
	defer h.mu.Unlock()
	return slices.Clone(h.hashes)
}

func freeAddress(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer l.Close()
	return l.Addr().String()
}

func TestAccounts(t *testing.T) {
	sum := func(password string) string {
		digest := sha256.Sum256([]byte(password))
		return hex.EncodeToString(digest[:])
	}
	file := filepath.Join(t.TempDir(), "accounts.json")
	require.NoError(t, os.WriteFile(file, fmt.Appendf(nil, `{"default":{"password_sha256":%q,"namespace":"a"},"b":{"password_sha256":%q,"namespace":"b"},"ops":{"password_sha256":%q,"namespace":"*"}}`,
		sum("one"), sum("two"), sum("three")), 0o600))
	addresses, _ := start(t, "-accounts", file)
	ctx := t.Context()
	redis := addresses["Redis protocol"]
	require.ErrorContains(t, connect(t, redis, "", "").Get(ctx, "k").Err(), "NOAUTH")
	require.ErrorContains(t, connect(t, redis, "b", "one").Get(ctx, "k").Err(), "WRONGPASS")
	require.NoError(t, connect(t, redis, "", "one").Set(ctx, "k", "of a", 0).Err())
	require.ErrorIs(t, connect(t, redis, "b", "two").Get(ctx, "k").Err(), goredis.Nil)

	page := "http://" + addresses["HTTP"] + "/v1/pages/a/" + hex.EncodeToString([]byte("k")) + "/0/0"
	for _, row := range []struct {
		user, password string
		status         int
	}{{"", "", 403}, {"default", "two", 403}, {"b", "two", 403}, {"default", "one", 200}, {"ops", "three", 200}} {
		status, _ := get(t, page, row.user, row.password)
		require.Equal(t, row.status, status, row)
	}
	status, _ := get(t, "http://"+addresses["HTTP"]+"/metrics", "", "")
	require.Equal(t, http.StatusOK, status)
}

// What one replica was given, another one finds, and keeps its half when the first one goes.
func TestReplicasSharePages(t *testing.T) {
	first, stop := start(t)
	second, _ := start(t, "-peers", first["gRPC"])
	ctx := t.Context()
	a, b := connect(t, first["Redis protocol"], "", ""), connect(t, second["Redis protocol"], "", "")
	require.NoError(t, a.Set(ctx, "k", "page", 0).Err())
	got, err := b.Get(ctx, "k").Result()
	require.NoError(t, err)
	require.Equal(t, "page", got)
	require.NoError(t, b.Set(ctx, "l", "page", 0).Err())
	require.Eventually(t, func() bool { return a.Get(ctx, "l").Err() == nil }, 10*time.Second, 5*time.Millisecond, "written through")
	stop()
	for _, key := range []string{"k", "l"} {
		require.NoError(t, b.Get(ctx, key).Err(), "it has come up into memory")
	}
	require.ErrorIs(t, b.Get(ctx, "m").Err(), goredis.Nil, "a peer that is gone is no error")
}

func TestUsage(t *testing.T) {
	file := filepath.Join(t.TempDir(), "accounts.json")
	require.NoError(t, os.WriteFile(file, []byte(`{"a":{"password_sha256":"00","namespace":""}}`), 0o600))
	for want, args := range map[string][]string{
		"want a number of bytes such as 512MiB":    {"-memory", "lots"},
		"-events-replay without -events":           {"-events-replay", "127.0.0.1:0"},
		"-copies is 0, want at least 1":            {"-copies", "0"},
		`-s3 is "bucket", want https://ENDPOINT`:   {"-s3", "bucket"},
		"-resp, -grpc and -http are all empty":     {"-resp", "", "-grpc", "", "-http", ""},
		`unexpected argument "x"`:                  {"x"},
		"-peers and -peers-name: want one of them": {"-peers", "a:1", "-peers-name", "b:1"},
		"password_sha256 has 2 characters":         {"-accounts", file},
		`"a": namespace: invalid key`:              {"-accounts", file},
		"-tls-cert and -tls-key: open":             {"-tls-cert", "nowhere"},
		"want one of lru, sieve, s3-fifo":          {"-policy", "best"},
	} {
		err := run(t.Context(), args, io.Discard, io.Discard)
		require.ErrorContains(t, err, want)
		require.ErrorAs(t, err, new(program.UsageError))
	}
	require.ErrorContains(t, run(t.Context(), []string{"-memory", "1MiB"}, io.Discard, io.Discard), "-memory: ")
	require.ErrorContains(t, run(t.Context(), []string{"-memory", "32MiB", "-resp", "256.0.0.1:1", "-http", "127.0.0.1:0", "-grpc", ""}, io.Discard, io.Discard), "-resp: ")
}
