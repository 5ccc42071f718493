package main

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"

	"github.com/inferloom/inferloom/examples/embed/grpc/generate"
	"github.com/inferloom/inferloom/examples/internal/program"
	"github.com/inferloom/inferloom/scheduling"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// worker is a Generator as a function.
type worker struct {
	generate.UnimplementedGeneratorServer
	do func(r *generate.GenerateRequest, out grpc.ServerStreamingServer[generate.GenerateResponse]) error
}

func (w *worker) Generate(r *generate.GenerateRequest, out grpc.ServerStreamingServer[generate.GenerateResponse]) error {
	return w.do(r, out)
}

func start(t *testing.T, g generate.GeneratorServer) string {
	address, stop, err := serve(g, "127.0.0.1:0")
	require.NoError(t, err)
	t.Cleanup(stop)
	return address
}

// front is a router before workers, and a client of it.
func front(t *testing.T, workers ...string) (generate.GeneratorClient, *scheduling.Pool) {
	sched, err := program.NewScheduler("m", workers)
	require.NoError(t, err)
	r := newRouter(sched)
	t.Cleanup(r.close)
	conn, err := grpc.NewClient(start(t, r), grpc.WithTransportCredentials(insecure.NewCredentials()))
	require.NoError(t, err)
	t.Cleanup(func() { conn.Close() })
	return generate.NewGeneratorClient(conn), sched.Pool()
}

// ask returns the tokens of an answer, and who gave it.
func ask(ctx context.Context, c generate.GeneratorClient, r *generate.GenerateRequest) (tokens []uint32, worker string, err error) {
	stream, err := c.Generate(ctx, r)
	if err != nil {
		return nil, "", err
	}
	for {
		answer, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return tokens, stream.Trailer().Get(workerKey)[0], nil
		}
		if err != nil {
			return tokens, "", err
		}
		tokens = append(tokens, answer.Tokens...)
	}
}

func TestAConversationStaysWithItsWorker(t *testing.T) {
	c, pool := front(t, start(t, new(echo)), start(t, new(echo)), start(t, new(echo)))
	prompt, first := make([]uint32, 100), ""
	for range 5 {
		tokens, worker, err := ask(t.Context(), c, &generate.GenerateRequest{Model: "m", PromptTokens: prompt, MaxTokens: 3})
		require.NoError(t, err)
		require.Len(t, tokens, 3)
		if first == "" {
			first = worker
		}
		require.Equal(t, first, worker)
		prompt = append(prompt, make([]uint32, 50)...)
	}
	require.Zero(t, pool.Total())
}

func TestATokenIsAccountedFor(t *testing.T) {
	proceed := make(chan struct{})
	c, pool := front(t, start(t, &worker{do: func(_ *generate.GenerateRequest, out grpc.ServerStreamingServer[generate.GenerateResponse]) error {
		for range 2 {
			<-proceed
			if err := out.Send(&generate.GenerateResponse{Tokens: []uint32{1, 2}}); err != nil {
				return err
			}
		}
		<-proceed
		return nil
	}}))
	stream, err := c.Generate(t.Context(), &generate.GenerateRequest{Model: "m", PromptTokens: make([]uint32, 64)})
	require.NoError(t, err)
	for i := range 2 {
		proceed <- struct{}{}
		_, err := stream.Recv()
		require.NoError(t, err)
		require.Equal(t, scheduling.Load{Requests: 1, KVTokens: 64 + 2*(i+1)}, pool.Total())
	}
	close(proceed)
	_, err = stream.Recv()
	require.ErrorIs(t, err, io.EOF)
	require.Zero(t, pool.Total())
}

func TestADeadWorkerIsPassedOver(t *testing.T) {
	dead, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	require.NoError(t, dead.Close())
	failing := start(t, &worker{do: func(*generate.GenerateRequest, grpc.ServerStreamingServer[generate.GenerateResponse]) error {
		return status.Error(codes.Internal, "out of memory")
	}})
	alive := start(t, new(echo))
	c, pool := front(t, dead.Addr().String(), failing, alive)
	for i := range uint32(8) {
		tokens, worker, err := ask(t.Context(), c, &generate.GenerateRequest{Model: "m", PromptTokens: []uint32{i}, MaxTokens: 1})
		require.NoError(t, err)
		require.Equal(t, []uint32{i}, tokens)
		require.Equal(t, alive, worker)
	}
	require.Zero(t, pool.Total())

	c, pool = front(t, failing)
	_, _, err = ask(t.Context(), c, &generate.GenerateRequest{Model: "m"})
	require.Equal(t, codes.Internal, status.Code(err))
	require.Zero(t, pool.Total())
}

func TestAnAnswerThatBreaksOffIsNotRepeated(t *testing.T) {
	breaks := &worker{do: func(_ *generate.GenerateRequest, out grpc.ServerStreamingServer[generate.GenerateResponse]) error {
		if err := out.Send(&generate.GenerateResponse{Tokens: []uint32{7}}); err != nil {
			return err
		}
		return status.Error(codes.Internal, "out of memory")
	}}
	c, pool := front(t, start(t, breaks), start(t, breaks))
	tokens, _, err := ask(t.Context(), c, &generate.GenerateRequest{Model: "m"})
	require.Equal(t, codes.Internal, status.Code(err))
	require.Equal(t, []uint32{7}, tokens)
	require.Zero(t, pool.Total())
}

func TestAClientThatLeavesIsNotChargedFor(t *testing.T) {
	begun := make(chan struct{})
	c, pool := front(t, start(t, &worker{do: func(_ *generate.GenerateRequest, out grpc.ServerStreamingServer[generate.GenerateResponse]) error {
		close(begun)
		<-out.Context().Done()
		return out.Context().Err()
	}}))
	ctx, leave := context.WithCancel(t.Context())
	left := make(chan error)
	go func() {
		_, _, err := ask(ctx, c, &generate.GenerateRequest{Model: "m"})
		left <- err
	}()
	<-begun
	leave()
	require.Equal(t, codes.Canceled, status.Code(<-left))
	require.Eventually(t, func() bool { return pool.Total() == scheduling.Load{} }, 10*time.Second, time.Millisecond)
}

func TestAnUnknownModelIsNotFound(t *testing.T) {
	c, _ := front(t, "127.0.0.1:1")
	_, _, err := ask(t.Context(), c, &generate.GenerateRequest{Model: "x"})
	require.Equal(t, codes.NotFound, status.Code(err))
	require.ErrorContains(t, err, `unknown model for model "x"`)
}

func TestTheProgramRuns(t *testing.T) {
	var out bytes.Buffer
	require.NoError(t, run(t.Context(), nil, &out, io.Discard))
	require.Contains(t, out.String(), "talk 1, turn 3: 5 tokens from 127.0.0.1:")
	require.Contains(t, out.String(), "which had 400 of 600 cached")
	require.ErrorContains(t, run(t.Context(), []string{"-workers", "nowhere"}, io.Discard, io.Discard), `address "nowhere"`)
}
