package engine

import "time"

// A sequence is a request inside the engine.
type sequence struct {
	Request
	adapter int // position in adapters.known; noAdapter for the base model

	running   bool
	blocks    []int32 // its block table: token t lives in blocks[t/BlockTokens]
	stored    int     // how many of the table's blocks were offered to the prefix cache
	computed  int     // tokens whose KV is in blocks
	scheduled int     // tokens that the step in flight adds to computed
	produced  int     // output tokens

	cached      int
	preemptions int
	arrived     time.Duration
	started     time.Duration // never if it was not yet running
	firstToken  time.Duration

	prev, next *sequence // in the waiting queue
}

const never time.Duration = -1

// known is how many tokens exist: the prompt and what was produced. The newest has no KV yet.
func (s *sequence) known() int { return s.PromptTokens + s.produced }

func (s *sequence) result(at time.Duration, reason Reason) Result {
	return Result{
		ID: s.ID, Reason: reason,
		PromptTokens: s.PromptTokens, CachedTokens: s.cached, OutputTokens: s.produced,
		Preemptions: s.preemptions,
		Arrived:     s.arrived, Started: s.started, FirstToken: s.firstToken, Finished: at,
	}
}

// A queue holds the waiting sequences; it is a linked list because one can leave from the middle.
type queue struct {
	front, back *sequence
	len         int
}

func (q *queue) pushBack(s *sequence) {
	s.prev, s.next = q.back, nil
	if q.back == nil {
		q.front = s
	} else {
		q.back.next = s
	}
	q.back = s
	q.len++
}

func (q *queue) pushFront(s *sequence) {
	s.prev, s.next = nil, q.front
	if q.front == nil {
		q.back = s
	} else {
		q.front.prev = s
	}
	q.front = s
	q.len++
}

func (q *queue) remove(s *sequence) {
	if s.prev == nil {
		q.front = s.next
	} else {
		s.prev.next = s.next
	}
	if s.next == nil {
		q.back = s.prev
	} else {
		s.next.prev = s.prev
	}
	s.prev, s.next = nil, nil
	q.len--
}
