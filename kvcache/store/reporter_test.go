package store_test

import (
	"context"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/inferloom/inferloom/kvcache/events"
	"github.com/inferloom/inferloom/kvcache/store"
	"github.com/inferloom/inferloom/kvcache/store/memory"
	"github.com/inferloom/inferloom/kvcache/store/storetest"
)

// The events of a level, through the wire form and back, say what an index needs to know.
func TestReporter(t *testing.T) {
	var got []events.Event
	r := store.NewReporter(store.ReporterOptions{
		Tier: events.CPU,
		Publish: func(b *events.Batch) {
			var back events.Batch
			require.NoError(t, new(events.Decoder).Decode(events.Append(nil, b, events.Maps), &back))
			for _, e := range back.Events {
				e.Hashes = append([]uint64(nil), e.Hashes...)
				got = append(got, e)
			}
		},
		Describe: func(namespace string, e *events.Event) bool {
			e.Adapter = map[string]string{"lora": "sql"}[namespace]
			return namespace != "secret"
		},
	})
	m, err := memory.New(memory.Options{CapacityBytes: 32 << 20, Watcher: r})
	require.NoError(t, err)
	defer m.Close()
	put := func(namespace, hash, parent string, rank uint32) store.Key {
		k := store.Key{Namespace: namespace, Hash: hash, Rank: rank}
		require.NoError(t, m.Put(t.Context(), k, nil, store.Attr{Chained: true, Parent: parent, Tokens: 16}))
		return k
	}
	digest := "0123456789012345678901230000000"
	a := put("base", digest+"1", "", 0)
	put("base", digest+"1", "", 1) // another rank's part of the block
	b := put("base", digest+"2", digest+"1", 0)
	put("base", digest+"9", digest+"5", 0)
	put("lora", "\x07", "", 0)
	put("secret", digest+"1", "", 0)
	require.NoError(t, m.Put(t.Context(), store.Key{Namespace: "base", Hash: "by RESP"}, nil, store.Attr{}))
	require.NoError(t, m.Delete(t.Context(), b))
	require.NoError(t, m.Delete(t.Context(), a))

	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	r.Run(ctx)
	hash := func(last byte) uint64 { return 0x3030303030303000 | uint64(last) }
	require.Len(t, got, 4)
	for _, e := range got {
		require.Equal(t, events.CPU, e.Tier)
	}
	require.Equal(t, events.Stored, got[0].Kind)
	require.Equal(t, []uint64{hash('1'), hash('2')}, got[0].Hashes, "a block that continues the one before is in its event")
	require.False(t, got[0].HasParent)
	require.Equal(t, 16, got[0].BlockTokens)
	require.Equal(t, []uint64{hash('9')}, got[1].Hashes)
	require.Equal(t, hash('5'), got[1].Parent)
	require.Equal(t, "sql", got[2].Adapter)
	require.Equal(t, []uint64{7}, got[2].Hashes)
	require.Equal(t, events.Removed, got[3].Kind)
	require.Equal(t, []uint64{hash('2'), hash('1')}, got[3].Hashes)
}

func TestReporterOfASharedStore(t *testing.T) {
	var mu sync.Mutex
	var got []events.Event
	told := make(chan struct{}, 10)
	r := store.NewReporter(store.ReporterOptions{Tier: events.Remote, Owner: "pool-a", Publish: func(b *events.Batch) {
		mu.Lock()
		defer mu.Unlock()
		for _, e := range b.Events {
			e.Hashes = append([]uint64(nil), e.Hashes...)
			got = append(got, e)
		}
		told <- struct{}{}
	}})
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { r.Run(ctx); close(done) }()
	s := &storetest.Map{}
	require.NoError(t, s.Put(t.Context(), key(1), nil, store.Attr{Chained: true, Tokens: 16}))
	require.NoError(t, r.Announce(t.Context(), s, ""))
	<-told
	cancel()
	<-done
	require.Len(t, got, 1)
	require.Equal(t, events.Elsewhere, got[0].Locality)
	require.Equal(t, "pool-a", got[0].Owner)
	require.Equal(t, "SHARED_STORAGE", got[0].Medium)
}
