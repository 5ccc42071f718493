// Command serve shows the live page over a made-up gateway, for the browser test and for whoever works on the page. The
// pool, the scheduler and the brain are real; engines and clients are made up, some of them with hostile names.
//
//	go run ./e2e/dashboard/serve -listen 127.0.0.1:8099
//	go run ./e2e/dashboard/serve node e2e/dashboard/run.mjs {url} out
//
// With arguments it runs them as a command once it serves, with {url} replaced by where, and exits as that does. A
// gateway at which nothing happens is at /idle/dashboard, one with 400 endpoints at /large/dashboard.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log"
	"net"
	"net/http"
	"os"
	"os/exec"
	"os/signal"
	"strings"
	"time"

	"github.com/inferloom/inferloom/gateway/dashboard"
	"github.com/inferloom/inferloom/scheduling"
)

func main() {
	listen := flag.String("listen", "127.0.0.1:0", "where to serve")
	plain := flag.Bool("plain", false, "no hostile names, for pictures")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	err := run(ctx, *listen, *plain, flag.Args())
	stop()
	if exit := (*exec.ExitError)(nil); errors.As(err, &exit) {
		os.Exit(exit.ExitCode())
	}
	if err != nil {
		log.Fatal(err)
	}
}

func run(ctx context.Context, listen string, plain bool, command []string) error {
	mux := http.NewServeMux()
	busy, err := newFleet(8, 12, plain)
	if err != nil {
		return err
	}
	busy.past(5*time.Minute + 30*time.Second)
	go busy.live(ctx)
	mux.Handle("/", busy.dashboard)

	large, err := newFleet(400, 60, plain)
	if err != nil {
		return err
	}
	large.past(time.Minute)
	go large.live(ctx)
	mux.Handle("/large/", http.StripPrefix("/large", large.dashboard))

	pool, err := scheduling.NewPool(scheduling.PoolOptions{})
	if err != nil {
		return err
	}
	idle, err := dashboard.New(dashboard.Options{Pool: pool, Title: "idle"})
	if err != nil {
		return err
	}
	mux.Handle("/idle/", http.StripPrefix("/idle", idle))

	l, err := net.Listen("tcp", listen)
	if err != nil {
		return err
	}
	url := "http://" + l.Addr().String() + "/dashboard"
	server := &http.Server{Handler: mux, ReadHeaderTimeout: 5 * time.Second}
	served := make(chan error, 1)
	go func() { served <- server.Serve(l) }()
	defer server.Close()
	if len(command) == 0 {
		fmt.Println(url)
		select {
		case err := <-served:
			return err
		case <-ctx.Done():
			return nil
		}
	}
	for i, arg := range command {
		command[i] = strings.ReplaceAll(arg, "{url}", url)
	}
	c := exec.CommandContext(ctx, command[0], command[1:]...)
	c.Stdout, c.Stderr = os.Stdout, os.Stderr
	return c.Run()
}
