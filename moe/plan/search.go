package plan

import (
	"cmp"
	"errors"
	"fmt"
	"math"
	"slices"
	"sort"
	"time"

	"github.com/inferloom/inferloom/accel"
	"github.com/inferloom/inferloom/moe"
)

// Result is what a search found.
type Result struct {
	// Plans are the best plan of each parallelism, the one with most tokens first, at most Problem.Keep. If no plan meets the
	// targets they are those that come nearest, and each says what it misses.
	Plans []Plan
	// Front are all plans that meet the targets and that no other beats in tokens an accelerator, TTFT and TPOT, most tokens
	// first. Plans with equal figures are one.
	Front []Plan
	// Refused says why other cuts were not planned, by reason.
	Refused []Refusal
	// Cuts is how many were considered, Legal how many of them could be deployed, Estimates how often the Estimator was asked.
	Cuts, Legal, Estimates int
}

// search is a problem being solved. It is branch and bound over cuts and loads: loads of one cut between two that are known
// are skipped if a plan that was found is better than they can be, their latency being, but for slack, no lower than that of
// the lighter of the two and their requests in flight no more than those of the heavier.
type search struct {
	*Problem
	ranks     accel.System // System with each device an accelerator
	devices   int          // ranks an accelerator
	estimator Estimator
	result    *Result
	legalCuts []*cut
	best      []point // of each legal cut that meets the targets
	front     []point
	near      []point // of each legal cut that does not, at its least load
	balances  map[[2]int]float64
}

// point is a plan in the making.
type point struct {
	cut       *cut
	load      int // see search.try
	sequences int // that a data-parallel rank runs at most
	replicas  int
	workload  accel.Workload
	estimate  accel.Estimate

	perAccelerator float64
	ttft, tpot     time.Duration // 0 where the role has none
	missed         Reason        // numReasons if none
	miss           float64       // by what factor, above 1
	err            error         // of the estimator
}

// batches are requests that a data-parallel rank runs at once: engines capture graphs for such sizes.
var batches = []int{1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512, 768, 1024, 1536, 2048}

// endless is longer than any request: an estimator without a link's rate may say so.
const endless = 365 * 24 * time.Hour

// Search finds plans. Its error is of joined accel.FieldErrors for a bad problem, and wraps ErrNoPlan if no cut is legal: the
// Result then says why.
func Search(e Estimator, p Problem) (*Result, error) {
	if err := p.check(); err != nil {
		return nil, err
	}
	s := newSearch(e, &p)
	s.run()
	if len(s.best) == 0 && p.Rate > 0 && len(s.legalCuts) > 0 {
		// The nearest plan is then the one that serves most within the other targets.
		rate := p.Rate
		p.Rate = 0
		closed := newSearch(e, &p)
		closed.run()
		closed.result.Refused = s.result.Refused
		closed.result.Cuts, closed.result.Legal = s.result.Cuts, s.result.Legal
		closed.result.Estimates += s.result.Estimates
		return closed.finish(rate)
	}
	return s.finish(0)
}

func newSearch(e Estimator, p *Problem) *search {
	return &search{
		Problem: p, estimator: e, result: &Result{}, balances: map[[2]int]float64{},
		ranks: p.System.PerDevice(), devices: max(p.System.Accelerator.Devices, 1),
	}
}

func (s *search) run() {
	s.findLegal()
	s.findBest()
	slices.SortFunc(s.best, rank)
	slices.SortFunc(s.front, rank)
}

// findLegal finds the cuts that can be deployed.
func (s *search) findLegal() {
	s.cuts(func(c *cut) {
		s.result.Cuts++
		f := s.legal(c)
		if f == nil {
			f = s.prepare(c)
		}
		if f != nil {
			s.result.refused(c, f)
			return
		}
		c.number = len(s.legalCuts)
		s.legalCuts = append(s.legalCuts, c)
	})
	s.result.Legal = len(s.legalCuts)
}

