package main

import (
	"bufio"
	"context"
	"io"
	"net"
	"net/http"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestServesUntilInterrupted(t *testing.T) {
	ctx, interrupt := context.WithCancel(t.Context())
	defer interrupt()
	out, in := io.Pipe()
	ended := make(chan error, 1)
	go func() {
		ended <- run(ctx, strings.Fields("-addr 127.0.0.1:0 -engines 2 -model sim-8b -adapters sql -time-scale 100"), in)
		in.Close()
	}()
	lines := bufio.NewScanner(out)
	require.True(t, lines.Scan())
	require.Contains(t, lines.Text(), "SIMULATOR")
	address := regexp.MustCompile(`http://\S+/v1`)
	var urls []string
	for range 2 {
		require.True(t, lines.Scan())
		urls = append(urls, address.FindString(lines.Text()))
	}
	for _, url := range urls {
		resp, err := http.Post(url+"/chat/completions", "application/json",
			strings.NewReader(`{"model":"sql","messages":[{"role":"user","content":"hello"}],"max_tokens":20,"stream":true}`))
		require.NoError(t, err)
		b, err := io.ReadAll(resp.Body)
		require.NoError(t, err)
		resp.Body.Close()
		require.Equal(t, 200, resp.StatusCode, "%s", b)
		require.True(t, strings.HasSuffix(string(b), "data: [DONE]\n\n"))
	}

	http.DefaultClient.CloseIdleConnections()
	interrupt()
	require.True(t, lines.Scan())
	require.Equal(t, "stopped", lines.Text())
	require.NoError(t, <-ended)
}

func TestGraceIsBounded(t *testing.T) {
	ctx, interrupt := context.WithCancel(t.Context())
	defer interrupt()
	out, in := io.Pipe()
	ended := make(chan error, 1)
	go func() {
		ended <- run(ctx, strings.Fields("-addr 127.0.0.1:0 -grace 10ms -time-scale 0.001"), in)
		in.Close()
	}()
	lines := bufio.NewScanner(out)
	lines.Scan()
	lines.Scan()
	url := regexp.MustCompile(`http://\S+/v1`).FindString(lines.Text())
	resp, err := http.Post(url+"/completions", "application/json", strings.NewReader(`{"model":"sim-8b","prompt":"a","stream":true}`))
	require.NoError(t, err)
	defer resp.Body.Close()
	interrupt()
	_, err = io.ReadAll(resp.Body)
	require.Error(t, err, "the answer is cut, it would take minutes")
	_, _ = io.Copy(io.Discard, out)
	require.NoError(t, <-ended)
}

func TestBadArguments(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer taken.Close()
	tests := []struct{ name, args, want string }{
		{"no port", "-addr localhost", "-addr"},
		{"bad port", "-addr localhost:http8", `port is "http8"`},
		{"no engines", "-engines 0", "-engines is 0"},
		{"stray argument", "serve", `unexpected argument "serve"`},
		{"unknown flag", "-gpu 8", "not defined"},
		{"engine options", "-addr 127.0.0.1:0 -blocks -4", "Blocks is -4"},
		{"port taken", "-addr " + taken.Addr().String(), "engine 0"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			require.ErrorContains(t, run(t.Context(), strings.Fields(tt.args), io.Discard), tt.want)
		})
	}
}
