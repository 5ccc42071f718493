package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus/promhttp"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"

	"github.com/inferloom/inferloom/kvcache/store/peer"
	"github.com/inferloom/inferloom/kvcache/store/resp"
	"github.com/inferloom/inferloom/kvcache/store/rest"
)

// daemon is the tiers and what serves them.
type daemon struct {
	*tiers
	started  time.Time
	draining atomic.Bool
	resp     *resp.Server
	servers  []server
}

// server is one listener with what answers on it.
type server struct {
	name     string
	listener net.Listener
	serve    func(net.Listener) error
	shutdown func(context.Context) error
}

// run serves until ctx is done.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) (err error) {
	c, err := parse(args, stderr)
	if err != nil {
		return err
	}
	logger := slog.New(slog.NewTextHandler(stderr, nil))
	t, err := open(ctx, c, logger)
	if err != nil {
		return err
	}
	defer func() {
		ctx, done := context.WithTimeout(context.WithoutCancel(ctx), c.grace)
		defer done()
		err = errors.Join(err, t.Close(ctx))
	}()
	d := &daemon{tiers: t, started: time.Now()}
	if err := d.listen(c, logger); err != nil {
		d.closeListeners()
		d.reports.close()
		return err
	}
	for _, s := range d.servers {
		fmt.Fprintf(stdout, "%s on %s\n", s.name, s.listener.Addr())
	}
	if d.reports != nil {
		fmt.Fprintf(stdout, "KV events on %s\n", d.reports.live.Addr())
	}
	if c.accounts == nil {
		fmt.Fprintln(stdout, "no -accounts: everybody may do everything")
	}
	return d.serve(ctx, c, logger)
}

// serve answers until ctx is done or a listener fails, and then ends in good order.
func (d *daemon) serve(ctx context.Context, c config, logger *slog.Logger) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var all sync.WaitGroup
	if c.peersName != "" {
		all.Go(func() {
			if err := d.group.Follow(ctx, c.peersName); err != nil {
				cancel(fmt.Errorf("-peers-name: %w", err))
			}
		})
	}
	if d.reports != nil {
		all.Go(func() {
			if err := d.reports.run(ctx); err != nil && ctx.Err() == nil {
				cancel(fmt.Errorf("-events: %w", err))
			}
		})
	}
	for _, s := range d.servers {
		all.Go(func() {
			if err := s.serve(s.listener); ctx.Err() == nil {
				cancel(fmt.Errorf("%s: %w", s.name, err))
			}
		})
	}
	<-ctx.Done()
	d.draining.Store(true)
	logger.Info("stopping", "grace", c.grace)
	grace, done := context.WithTimeout(context.WithoutCancel(ctx), c.grace)
	defer done()
	for _, s := range d.servers {
		all.Go(func() {
			if err := s.shutdown(grace); err != nil {
				logger.Warn("not all requests have ended in time", "server", s.name, "err", err)
			}
		})
	}
	all.Wait()
	if cause := context.Cause(ctx); !errors.Is(cause, context.Canceled) {
		return cause
	}
	return nil
}

// listen opens the listeners, or reports every one that cannot be opened.
func (d *daemon) listen(c config, logger *slog.Logger) error {
	m := newMetrics(d.levels)
	var problems []error
	add := func(flag, name, address string, encrypt bool, make func() (serve func(net.Listener) error, shutdown func(context.Context) error, err error)) {
		if address == "" {
			return
		}
		l, err := net.Listen("tcp", address)
		if err != nil {
			problems = append(problems, fmt.Errorf("%s: %w", flag, err))
			return
		}
		serve, shutdown, err := make()
		if err != nil {
			problems = append(problems, fmt.Errorf("%s: %w", flag, errors.Join(err, l.Close())))
			return
		}
		if encrypt && c.tls != nil {
			l = tls.NewListener(l, c.tls)
		}
		d.servers = append(d.servers, server{name, l, serve, shutdown})
	}
	add("-resp", "Redis protocol", c.resp, true, func() (func(net.Listener) error, func(context.Context) error, error) {
		s, err := resp.NewServer(resp.Options{Store: d.full, Authenticate: c.accounts.redis(), Observer: m, Logger: logger})
		if err != nil {
			return nil, nil, err
		}
		d.resp = s
		return s.Serve, s.Shutdown, nil
	})
	add("-grpc", "gRPC", c.grpc, false, func() (func(net.Listener) error, func(context.Context) error, error) {
		pages, err := peer.NewServer(peer.ServerOptions{Store: d.local, Allow: c.accounts.grpc})
		if err != nil {
			return nil, nil, err
		}
		var o []grpc.ServerOption
		if c.tls != nil {
			o = append(o, grpc.Creds(credentials.NewTLS(c.tls)))
		}
		s := grpc.NewServer(o...)
		pages.Register(s)
		return s.Serve, func(ctx context.Context) error { return stopGRPC(ctx, s) }, nil
	})
	add("-http", "HTTP", c.http, true, func() (func(net.Listener) error, func(context.Context) error, error) {
		pages, err := rest.New(rest.Options{Store: d.full, Allow: c.accounts.http})
		if err != nil {
			return nil, nil, err
		}
		s := &http.Server{Handler: d.routes(pages, promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{})), ReadHeaderTimeout: 10 * time.Second}
		return s.Serve, func(ctx context.Context) error {
			if err := s.Shutdown(ctx); err != nil {
				return errors.Join(err, s.Close())
			}
			return nil
		}, nil
	})
	return errors.Join(problems...)
}

// stopGRPC lets calls end, until the context does.
func stopGRPC(ctx context.Context, s *grpc.Server) error {
	stopped := make(chan struct{})
	go func() { defer close(stopped); s.GracefulStop() }()
	select {
	case <-stopped:
		return nil
	case <-ctx.Done():
		s.Stop()
		<-stopped
		return ctx.Err()
	}
}

func (d *daemon) routes(pages, metrics http.Handler) http.Handler {
	mux := http.NewServeMux()
	mux.Handle("/v1/", pages)
	mux.Handle("GET /metrics", metrics)
	mux.HandleFunc("GET /{$}", d.serveStatus)
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "ok\n") })
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, _ *http.Request) {
		if d.draining.Load() {
			http.Error(w, "stopping", http.StatusServiceUnavailable)
			return
		}
		_, _ = io.WriteString(w, "ok\n")
	})
	return mux
}

func (d *daemon) connections() int {
	if d.resp == nil {
		return 0
	}
	return d.resp.Connections()
}

func (d *daemon) closeListeners() {
	for _, s := range d.servers {
		_ = s.listener.Close()
	}
}

// Short is the size to three digits.
func (b bytesize) Short() string {
	for _, u := range units[:4] {
		if int64(b) >= u.bytes {
			return strings.TrimSuffix(fmt.Sprintf("%.1f", float64(b)/float64(u.bytes)), ".0") + " " + u.suffix
		}
	}
	return fmt.Sprintf("%d B", int64(b))
}
