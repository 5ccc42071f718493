package workload

import (
	"errors"
	"fmt"
	"iter"
	"math"
	"time"
)

// Merge returns the requests of several sources in one order of arrival; requests that arrive together come in the order
// of the sources. Sessions are renumbered so that those of different sources stay apart. Texts are not: give generators
// different seeds unless they are to share prompts. An error of one source ends the whole.
func Merge(sources ...Source) Source {
	return func(yield func(Request, error) bool) {
		type feed struct {
			next func() (Request, error, bool)
			head Request
		}
		var feeds []feed
		order := queue{} // of the feeds' heads, with the feed as Turn
		advance := func(i int) error {
			r, err, ok := feeds[i].next()
			if ok && err == nil {
				r.Session = r.Session*len(sources) + i
				r.Conversation = r.Conversation*len(sources) + i
				feeds[i].head = r
				order.push(Request{At: r.At, Turn: i})
			}
			return err
		}
		for i, source := range sources {
			next, stop := iter.Pull2(source)
			defer stop()
			feeds = append(feeds, feed{next: next})
			if err := advance(i); err != nil {
				yield(Request{}, fmt.Errorf("source %d: %w", i, err))
				return
			}
		}
		for len(order) > 0 {
			i := order.pop().Turn
			if !yield(feeds[i].head, nil) {
				return
			}
			if err := advance(i); err != nil {
				yield(Request{}, fmt.Errorf("source %d: %w", i, err))
				return
			}
		}
	}
}

// Map returns a source with each request changed by f, which must leave the order of arrival as it is. It is how a trace
// gets tenants, adapters or priorities.
func Map(source Source, f func(Request) Request) Source {
	return func(yield func(Request, error) bool) {
		for r, err := range source {
			if err == nil {
				r = f(r)
			}
			if !yield(r, err) {
				return
			}
		}
	}
}

// Scale returns a source at load times its rate: all times are divided by load, pauses between turns included.
func Scale(source Source, load float64) (Source, error) {
	if !(load > 0) || math.IsInf(load, 0) {
		return nil, fmt.Errorf("load is %v, want a finite number above 0", load)
	}
	return Map(source, func(r Request) Request {
		r.At = time.Duration(min(float64(r.At)/load, float64(endOfTime)))
		return r
	}), nil
}

// Limit returns the first n requests of a source.
func Limit(source Source, n int) Source {
	return func(yield func(Request, error) bool) {
		left := n
		if left <= 0 {
			return
		}
		for r, err := range source {
			if left--; !yield(r, err) || left == 0 {
				return
			}
		}
	}
}

// Window returns the requests that arrive from a time up to, but not at, another, counted from the first time. It leaves
// out sessions that began before, since their later turns are nothing without the earlier ones, and cuts off those that
// go on behind it.
func Window(source Source, from, to time.Duration) (Source, error) {
	if from < 0 || to <= from {
		return nil, fmt.Errorf("the window is %v to %v, want an end behind a start from 0 up", from, to)
	}
	return func(yield func(Request, error) bool) {
		within := map[int]bool{} // sessions under way that began within
		for r, err := range source {
			switch {
			case err != nil:
				yield(Request{}, err)
				return
			case r.At >= to:
				return
			case r.At < from, r.Turn > 0 && !within[r.Session]:
				continue
			case r.Last:
				delete(within, r.Session)
			default:
				within[r.Session] = true
			}
			r.At -= from
			if !yield(r, nil) {
				return
			}
		}
	}, nil
}

// RepeatOptions are the parameters of Repeat.
type RepeatOptions struct {
	// Times is how often the source is run through; 0 means for ever.
	Times int
	// SameText keeps the texts, so that what was cached in the first round is cached in the second. Else each round has
	// texts of its own, that share what they shared in the first.
	SameText bool
}

// errOnce is the failure to repeat what can be read once.
var errOnce = errors.New("the source is empty or cannot be read twice")

// Repeat runs through a source again and again. A round begins one mean gap behind the last arrival of the one before,
// and has sessions of its own.
func Repeat(source Source, o RepeatOptions) (Source, error) {
	if o.Times < 0 {
		return nil, fmt.Errorf("Times is %d, want 0 or more", o.Times)
	}
	return func(yield func(Request, error) bool) {
		var start time.Duration
		sessions, conversations := 0, 0 // more than any number in use
		for round := 0; o.Times == 0 || round < o.Times; round++ {
			var end time.Duration
			count, firstSession, firstConversation := 0, sessions, conversations
			for r, err := range source {
				if err != nil {
					yield(Request{}, fmt.Errorf("round %d: %w", round+1, err))
					return
				}
				count++
				end = r.At
				r.At = later(start, r.At)
				r.Session += firstSession
				r.Conversation += firstConversation
				sessions = max(sessions, r.Session+1)
				conversations = max(conversations, r.Conversation+1)
				if round > 0 && !o.SameText {
					r.Messages = rename(r.Messages, uint64(round))
				}
				if !yield(r, nil) {
					return
				}
			}
			if count == 0 {
				yield(Request{}, errOnce)
				return
			}
			start = later(start, end+max(end/time.Duration(count), 1))
			if start == endOfTime {
				return
			}
		}
	}, nil
}

// rename returns messages with other texts.
func rename(messages []Message, salt uint64) []Message {
	renamed := make([]Message, len(messages))
	for i, m := range messages {
		renamed[i] = Message{m.Role, make([]Piece, len(m.Pieces))}
		for j, p := range m.Pieces {
			renamed[i].Pieces[j] = Piece{mix(p.ID ^ mix(salt)), p.Tokens}
		}
	}
	return renamed
}

// Rotate returns the requests of a trace for ever, at a mean rate of so many a second, begun at its first-th request. Each round
// has texts and sessions of its own, that share what they shared in the first. It is how a trace that is there once becomes
// several stretches of traffic.
func Rotate(trace []Request, first int, rate float64) (Source, error) {
	if len(trace) == 0 || first < 0 || first >= len(trace) || !(rate >= minRate && rate <= maxRate) {
		return nil, fmt.Errorf("rotate: request %d of %d at %v a second, want one of them, at %v to %v", first, len(trace), rate, minRate, maxRate)
	}
	n := len(trace)
	length := trace[n-1].At + max(trace[n-1].At/time.Duration(n), 1)
	sessions, conversations := 0, 0
	for i := range trace {
		sessions, conversations = max(sessions, trace[i].Session+1), max(conversations, trace[i].Conversation+1)
	}
	scale := float64(n) / length.Seconds() / rate
	return func(yield func(Request, error) bool) {
		for i := first; ; i++ {
			round := i / n
			r := trace[i%n]
			r.At = time.Duration(min(float64(r.At-trace[first].At+time.Duration(round)*length)*scale, float64(endOfTime)))
			r.Session += round * sessions
			r.Conversation += round * conversations
			if round > 0 {
				r.Messages = rename(r.Messages, uint64(round))
			}
			if !yield(r, nil) || r.At == endOfTime {
				return
			}
		}
	}, nil
}
