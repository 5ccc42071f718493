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

	"github.com/inferloom/inferloom/kvcache/events"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestServesUntilInterrupted(t *testing.T) {
	ctx, interrupt := context.WithCancel(t.Context())
	defer interrupt()
	out, in := io.Pipe()
	ended := make(chan error, 1)
	go func() {
		ended <- run(ctx, strings.Fields("-addr 127.0.0.1:0 -engines 2 -model sim-8b -adapters sql -time-scale 100 -kv-events 127.0.0.1:0 -kv-replay 127.0.0.1:0"), in)
		in.Close()
	}()
	lines := bufio.NewScanner(out)
	require.True(t, lines.Scan())
	require.Contains(t, lines.Text(), "SIMULATOR")
	address := regexp.MustCompile(`(http|tcp)://\S+`)
	var urls, publishers, replays []string
	for range 2 {
		for _, to := range []*[]string{&urls, &publishers, &replays} {
			require.True(t, lines.Scan())
			*to = append(*to, address.FindString(lines.Text()))
		}
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

	stored := make(chan uint32, 100)
	sub, err := events.NewSubscriber(events.Options{Endpoint: publishers[1], Replay: replays[1]}, sink(stored))
	require.NoError(t, err)
	following, stop := context.WithCancel(ctx)
	followed := make(chan error, 1)
	go func() { followed <- sub.Run(following) }()
	require.NotZero(t, <-stored, "the first token of what the second engine has cached")
	stop()
	<-followed

	http.DefaultClient.CloseIdleConnections()
	interrupt()
	require.True(t, lines.Scan())
	require.Equal(t, "stopped", lines.Text())
	require.NoError(t, <-ended)
}

type sink chan uint32

func (s sink) Apply(m *events.Message) { s <- m.Batch.Events[0].Tokens[0] }
func (s sink) Lost(events.Loss)        {}

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
		{"replay of nothing", "-kv-replay 127.0.0.1:0", "-kv-replay needs -kv-events"},
		{"port taken", "-addr " + taken.Addr().String(), "engine 0"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			require.ErrorContains(t, run(t.Context(), strings.Fields(tt.args), io.Discard), tt.want)
		})
	}
}