// findBest tries the loads of all legal cuts, but for those that cannot matter.
func (s *search) findBest() {
	// A rough guess at the best of each cut first, so that good plans are there to skip others.
	cuts := slices.Clone(s.legalCuts)
	guess := map[*cut]float64{}
	for _, c := range cuts {
		p := s.try(c, 0)
		for low, high := 1, c.loads-1; low <= high; {
			mid := (low + high) / 2
			if q := s.try(c, mid); q.missed == numReasons {
				p, low = q, mid+1
			} else {
				high = mid - 1
			}
		}
		if p.missed == numReasons {
			guess[c] = p.perAccelerator
			s.keep(p)
		}
	}
	slices.SortStableFunc(cuts, func(a, b *cut) int { return cmp.Compare(guess[b], guess[a]) })
	for _, c := range cuts {
		s.between(s.try(c, 0), s.try(c, c.loads-1))
		var best, nearest *point
		for _, p := range c.tried {
			switch {
			case p == nil:
			case p.missed == numReasons:
				s.keep(p)
				if best == nil || rank(*p, *best) < 0 {
					best = p
				}
			case nearest == nil || p.err == nil && (nearest.err != nil || p.miss < nearest.miss):
				nearest = p
			}
		}
		if best != nil {
			s.best = append(s.best, *best)
			continue
		}
		s.result.refused(c, missed(nearest))
		s.near = append(s.near, *nearest)
	}
}

// prepare finds the loads that a legal cut's memory and kernel allow.
func (s *search) prepare(c *cut) *refusal {
	if err := s.balanced(c); err != nil {
		return refuse(NotCovered, "%v", err)
	}
	most := batches
	if c.kernel == accel.DeepEPLowLatency {
		d := s.deployment(c, 1)
		tokens := d.MTPDepth + 1
		for len(most) > 1 && most[len(most)-1]*tokens > maxDispatch {
			most = most[:len(most)-1]
		}
	}
	if len(most) < len(batches) {
		c.cap = "all-to-all buffer"
	} else {
		c.cap = "batch"
	}
	m, free, err := s.fits(c, most[0])
	if err != nil {
		return refuse(NoEstimate, "%v", err)
	}
	if free < 0 {
		f := refuse(NoMemory, "%s more than the %s that a rank may use", size(-free), size(m.Budget))
		f.miss = float64(-free) / float64(max(m.Budget, 1))
		return f
	}
	n := sort.Search(len(most), func(i int) bool {
		_, free, err := s.fits(c, most[i])
		return err != nil || free < 0
	})
	if n < len(most) {
		c.cap = "KV cache"
	}
	c.batches = most[:n]
	switch {
	case s.Rate > 0:
		c.loads = c.replicas
	case s.Role == Prefill:
		c.loads, c.cap = 1, "throughput" // more prompts only wait
	default:
		c.loads = n
	}
	c.tried = make([]*point, c.loads)
	return nil
}

// fits is the memory of a rank and how much of it so many sequences leave free; less than 0 does not fit.
func (s *search) fits(c *cut, sequences int) (accel.Memory, int64, error) {
	m, err := s.deployment(c, sequences).Memory()
	if err != nil {
		return m, 0, err
	}
	return m, m.KVBudget - int64(float64(sequences)*m.Sequence.Bytes(s.context())), nil
}

// try estimates a load of a cut, once. Without a rate the load counts batches, the least first. With one it counts replicas
// that are left out, so that each of the others gets more.
func (s *search) try(c *cut, load int) *point {
	if p := c.tried[load]; p != nil {
		return p
	}
	p := &point{cut: c, load: load, replicas: c.replicas, workload: s.workload(), missed: numReasons}
	c.tried[load] = p
	p.sequences = c.batches[len(c.batches)-1]
	switch {
	case s.Rate > 0:
		p.replicas -= load
		p.workload.Rate = s.Rate / float64(p.replicas)
	case s.Role == Prefill:
		p.workload.Concurrency = float64(c.DP)
	default:
		p.sequences = c.batches[load]
		p.workload.Concurrency = float64(p.sequences * c.DP)
	}
	switch err := s.ask(p); {
	case errors.Is(err, accel.ErrSaturated):
		p.missed, p.err = MissesRate, err
		return p
	case err != nil:
		p.missed, p.err = NoEstimate, err
		return p
	case p.estimate.TTFT.Value > endless || p.estimate.TPOT.Value > endless:
		p.missed, p.err = NoEstimate, fmt.Errorf("a request that takes longer than %v", endless)
		return p
	}
	if s.Role != Decode {
		p.ttft = p.estimate.TTFT.Value
		p.misses(MissesTTFT, p.ttft, s.TTFT)
	}
	if s.Role != Prefill {
		p.tpot = p.estimate.TPOT.Value
		p.misses(MissesTPOT, p.tpot, s.TPOT)
	}
	p.perAccelerator = s.tokens(p.estimate.Requests.Value) * float64(p.replicas) / float64(s.paid(p))
	if s.Rate > 0 {
		p.perAccelerator = s.tokens(s.Rate) / float64(s.paid(p))
	}
	if !(p.perAccelerator > 0 && p.perAccelerator < math.MaxFloat64) {
		p.missed, p.err = NoEstimate, fmt.Errorf("%v tokens/s", p.perAccelerator)
	}
	return p
}

