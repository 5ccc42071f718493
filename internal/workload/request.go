package workload

import (
	"iter"
	"time"
)

// BytesPerToken is the length of a token of text, the same that the simulated engine and the scheduler assume.
const BytesPerToken = 4

// Source yields requests in order of arrival. An error is the last thing that it yields; the request beside it is empty.
type Source = iter.Seq2[Request, error]

// Request is one request of a workload.
type Request struct {
	// At is when the request arrives, counted from the start of the workload. A later turn arrives when its user is
	// done with the answer before; if that answer is late, so is the turn.
	At time.Duration
	// Session is the conversation, and Turn the place in it, from 0. Last is set on its last turn. A trace does not tell
	// which request is the last of its conversation: its requests are sessions of one turn with a whole prompt each.
	Session, Turn int
	Last          bool
	// Conversation is what a client would name as the session of the request, for session affinity. Sessions of one turn
	// can belong to one conversation; elsewhere it is Session.
	Conversation int
	// Tenant is who sends the request; Model and Adapter are what it asks for. Empty means that the workload has only one.
	Tenant, Model, Adapter string
	// Priority is higher for what should be served sooner.
	Priority int
	// Messages are those that this turn adds to its conversation.
	Messages []Message
	// InputTokens is the length of the whole prompt: the conversation so far with its answers, and Messages.
	InputTokens int
	// OutputTokens is the length of the answer.
	OutputTokens int
}

// The roles of messages.
const (
	System = "system"
	User   = "user"
)

// Message is a part of a chat.
type Message struct {
	Role   string
	Pieces []Piece
}

// AppendText appends the content of the message.
func (m Message) AppendText(dst []byte) []byte {
	for _, p := range m.Pieces {
		dst = p.AppendText(dst)
	}
	return dst
}

// Tokens is the length of the content.
func (m Message) Tokens() int {
	n := 0
	for _, p := range m.Pieces {
		n += p.Tokens
	}
	return n
}

// Piece is the first Tokens tokens of the text named ID.
type Piece struct {
	ID     uint64
	Tokens int
}

const (
	consonants = "bdfghjklmnprstvz"
	vowels     = "aeiou"
)

// AppendText appends the piece's text: 1,280 different words, drawn by a linear congruential generator (Knuth's MMIX)
// that starts at the ID.
func (p Piece) AppendText(dst []byte) []byte {
	state := mix(p.ID)
	for range p.Tokens {
		state = state*6364136223846793005 + 1442695040888963407
		bits := state >> 40
		dst = append(dst, consonants[bits&15], vowels[bits>>8%5], consonants[bits>>4&15], ' ')
	}
	return dst
}

// mix spreads neighbouring IDs (the finaliser of SplitMix64): they would begin with the same words otherwise.
func mix(x uint64) uint64 {
	x += 0x9e3779b97f4a7c15
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}
