//go:build e2e

package kvstore

import (
	"context"
	"net"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/inferloom/inferloom/kvcache/store/memory"
	"github.com/inferloom/inferloom/kvcache/store/resp"
)

// serve starts a server of the Redis protocol over pages in memory.
func serve(t *testing.T, password string) (host, port string) {
	t.Helper()
	level, err := memory.New(memory.Options{CapacityBytes: 256 << 20})
	require.NoError(t, err)
	o := resp.Options{Store: level}
	if password != "" {
		o.Authenticate = resp.Accounts(map[string]resp.Account{"default": {Password: password, Namespace: "lmcache"}})
	}
	server, err := resp.NewServer(o)
	require.NoError(t, err)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	go func() { _ = server.Serve(l) }()
	t.Cleanup(func() {
		require.NoError(t, server.Shutdown(context.Background()))
		require.NoError(t, level.Close())
	})
	host, port, err = net.SplitHostPort(l.Addr().String())
	require.NoError(t, err)
	return host, port
}

// TestRedisBenchmark lets the benchmark that comes with Redis talk to the server.
func TestRedisBenchmark(t *testing.T) {
	host, port := serve(t, "")
	out, err := exec.Command("redis-benchmark", "-h", host, "-p", port, "-q", "-n", "20000", "-d", "4096", "-P", "4", "-t", "ping,set,get").CombinedOutput()
	require.NoError(t, err, "%s", out)
	require.NotContains(t, strings.ToLower(string(out)), "error")
	lines := regexp.MustCompile(`(PING_INLINE|PING_MBULK|SET|GET): [0-9.]+ requests per second`).FindAllString(string(out), -1)
	require.Len(t, lines, 4, "%s", out)
	t.Log(strings.Join(lines, "\n"))
}

// TestGlide lets the client of Valkey talk to the server, in both versions of the protocol. E2E_PYTHON is a Python that has valkey-glide.
func TestGlide(t *testing.T) {
	for _, password := range []string{"", "secret"} {
		host, port := serve(t, password)
		out, err := exec.Command(os.Getenv("E2E_PYTHON"), "valkey.py", host, port, password).CombinedOutput()
		require.NoError(t, err, "%s", out)
		require.Contains(t, string(out), "glide: done")
	}
}

// TestLMCache lets LMCache's connectors write, find and read chunks: the one on redis-py, its native client, and the one on valkey-glide. E2E_PYTHON is a
// Python with torch, E2E_LMCACHE the folder with what requirements-lmcache.txt names.
func TestLMCache(t *testing.T) {
	for _, row := range [][2]string{{"redis", ""}, {"redis", "secret"}, {"native", ""}, {"native", "secret"}, {"valkey", ""}} {
		kind, password := row[0], row[1]
		t.Run(kind+password, func(t *testing.T) {
			host, port := serve(t, password)
			c := exec.Command(os.Getenv("E2E_PYTHON"), "connectors.py", host, port, password, kind)
			c.Env = append(os.Environ(), "PYTHONPATH="+os.Getenv("E2E_LMCACHE"))
			out, err := c.CombinedOutput()
			require.NoError(t, err, "%s", out)
			require.Contains(t, string(out), kind+": 8 chunks, 4194304 bytes")
		})
	}
}
