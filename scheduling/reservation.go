package scheduling

import "sync"

// Reservation is one request's place in the ledger. It is a value: copies are the same reservation, and whichever is
// ended first ends it. Its methods are safe for concurrent use, and do nothing once it has ended.
//
// From the pick on it counts as one request, the prompt tokens that the endpoint does not have cached, and the KV tokens
// of the prompt; that of a stage counts what Stage.Takes says.
type Reservation struct {
	account *account
	serial  uint64
}

// account is what a reservation refers to. Accounts are reused; the serial tells one use from the next.
type account struct {
	mu       sync.Mutex
	serial   uint64
	pool     *Pool
	charge   charge
	legs     []heldLeg // of the other stages, for the primary one's
	relieved bool      // one of them took the prefill
	follower Follower
}

// heldLeg is a leg whose charge a reservation of its own holds. Locks are taken from the whole to its legs.
type heldLeg struct {
	leg
	reservation Reservation
}

func (p *Pool) reservation(c charge) Reservation {
	a := p.accounts.Get().(*account)
	a.mu.Lock()
	a.charge = c
	r := Reservation{account: a, serial: a.serial}
	a.mu.Unlock()
	return r
}

// FirstToken says that the prefill is over: its tokens no longer count as work to do, and what other stages took over of the
// request is done.
func (r Reservation) FirstToken() {
	a := r.open()
	if a == nil {
		return
	}
	pool, slot := a.pool, a.charge.slot
	freed := a.charge.prefill > 0
	pool.ledger.prefilled(&a.charge)
	if a.follower != nil {
		a.follower.FirstToken(slot)
	}
	over := make([]Reservation, 0, maxLegs)
	for i := range a.legs {
		if a.legs[i].stage.takes != 0 {
			over = append(over, a.legs[i].reservation)
		}
	}
	a.mu.Unlock()
	for _, leg := range over {
		leg.Done()
	}
	if freed {
		pool.listeners.tell(slot)
	}
}

// maxLegs is how many legs besides the primary one are ended without an allocation.
const maxLegs = 4

// Tokens says that n more output tokens take up KV memory.
func (r Reservation) Tokens(n int) {
	if a := r.open(); a != nil {
		a.charge.kv += a.pool.ledger.addKV(a.charge.slot, a.charge.generation, n)
		if a.follower != nil {
			a.follower.Tokens(n)
		}
		a.mu.Unlock()
	}
}

// Done ends the reservation: the endpoint is no longer charged for the request.
func (r Reservation) Done() {
	a := r.open()
	if a == nil {
		return
	}
	a.serial++ // nobody else reaches the account from here on
	pool, slot, follower := a.pool, a.charge.slot, a.follower
	pool.ledger.release(&a.charge)
	a.mu.Unlock()
	for i := range a.legs {
		a.legs[i].reservation.Done()
	}
	clear(a.legs)
	a.legs, a.relieved, a.follower = a.legs[:0], false, nil
	pool.accounts.Put(a)
	if follower != nil {
		follower.Done()
	}
	pool.listeners.tell(slot)
}

// move charges another endpoint in place of the one that the reservation was for. It reports false if that is gone, or the
// reservation has ended.
func (r Reservation) move(st *stage, c *Cycle, to *place) bool {
	a := r.open()
	if a == nil {
		return false
	}
	if a.charge.requests == 0 {
		a.mu.Unlock()
		return false // of a preview
	}
	prefill, kv := st.charges(c, to.slot, a.relieved)
	from := a.charge.slot
	next, ok := a.pool.ledger.force(to.slot, to.generation, prefill, kv)
	if ok {
		a.pool.ledger.release(&a.charge)
		a.charge = next
	}
	a.mu.Unlock()
	if ok {
		c.pool.listeners.tell(from)
	}
	return ok
}

// open returns the account, locked, or nil if the reservation has ended or was never made.
func (r Reservation) open() *account {
	if r.account == nil {
		return nil
	}
	r.account.mu.Lock()
	if r.account.serial != r.serial {
		r.account.mu.Unlock()
		return nil
	}
	return r.account
}