func (p *point) misses(r Reason, got, want time.Duration) {
	if want > 0 && got > want {
		if by := float64(got) / float64(want); by > p.miss {
			p.missed, p.miss = r, by
		}
	}
}

// tokens is how many tokens requests are, of the kind that the role makes.
func (s *search) tokens(requests float64) float64 {
	if s.Role == Prefill {
		return requests * float64(s.Input)
	}
	return requests * float64(s.Output)
}

// paid is the accelerators that a plan's tokens are divided by: all, or with a rate those used.
func (s *search) paid(p *point) int {
	if s.Rate > 0 {
		return s.used(p)
	}
	return s.Accelerators
}

func (s *search) used(p *point) int {
	return (p.replicas*p.cut.layout.Ranks + s.devices - 1) / s.devices
}

// slack is how many times as fast as at a lighter load an Estimator may say that an instance is. Fitted models are not
// quite monotone: of ours the most that tests saw was 1.4.
const slack = 2

// between tries the loads between two of a cut, unless none of them can matter.
func (s *search) between(light, heavy *point) {
	if heavy.load-light.load < 2 || s.hopeless(light, heavy) {
		return
	}
	mid := s.try(light.cut, (light.load+heavy.load)/2)
	if mid.missed == numReasons {
		s.keep(mid)
	}
	s.between(light, mid)
	s.between(mid, heavy)
}

// hopeless says that what is between two loads of a cut misses a target, or that a plan of the front beats it.
func (s *search) hopeless(light, heavy *point) bool {
	if light.missed == MissesRate || light.miss > slack {
		return true // more cannot be sustained, or will not be fast enough, either
	}
	top := point{ttft: light.ttft / slack, tpot: light.tpot / slack}
	if s.Rate > 0 {
		fewest := point{cut: light.cut, replicas: heavy.replicas + 1}
		top.perAccelerator = s.tokens(s.Rate) / float64(s.paid(&fewest))
	} else {
		// Little's law: requests in flight over the time that each is.
		flight := float64(light.cut.batches[heavy.load-1] * light.cut.DP)
		each := float64(s.Output) * light.estimate.TPOT.Value.Seconds()
		if s.Role == Both {
			each += (light.estimate.TTFT.Value - light.estimate.TPOT.Value).Seconds()
		}
		top.perAccelerator = s.tokens(slack*flight/each) * float64(light.replicas) / float64(s.paid(light))
	}
	return slices.ContainsFunc(s.front, func(p point) bool { return dominates(&p, &top) })
}

// keep puts a point on the front unless another is better, and takes off those that it beats.
func (s *search) keep(p *point) {
	for i := range s.front {
		q := &s.front[i]
		if dominates(q, p) {
			return
		}
		if q.perAccelerator == p.perAccelerator && q.ttft == p.ttft && q.tpot == p.tpot {
			if rank(*p, *q) < 0 {
				*q = *p
			}
			return
		}
	}
	s.front = slices.DeleteFunc(s.front, func(q point) bool { return dominates(p, &q) })
	s.front = append(s.front, *p)
}

// dominates says that p is at least as good as q in everything and better in something.
func dominates(p, q *point) bool {
	return p.perAccelerator >= q.perAccelerator && p.ttft <= q.ttft && p.tpot <= q.tpot &&
		(p.perAccelerator > q.perAccelerator || p.ttft < q.ttft || p.tpot < q.tpot)
}

// rank orders by tokens, then latency, then the order of cuts and loads.
func rank(p, q point) int {
	return cmp.Or(cmp.Compare(q.perAccelerator, p.perAccelerator), cmp.Compare(p.tpot, q.tpot), cmp.Compare(p.ttft, q.ttft),
		cmp.Compare(p.cut.number, q.cut.number), cmp.Compare(p.load, q.load))
}

// balanced finds how well a cut's ranks balance experts, where their loads are known.
func (s *search) balanced(c *cut) error {
	if s.Loads.Experts == 0 || c.EP == 1 {
		return nil
	}
	cluster := c.cluster(s.Model)
	key := [2]int{cluster.GPUs, cluster.SlotsPerGPU}
	if b, ok := s.balances[key]; ok {
		c.balance = b
		return nil
	}
	var placement moe.Placement
	report, err := (&moe.Placer{Effort: -1}).Plan(&placement, s.Loads, cluster)
	if err != nil {
		return err
	}
	c.balance = min(report.Balance, 1) // a mean of ones can be a little more
	s.balances[key] = c.balance
	return nil
}
