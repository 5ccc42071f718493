package events

import (
	"cmp"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"strings"
	"time"

	"github.com/inferloom/inferloom/kvcache/events/internal/zmtp"
)

// Options configure a Subscriber. Only Endpoint must be set.
type Options struct {
	Endpoint string // of the publisher, "tcp://host:port"
	Replay   string // of its replay socket; "" if it has none
	Topic    string // prefix of the topics wanted; "" for all

	// BlockTokens is the block size expected; events of another are counted in Health. 0 expects none.
	BlockTokens int

	MaxMessageBytes int           // 0 is 64 MiB; a greater message ends the connection
	MinBackoff      time.Duration // before the first reconnection; 0 is 100 ms
	MaxBackoff      time.Duration // 0 is 10 s
	ReplayTimeout   time.Duration // for a replay's first message, a fifth of it for each later; 0 is 5 s

	Logger *slog.Logger                                                         // nil logs nothing
	Random func() float64                                                       // in [0, 1), spreads reconnections; nil is math/rand
	Dial   func(ctx context.Context, network, address string) (net.Conn, error) // nil is a net.Dialer
}

const (
	defaultMaxMessage = 64 << 20
	handshakeTime     = 10 * time.Second
	replayTries       = 3
)

func (o *Options) fill() error {
	var errs []error
	endpoint := func(field, value string, needed bool) {
		if value == "" && !needed {
			return
		}
		if _, err := tcpAddress(value); err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", field, err))
		}
	}
	endpoint("Endpoint", o.Endpoint, true)
	endpoint("Replay", o.Replay, false)
	if o.BlockTokens < 0 {
		errs = append(errs, fmt.Errorf("BlockTokens: %d is negative", o.BlockTokens))
	}
	if o.MaxMessageBytes < 0 {
		errs = append(errs, fmt.Errorf("MaxMessageBytes: %d is negative", o.MaxMessageBytes))
	}
	o.MaxMessageBytes = cmp.Or(o.MaxMessageBytes, defaultMaxMessage)
	o.MinBackoff = cmp.Or(o.MinBackoff, 100*time.Millisecond)
	o.MaxBackoff = cmp.Or(o.MaxBackoff, max(10*time.Second, o.MinBackoff))
	o.ReplayTimeout = cmp.Or(o.ReplayTimeout, 5*time.Second)
	if o.MinBackoff < 0 || o.MaxBackoff < o.MinBackoff {
		errs = append(errs, fmt.Errorf("MinBackoff, MaxBackoff: %v to %v is no range", o.MinBackoff, o.MaxBackoff))
	}
	if o.ReplayTimeout < 0 {
		errs = append(errs, fmt.Errorf("ReplayTimeout: %v is negative", o.ReplayTimeout))
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Random == nil {
		o.Random = rand.Float64
	}
	if o.Dial == nil {
		o.Dial = new(net.Dialer).DialContext
	}
	return errors.Join(errs...)
}

func tcpAddress(endpoint string) (string, error) {
	address, ok := strings.CutPrefix(endpoint, "tcp://")
	host, port, err := net.SplitHostPort(address)
	if !ok || err != nil || host == "" || host == "*" || port == "" {
		return "", fmt.Errorf("%q is not of the form tcp://host:port", endpoint)
	}
	return address, nil
}

// RankEndpoint returns the endpoint of a data-parallel rank: engines add the rank to the port.
func RankEndpoint(endpoint string, rank int) (string, error) {
	address, err := tcpAddress(endpoint)
	if err != nil {
		return "", err
	}
	host, port, _ := net.SplitHostPort(address)
	n, err := net.LookupPort("tcp", port)
	if err != nil || rank < 0 || n+rank > 65535 {
		return "", fmt.Errorf("%q has no port for rank %d", endpoint, rank)
	}
	return "tcp://" + net.JoinHostPort(host, fmt.Sprint(n+rank)), nil
}

// Subscriber follows one publisher: the events of one data-parallel rank of one engine.
type Subscriber struct {
	o Options
	stream
}

// NewSubscriber checks the options. Nothing is connected before Run.
func NewSubscriber(o Options, sink Sink) (*Subscriber, error) {
	if err := o.fill(); err != nil {
		return nil, fmt.Errorf("kv events: %w", err)
	}
	if sink == nil {
		return nil, errors.New("kv events: a subscriber needs a sink")
	}
	s := &Subscriber{o: o, stream: stream{sink: sink}}
	s.health.WantBlock = o.BlockTokens
	return s, nil
}

// Resume makes the subscriber go on from a cursor. It may be called before Run, or by the sink. Before Run is right if there is
// a replay endpoint: a replay brings what has happened since, and proves that the publisher is the one that the cursor is of.
// Without one, the sink is to take the cursor during a call of Apply, from somebody who goes on reading meanwhile: the connection's
// batches that the cursor covers already are then passed over, and none is missing between the two.
func (s *Subscriber) Resume(c Cursor) {
	s.have, s.next, s.last, s.resumed = c.Next > 0, c.Next, c.Last, c.Next > 0
}

// Health is safe for concurrent use.
func (s *Subscriber) Health() Health {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.health
}

