package sim

import (
	"github.com/inferloom/inferloom/internal/workload"
	"github.com/inferloom/inferloom/scheduling"
)

// chain hashes a text, given in pieces, into the prefix-chained hashes of its full blocks. Nothing is hashed but the names of
// the pieces and where blocks cut them, which says as much as their tokens would.
type chain struct {
	blockTokens int
	blocks      []uint64
	hash        uint64 // of all so far
	fill        int    // tokens in the block that is not full yet
}

func (c *chain) reset(blockTokens int, start uint64) {
	c.blockTokens, c.blocks, c.hash, c.fill = blockTokens, c.blocks[:0], start, 0
}

// add appends the first tokens of the text named id.
func (c *chain) add(id uint64, tokens int) {
	name := mix(id)
	for offset := 0; offset < tokens; {
		n := min(c.blockTokens-c.fill, tokens-offset)
		c.hash = mix(c.hash ^ mix(name^uint64(offset)<<32^uint64(n)))
		offset += n
		if c.fill += n; c.fill == c.blockTokens {
			c.blocks = append(c.blocks, max(c.hash, 1)) // 0 would mean that there is no hash
			c.fill = 0
		}
	}
}

// mix is the finaliser of SplitMix64 (Steele, Lea and Flood, 2014).
func mix(x uint64) uint64 {
	x += 0x9e3779b97f4a7c15
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}

// Names of texts that are not the workload's: answers, and prompts that a workload gives no content for.
const (
	answerText  = 0xa0761d6478bd642f
	unknownText = 0xe7037ed1a0b428db
)

func textOf(kind uint64, session, turn int) uint64 {
	return mix(kind ^ mix(uint64(session)<<20^uint64(turn)))
}

// session is a conversation with further turns to come.
type session struct {
	chains  []chain // one for each block size: all that was said
	tokens  int
	busy    bool               // a turn is under way
	waiting []workload.Request // turns that arrived meanwhile
}

// write fills in the prompt and the blocks of a request, and carries its session on. A prompt is the session so far and the
// turn's messages, and as much unknown text as the workload says is missing.
func (r *run) write(q *request, w *workload.Request) {
	start := uint64(0)
	for _, b := range []byte(q.Adapter) {
		start = mix(start ^ uint64(b))
	}
	said := 0
	if q.session != nil {
		said = q.session.tokens
	}
	added := 0
	for _, m := range w.Messages {
		added += m.Tokens()
	}
	missing := max(0, w.InputTokens-said-added)
	q.PromptTokens = said + added + missing
	for len(q.chains) < len(r.sizes) {
		q.chains = append(q.chains, chain{})
	}
	q.sched.Prompt.Chains = q.sched.Prompt.Chains[:0]
	for i, blockTokens := range r.sizes {
		c := &q.chains[i]
		c.reset(blockTokens, start)
		if s := q.session; s != nil && i < len(s.chains) {
			c.blocks = append(c.blocks, s.chains[i].blocks...)
			c.hash, c.fill = s.chains[i].hash, s.chains[i].fill
		}
		for _, m := range w.Messages {
			for _, p := range m.Pieces {
				c.add(p.ID, p.Tokens)
			}
		}
		c.add(textOf(unknownText, w.Session, w.Turn), missing)
		prompt := len(c.blocks)
		c.add(textOf(answerText, w.Session, w.Turn), w.OutputTokens)
		q.sched.Prompt.Chains = append(q.sched.Prompt.Chains, scheduling.Chain{BlockTokens: blockTokens, Hashes: c.blocks[:prompt]})
	}
	if q.session == nil || w.Last {
		return
	}
	s := q.session
	s.tokens = q.PromptTokens + w.OutputTokens
	for i := range q.chains {
		if i == len(s.chains) {
			s.chains = append(s.chains, chain{})
		}
		c := &s.chains[i]
		c.blocks = append(c.blocks, q.chains[i].blocks[len(c.blocks):]...)
		c.hash, c.fill = q.chains[i].hash, q.chains[i].fill
	}
}

// reuse notes what a request says, its answer included, and how much of its prompt had been said before. The blocks are those of
// the first size: that of a fleet whose engines are alike.
func (r *run) reuse(q *request) {
	if r.said == nil {
		r.said = map[uint64]struct{}{}
	}
	prompt := q.sched.Prompt.Chains[0]
	for _, b := range prompt.Hashes {
		if _, ok := r.said[b]; !ok {
			break
		}
		q.ReusableTokens += prompt.BlockTokens
	}
	for _, b := range q.chains[0].blocks {
		r.said[b] = struct{}{}
	}
}
