package latency

import (
	"cmp"
	"errors"
	"fmt"
	"math"
	"sync"
	"sync/atomic"
	"time"

	"github.com/inferloom/inferloom/scheduling"
)

// Options are the parameters of a Model. The zero value works.
type Options struct {
	// Prior is what is believed of an endpoint's class before it has been observed; nil means DefaultPrior. It is asked once a
	// class, with the first endpoint of it.
	Prior func(*scheduling.Endpoint) Prior
	// Trees returns boosted trees that take the place of the physical model for an endpoint's class; nil means that there are
	// none. Bias and calibration are on top of them as well. It is asked once a class, with the first endpoint of it.
	Trees func(*scheduling.Endpoint) *Trees
	// Class names the class of an endpoint; nil means that model, role and the label AcceleratorLabel tell.
	Class func(*scheduling.Endpoint) string
	// Quantile is that of predictions; 0 means 0.9.
	Quantile float64
	// Memory is how many observations of a class it takes until one counts 1/e; 0 means 500.
	Memory float64
	// HalfLife is the time after which half of what distinguishes an endpoint from its class is forgotten unless it is
	// observed again; 0 means a minute.
	HalfLife time.Duration
	// MaxClasses bounds the classes; 0 means 64. Those beyond share the last one.
	MaxClasses int
	// MaxEndpoints is as in the pool; 0 means scheduling.DefaultMaxEndpoints.
	MaxEndpoints int
	// Now is the clock; nil means time.Now.
	Now func() time.Time
}

// AcceleratorLabel is the label of an endpoint that tells its accelerator where Options does not say how to know.
const AcceleratorLabel = "accelerator"

const (
	// biasMemory and localMemory are how many observations the mean log ratio of a class and of an endpoint are over.
	biasMemory, localMemory = 32, 16
	// shrink is how many observations of an endpoint count as much as what is known of its class.
	shrink = 8
	// farthest bounds what one observation can say, as a log ratio to what was predicted.
	farthest = 3
	// trafficSeconds is the time constant of the rate at which prompt tokens come.
	trafficSeconds = 20
)

// steps are γ of adaptive conformal inference. An answer's TPOT is known some hundred answers later; what corrects a level that
// slowly known must be slower still, or it swings.
var steps = [targets]float64{ttft: .004, tpot: .002}

// regimes is how many distributions a time has, by the share of it that is spent waiting for others' work.
const regimes = 3

func regimeOf(waits, total float64) int {
	switch {
	case waits < .1*total:
		return 0
	case waits < .5*total:
		return 1
	}
	return 2
}

// Model predicts and learns. It serves one pool. It is safe for concurrent use.
type Model struct {
	o       Options
	classes atomic.Pointer[[]*class]
	layout  scheduling.PerLayout[[]uint32] // class by slot
	places  []place                        // by slot

	mu    sync.Mutex // held while a class is added
	names map[string]uint32
}

// class is endpoints that are alike.
type class struct {
	name    string
	prior   [targets]vector
	trees   *forest // in place of the physical model; may be nil
	current atomic.Pointer[[targets]coefficients]

	mu     sync.Mutex
	learn  [targets]learner
	merged map[string]*[targets]moments // what replicas have learned
}

// learner is what is learned of a time.
type learner struct {
	own     moments
	w       vector
	bias    mean
	windows [regimes]*window
	miss    [regimes]float64 // α of adaptive conformal inference
}

// mean is a running mean of log ratios, and how many it has seen.
type mean struct {
	Value, N float64
}

const mostCounted = 1000

func (m *mean) add(v, memory float64) {
	m.N = min(m.N+1, mostCounted)
	m.Value += (v - m.Value) / min(m.N, memory)
}

// coefficients are what predictions are made with. They are immutable.
type coefficients struct {
	w       vector
	trees   *forest
	bias    float64 // of the class: a factor
	regimes [regimes]distribution
}

// place is what distinguishes the endpoint in a slot from its class.
type place struct {
	mu      sync.Mutex // held by writers
	current atomic.Pointer[local]
	traffic atomic.Uint64 // prompt tokens a second, float32 | milliseconds
}

type local struct {
	generation uint32
	at         int64
	factor     [targets]float64
	means      [targets]mean
}