// Run follows the publisher until the context ends, and returns the context's error. It reconnects with growing pauses. All calls
// of the sink come from the goroutine of Run; while the sink works, the connection is not read and TCP holds the publisher back.
// Run may be called again afterwards, but not twice at a time.
func (s *Subscriber) Run(ctx context.Context) error {
	pause := s.o.MinBackoff
	for ctx.Err() == nil {
		connected, err := s.once(ctx)
		s.note(func(h *Health) {
			h.Connected = false
			if ctx.Err() == nil {
				h.LastError = err
			}
		})
		if ctx.Err() != nil {
			break
		}
		if connected {
			pause = s.o.MinBackoff
		}
		s.o.Logger.Info("kv events: connection ended", "endpoint", s.o.Endpoint, "error", err, "pause", pause)
		// Between half and all of the pause, so that a fleet of routers does not come back at once.
		timer := time.NewTimer(time.Duration(float64(pause) * (0.5 + 0.5*s.o.Random())))
		select {
		case <-ctx.Done():
			timer.Stop()
		case <-timer.C:
		}
		pause = min(2*pause, s.o.MaxBackoff)
	}
	return ctx.Err()
}

// dial connects as a socket; the connection is closed when the context ends, or by calling stop.
func (s *Subscriber) dial(ctx context.Context, endpoint, socket string) (c *zmtp.Conn, stop func(), err error) {
	address, err := tcpAddress(endpoint)
	if err != nil {
		return nil, nil, err
	}
	dialing, cancel := context.WithTimeout(ctx, handshakeTime)
	defer cancel()
	nc, err := s.o.Dial(dialing, "tcp", address)
	if err != nil {
		return nil, nil, err
	}
	release := context.AfterFunc(ctx, func() { nc.Close() })
	stop = func() { release(); nc.Close() }
	c, err = zmtp.Handshake(nc, socket, s.o.MaxMessageBytes, time.Now().Add(handshakeTime))
	if err != nil {
		stop()
		return nil, nil, err
	}
	return c, stop, nil
}

// once is one connection from beginning to end.
func (s *Subscriber) once(ctx context.Context) (connected bool, err error) {
	c, stop, err := s.dial(ctx, s.o.Endpoint, zmtp.Sub)
	if err != nil {
		return false, err
	}
	defer stop()
	if err := c.Subscribe(s.o.Topic); err != nil {
		return false, err
	}
	s.connected()
	s.o.Logger.Info("kv events: connected", "endpoint", s.o.Endpoint)
	s.catchUp(ctx, 0)
	s.note(func(h *Health) { h.CaughtUp = true })
	for {
		parts, err := c.Read()
		if err != nil {
			return true, err
		}
		if err := s.receive(ctx, parts); err != nil {
			s.note(func(h *Health) { h.Undecodable++; h.LastError = err })
		}
	}
}

// receive takes one live message.
func (s *Subscriber) receive(ctx context.Context, parts [][]byte) error {
	topic, sequence, payload, err := liveFrames(parts)
	if err != nil {
		return err
	}
	v := s.judge(sequence, payload)
	if v == restart {
		s.forget()
	}
	if v == restart && sequence > 0 || v == gap {
		s.catchUp(ctx, sequence)
		if s.have && sequence < s.next {
			v = duplicate
		}
	}
	if v == duplicate {
		s.note(func(h *Health) { h.Duplicates++ })
		return nil
	}
	if s.have && sequence > s.next {
		s.lost(Loss{Cause: Gap, Missed: sequence - s.next})
	}
	s.apply(topic, sequence, payload, false)
	return nil
}

// catchUp fetches what the publisher still has of what was missed. If it cannot, the live messages' numbers decide. Engines drop
// what their replay socket cannot take at once, a thousand messages by libzmq's default, so a replay that broke off is asked for
// again from there as long as that brings anything, and so is one that ended before the number that is known to be out.
func (s *Subscriber) catchUp(ctx context.Context, until uint64) {
	if s.o.Replay == "" {
		return
	}
	for failures := 0; failures < replayTries; {
		before := s.next
		err := s.replay(ctx)
		if errors.Is(err, errRestart) {
			s.forget()
			err = s.replay(ctx)
		}
		if err == nil {
			s.caughtUp = true
			if s.next >= until || s.next == before {
				return
			}
			continue
		}
		if ctx.Err() != nil {
			return
		}
		if failures++; s.have && s.next > before {
			failures = 0
			continue
		}
		s.note(func(h *Health) { h.ReplayFailures++; h.LastError = err })
		s.o.Logger.Warn("kv events: replay failed", "endpoint", s.o.Replay, "error", err)
	}
}

// replay asks once for the last batch applied and all after it.
func (s *Subscriber) replay(ctx context.Context) error {
	c, stop, err := s.dial(ctx, s.o.Replay, zmtp.Dealer)
	if err != nil {
		return fmt.Errorf("replay: %w", err)
	}
	defer stop()
	start := uint64(0)
	if s.have {
		start = s.next - 1
	}
	if err := c.Write(nil, binary.BigEndian.AppendUint64(nil, start)); err != nil {
		return fmt.Errorf("replay: %w", err)
	}
	wait := s.o.ReplayTimeout
	for first := true; ; first = false {
		if err := c.SetReadDeadline(time.Now().Add(wait)); err != nil {
			return err
		}
		wait = s.o.ReplayTimeout / 5 // once it answers, what does not come was dropped
		parts, err := c.Read()
		if err != nil {
			return fmt.Errorf("replay: %w", err)
		}
		topic, sequence, payload, err := replayFrames(parts)
		switch {
		case err != nil:
			return err
		case sequence == endOfReplay || len(payload) == 0:
			if first && s.have {
				return errRestart // it would still have the last batch
			}
			return nil
		}
		if err := s.replayed(first, topic, sequence, payload); err != nil {
			return err
		}
	}
}
