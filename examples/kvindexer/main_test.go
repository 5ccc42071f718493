package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/inferloom/inferloom/internal/enginesim"
	"github.com/inferloom/inferloom/kvcache/events"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// simulator is an engine with its events.
type simulator struct{ url, live, replay string }

func simulate(t *testing.T) simulator {
	t.Helper()
	publisher := events.NewPublisher(events.PublisherOptions{})
	sim, err := enginesim.New(enginesim.Options{Model: "m", TimeScale: 1000, Events: publisher})
	require.NoError(t, err)
	live, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	replay, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{}, 2)
	go func() { _ = sim.Run(ctx); ended <- struct{}{} }()
	go func() { _ = publisher.Serve(ctx, live, replay); ended <- struct{}{} }()
	h := httptest.NewServer(sim)
	t.Cleanup(func() {
		cancel()
		<-ended
		<-ended
		http.DefaultClient.CloseIdleConnections()
		h.Close()
	})
	return simulator{h.URL, "tcp://" + live.Addr().String(), "tcp://" + replay.Addr().String()}
}

func post(t *testing.T, url, body string) string {
	t.Helper()
	resp, err := http.Post(url, "application/json", strings.NewReader(body))
	require.NoError(t, err)
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	require.Equal(t, 200, resp.StatusCode, "%s", b)
	return string(b)
}

// start runs the program and returns the URLs that it serves on. stop ends it.
func start(t *testing.T, args string) (urls []string, stop func()) {
	t.Helper()
	ctx, interrupt := context.WithCancel(t.Context())
	out, in := io.Pipe()
	ended := make(chan error, 1)
	go func() {
		ended <- run(ctx, strings.Fields(args), in, io.Discard)
		in.Close()
	}()
	lines := bufio.NewScanner(out)
	for n := strings.Count(args, "-listen") + strings.Count(args, "-admin") + strings.Count(args, "-accept"); n > 0; n-- {
		require.True(t, lines.Scan(), "it has ended")
		urls = append(urls, strings.TrimPrefix(lines.Text(), "serving on "))
	}
	return urls, func() {
		http.DefaultClient.CloseIdleConnections()
		interrupt()
		require.True(t, lines.Scan())
		require.Equal(t, "stopped", lines.Text())
		require.NoError(t, <-ended)
	}
}

// longest asks until an instance holds the prompt.
func longest(t *testing.T, url string, tokens []int, instance string, want int) {
	t.Helper()
	b, err := json.Marshal(tokens)
	require.NoError(t, err)
	body := ""
	require.Eventually(t, func() bool {
		body = post(t, url+"/query", fmt.Sprintf(`{"model":"m","block_size":16,"token_ids":%s}`, b))
		return strings.Contains(body, fmt.Sprintf(`"%s":{"longest_matched":%d,`, instance, want))
	}, 10*time.Second, 5*time.Millisecond, "%s", &body)
}

func tokens(from, n int) []int {
	out := make([]int, n)
	for i := range out {
		out[i] = from + i
	}
	return out
}

func complete(t *testing.T, s simulator, tokens []int) {
	t.Helper()
	b, err := json.Marshal(map[string]any{"model": "m", "prompt": tokens, "max_tokens": 1})
	require.NoError(t, err)
	post(t, s.url+"/v1/completions", string(b))
}

// An index that knows two engines, one registered later, is handed on to a replica and over a restart.
func TestServesAndHandsOn(t *testing.T) {
	a, b := simulate(t), simulate(t)
	file := filepath.Join(t.TempDir(), "index")
	engine := func(name string, s simulator) string {
		return fmt.Sprintf("-engine name=%s,events=%s,replay=%s,model=m,block=16", name, s.live, s.replay)
	}
	urls, stop := start(t, "-listen 127.0.0.1:0 -admin 127.0.0.1:0 -file "+file+" "+engine("a", a))
	query, admin := urls[0], urls[1]
	post(t, admin+"/register", fmt.Sprintf(`{"endpoint":"%s","modelname":"m","instance_id":"b","block_size":16,"type":"vLLM","dp_rank":0}`, b.live))
	require.Eventually(t, func() bool {
		resp, err := http.Get(query + "/ready")
		require.NoError(t, err)
		defer resp.Body.Close()
		return resp.StatusCode == 200
	}, 10*time.Second, 5*time.Millisecond)
	complete(t, a, tokens(0, 160))
	complete(t, b, tokens(1000, 160))
	longest(t, query, tokens(0, 200), "a", 160)
	longest(t, query, tokens(1000, 200), "b", 160)

	urls, stopReplica := start(t, "-listen 127.0.0.1:0 -peers "+admin)
	longest(t, urls[0], tokens(0, 200), "a", 160)
	longest(t, urls[0], tokens(1000, 200), "b", 160) // only the peer can know: there is no replay
	complete(t, b, tokens(1000, 176))
	longest(t, urls[0], tokens(1000, 200), "b", 176)
	longest(t, query, tokens(1000, 200), "b", 176)
	stopReplica()
	stop()

	complete(t, a, tokens(0, 192)) // while nobody listens
	urls, stop = start(t, "-listen 127.0.0.1:0 -file "+file)
	longest(t, urls[0], tokens(0, 200), "a", 192)
	longest(t, urls[0], tokens(1000, 200), "b", 176)
	stop()
	leftovers, err := os.ReadDir(filepath.Dir(file))
	require.NoError(t, err)
	require.Len(t, leftovers, 1)
}