// New makes a model, or reports every problem with the options.
func New(o Options) (*Model, error) {
	var problems []error
	notNegative := func(field string, v float64) {
		if !(v >= 0) || math.IsInf(v, 0) {
			problems = append(problems, fmt.Errorf("%s %v: want a number of at least 0", field, v))
		}
	}
	notNegative("memory", o.Memory)
	notNegative("half life", o.HalfLife.Seconds())
	notNegative("max classes", float64(o.MaxClasses))
	notNegative("max endpoints", float64(o.MaxEndpoints))
	if o.Quantile != 0 && !(o.Quantile >= .5 && o.Quantile <= .99) {
		problems = append(problems, fmt.Errorf("quantile %v: want 0.5 to 0.99", o.Quantile))
	}
	if len(problems) > 0 {
		return nil, errors.Join(problems...)
	}
	o.Quantile = cmp.Or(o.Quantile, .9)
	o.Memory = max(1, cmp.Or(o.Memory, 500))
	o.HalfLife = cmp.Or(o.HalfLife, time.Minute)
	o.MaxClasses = cmp.Or(o.MaxClasses, 64)
	o.MaxEndpoints = cmp.Or(o.MaxEndpoints, scheduling.DefaultMaxEndpoints)
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Prior == nil {
		o.Prior = func(*scheduling.Endpoint) Prior { return DefaultPrior() }
	}
	if o.Class == nil {
		o.Class = func(e *scheduling.Endpoint) string {
			return fmt.Sprintf("%s|%d|%s", e.Model, e.Role, e.Labels[AcceleratorLabel])
		}
	}
	m := &Model{o: o, names: map[string]uint32{}, places: make([]place, o.MaxEndpoints)}
	m.classes.Store(&[]*class{})
	return m, nil
}

// class returns the number of an endpoint's class, which is made if it is new.
func (m *Model) class(e *scheduling.Endpoint) uint32 {
	at := m.named(m.o.Class(e), func() [targets]vector { return m.o.Prior(e).withDefaults().seconds() })
	if m.o.Trees != nil {
		(*m.classes.Load())[at].plant(m.o.Trees(e), e)
	}
	return at
}

// named returns the number of the class with a name, which is made if it is new; of the last one if there can be no more.
func (m *Model) named(name string, prior func() [targets]vector) uint32 {
	m.mu.Lock()
	defer m.mu.Unlock()
	if at, ok := m.names[name]; ok {
		return at
	}
	list := *m.classes.Load()
	if len(list) == m.o.MaxClasses {
		return uint32(len(list) - 1)
	}
	k := &class{name: name, prior: prior(), merged: map[string]*[targets]moments{}}
	for target := range k.learn {
		l := &k.learn[target]
		l.w = k.prior[target]
		for i := range l.windows {
			l.windows[i], l.miss[i] = newWindow(), 1-m.o.Quantile
		}
		k.publish(target, 0, 1, 2)
	}
	m.names[name] = uint32(len(list))
	next := append(list[:len(list):len(list)], k)
	m.classes.Store(&next)
	return m.names[name]
}

// bySlot returns the classes of the snapshot's endpoints.
func (m *Model) bySlot(s *scheduling.Snapshot) []uint32 {
	return m.layout.Of(s, func(s *scheduling.Snapshot) []uint32 { return scheduling.BySlot(s, m.class) })
}

// publish makes what has been learned of a time current: of the regimes given, those whose distribution has changed.
func (k *class) publish(target int, changed ...int) {
	next := new([targets]coefficients)
	if was := k.current.Load(); was != nil {
		*next = *was
	}
	l, f := &k.learn[target], &next[target]
	f.w, f.trees, f.bias = l.w, k.trees, math.Exp(l.bias.Value)
	for _, i := range changed {
		f.regimes[i] = l.windows[i].distribution(1 - l.miss[i])
	}
	k.current.Store(next)
}

// raw returns a time without biases, at least a microsecond, and how much of it is waiting.
func (f *coefficients) raw(target int, v *[counts]float32) (seconds float64, regime int) {
	x := expand(target, v)
	physical := x.dot(&f.w)
	regime = regimeOf(waits(target, &x, &f.w), physical)
	if f.trees != nil {
		if seconds, ok := f.trees.seconds(target, v); ok {
			return min(max(seconds, shortest), longest), regime
		}
	}
	return max(physical, shortest), regime
}

// The range of times that are believed, in seconds; a day is a clock that jumped.
const shortest, longest = 1e-6, 1e5

// estimate returns a time, biases included, and the distribution of the ratio to it.
func (f *coefficients) estimate(target int, v *[counts]float32, factor float64) (seconds float64, d *distribution) {
	seconds, regime := f.raw(target, v)
	return max(seconds*f.bias*factor, shortest), &f.regimes[regime]
}

// ObserveTTFT tells how long the first token of a request took, from the pick on, for which p was predicted.
func (m *Model) ObserveTTFT(p *scheduling.Prediction, took time.Duration) {
	m.observe(ttft, p, p.TTFT, took.Seconds())
}

// ObserveTPOT tells the mean time between the tokens of an answer for which p was predicted.
func (m *Model) ObserveTPOT(p *scheduling.Prediction, took time.Duration) {
	m.observe(tpot, p, p.TPOT, took.Seconds())
}

