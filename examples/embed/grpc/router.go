package main

import (
	"context"
	"errors"
	"io"
	"strconv"
	"sync"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/inferloom/inferloom/examples/embed/grpc/generate"
	"github.com/inferloom/inferloom/scheduling"
)

// What a router tells of its choice, in the trailer.
const (
	workerKey = "x-worker"
	cachedKey = "x-cached-tokens"
)

// router is a Generator that asks others.
type router struct {
	generate.UnimplementedGeneratorServer
	sched *scheduling.Scheduler

	mu    sync.Mutex
	conns map[string]*grpc.ClientConn // by address
}

func newRouter(sched *scheduling.Scheduler) *router {
	return &router{sched: sched, conns: map[string]*grpc.ClientConn{}}
}

// Generate implements generate.GeneratorServer.
func (r *router) Generate(ask *generate.GenerateRequest, out grpc.ServerStreamingServer[generate.GenerateResponse]) error {
	d, err := r.sched.Pick(out.Context(), &scheduling.Request{
		Model: ask.Model, Prompt: scheduling.Prompt{Tokens: ask.PromptTokens}, MaxTokens: int(ask.MaxTokens), Session: ask.Session,
	})
	switch {
	case errors.Is(err, scheduling.ErrUnknownModel):
		return status.Error(codes.NotFound, err.Error())
	case errors.Is(err, scheduling.ErrNoEndpoint):
		return status.Error(codes.Unavailable, err.Error())
	case err != nil:
		return status.FromContextError(err).Err()
	}
	defer d.Done()
	for {
		began, err := r.relay(ask, out, &d)
		if err == nil {
			out.SetTrailer(metadata.Pairs(workerKey, d.Endpoint.ID, cachedKey, strconv.Itoa(d.CachedTokens)))
			return nil
		}
		// The next best worker, with the reservation, unless the client has seen a token or has gone.
		if began || out.Context().Err() != nil || !d.Next() {
			return err
		}
	}
}

// relay passes on what the chosen worker answers, and tells the ledger. It reports whether the answer had begun.
func (r *router) relay(ask *generate.GenerateRequest, out grpc.ServerStreamingServer[generate.GenerateResponse], d *scheduling.Decision) (began bool, err error) {
	conn, err := r.conn(d.Endpoint.Address)
	if err != nil {
		return false, err
	}
	ctx, cancel := context.WithCancel(out.Context())
	defer cancel() // ends the worker's stream if the client's ends early
	in, err := generate.NewGeneratorClient(conn).Generate(ctx, ask)
	if err != nil {
		return false, err
	}
	for {
		answer, err := in.Recv()
		if errors.Is(err, io.EOF) {
			return began, nil
		}
		if err != nil {
			return began, err
		}
		if !began {
			began = true
			d.FirstToken()
		}
		d.Tokens(len(answer.Tokens))
		if err := out.Send(answer); err != nil {
			return began, err
		}
	}
}

// conn returns the connection to a worker, which is made when it is first used.
func (r *router) conn(address string) (*grpc.ClientConn, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if c := r.conns[address]; c != nil {
		return c, nil
	}
	c, err := grpc.NewClient("passthrough:///"+address, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err == nil {
		r.conns[address] = c
	}
	return c, err
}

func (r *router) close() {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, c := range r.conns {
		c.Close()
	}
}
