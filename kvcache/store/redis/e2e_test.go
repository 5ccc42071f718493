//go:build e2e

package redis_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	goredis "github.com/redis/go-redis/v9"

	"github.com/inferloom/inferloom/kvcache/store"
	"github.com/inferloom/inferloom/kvcache/store/redis"
	"github.com/inferloom/inferloom/kvcache/store/storetest"
)

// TestRedisServer holds the level to the contract on a real redis-server, and lets it run into the server's memory limit.
func TestRedisServer(t *testing.T) {
	address := storetest.RedisServer(t)
	client := goredis.NewClient(&goredis.Options{Addr: address, ContextTimeoutEnabled: true})
	defer client.Close()
	storetest.Run(t, storetest.Options{NoPins: true, New: func(t *testing.T) store.Store {
		require.NoError(t, client.FlushDB(t.Context()).Err())
		return newStore(t, redis.Options{Client: client})
	}})
	t.Run("MemoryLimit", func(t *testing.T) {
		ctx := t.Context()
		require.NoError(t, client.FlushDB(ctx).Err())
		require.NoError(t, client.ConfigSet(ctx, "maxmemory", "8mb").Err())
		require.NoError(t, client.ConfigSet(ctx, "maxmemory-policy", "noeviction").Err())
		s := newStore(t, redis.Options{Client: client})
		var err error
		for n := 0; err == nil && n < 100; n++ {
			key := store.Key{Namespace: "n", Hash: string(rune('a' + n))}
			err = s.Put(ctx, key, make([]byte, 1<<20), store.Attr{})
		}
		require.ErrorIs(t, err, store.ErrFull)
	})
}
