package workload

import (
	"cmp"
	"errors"
	"fmt"
	"math/rand/v2"
)

// DocumentOptions are the parameters of Documents.
type DocumentOptions struct {
	// Seed determines which documents there are and which session asks about which.
	Seed uint64
	// Count is how many documents there are, Skew how popular the first ones are: the k-th is asked about in proportion to
	// 1/k^Skew. 0 means 1000, and 1: Zipf's law.
	Count int
	Skew  float64
	// Tokens is the length of a document; the zero value means 4000 tokens.
	Tokens Lengths
	// SystemTokens is the length of an instruction in front, which all sessions share.
	SystemTokens int
}

func (o *DocumentOptions) validate() error {
	var errs []error
	if o.Count < 0 || o.Count > 1<<24 {
		errs = append(errs, fmt.Errorf("Count is %d, want 1 to %d, or 0", o.Count, 1<<24))
	}
	if !(o.Skew >= 0 && o.Skew <= 10) {
		errs = append(errs, fmt.Errorf("Skew is %v, want 0 to 10", o.Skew))
	}
	if o.SystemTokens < 0 || o.SystemTokens > maxTokens {
		errs = append(errs, fmt.Errorf("SystemTokens is %d, want 0 to %d", o.SystemTokens, maxTokens))
	}
	return errors.Join(append(errs, o.Tokens.validate("Tokens"))...)
}

// Documents puts a document in front of the first prompt of each session, as retrieval does and as long-context questions do:
// sessions that ask about the same one share it, and a popular one is asked about often. It reports every invalid option at
// once.
func Documents(source Source, o DocumentOptions) (Source, error) {
	if err := o.validate(); err != nil {
		return nil, fmt.Errorf("documents: %w", err)
	}
	count := cmp.Or(o.Count, 1000)
	popular := zipf(count, cmp.Or(o.Skew, 1))
	if o.Tokens.isZero() {
		o.Tokens = Lengths{Mean: 4000}
	}
	text := func(document uint64) uint64 { return mix(mix(o.Seed^0x646f63756d656e74) + document) }
	lengths := make([]int, count)
	for i := range lengths {
		lengths[i] = o.Tokens.draw(rand.New(rand.NewPCG(o.Seed, uint64(i))), nil)
	}
	of := func(session int) int {
		return popular.draw(rand.New(rand.NewPCG(o.Seed^0x73657373696f6e73, uint64(session))))
	}
	return Map(source, func(r Request) Request {
		document := of(r.Session)
		r.InputTokens += o.SystemTokens + lengths[document]
		if r.Turn > 0 {
			return r
		}
		var front []Piece
		if o.SystemTokens > 0 {
			front = append(front, Piece{text(0), o.SystemTokens})
		}
		front = append(front, Piece{text(uint64(1 + document)), lengths[document]})
		r.Messages = append([]Message{{System, front}}, r.Messages...)
		return r
	}), nil
}
