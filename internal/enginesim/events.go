package enginesim

import (
	"time"

	"github.com/inferloom/inferloom/kvcache/events"
)

// announcer publishes what happens to the prefix cache: all that one call of the engine reported is a batch, as one step's
// changes are in vLLM. It belongs to the server's lock.
type announcer struct {
	to    *events.Publisher // nil: nobody
	batch events.Batch
}

func (a *announcer) stored(b StoredBlocks, blockTokens int, salt string) {
	e := events.Event{
		Kind: events.Stored, Medium: "GPU", BlockTokens: blockTokens, Group: -1, Adapter: b.Adapter,
		Hashes: append([]uint64(nil), b.Hashes...), Parent: b.Parent, HasParent: b.First > 0,
	}
	e.Tokens = appendIDs(e.Tokens, b.Tokens)
	if b.Adapter != "" {
		for i := range e.Hashes {
			e.Extras = append(e.Extras, events.Extra{Block: i, Kind: events.AdapterName, Value: b.Adapter})
			e.Extras = appendSalt(e.Extras, b.First == 0 && i == 0, salt)
		}
	} else {
		e.Extras = appendSalt(e.Extras, b.First == 0, salt)
	}
	a.batch.Events = append(a.batch.Events, e)
}

// appendSalt adds the salt to the extra keys of a prompt's first block, the only one that has it.
func appendSalt(extras []events.Extra, first bool, salt string) []events.Extra {
	if first && salt != "" {
		extras = append(extras, events.Extra{Kind: events.Salt, Value: salt})
	}
	return extras
}

func (a *announcer) removed(hashes []uint64) {
	a.batch.Events = append(a.batch.Events, events.Event{
		Kind: events.Removed, Medium: "GPU", Group: -1, Hashes: append([]uint64(nil), hashes...),
	})
}

func (a *announcer) cleared() {
	a.batch.Events = append(a.batch.Events, events.Event{Kind: events.Cleared, Group: -1})
}

func (a *announcer) publish(now time.Time) {
	if len(a.batch.Events) == 0 {
		return
	}
	a.batch.Time, a.batch.Rank = float64(now.UnixNano())/1e9, 0
	a.to.Publish(&a.batch)
	clear(a.batch.Events)
	a.batch.Events = a.batch.Events[:0]
}

// unlock publishes what was reported under the lock and releases it, so that events are out before anyone sees their effect.
func (s *Server) unlock() {
	s.announcer.publish(s.real)
	s.mu.Unlock()
}
