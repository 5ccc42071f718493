package events

import (
	"context"
	"encoding/binary"
	"net"
	"sync"
	"time"

	"github.com/inferloom/inferloom/kvcache/events/internal/zmtp"
)

// Publisher serves batches as engines do: to all subscribers of its topic, numbered, with a replay of the last ones. A subscriber
// that does not keep up loses batches, which it sees by their numbers.
type Publisher struct {
	o PublisherOptions

	mu    sync.Mutex
	next  uint64
	kept  []kept // a ring once full; kept[next % Buffer] is the oldest
	peers map[*peer]struct{}
}

// PublisherOptions configure a Publisher; the zero value publishes without a topic.
type PublisherOptions struct {
	Topic  string
	Form   Form
	Buffer int // batches kept for replay; 0 is 10,000
	Queue  int // batches waiting for one subscriber; 0 is 1,000
}

type kept struct {
	sequence [8]byte
	payload  []byte
}

type peer struct {
	queue    chan kept
	prefixes map[string]int // guarded by Publisher.mu
}

// NewPublisher makes a publisher that numbers its batches from 0.
func NewPublisher(o PublisherOptions) *Publisher {
	if o.Buffer <= 0 {
		o.Buffer = 10_000
	}
	if o.Queue <= 0 {
		o.Queue = 1_000
	}
	return &Publisher{o: o, peers: map[*peer]struct{}{}}
}

// Publish sends a batch to whoever has subscribed by now and never waits. It is safe for concurrent use.
func (p *Publisher) Publish(b *Batch) { p.PublishPayload(Append(nil, b, p.o.Form)) }

// PublishPayload sends a payload as it is. The payload must not change afterwards.
func (p *Publisher) PublishPayload(payload []byte) {
	p.mu.Lock()
	defer p.mu.Unlock()
	k := kept{payload: payload}
	binary.BigEndian.PutUint64(k.sequence[:], p.next)
	if len(p.kept) < p.o.Buffer {
		p.kept = append(p.kept, k)
	} else {
		p.kept[p.next%uint64(p.o.Buffer)] = k
	}
	p.next++
	for q := range p.peers {
		if !q.wants(p.o.Topic) {
			continue
		}
		select {
		case q.queue <- k:
		default:
		}
	}
}

func (q *peer) wants(topic string) bool {
	for prefix := range q.prefixes {
		if len(prefix) <= len(topic) && topic[:len(prefix)] == prefix {
			return true
		}
	}
	return false
}

// Published counts the batches so far.
func (p *Publisher) Published() uint64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.next
}

// Subscribers counts the connections that have subscribed to the topic.
func (p *Publisher) Subscribers() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	n := 0
	for q := range p.peers {
		if q.wants(p.o.Topic) {
			n++
		}
	}
	return n
}

// Serve accepts subscribers on live and, if it is not nil, replay requests on replay, until the context ends. It returns when all
// connections are closed.
func (p *Publisher) Serve(ctx context.Context, live, replay net.Listener) error {
	var all sync.WaitGroup
	defer all.Wait()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	if replay != nil {
		all.Go(func() {
			defer cancel() // neither socket without the other
			_ = accept(ctx, &all, replay, p.replay)
		})
	}
	return accept(ctx, &all, live, p.feed)
}

func accept(ctx context.Context, all *sync.WaitGroup, ln net.Listener, serve func(context.Context, net.Conn)) error {
	defer context.AfterFunc(ctx, func() { ln.Close() })()
	for {
		nc, err := ln.Accept()
		if err != nil {
			if ctx.Err() != nil {
				return ctx.Err()
			}
			return err
		}
		all.Go(func() {
			defer nc.Close()
			defer context.AfterFunc(ctx, func() { nc.Close() })()
			serve(ctx, nc)
		})
	}
}

// feed serves one subscriber: this goroutine reads its subscriptions, another writes.
func (p *Publisher) feed(ctx context.Context, nc net.Conn) {
	c, err := zmtp.Handshake(nc, zmtp.Pub, 1<<16, time.Now().Add(handshakeTime))
	if err != nil {
		return
	}
	q := &peer{queue: make(chan kept, p.o.Queue), prefixes: map[string]int{}}
	p.mu.Lock()
	p.peers[q] = struct{}{}
	p.mu.Unlock()
	ctx, cancel := context.WithCancel(ctx)
	var writer sync.WaitGroup
	defer writer.Wait()
	defer cancel()
	defer func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		delete(p.peers, q)
	}()
	topic := []byte(p.o.Topic)
	writer.Go(func() {
		for {
			select {
			case <-ctx.Done():
				return
			case k := <-q.queue:
				if c.Write(topic, k.sequence[:], k.payload) != nil {
					nc.Close()
					return
				}
			}
		}
	})
	for {
		parts, err := c.Read()
		if err != nil {
			nc.Close() // before waiting for the writer
			return
		}
		prefix, add, ok := zmtp.Subscription(parts)
		if !ok {
			continue
		}
		p.mu.Lock()
		if add && len(q.prefixes) < 1024 {
			q.prefixes[string(prefix)]++
		} else if !add {
			if q.prefixes[string(prefix)]--; q.prefixes[string(prefix)] <= 0 {
				delete(q.prefixes, string(prefix))
			}
		}
		p.mu.Unlock()
	}
}

// replay answers requests for all batches from a number on, in the form that vLLM has used since 0.26.
func (p *Publisher) replay(_ context.Context, nc net.Conn) {
	c, err := zmtp.Handshake(nc, zmtp.Router, 1<<16, time.Now().Add(handshakeTime))
	if err != nil {
		return
	}
	topic := []byte(p.o.Topic)
	end := binary.BigEndian.AppendUint64(nil, endOfReplay)
	for {
		parts, err := c.Read()
		if err != nil {
			return
		}
		if len(parts) != 2 || len(parts[0]) != 0 || len(parts[1]) != 8 {
			continue
		}
		from := binary.BigEndian.Uint64(parts[1])
		for {
			k, ok := p.keptFrom(from)
			if !ok {
				break
			}
			from = binary.BigEndian.Uint64(k.sequence[:]) + 1
			if c.Write(nil, topic, k.sequence[:], k.payload) != nil {
				return
			}
		}
		if c.Write(nil, nil, end, nil) != nil {
			return
		}
	}
}

// keptFrom returns the oldest batch kept with at least the number.
func (p *Publisher) keptFrom(sequence uint64) (kept, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	sequence = max(sequence, p.next-uint64(len(p.kept)))
	if sequence >= p.next {
		return kept{}, false
	}
	return p.kept[sequence%uint64(p.o.Buffer)], true
}
