// Command httpproxy is a reverse proxy of the standard library with our scheduler in its transport: each request goes to the
// engine that has most of its prompt cached and not too much to do, and to the next best if that one cannot be reached. All
// that a host needs is in transport.go.
//
//	go run ./examples/embed/httpproxy -engines 127.0.0.1:8000,127.0.0.1:8001 -model sim-8b
//
// A gateway that does more (retries after bad answers, token counts, exact tokens, telemetry) is gateway/proxy.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"time"

	"github.com/inferloom/inferloom/examples/internal/program"
)

func main() { program.Main("httpproxy", run) }

func run(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	flags := flag.NewFlagSet("httpproxy", flag.ContinueOnError)
	flags.SetOutput(stderr)
	listen := flags.String("listen", "127.0.0.1:8080", "`address` to listen on")
	model := flags.String("model", "", "`name` of the model that the engines serve; empty is any")
	engines := flags.String("engines", "", "`addresses` of OpenAI-compatible engines, separated by commas")
	if err := flags.Parse(args); err != nil {
		return program.UsageError{Err: err}
	}
	if *engines == "" {
		return program.UsageError{Err: errors.New("-engines is empty: want host:port,host:port")}
	}
	sched, err := program.NewScheduler(*model, strings.Split(*engines, ","))
	if err != nil {
		return program.UsageError{Err: err}
	}
	listener, err := net.Listen("tcp", *listen)
	if err != nil {
		return err
	}
	fmt.Fprintf(stdout, "listening on http://%s\n", listener.Addr())
	transport := &http.Transport{MaxIdleConnsPerHost: 256, DisableCompression: true}
	defer transport.CloseIdleConnections()
	server := &http.Server{Handler: newProxy(sched, transport), ReadHeaderTimeout: 10 * time.Second}
	stop := context.AfterFunc(ctx, func() { server.Close() })
	defer stop()
	if err := server.Serve(listener); ctx.Err() == nil {
		return err
	}
	return nil
}
