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
	if a := r.open(); a != nil {
		a.pool.ledger.prefilled(&a.charge)
		for i := range a.legs {
			if a.legs[i].stage.takes != 0 {
				a.legs[i].reservation.Done()
			}
		}
		a.mu.Unlock()
	}
}

// Tokens says that n more output tokens take up KV memory.
func (r Reservation) Tokens(n int) {
	if a := r.open(); a != nil {
		a.charge.kv += a.pool.ledger.addKV(a.charge.slot, a.charge.generation, n)
		a.mu.Unlock()
	}
}

// Done ends the reservation: the endpoint is no longer charged for the request.
func (r Reservation) Done() {
	if a := r.open(); a != nil {
		a.serial++
		a.pool.ledger.release(&a.charge)
		for i := range a.legs {
			a.legs[i].reservation.Done()
		}
		clear(a.legs)
		a.legs, a.relieved = a.legs[:0], false
		a.mu.Unlock()
		a.pool.accounts.Put(a)
	}
}

// move charges another endpoint in place of the one that the reservation was for. It reports false if that is gone, or the
// reservation has ended.
func (r Reservation) move(st *stage, c *Cycle, to *place) bool {
	a := r.open()
	if a == nil {
		return false
	}
	defer a.mu.Unlock()
	if a.charge.requests == 0 {
		return false // of a preview
	}
	prefill, kv := st.charges(c, to.slot, a.relieved)
	next, ok := a.pool.ledger.force(to.slot, to.generation, prefill, kv)
	if ok {
		a.pool.ledger.release(&a.charge)
		a.charge = next
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
