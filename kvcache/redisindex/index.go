package redisindex

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/inferloom/inferloom/kvcache/events"
)

// Options are the parameters of an Index; Client is required.
type Options struct {
	Client redis.UniversalClient
	// Prefix begins all keys; empty is "kv".
	Prefix string
	// TTL is how long a block is known that is not stored again; 0 is a day.
	TTL time.Duration
	// Timeout bounds each write of a pod, in which events wait; 0 is a second.
	Timeout time.Duration
}

// Index is safe for concurrent use. It holds nothing but the client.
type Index struct{ o Options }

// New checks the options; nothing is sent.
func New(o Options) (*Index, error) {
	var errs []error
	if o.Client == nil {
		errs = append(errs, errors.New("Client: nil"))
	}
	if o.TTL < 0 || o.TTL > 0 && o.TTL < time.Second {
		errs = append(errs, fmt.Errorf("TTL: %v, want a second or more", o.TTL))
	}
	if o.Timeout < 0 {
		errs = append(errs, fmt.Errorf("Timeout: %v is negative", o.Timeout))
	}
	if len(errs) > 0 {
		return nil, fmt.Errorf("redisindex options: %w", errors.Join(errs...))
	}
	o.Prefix = cmp.Or(o.Prefix, "kv")
	o.TTL = cmp.Or(o.TTL, 24*time.Hour)
	o.Timeout = cmp.Or(o.Timeout, time.Second)
	return &Index{o}, nil
}

func (x *Index) pods(model string) string { return x.o.Prefix + ":p:" + model }

func (x *Index) block(model string, hash uint64) string {
	return x.o.Prefix + ":b:" + model + ":" + strconv.FormatUint(hash, 16)
}

// Holder is a pod that holds the beginning of a prompt.
type Holder struct {
	Pod string
	// Blocks is how many leading blocks it holds, wherever; Tiers how many it holds in each tier without a gap.
	Blocks int
	Tiers  [events.Remote + 1]int
}

// The blocks asked for in a round trip: the first is short, as most prompts that nobody holds end there.
const (
	firstWindow = 32
	mostWindow  = 1024
)

// Match returns who holds the first block of a chain and how far each holds it, in no order.
func (x *Index) Match(ctx context.Context, model string, hashes []uint64) ([]Holder, error) {
	var w walk
	var live *redis.MapStringStringCmd
	for window := firstWindow; len(hashes) > 0; window = min(2*window, mostWindow) {
		n := min(window, len(hashes))
		pipe := x.o.Client.Pipeline()
		if live == nil {
			live = pipe.HGetAll(ctx, x.pods(model))
		}
		blocks := make([]*redis.MapStringStringCmd, n)
		for i, h := range hashes[:n] {
			blocks[i] = pipe.HGetAll(ctx, x.block(model, h))
		}
		if _, err := pipe.Exec(ctx); err != nil {
			return nil, fmt.Errorf("redisindex: match: %w", err)
		}
		w.live = live.Val()
		for _, b := range blocks {
			if !w.step(b.Val()) {
				return w.holders, nil
			}
		}
		hashes = hashes[n:]
	}
	return w.holders, nil
}

// walk goes along a chain.
type walk struct {
	live    map[string]string // generation by pod
	at      int
	holders []Holder
	index   map[string]int // into holders
	seen    []bool         // by holder: holds the current block
}

// step takes the fields of the next block and reports whether anybody still holds all.
func (w *walk) step(fields map[string]string) bool {
	if w.at == 0 {
		w.index = make(map[string]int, len(fields))
	}
	clear(w.seen)
	for field, generation := range fields {
		pod, tier, ok := parseField(field)
		if !ok || w.live[pod] != generation {
			continue
		}
		i, known := w.index[pod]
		if !known {
			if w.at > 0 {
				continue
			}
			i = len(w.holders)
			w.index[pod] = i
			w.holders = append(w.holders, Holder{Pod: pod})
			w.seen = append(w.seen, false)
		}
		h := &w.holders[i]
		if w.at > 0 && h.Blocks < w.at {
			continue
		}
		w.seen[i] = true
		h.Blocks = w.at + 1
		if h.Tiers[tier] == w.at {
			h.Tiers[tier] = w.at + 1
		}
	}
	w.at++
	for _, s := range w.seen {
		if s {
			return true
		}
	}
	return false
}

// A field is a tier's number, and the pod.
func appendField(pod string, tier events.Tier) string {
	return strconv.Itoa(int(tier)) + pod
}

func parseField(field string) (pod string, tier events.Tier, ok bool) {
	if field == "" || field[0] < '0' || field[0] > '0'+byte(events.Remote) {
		return "", 0, false
	}
	return field[1:], events.Tier(field[0] - '0'), true
}

// Remove takes a pod out of the index.
func (x *Index) Remove(ctx context.Context, model, pod string) error {
	if err := x.o.Client.HDel(ctx, x.pods(model), pod).Err(); err != nil {
		return fmt.Errorf("redisindex: remove %q: %w", pod, err)
	}
	return nil
}

func checkName(field, v string) error {
	if v == "" || strings.ContainsAny(v, "\x00\n") {
		return fmt.Errorf("redisindex: %s: %q is no name", field, v)
	}
	return nil
}