func (m *Model) observe(target int, p *scheduling.Prediction, issued, took float64) {
	list := *m.classes.Load()
	if !p.Known() || !(took > 0 && took < longest) || int(p.Basis.Class) >= len(list) {
		return
	}
	for _, v := range p.Basis.Values {
		if !(v >= 0 && v <= 2*most) {
			return
		}
	}
	k := list[p.Basis.Class]
	x := expand(target, &p.Basis.Values)

	k.mu.Lock()
	defer k.mu.Unlock()
	l := &k.learn[target]
	raw, regime := k.current.Load()[target].raw(target, &p.Basis.Values)
	ratio := min(max(math.Log(took/raw), -farthest), farthest)
	residual := ratio - l.bias.Value - m.localBias(target, p, ratio, l.bias.Value)
	l.windows[regime].add(residual)
	miss := 0.
	if took > issued {
		miss = 1
	}
	alpha := 1 - m.o.Quantile
	low, high := levelBounds(alpha)
	l.miss[regime] = min(max(l.miss[regime]+steps[target]*(alpha-miss), low), high)
	l.bias.add(ratio, biasMemory)
	l.own.observe(&x, raw*math.Exp(ratio), raw, 1-1/m.o.Memory)
	k.fit(target, fewSweeps)
	k.publish(target, regime)
}

// levelBounds is the range of the share that a window's quantile lets through, so that answers which are slow to come back do
// not drive it to where windows know nothing.
func levelBounds(alpha float64) (low, high float64) { return .02 * alpha, min(3*alpha, 1) }

// fit moves the seconds per unit to the least squares of what this replica and others observed.
func (k *class) fit(target, sweeps int) {
	l := &k.learn[target]
	all := l.own
	for _, other := range k.merged {
		all.add(&other[target])
	}
	all.solve(&k.prior[target], &l.w, sweeps)
}

// localBias returns the log of the factor by which an endpoint differed from its class, and learns from a log ratio.
func (m *Model) localBias(target int, p *scheduling.Prediction, ratio, class float64) float64 {
	if int(p.Basis.Slot) >= len(m.places) {
		return 0
	}
	at := &m.places[p.Basis.Slot]
	at.mu.Lock()
	defer at.mu.Unlock()
	next := local{generation: p.Basis.Generation, factor: [targets]float64{1, 1}}
	if now := at.current.Load(); now != nil {
		if int32(now.generation-p.Basis.Generation) > 0 {
			return 0 // the endpoint was replaced meanwhile
		}
		if now.generation == p.Basis.Generation {
			next = *now
		}
	}
	now := m.o.Now().UnixNano()
	was := math.Log(m.faded(&next.factor, now-next.at)[target])
	mean := &next.means[target]
	mean.add(ratio-class, localMemory)
	next.factor[target] = math.Exp(mean.Value * mean.N / (mean.N + shrink))
	next.at = now
	at.current.Store(&next)
	return was
}

// faded draws factors towards 1 with their age.
func (m *Model) faded(factors *[targets]float64, age int64) [targets]float64 {
	half := float64(m.o.HalfLife)
	keep := half / (half + float64(max(age, 0)))
	return [targets]float64{1 + (factors[ttft]-1)*keep, 1 + (factors[tpot]-1)*keep}
}

// local returns the factors of the endpoint in a slot.
func (m *Model) local(slot scheduling.Slot, generation uint32, now int64) (factors [targets]float64) {
	if int(slot) < len(m.places) {
		if l := m.places[slot].current.Load(); l != nil && l.generation == generation {
			return m.faded(&l.factor, now-l.at)
		}
	}
	return [targets]float64{1, 1}
}

// came counts prompt tokens that are placed on a slot, and rate returns how many came a second lately.
func (m *Model) came(slot scheduling.Slot, tokens int, now int64) {
	if int(slot) >= len(m.places) {
		return
	}
	word := &m.places[slot].traffic
	for {
		was := word.Load()
		next := uint64(math.Float32bits(float32(rateAt(was, now)+float64(tokens)/trafficSeconds)))<<32 | uint64(uint32(now/1e6))
		if word.CompareAndSwap(was, next) {
			return
		}
	}
}

func (m *Model) rate(slot scheduling.Slot, now int64) float64 {
	if int(slot) >= len(m.places) {
		return 0
	}
	return rateAt(m.places[slot].traffic.Load(), now)
}

// rateAt lets a rate decay since it was noted. Milliseconds are counted modulo 2³², which is seven weeks.
func rateAt(word uint64, now int64) float64 {
	if word == 0 {
		return 0
	}
	age := float64(max(int32(uint32(now/1e6)-uint32(word)), 0)) / 1e3
	return float64(math.Float32frombits(uint32(word>>32))) * math.Exp(-age/trafficSeconds)
}
