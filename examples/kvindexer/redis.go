package main

import (
	"context"
	"fmt"
	"log/slog"

	"github.com/redis/go-redis/v9"

	"github.com/inferloom/inferloom/kvcache/events"
	"github.com/inferloom/inferloom/kvcache/follow"
	"github.com/inferloom/inferloom/kvcache/redisindex"
)

// shared is the index in Redis.
type shared struct {
	ctx    context.Context
	client *redis.Client
	index  *redisindex.Index
}

func openRedis(ctx context.Context, url string) (*shared, error) {
	o, err := redis.ParseURL(url)
	if err != nil {
		return nil, fmt.Errorf("-redis: %w", err)
	}
	client := redis.NewClient(o)
	index, err := redisindex.New(redisindex.Options{Client: client})
	if err == nil {
		err = client.Ping(ctx).Err()
	}
	if err != nil {
		_ = client.Close()
		return nil, fmt.Errorf("-redis: %w", err)
	}
	return &shared{ctx, client, index}, nil
}

func (s *shared) close() { _ = s.client.Close() }

// sink writes an engine's events.
func (s *shared) sink(e follow.Engine, logger *slog.Logger) events.Sink {
	pod, err := s.index.Open(s.ctx, e.Model, e.Name)
	if err != nil {
		logger.Error("an engine is not written to Redis", "engine", e.Name, "error", err)
		return nil
	}
	return pod
}
