package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/credentials"
	goredis "github.com/redis/go-redis/v9"
	"google.golang.org/grpc"
	grpccredentials "google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/inferloom/inferloom/kvcache/events"
	"github.com/inferloom/inferloom/kvcache/store"
	"github.com/inferloom/inferloom/kvcache/store/disk"
	"github.com/inferloom/inferloom/kvcache/store/memory"
	"github.com/inferloom/inferloom/kvcache/store/peer"
	"github.com/inferloom/inferloom/kvcache/store/redis"
	"github.com/inferloom/inferloom/kvcache/store/s3"
)

// tiers are the levels, and the stores that are made of them: local is what peers see, full what clients do.
type tiers struct {
	levels      []level
	local, full store.Store
	group       *peer.Group
	reports     *reports       // nil without -events
	clients     []func() error // to be closed after the levels
}

// open opens the levels that the flags name.
func open(ctx context.Context, c config, logger *slog.Logger) (_ *tiers, err error) {
	t := &tiers{}
	var opened []store.Level // and in no store yet, which would close them
	defer func() {
		if err == nil {
			return
		}
		for _, l := range opened {
			err = errors.Join(err, l.Store.Close())
		}
		for _, end := range t.clients {
			err = errors.Join(err, end())
		}
		t.reports.close()
	}()
	if t.reports, err = newReports(c); err != nil {
		return nil, err
	}
	add := func(l store.Level) {
		opened = append(opened, l)
		t.levels = append(t.levels, level{l.Name, l.Store})
	}
	fast, err := memory.New(memory.Options{CapacityBytes: int64(c.memory), Policy: c.policy, Watcher: t.reports.of(events.CPU)})
	if err != nil {
		return nil, fmt.Errorf("-memory: %w", err)
	}
	add(store.Level{Name: "memory", Store: fast})
	if c.disk != "" {
		slow, err := disk.Open(ctx, disk.Options{
			Dir: c.disk, CapacityBytes: int64(c.diskSize), Policy: c.policy, Watcher: t.reports.of(events.Disk),
		})
		if err != nil {
			return nil, fmt.Errorf("-disk: %w", err)
		}
		add(store.Level{Name: "disk", Store: slow, Write: store.WriteBack})
	}
	if t.local, err = store.NewTiered(store.TieredOptions{Levels: opened}); err != nil {
		return nil, err
	}
	opened = []store.Level{{Name: "local", Store: t.local}}
	if err := t.openRemote(c, logger, add); err != nil {
		return nil, err
	}
	t.full = t.local
	if len(opened) > 1 {
		t.full, err = store.NewTiered(store.TieredOptions{Levels: opened, AbsentFor: absentFor})
	}
	return t, err
}

// absentFor is how long remote levels are not asked again for a page that they did not have.
const absentFor = time.Second

// Close closes the levels. What is on its way to a level below gets until the context ends.
func (t *tiers) Close(ctx context.Context) error {
	var failed error
	for _, s := range []store.Store{t.local, t.full} {
		if f, ok := s.(store.Flusher); ok && ctx.Err() == nil {
			failed = errors.Join(failed, f.Flush(ctx))
		}
	}
	failed = errors.Join(failed, t.full.Close())
	for _, end := range t.clients {
		failed = errors.Join(failed, end())
	}
	return failed
}

func (t *tiers) openRemote(c config, logger *slog.Logger, add func(store.Level)) error {
	if len(c.peers) > 0 || c.peersName != "" {
		dial := grpc.WithTransportCredentials(insecure.NewCredentials())
		if c.tls != nil {
			dial = grpc.WithTransportCredentials(grpccredentials.NewTLS(c.tls))
		}
		o := peer.GroupOptions{Dial: []grpc.DialOption{dial}, Own: c.own, Copies: c.copies, Logger: logger}
		if c.peerAccount != "" {
			o.Dial = append(o.Dial, grpc.WithPerRPCCredentials(basic{c.peerAccount, c.peerPassword, c.tls != nil}))
		}
		group, err := peer.NewGroup(o)
		if err != nil {
			return fmt.Errorf("-peers: %w", err)
		}
		t.group = group
		add(store.Level{Name: "peers", Store: group})
		if err := group.Set(c.peers...); err != nil {
			return fmt.Errorf("-peers: %w", err)
		}
	}
	if c.redis != "" {
		o, err := goredis.ParseURL(c.redis)
		if err != nil {
			return fmt.Errorf("-redis: %w", err)
		}
		o.ContextTimeoutEnabled = true
		client := goredis.NewClient(o)
		level, err := redis.New(redis.Options{Client: client})
		if err != nil {
			return errors.Join(fmt.Errorf("-redis: %w", err), client.Close())
		}
		t.clients = append(t.clients, client.Close)
		add(store.Level{Name: "redis", Store: level})
	}
	if c.s3 != nil {
		bucket, prefix, _ := strings.Cut(strings.TrimPrefix(c.s3.Path, "/"), "/")
		client, err := minio.New(c.s3.Host, &minio.Options{
			Creds:  credentials.NewChainCredentials([]credentials.Provider{&credentials.EnvAWS{}, &credentials.FileAWSCredentials{}, &credentials.IAM{}}),
			Secure: c.s3.Scheme != "http", MaxRetries: 2,
		})
		if err != nil {
			return fmt.Errorf("-s3: %w", err)
		}
		level, err := s3.New(s3.Options{Client: client, Bucket: bucket, Prefix: prefix})
		if err != nil {
			return fmt.Errorf("-s3: %w", err)
		}
		add(store.Level{Name: "s3", Store: level, Sightings: 2})
	}
	return nil
}
