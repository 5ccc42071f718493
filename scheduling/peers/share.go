package peers

import (
	"maps"
	"slices"
	"time"
)

// claims is what tenants have waiting, by replica.
type claims map[string][]tenantRecord

// targets returns the share of the whole that each replica should have: tenants that have something waiting are entitled to
// shares by weight, and each entitlement is split over replicas as its backlog is. A replica without any gets nothing. It
// returns nil where nothing waits.
func targets(c claims) map[string]float64 {
	weights, backlogs := map[uint64]float64{}, map[uint64]float64{}
	for _, tenants := range c {
		for _, t := range tenants {
			if t.queued > 0 {
				weights[t.tenant] = max(weights[t.tenant], t.weight)
				backlogs[t.tenant] += float64(t.queued)
			}
		}
	}
	sum := 0.
	for _, tenant := range slices.Sorted(maps.Keys(weights)) { // in the same order everywhere, for sums to be the same
		sum += weights[tenant]
	}
	if sum == 0 {
		return nil
	}
	shares := make(map[string]float64, len(c))
	for replica, tenants := range c {
		for _, t := range tenants {
			if t.queued > 0 {
				shares[replica] += weights[t.tenant] / sum * float64(t.queued) / backlogs[t.tenant]
			}
		}
	}
	return shares
}

// reserve is the part of its own share that a replica keeps for what comes unforeseen.
const reserve = .05

// offers returns what a replica should lend to each other, and how much that is: of what it owns and is not entitled to, in
// proportion to what they are entitled to beyond what they own.
func offers(self string, owned float64, targets map[string]float64) (offers map[string]float64, sum float64) {
	spares, needs := 0., 0. // of all
	for _, target := range targets {
		if target > owned {
			needs += target - owned
		} else {
			spares += owned - max(target, reserve*owned)
		}
	}
	own := owned - max(targets[self], reserve*owned)
	if needs == 0 || own <= 0 {
		return nil, 0
	}
	sum = own * min(1, needs/spares)
	offers = map[string]float64{}
	for replica, target := range targets {
		if target > owned {
			offers[replica] = sum * (target - owned) / needs
		}
	}
	return offers, sum
}

// ledger is what a replica has lent and borrowed.
type ledger struct {
	lent     map[string][]promise // by borrower
	borrowed map[string]promise   // by lender
}

// promise is a share and when it ends.
type promise struct {
	share float64
	until time.Time
}

func newLedger() ledger { return ledger{map[string][]promise{}, map[string]promise{}} }

// lend notes what is lent to a replica now, which may use it for the time of a lease. It counts for twice as long, because the
// other hears of it later.
func (l *ledger) lend(to string, share float64, now time.Time, lease time.Duration) {
	until := now.Add(2 * lease)
	kept := l.lent[to][:0]
	for _, p := range l.lent[to] {
		if p.until.After(now) && p.share > share { // what is lent again need not be counted twice
			kept = append(kept, p)
		}
	}
	if share > 0 {
		kept = append(kept, promise{share, until})
	}
	if len(kept) == 0 {
		delete(l.lent, to)
		return
	}
	l.lent[to] = kept
}

// outTo is what is lent to a replica: the most that it may believe it has.
func (l *ledger) outTo(to string, now time.Time) float64 {
	most := 0.
	for _, p := range l.lent[to] {
		if p.until.After(now) {
			most = max(most, p.share)
		}
	}
	if most == 0 {
		delete(l.lent, to)
	}
	return most
}

// out is what is lent to all.
func (l *ledger) out(now time.Time) float64 {
	sum := 0.
	for to := range l.lent {
		sum += l.outTo(to, now)
	}
	return sum
}

// fit cuts what is to be lent beyond what is lent already, so that all of it together is not more than owned.
func (l *ledger) fit(lent map[string]float64, owned float64, now time.Time) {
	more := 0.
	for to, share := range lent {
		more += max(0, share-l.outTo(to, now))
	}
	room := max(0, owned-l.out(now))
	if more <= room {
		return
	}
	for to, share := range lent {
		if was := l.outTo(to, now); share > was {
			lent[to] = was + (share-was)*room/more
		}
	}
}

// borrow notes what a replica lends.
func (l *ledger) borrow(from string, share float64, until time.Time) {
	if share == 0 {
		delete(l.borrowed, from)
		return
	}
	l.borrowed[from] = promise{share, until}
}

// in is what is borrowed.
func (l *ledger) in(now time.Time) float64 {
	sum := 0.
	for from, p := range l.borrowed {
		if !p.until.After(now) {
			delete(l.borrowed, from)
			continue
		}
		sum += p.share
	}
	return sum
}
