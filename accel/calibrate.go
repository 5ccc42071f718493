package accel

import (
	"math"
	"time"
)

// Calibration is what measurements say about how far deployments stay behind their peaks: a factor for each part of a time,
// and corrections of factors for engines, models, boards and combinations of them. It is not changed after it is made, and
// is safe for concurrent use. [Calibrated] is ours, [Uncalibrated] has no measurements behind it, and [Calibration.Calibrate]
// adds a user's own.
type Calibration struct {
	tpot, ttft fit
	found      map[effectKey]found // what both have
}

// found is the effects of a key, which may be nil.
type found struct{ tpot, ttft *effect }

// sealed is c with its effects together, so that a deployment looks each up once.
func (c *Calibration) sealed() *Calibration {
	c.found = make(map[effectKey]found, len(c.tpot.effects))
	for k, e := range c.tpot.effects {
		c.found[k] = found{tpot: e}
	}
	for k, e := range c.ttft.effects {
		f := c.found[k]
		f.ttft = e
		c.found[k] = f
	}
	return c
}

// fit is the calibration of one quantity.
type fit struct {
	base    [maxParts]float64 // log factors of parts
	factors [maxParts]float64 // exp of base
	effects map[effectKey]*effect
	spreads map[spreadKey]spread
}

// effect corrects log factors where its key fits.
type effect struct {
	points   int
	families [numFamilies]float64
	features [numFeatures]float64
}

// set sets the log factor of a part.
func (f *fit) set(part int, log float64) { f.base[part], f.factors[part] = log, math.Exp(log) }

// level is what an effect depends on. Of levels above levelQuantised each refines one before it.
type level uint8

const (
	levelEngine     level = iota
	levelModel            // its shape
	levelCut              // TP, DP and EP
	levelPair             // engine and system
	levelQuantised        // engine, system, model and precision
	levelDeployment       // and how it is cut
	numLevels
)

// effectKey says where an effect applies. What its level does not depend on is zero.
type effectKey struct {
	level  level
	engine Engine
	system string
	shape  shapeKey
	weight DType
	cut    cutKey
}

// shapeKey tells models apart by what decides their speed, so that fine-tuned ones are the model that they came from.
type shapeKey struct{ hidden, layers, vocab, experts int }

type cutKey struct{ tp, dp, ep int }

func (m *Model) shapeKey() shapeKey { return shapeKey{m.Hidden, m.Layers(), m.Vocab, m.Experts()} }

// keys are the effects that a deployment can have, by level.
func (d *Deployment) keys() (k [numLevels]effectKey) {
	prec := d.Model.Resolve(d.Precision)
	par := d.Parallelism.fill(d.Model)
	shape, weight := d.Model.shapeKey(), prec.Weights
	if d.Model.MoE() {
		weight = prec.Experts
	}
	switch weight { // names of one kind, which labels mix up
	case FP8Block:
		weight = FP8
	case MXFP4:
		weight = NVFP4
	case INT4G32:
		weight = INT4
	}
	cut := cutKey{par.TP, par.DP, par.EP}
	k[levelEngine] = effectKey{level: levelEngine, engine: d.Engine}
	k[levelModel] = effectKey{level: levelModel, shape: shape}
	k[levelCut] = effectKey{level: levelCut, cut: cut}
	k[levelPair] = effectKey{level: levelPair, engine: d.Engine, system: d.System.Name}
	k[levelQuantised] = effectKey{level: levelQuantised, engine: d.Engine, system: d.System.Name, shape: shape, weight: weight}
	k[levelDeployment] = k[levelQuantised]
	k[levelDeployment].level, k[levelDeployment].cut = levelDeployment, cut
	return k
}

// spread is the logs that bound 90 % of measured over estimated.
type spread struct{ low, high float64 }

// spreadKey is how much is known, and of which pair; an empty system stands for all pairs.
type spreadKey struct {
	evidence Evidence
	engine   Engine
	system   string
}

// leastPoints of a pair of engine and system count as evidence of it: a stray measurement does not.
const leastPoints = 20

// resolve looks up what applies to a deployment.
func (c *Calibration) resolve(p *Prepared, keys *[numLevels]effectKey) {
	var tpot, ttft [numLevels]*effect
	for i := range keys {
		f := c.found[keys[i]]
		tpot[i], ttft[i] = f.tpot, f.ttft
	}
	p.evidence = evidence(&tpot)
	pair := &keys[levelPair]
	c.tpot.resolve(&p.tpot, &tpot, outParts[:], spreadKey{p.evidence, pair.engine, pair.system})
	c.ttft.resolve(&p.ttft, &ttft, inParts[:], spreadKey{p.evidence, pair.engine, pair.system})
}

func evidence(effects *[numLevels]*effect) Evidence {
	pair := effects[levelPair]
	switch {
	case pair == nil || pair.points < leastPoints:
		return NoEvidence
	case effects[levelDeployment] != nil:
		return DeploymentMeasured
	case effects[levelQuantised] != nil:
		return ModelMeasured
	}
	return EngineMeasured
}

func (f *fit) resolve(r *resolved, effects *[numLevels]*effect, parts []part, key spreadKey) {
	*r = resolved{}
	var families [numFamilies]float64
	for _, e := range effects {
		if e == nil {
			continue
		}
		for g, v := range e.families {
			families[g] += v
		}
		for i, v := range e.features {
			r.features[i] += v
		}
	}
	for g, v := range families {
		families[g] = math.Exp(v)
	}
	for i := range parts {
		r.factors[i] = f.factors[i] * families[parts[i].family]
	}
	s := f.spread(key)
	r.low, r.high = math.Exp(s.low), math.Exp(s.high)
	if key.evidence == NoEvidence {
		r.high *= 2
	}
}

func (f *fit) spread(key spreadKey) spread {
	if s, ok := f.spreads[key]; ok {
		return s
	}
	if s, ok := f.spreads[spreadKey{evidence: key.evidence}]; ok {
		return s
	}
	return wide
}

// wide is the spread where nobody has measured one: a factor of 4 either way.
var wide = spread{-1.4, 1.4}

// resolved is a fit for one deployment.
type resolved struct {
	factors   [maxParts]float64
	features  [numFeatures]float64
	low, high float64 // bounds of an interval over its value
}

// apply turns parts at their peaks into what they really take.
func (r *resolved) apply(x *[maxParts]float64, f *[numFeatures]float64) {
	log := 0.
	for i, v := range f {
		log += v * r.features[i]
	}
	all := math.Exp(log)
	for i := range x {
		x[i] *= r.factors[i] * all
	}
}

func (r *resolved) interval(d time.Duration) Interval[time.Duration] {
	return Interval[time.Duration]{d, time.Duration(float64(d) * r.low), time.Duration(float64(d) * r.high)}
}

// Uncalibrated has the factors that parts usually have and nothing else: every estimate says [NoEvidence].
func Uncalibrated() *Calibration {
	c := &Calibration{}
	for i, p := range outParts {
		c.tpot.set(i, math.Log(p.prior))
	}
	for i, p := range inParts {
		c.ttft.set(i, math.Log(p.prior))
	}
	return c.sealed()
}
