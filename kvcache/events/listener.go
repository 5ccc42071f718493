package events

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"time"

	"github.com/inferloom/inferloom/kvcache/events/internal/zmtp"
)

// Listener accepts publishers that connect by themselves, as vLLM does when its endpoint has no wildcard.
type Listener struct {
	// Accept is called once for each connection, at its first batch, and names the sink of its events. Calls may be concurrent.
	Accept func(t Topic, remote net.Addr) Sink

	Topic           string // prefix of the topics wanted; "" for all
	MaxMessageBytes int    // 0 is 64 MiB
	MaxConnections  int    // 0 is 4,096; more are closed at once
}

// Serve accepts connections on ln until the context ends, and returns when all are closed. Each connection is a goroutine of its
// own. When one ends, its sink is told Lost: a publisher that comes back is a new one.
func (l *Listener) Serve(ctx context.Context, ln net.Listener) error {
	if l.Accept == nil {
		return errors.New("kv events: Listener.Accept is nil")
	}
	if l.MaxMessageBytes < 0 || l.MaxConnections < 0 {
		return fmt.Errorf("kv events: MaxMessageBytes is %d, MaxConnections %d: none may be negative", l.MaxMessageBytes, l.MaxConnections)
	}
	limit, most := l.MaxMessageBytes, l.MaxConnections
	if limit == 0 {
		limit = defaultMaxMessage
	}
	if most == 0 {
		most = 4096
	}
	defer context.AfterFunc(ctx, func() { ln.Close() })()
	var all sync.WaitGroup
	defer all.Wait()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	slots := make(chan struct{}, most)
	for {
		nc, err := ln.Accept()
		if err != nil {
			if ctx.Err() != nil {
				return ctx.Err()
			}
			return err
		}
		select {
		case slots <- struct{}{}:
		default:
			nc.Close()
			continue
		}
		all.Go(func() {
			defer func() { <-slots }()
			defer nc.Close()
			defer context.AfterFunc(ctx, func() { nc.Close() })()
			l.follow(nc, limit)
		})
	}
}

func (l *Listener) follow(nc net.Conn, limit int) {
	c, err := zmtp.Handshake(nc, zmtp.Sub, limit, time.Now().Add(handshakeTime))
	if err != nil || c.Subscribe(l.Topic) != nil {
		return
	}
	var s stream
	for {
		parts, err := c.Read()
		if err != nil {
			if s.sink != nil {
				s.sink.Lost(Loss{Cause: Disconnected})
			}
			return
		}
		topic, sequence, payload, err := liveFrames(parts)
		if err != nil {
			if s.sink != nil {
				s.sink.Lost(Loss{Cause: Undecodable})
			}
			continue
		}
		if s.sink == nil {
			s.sink = l.Accept(ParseTopic(string(topic)), nc.RemoteAddr())
			if s.sink == nil {
				return
			}
		}
		switch s.judge(sequence, payload) {
		case restart:
			s.forget()
		case gap:
			if s.have {
				s.lost(Loss{Cause: Gap, Missed: sequence - s.next})
			}
		}
		s.apply(topic, sequence, payload, false)
	}
}
