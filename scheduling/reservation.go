package scheduling

import "sync"

// Reservation is one request's place in the ledger. It is a value: copies are the same reservation, and whichever is
// ended first ends it. Its methods are safe for concurrent use, and do nothing once it has ended.
//
// From the pick on it counts as one request, the prompt tokens that the endpoint does not have cached, and the KV tokens
// of the prompt.
type Reservation struct {
	account *account
	serial  uint64
}

// account is what a reservation refers to. Accounts are reused; the serial tells one use from the next.
type account struct {
	mu     sync.Mutex
	serial uint64
	pool   *Pool
	charge charge
}

func (p *Pool) reservation(c charge) Reservation {
	a := p.accounts.Get().(*account)
	a.mu.Lock()
	a.charge = c
	r := Reservation{account: a, serial: a.serial}
	a.mu.Unlock()
	return r
}

// FirstToken says that the prefill is over: its tokens no longer count as work to do.
func (r Reservation) FirstToken() {
	if a := r.open(); a != nil {
		a.pool.ledger.prefilled(&a.charge)
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
		a.mu.Unlock()
		a.pool.accounts.Put(a)
	}
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