// What is followed is written to Redis as well, and taken out with the engine.
func TestRedis(t *testing.T) {
	program, err := exec.LookPath("redis-server")
	if err != nil {
		t.Skip("redis-server is not installed")
	}
	folder, err := os.MkdirTemp("", "redis") // a test's own folder can have a path too long for a socket
	require.NoError(t, err)
	defer os.RemoveAll(folder)
	socket := filepath.Join(folder, "s")
	server := exec.Command(program, "--port", "0", "--unixsocket", socket, "--save", "", "--dir", folder)
	require.NoError(t, server.Start())
	defer func() { _ = server.Process.Kill(); _ = server.Wait() }()
	client := redis.NewClient(&redis.Options{Network: "unix", Addr: socket})
	defer client.Close()
	require.Eventually(t, func() bool { return client.Ping(t.Context()).Err() == nil }, 10*time.Second, 5*time.Millisecond)

	s := simulate(t)
	urls, stop := start(t, "-listen 127.0.0.1:0 -redis unix://"+socket)
	post(t, urls[0]+"/register", fmt.Sprintf(`{"endpoint":"%s","replay_endpoint":"%s","modelname":"m","instance_id":"a","block_size":16}`, s.live, s.replay))
	complete(t, s, tokens(0, 160))
	longest(t, urls[0], tokens(0, 160), "a", 160)
	require.Eventually(t, func() bool { return client.DBSize(t.Context()).Val() == 10+2 }, 10*time.Second, 5*time.Millisecond,
		"blocks, the pods' generations, and their counter")
	post(t, urls[0]+"/unregister", `{"modelname":"m","instance_id":"a"}`)
	require.Zero(t, client.HLen(t.Context(), "kv:p:m").Val())
	stop()
}

// An engine that connects by itself is followed under the name in its topic.
func TestAccepts(t *testing.T) {
	urls, stop := start(t, "-listen 127.0.0.1:0 -accept 127.0.0.1:0")
	conn, err := net.Dial("tcp", strings.TrimPrefix(urls[1], "accepting engines on tcp://"))
	require.NoError(t, err)
	defer conn.Close()
	greeting := make([]byte, 64)
	greeting[0], greeting[9], greeting[10] = 0xff, 0x7f, 3
	copy(greeting[12:], "NULL")
	payload := events.Append(nil, &events.Batch{Events: []events.Event{{Kind: events.Stored, Hashes: []uint64{7}, Tokens: make([]uint32, 16), BlockTokens: 16, Group: -1}}}, events.Maps)
	message := string(greeting) + "\x04\x19\x05READY\x0bSocket-Type\x00\x00\x00\x03PUB" + "\x01\x06kv@a@m" + "\x01\x08\x00\x00\x00\x00\x00\x00\x00\x00" + "\x00"
	_, err = conn.Write(append(append([]byte(message), byte(len(payload))), payload...))
	require.NoError(t, err)
	longest(t, urls[0], make([]int, 20), "a", 16)
	stop()
}

func TestFlags(t *testing.T) {
	for _, tt := range []struct{ name, args, want string }{
		{"stray argument", "serve", `unexpected argument "serve"`},
		{"engine", "-engine name=a,speed=9", `"speed=9": no such key`},
		{"engine without name", "-engine events=tcp://x:1", "name: missing"},
		{"engine without model", "-engine name=a,events=tcp://x:1", "Model is empty"},
		{"engine without events", "-engine name=a,model=m", "-engine a|default|0 has no events="},
		{"no engines", "-max-engines 0", "-max-engines is 0"},
		{"no memory", "-max-megabytes 0", "-max-megabytes is 0"},
		{"interval", "-file-every -1s", "-file-every is -1s"},
		{"redis", "-redis http://x", "-redis: "},
		{"nobody there", "-redis redis://127.0.0.1:1/0", "-redis: "},
		{"address", "-listen 127.0.0.1:99999", "99999"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			require.ErrorContains(t, run(t.Context(), strings.Fields(tt.args), io.Discard, io.Discard), tt.want)
		})
	}
}
