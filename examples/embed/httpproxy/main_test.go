package main

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/inferloom/inferloom/examples/internal/program"
	"github.com/inferloom/inferloom/scheduling"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// engine answers with its own address, in two pieces; the second once more was let go.
func engine(t *testing.T, more <-chan struct{}) string {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		io.Copy(io.Discard, r.Body)
		fmt.Fprintln(w, r.Context().Value(http.LocalAddrContextKey))
		w.(http.Flusher).Flush()
		select {
		case <-more:
		case <-r.Context().Done():
		}
		fmt.Fprintln(w, "end")
	}))
	t.Cleanup(server.Close)
	return server.Listener.Addr().String()
}

type front struct {
	url    string
	pool   *scheduling.Pool
	client *http.Client
}

func newFront(t *testing.T, addresses ...string) *front {
	sched, err := program.NewScheduler("m", addresses)
	require.NoError(t, err)
	base := &http.Transport{}
	server := httptest.NewServer(newProxy(sched, base))
	client := &http.Client{Transport: &http.Transport{}}
	t.Cleanup(func() {
		client.CloseIdleConnections()
		server.Close()
		base.CloseIdleConnections()
	})
	return &front{server.URL, sched.Pool(), client}
}

func (f *front) post(t *testing.T, ctx context.Context, body string) *http.Response {
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, f.url+"/v1/chat/completions", strings.NewReader(body))
	require.NoError(t, err)
	resp, err := f.client.Do(r)
	require.NoError(t, err)
	t.Cleanup(func() { resp.Body.Close() })
	return resp
}

func TestAConversationStaysWithItsEngine(t *testing.T) {
	more := make(chan struct{})
	close(more)
	f := newFront(t, engine(t, more), engine(t, more), engine(t, more))
	message := `{"role":"user","content":"` + strings.Repeat("what is a prefix? ", 40) + `"}`
	turns, first := message, ""
	for range 4 {
		resp := f.post(t, context.Background(), `{"model":"m","messages":[`+turns+`],"stream":true}`)
		answer, err := io.ReadAll(resp.Body)
		require.NoError(t, err)
		require.Equal(t, http.StatusOK, resp.StatusCode, "%s", answer)
		if first == "" {
			first = string(answer)
		}
		require.Equal(t, first, string(answer))
		turns += "," + message
	}
	resp := f.post(t, context.Background(), `{"model":"m","messages":[{"role":"user","content":"something else"}]}`)
	answer, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	require.Contains(t, string(answer), "end")
	require.Zero(t, f.pool.Total())
}

func TestAnAnswerIsAccountedForWhileItLasts(t *testing.T) {
	more := make(chan struct{})
	f := newFront(t, engine(t, more))
	body := `{"model":"m","prompt":"` + strings.Repeat("x", 400) + `"}`
	resp := f.post(t, context.Background(), body)
	lines := bufio.NewReader(resp.Body)
	_, err := lines.ReadString('\n')
	require.NoError(t, err)
	require.Equal(t, 1, f.pool.Total().Requests)
	require.Zero(t, f.pool.Total().PrefillTokens, "the first byte has come")
	close(more)
	_, err = io.ReadAll(lines)
	require.NoError(t, err)
	require.Zero(t, f.pool.Total())
}

func TestAClientThatLeavesIsNotChargedFor(t *testing.T) {
	f := newFront(t, engine(t, nil))
	ctx, leave := context.WithCancel(context.Background())
	resp := f.post(t, ctx, `{"model":"m","prompt":"x"}`)
	leave()
	_, err := io.ReadAll(resp.Body)
	require.ErrorIs(t, err, context.Canceled)
	require.Eventually(t, func() bool { return f.pool.Total() == scheduling.Load{} }, 10*time.Second, time.Millisecond)
}

func TestADeadEngineIsPassedOver(t *testing.T) {
	dead, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	require.NoError(t, dead.Close())
	more := make(chan struct{})
	close(more)
	f := newFront(t, dead.Addr().String(), engine(t, more))
	for i := range 8 {
		resp := f.post(t, context.Background(), fmt.Sprintf(`{"model":"m","prompt":"%d"}`, i))
		require.Equal(t, http.StatusOK, resp.StatusCode)
		_, err := io.ReadAll(resp.Body)
		require.NoError(t, err)
	}
	require.Zero(t, f.pool.Total())

	f = newFront(t, dead.Addr().String())
	resp := f.post(t, context.Background(), `{"model":"m","prompt":"x"}`)
	require.Equal(t, http.StatusBadGateway, resp.StatusCode)
	require.Zero(t, f.pool.Total())
}

func TestWhatCannotBePlacedIsSaid(t *testing.T) {
	f := newFront(t, "127.0.0.1:1")
	resp := f.post(t, context.Background(), `{"model":"other","prompt":"x"}`)
	require.Equal(t, http.StatusNotFound, resp.StatusCode)
	answer, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	require.Contains(t, string(answer), `unknown model for model \"other\"`)
	resp = f.post(t, context.Background(), `{"model":`)
	require.Equal(t, http.StatusBadRequest, resp.StatusCode)
	resp = f.post(t, context.Background(), `{"prompt":"`+strings.Repeat("x", maxBody)+`"}`)
	require.Equal(t, http.StatusRequestEntityTooLarge, resp.StatusCode)
}

func TestARequestWithoutABody(t *testing.T) {
	more := make(chan struct{})
	close(more)
	f := newFront(t, engine(t, more))
	resp, err := f.client.Get(f.url + "/v1/models")
	require.NoError(t, err)
	defer resp.Body.Close()
	require.Equal(t, http.StatusOK, resp.StatusCode)
}

func TestTheProgramRuns(t *testing.T) {
	more := make(chan struct{})
	close(more)
	ctx, interrupt := context.WithCancel(context.Background())
	out, in := io.Pipe()
	ended := make(chan error, 1)
	go func() {
		ended <- run(ctx, []string{"-listen", "127.0.0.1:0", "-engines", engine(t, more)}, in, io.Discard)
	}()
	line, err := bufio.NewReader(out).ReadString('\n')
	require.NoError(t, err)
	client := &http.Client{Transport: &http.Transport{}}
	defer client.CloseIdleConnections()
	resp, err := client.Post(strings.TrimSpace(strings.TrimPrefix(line, "listening on "))+"/v1/completions", "application/json",
		strings.NewReader(`{"prompt":"x"}`))
	require.NoError(t, err)
	answer, err := io.ReadAll(resp.Body)
	resp.Body.Close()
	require.NoError(t, err)
	require.Contains(t, string(answer), "end")
	interrupt()
	require.NoError(t, <-ended)

	var stderr bytes.Buffer
	require.ErrorContains(t, run(ctx, nil, io.Discard, &stderr), "-engines is empty")
	require.ErrorContains(t, run(ctx, []string{"-engines", "nowhere"}, io.Discard, &stderr), `address "nowhere": want host:port`)
}
