// Command grpc is a gRPC service with our scheduler in it: it takes a stream of tokens from the worker that has most of the
// prompt cached and not too much to do, and from the next best if that one fails before its first token. The protocol is a small
// one of its own (generate.proto); all that a host needs is in router.go.
//
//	go run ./examples/embed/grpc -workers 127.0.0.1:9001,127.0.0.1:9002
//	go run ./examples/embed/grpc                  with three workers of its own, which it asks a few times
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"strings"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/inferloom/inferloom/examples/embed/grpc/generate"
	"github.com/inferloom/inferloom/examples/internal/program"
)

func main() { program.Main("grpc", run) }

func run(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	flags := flag.NewFlagSet("grpc", flag.ContinueOnError)
	flags.SetOutput(stderr)
	listen := flags.String("listen", "127.0.0.1:0", "`address` to listen on")
	model := flags.String("model", "", "`name` of the model that the workers serve; empty is any")
	workers := flags.String("workers", "", "`addresses` of workers, separated by commas; empty starts three and shows what happens")
	if err := flags.Parse(args); err != nil {
		return program.UsageError{Err: err}
	}
	addresses := strings.Split(*workers, ",")
	if *workers == "" {
		addresses = addresses[:0]
		for range 3 {
			address, stop, err := serve(new(echo), "127.0.0.1:0")
			if err != nil {
				return err
			}
			defer stop()
			addresses = append(addresses, address)
		}
	}
	sched, err := program.NewScheduler(*model, addresses)
	if err != nil {
		return program.UsageError{Err: err}
	}
	router := newRouter(sched)
	defer router.close()
	address, stop, err := serve(router, *listen)
	if err != nil {
		return err
	}
	defer stop()
	fmt.Fprintf(stdout, "listening on %s\n", address)
	if *workers == "" {
		return show(ctx, address, stdout)
	}
	<-ctx.Done()
	return nil
}

// serve serves a generator until stop is called, which waits for its calls to end.
func serve(g generate.GeneratorServer, listen string) (address string, stop func(), err error) {
	listener, err := net.Listen("tcp", listen)
	if err != nil {
		return "", nil, err
	}
	server := grpc.NewServer()
	generate.RegisterGeneratorServer(server, g)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = server.Serve(listener) // ends without an error when it is stopped
	}()
	return listener.Addr().String(), func() {
		server.Stop()
		<-ended
	}, nil
}

// echo is a worker that repeats the prompt, and counts.
type echo struct {
	generate.UnimplementedGeneratorServer
}

func (*echo) Generate(r *generate.GenerateRequest, out grpc.ServerStreamingServer[generate.GenerateResponse]) error {
	for i := range min(int(r.MaxTokens), len(r.PromptTokens)) {
		if err := out.Send(&generate.GenerateResponse{Tokens: r.PromptTokens[i : i+1]}); err != nil {
			return err
		}
	}
	return nil
}

// show asks for two talks, turn by turn, and says who answered.
func show(ctx context.Context, address string, stdout io.Writer) error {
	conn, err := grpc.NewClient(address, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return err
	}
	defer conn.Close()
	client := generate.NewGeneratorClient(conn)
	for turn := 1; turn <= 3; turn++ {
		for talk := range uint32(2) {
			prompt := make([]uint32, 200*turn)
			for i := range prompt {
				prompt[i] = talk<<16 + uint32(i)
			}
			stream, err := client.Generate(ctx, &generate.GenerateRequest{PromptTokens: prompt, MaxTokens: 5})
			if err != nil {
				return err
			}
			tokens := 0
			for {
				answer, err := stream.Recv()
				if errors.Is(err, io.EOF) {
					break
				}
				if err != nil {
					return err
				}
				tokens += len(answer.Tokens)
			}
			trailer := stream.Trailer()
			fmt.Fprintf(stdout, "talk %d, turn %d: %d tokens from %s, which had %s of %d cached\n",
				talk, turn, tokens, trailer.Get(workerKey)[0], trailer.Get(cachedKey)[0], len(prompt))
		}
	}
	return nil
}
