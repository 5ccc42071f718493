package events

import (
	"encoding/binary"
	"errors"
	"fmt"
	"sync"

	"github.com/zeebo/xxh3"
)

// endOfReplay is the sequence number of a replay's last message.
const endOfReplay = ^uint64(0)

// stream is the state of one publisher: what has been applied, and how the next message relates to it.
type stream struct {
	sink    Sink
	decoder Decoder
	batch   Batch
	message Message

	have bool   // something was applied
	next uint64 // sequence number after it
	last uint64 // hash of its payload

	// Of the current connection:
	caughtUp bool // a replay was read, so lower numbers are duplicates
	live     bool // a live message was read
	liveLast uint64
	resumed  bool // behind this connection's messages, which then repeat what the cursor covers

	mu     sync.Mutex
	health Health
}

func (s *stream) note(f func(*Health)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f(&s.health)
}

// connected begins a connection.
func (s *stream) connected() {
	s.caughtUp, s.live, s.resumed = false, false, false
	s.note(func(h *Health) { h.Connected, h.CaughtUp, h.Connections = true, false, h.Connections+1 })
}

// liveFrames reads a live message: topic, sequence number, payload. A publisher without a topic sends an empty one.
func liveFrames(parts [][]byte) (topic []byte, sequence uint64, payload []byte, err error) {
	if len(parts) != 3 || len(parts[1]) != 8 {
		return nil, 0, nil, fmt.Errorf("kv events: a message of %d frames, want topic, sequence number of 8 bytes, payload", len(parts))
	}
	return parts[0], binary.BigEndian.Uint64(parts[1]), parts[2], nil
}

// replayFrames reads a message of a replay; topics came with vLLM 0.26, before it is nil. A replay's end has the highest number.
func replayFrames(parts [][]byte) (topic []byte, sequence uint64, payload []byte, err error) {
	whole := len(parts)
	if whole > 2 && len(parts[0]) == 0 {
		parts = parts[1:]
	}
	if len(parts) == 3 {
		topic, parts = parts[0], parts[1:]
	}
	if len(parts) != 2 || len(parts[0]) != 8 {
		return nil, 0, nil, fmt.Errorf("kv events: a replay message of %d frames", whole)
	}
	return topic, binary.BigEndian.Uint64(parts[0]), parts[1], nil
}

type verdict uint8

const (
	apply verdict = iota
	duplicate
	gap
	restart
)

// judge says how a live message relates to what was applied.
func (s *stream) judge(sequence uint64, payload []byte) verdict {
	again := s.live && sequence <= s.liveLast // within a connection, numbers rise
	s.live, s.liveLast = true, sequence
	switch {
	case !s.have && sequence > 0:
		return gap
	case !s.have || sequence == s.next:
		return apply
	case sequence > s.next:
		return gap
	case s.caughtUp && !again:
		return duplicate
	case s.resumed && !again && sequence+1 < s.next:
		return duplicate
	case s.resumed && sequence+1 == s.next && xxh3.Hash(payload) == s.last:
		return duplicate
	}
	return restart
}

func (s *stream) lost(l Loss) {
	s.note(func(h *Health) {
		switch l.Cause {
		case Gap:
			h.Gaps, h.Missed = h.Gaps+1, h.Missed+l.Missed
		case Restart:
			h.Restarts++
		}
	})
	s.sink.Lost(l)
}

// forget begins anew after a restart.
func (s *stream) forget() {
	s.have, s.next, s.resumed = false, 0, false
	s.lost(Loss{Cause: Restart})
}

// apply decodes a payload and hands it on. A topic of nil is that of the message before.
func (s *stream) apply(topic []byte, sequence uint64, payload []byte, replayed bool) {
	s.have, s.next, s.last, s.resumed = true, sequence+1, xxh3.Hash(payload), false
	if topic != nil && s.message.Topic.Name != string(topic) {
		s.message.Topic = ParseTopic(string(topic))
	}
	b := &s.batch
	err := s.decoder.Decode(payload, b)
	s.mu.Lock()
	s.count(b, topic != nil, replayed, err)
	s.mu.Unlock()
	if err != nil {
		s.lost(Loss{Cause: Undecodable, Missed: 1})
		return
	}
	s.message.Sequence, s.message.Replayed, s.message.Batch = sequence, replayed, b
	s.message.Cursor = Cursor{s.next, s.last}
	s.sink.Apply(&s.message)
}

func (s *stream) count(b *Batch, topic, replayed bool, err error) {
	h := &s.health
	if replayed {
		h.Replayed++
	}
	if err != nil {
		h.Undecodable++
		h.LastError = err
		return
	}
	h.Batches++
	h.Events += uint64(len(b.Events))
	h.Malformed += uint64(b.Malformed)
	h.Unknown += uint64(b.Unknown)
	h.UnknownFields += uint64(b.UnknownFields)
	if b.FirstError != nil {
		h.LastError = b.FirstError
	}
	if topic && s.message.Topic.Pod == "" {
		h.NoTopic++
	}
	for i := range b.Events {
		if n := b.Events[i].BlockTokens; n > 0 {
			h.BlockTokens = n
			if h.WantBlock > 0 && n != h.WantBlock {
				h.WrongBlockSize++
			}
		}
	}
}

var (
	errGap     = errors.New("kv events: the replay has a gap")
	errRestart = errors.New("kv events: the publisher is another one than before")
)

// replayed takes one message of a replay that was asked to begin with the last batch applied, or with 0.
func (s *stream) replayed(first bool, topic []byte, sequence uint64, payload []byte) error {
	switch {
	case !s.have: // whatever the publisher's buffer begins with
	case first && sequence+1 == s.next:
		if xxh3.Hash(payload) != s.last {
			return errRestart
		}
		return nil
	case first && sequence >= s.next:
		s.lost(Loss{Cause: Gap, Missed: sequence - s.next})
	case sequence != s.next:
		return errGap
	}
	s.apply(topic, sequence, payload, true)
	return nil
}
