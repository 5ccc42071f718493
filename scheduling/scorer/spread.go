package scorer

import (
	"cmp"
	"errors"
	"math"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/inferloom/inferloom/scheduling"
)

// ColdLRU spreads prompts that nobody has cached over the endpoints in turn, least recently used first: llm-d's
// no-hit-lru-scorer. If any candidate has part of the prompt, all score 0.5. Else those that never took such a prompt come
// first, in the order of the candidates, then the others by when they last did; the first scores 1, the last 0. It abstains if
// no producer has looked the prompt up. Use it by pointer, for one pool; picks wait for each other while they score.
type ColdLRU struct {
	mu             sync.Mutex
	bySlot         []coldUse
	oldest, newest int32 // slot, or -1
	turn           uint64
}

type coldUse struct {
	generation   uint32 // that used the slot; 0 for none
	older, newer int32
	turn         uint64 // of the latest Score in which the slot is a candidate
	rank         int32
}

// Score implements scheduling.Scorer.
func (s *ColdLRU) Score(c *scheduling.Cycle, slots []scheduling.Slot, scores []float64) {
	if !c.Match.Known {
		abstain(scores)
		return
	}
	if slices.ContainsFunc(slots, func(slot scheduling.Slot) bool { return c.Match.Cached[slot] > 0 }) {
		for i := range scores {
			scores[i] = .5
		}
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.grow(c.Snapshot.Len())
	s.turn++
	rank := int32(0)
	for _, slot := range slots {
		u := &s.bySlot[slot]
		u.turn = s.turn
		if u.generation != c.Snapshot.Generation(slot) {
			u.rank = rank
			rank++
		}
	}
	for at := s.oldest; rank < int32(len(slots)) && at >= 0; at = s.bySlot[at].newer {
		if u := &s.bySlot[at]; u.turn == s.turn && u.generation == c.Snapshot.Generation(scheduling.Slot(at)) {
			u.rank = rank
			rank++
		}
	}
	share := 1 / math.Max(1, float64(len(slots)-1))
	for i, slot := range slots {
		scores[i] = 1 - float64(s.bySlot[slot].rank)*share
	}
}

// Commit implements scheduling.Committer.
func (s *ColdLRU) Commit(c *scheduling.Cycle, chosen scheduling.Slot) {
	if !c.Match.Known {
		return
	}
	for _, slot := range c.Snapshot.Live() {
		if c.Match.Cached[slot] > 0 {
			return
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.grow(c.Snapshot.Len())
	u := &s.bySlot[chosen]
	if u.generation != 0 {
		s.unlink(u)
	}
	u.generation = c.Snapshot.Generation(chosen)
	u.older, u.newer = s.newest, -1
	if s.newest >= 0 {
		s.bySlot[s.newest].newer = int32(chosen)
	} else {
		s.oldest = int32(chosen)
	}
	s.newest = int32(chosen)
}

func (s *ColdLRU) unlink(u *coldUse) {
	if u.older >= 0 {
		s.bySlot[u.older].newer = u.newer
	} else {
		s.oldest = u.newer
	}
	if u.newer >= 0 {
		s.bySlot[u.newer].older = u.older
	} else {
		s.newest = u.older
	}
}

func (s *ColdLRU) grow(n int) {
	if len(s.bySlot) == 0 {
		s.oldest, s.newest = -1, -1
	}
	for len(s.bySlot) < n {
		s.bySlot = append(s.bySlot, coldUse{})
	}
}

// TenantSpread is AIBrix' vtc-basic, after the virtual token counter (Sheng et al., 2024): the more tokens a tenant has used
// in the window, the further down the list of candidates it is sent, so that heavy tenants do not meet light ones. With
// tokens = input + 2·output, and a bucket of max(1000, mean of the least and the most that a tenant used):
//
//	cost = |position - min(tokens/bucket, n-1)| + min(requests/100, 1) + 0.1·random
//
// and the score is 1 - cost/(n+1). Prompts count when they are placed; the host tells of output tokens with Used. The least
// and the most are brought up to date every tenth of the window. It abstains for requests without a tenant. Use it by
// pointer; picks wait for each other while they score.
type TenantSpread struct {
	// OutputWeight is what an output token counts beside one of input; 0 means 2.
	OutputWeight float64 `json:"outputWeight,omitempty"`
	// WindowSeconds is for how long tokens count; 0 means 300.
	WindowSeconds float64 `json:"windowSeconds,omitempty"`

	use atomic.Pointer[tenants]
}

// tenants is what tenants have used.
type tenants struct {
	mu          sync.Mutex
	byName      map[string]*tenantUse
	perSecond   float64 // steps
	step        int64
	least, most float64
}

const windowSteps = 10

type tenantUse struct {
	step   int64 // of the newest entry
	tokens [windowSteps]float64
}

// advance forgets what is older than the window.
func (u *tenantUse) advance(step int64) {
	for ; u.step < step && step-u.step < windowSteps; u.step++ {
		u.tokens[(u.step+1)%windowSteps] = 0
	}
	if u.step < step {
		u.tokens, u.step = [windowSteps]float64{}, step
	}
}

func (u *tenantUse) total() float64 {
	sum := 0.0
	for _, n := range u.tokens {
		sum += n
	}
	return sum
}

func (s *TenantSpread) window() float64 { return cmp.Or(s.WindowSeconds, 300) }

func (s *TenantSpread) tenants() *tenants {
	if t := s.use.Load(); t != nil {
		return t
	}
	s.use.CompareAndSwap(nil, &tenants{byName: map[string]*tenantUse{}, perSecond: windowSteps / s.window()})
	return s.use.Load()
}

// Score implements scheduling.Scorer.
func (s *TenantSpread) Score(c *scheduling.Cycle, slots []scheduling.Slot, scores []float64) {
	if c.Request.Tenant == "" {
		abstain(scores)
		return
	}
	tokens, bucket := s.tenants().of(c.Request.Tenant, c.Now().Unix())
	last := float64(len(slots) - 1)
	place := min(tokens/bucket, last)
	for i, slot := range slots {
		cost := math.Abs(float64(i)-place) + min(float64(c.Requests(slot))/100, 1) + .1*c.Float64()
		scores[i] = 1 - cost/(last+2)
	}
}

// Commit implements scheduling.Committer.
func (s *TenantSpread) Commit(c *scheduling.Cycle, _ scheduling.Slot) {
	s.tenants().add(c.Request.Tenant, float64(c.PromptTokens), c.Now().Unix())
}

// Used says that a tenant was given output tokens, at a time in seconds since 1970.
func (s *TenantSpread) Used(tenant string, outputTokens int, unix int64) {
	s.tenants().add(tenant, cmp.Or(s.OutputWeight, 2)*float64(max(outputTokens, 0)), unix)
}

// Inherit implements scheduling.Inheritor: it shares what tenants have used with another TenantSpread of the same window.
func (s *TenantSpread) Inherit(old any) {
	if o, ok := old.(*TenantSpread); ok && o.window() == s.window() {
		s.use.Store(o.tenants())
	}
}

func (t *tenants) of(tenant string, now int64) (tokens, bucket float64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.advance(now)
	if u := t.byName[tenant]; u != nil {
		u.advance(t.step)
		tokens = u.total()
	}
	return tokens, max(1000, (t.least+t.most)/2)
}

func (t *tenants) add(tenant string, tokens float64, now int64) {
	if tenant == "" {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.advance(now)
	u := t.byName[tenant]
	if u == nil {
		u = &tenantUse{step: t.step}
		t.byName[tenant] = u
	}
	u.advance(t.step)
	u.tokens[t.step%windowSteps] += tokens
	total := u.total()
	if len(t.byName) == 1 {
		t.least = total
	}
	t.least, t.most = min(t.least, total), max(t.most, total)
}

// advance moves to the step of a time, forgets tenants that used nothing in the window, and counts the others anew.
func (t *tenants) advance(now int64) {
	step := int64(float64(now) * t.perSecond)
	if step <= t.step {
		return
	}
	t.step, t.least, t.most = step, math.Inf(1), 0
	for tenant, u := range t.byName {
		u.advance(step)
		total := u.total()
		if total == 0 {
			delete(t.byName, tenant)
			continue
		}
		t.least, t.most = min(t.least, total), max(t.most, total)
	}
	if len(t.byName) == 0 {
		t.least = 0
	}
}

// Validate implements scheduling.Validator.
func (s *TenantSpread) Validate() error {
	return errors.Join(notNegative("outputWeight", s.OutputWeight), notNegative("windowSeconds", s.WindowSeconds))
}
