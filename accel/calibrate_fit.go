package accel

import (
	"cmp"
	"fmt"
	"maps"
	"math"
	"slices"
	"time"
)

// Point is a measurement: what a deployment did under a workload at a closed loop. A time that was not measured is 0.
type Point struct {
	Deployment Deployment
	Workload   Workload
	TTFT, TPOT time.Duration // means
}

// How much effects may differ from what refines them is their prior variance, of logs. Values are few and round: the fit is
// not sensitive to them.
const (
	baseVariance       = .1
	familyVariance     = .05
	loadVariance       = .01
	shapeVariance      = .03 // of the dependence on prompt and answer, of TTFT
	cutVariance        = .02
	deploymentVariance = .03
	deploymentLoad     = .006
	// What a calibration that is fitted further says of all deployments, or of all of an engine or a model, has many
	// measurements behind it: its variances are so much less.
	knownLoose = 1e-4
)

// variances are the prior variances of an effect; what is 0 is left out.
func variances(l level, ttft bool) (families [numFamilies]float64, features [numFeatures]float64) {
	switch l {
	case levelCut, levelDeployment:
		features[featureOne], features[featureLoad] = cutVariance, deploymentLoad
		if l == levelDeployment {
			features[featureOne] = deploymentVariance
		}
	default:
		for g := range families {
			families[g] = familyVariance
		}
		features[featureLoad] = loadVariance
		if ttft && l != levelModel {
			features[featureInput], features[featureOutput] = shapeVariance, shapeVariance
		}
	}
	return families, features
}

// Noise of a measurement that the model is right about, in logs: Student's t with few degrees of freedom, because there are
// measurements that no model is right about.
const (
	noiseTPOT     = .003 // variance
	noiseTTFT     = .01
	noiseFreedom  = 3.
	fitIterations = 25
)

// Calibrate fits a user's own measurements on top of c, which stays as it is. Where a point's deployment, or one like it, is
// among those that c has been fitted to, the new points count as much as all those before them. Points are refused, with
// their index, where an estimate of them would be, where they are no closed loop or where neither time is above 0.
func (c *Calibration) Calibrate(points []Point) (*Calibration, error) {
	rows, err := c.rows(points)
	if err != nil {
		return nil, err
	}
	return c.fitted(rows), nil
}

func (c *Calibration) rows(points []Point) ([]*row, error) {
	var bad problems
	rows := make([]*row, 0, len(points))
	for i, pt := range points {
		r, err := c.row(pt)
		if err != nil {
			bad = append(bad, fmt.Errorf("point %d: %w", i, err))
			continue
		}
		rows = append(rows, r)
	}
	if len(points) == 0 {
		bad.add("points", 0, "must not be empty")
	}
	return rows, bad.err()
}

// row is a point worked out.
type row struct {
	prepared Prepared
	workload Workload
	keys     [numLevels]effectKey
	tpot     float64 // seconds; 0 is not measured
	ttft     float64
}

func (c *Calibration) row(pt Point) (*row, error) {
	r := &row{workload: pt.Workload, tpot: pt.TPOT.Seconds(), ttft: pt.TTFT.Seconds()}
	if pt.TPOT < 0 || pt.TTFT < 0 || pt.TPOT == 0 && pt.TTFT == 0 {
		return r, &FieldError{Field: "Point.TPOT", Value: pt.TPOT, Want: "or TTFT must be above 0, and neither below"}
	}
	if err := pt.Workload.validate(); err != nil {
		return r, err
	}
	if pt.Workload.Rate > 0 {
		return r, &FieldError{Field: "Workload.Rate", Value: pt.Workload.Rate, Want: "must be 0: give the concurrency of the closed loop"}
	}
	if err := c.prepare(&r.prepared, pt.Deployment); err != nil {
		return r, err
	}
	r.keys = pt.Deployment.keys()
	return r, r.prepared.fits(pt.Workload)
}

// fitted is c fitted to rows.
func (c *Calibration) fitted(rows []*row) *Calibration {
	// Effects of one deployment side by side, and those that it refines after it, keep the equations sparse.
	rows = slices.Clone(rows)
	slices.SortStableFunc(rows, func(a, b *row) int { return a.keys[levelDeployment].compare(b.keys[levelDeployment]) })
	out := &Calibration{}
	out.tpot = c.tpot.refit(rows, outParts[:], false, func(r *row, x *[maxParts]float64) float64 {
		pr := r.prepared.prompt(r.workload, false)
		_, running, _ := r.prepared.load(r.workload)
		r.prepared.decode(x, r.workload, running, &pr)
		return r.tpot
	})
	out.sealed()
	for _, r := range rows {
		out.resolve(&r.prepared, &r.keys)
	}
	out.ttft = c.ttft.refit(rows, inParts[:], true, func(r *row, x *[maxParts]float64) float64 {
		pr := r.prepared.prompt(r.workload, false)
		var e Estimate
		r.prepared.closed(&e, r.workload)
		_, running, waiting := r.prepared.load(r.workload)
		r.prepared.first(x, r.workload, running, waiting, e.TPOT.Value.Seconds(), &pr)
		return r.ttft
	})
	return out.sealed()
}

func (k effectKey) compare(o effectKey) int {
	return cmp.Or(cmp.Compare(k.engine, o.engine), cmp.Compare(k.system, o.system),
		cmp.Compare(k.shape.hidden, o.shape.hidden), cmp.Compare(k.shape.layers, o.shape.layers),
		cmp.Compare(k.shape.vocab, o.shape.vocab), cmp.Compare(k.shape.experts, o.shape.experts),
		cmp.Compare(k.weight, o.weight),
		cmp.Compare(k.cut.tp, o.cut.tp), cmp.Compare(k.cut.dp, o.cut.dp), cmp.Compare(k.cut.ep, o.cut.ep))
}

// regression is a regularised least-squares fit of logs: unknowns with a prior each, and observations whose logs are
// log(sum of parts times factors) + features times unknowns.
type regression struct {
	prior, variance []float64 // of unknowns
	value           []float64
	obs             []observation
	noise           float64
}

// observation is one measured time.
type observation struct {
	parts    [maxParts]float64
	base     [maxParts]int               // unknown of each part's base factor
	families [numLevels][numFamilies]int // unknown of each level's correction of a group, or -1
	features [numLevels][numFeatures]int
	f        [numFeatures]float64
	log      float64 // of what was measured
}

// refit fits to rows, with what f says as the prior.
func (f *fit) refit(rows []*row, parts []part, ttft bool, work func(*row, *[maxParts]float64) float64) fit {
	g := regression{noise: noiseTPOT}
	if ttft {
		g.noise = noiseTTFT
	}
	kept := make([]*row, 0, len(rows))
	for _, r := range rows {
		o := observation{f: r.prepared.features(r.workload)}
		if measured := work(r, &o.parts); measured > 0 {
			o.log = math.Log(measured)
			g.obs, kept = append(g.obs, o), append(kept, r)
		}
	}
	unknown := func(prior, variance float64) int {
		g.prior, g.variance = append(g.prior, prior), append(g.variance, variance)
		return len(g.prior) - 1
	}
	type place struct {
		families [numFamilies]int
		features [numFeatures]int
		points   int
	}
	places := map[effectKey]*place{}
	// Finest levels first: see regression.solve.
	for l := int(numLevels) - 1; l >= 0; l-- {
		families, features := variances(level(l), ttft)
		for _, r := range kept {
			k := r.keys[l]
			if pl := places[k]; pl != nil {
				pl.points++
				continue
			}
			old, loose := f.effects[k], 1.
			if old == nil {
				old = &effect{}
			} else if level(l) < levelPair {
				loose = knownLoose
			}
			pl := &place{points: 1}
			for j, v := range families {
				pl.families[j] = -1
				if v > 0 {
					pl.families[j] = unknown(old.families[j], loose*v)
				}
			}
			for j, v := range features {
				pl.features[j] = -1
				if v > 0 {
					pl.features[j] = unknown(old.features[j], loose*v)
				}
			}
			places[k] = pl
		}
	}
	var base [maxParts]int
	loose := 1.
	if len(f.effects) > 0 {
		loose = knownLoose
	}
	for i := range parts {
		base[i] = unknown(f.base[i], loose*baseVariance)
	}
	for i, r := range kept {
		o := &g.obs[i]
		o.base = base
		for l, k := range r.keys {
			o.families[l], o.features[l] = places[k].families, places[k].features
		}
	}
	g.fit(parts)

	out := fit{effects: map[effectKey]*effect{}, spreads: maps.Clone(f.spreads)}
	for k, e := range f.effects {
		out.effects[k] = e
	}
	for i := range parts {
		out.set(i, g.value[base[i]])
	}
	for k, pl := range places {
		e := &effect{points: pl.points}
		if old := f.effects[k]; old != nil {
			*e = *old
			e.points += pl.points
		}
		for j, u := range pl.families {
			if u >= 0 {
				e.families[j] = g.value[u]
			}
		}
		for j, u := range pl.features {
			if u >= 0 {
				e.features[j] = g.value[u]
			}
		}
		out.effects[k] = e
	}
	return out
}

// fit is Gauss-Newton on a penalised, robust sum of squares, halving steps that do not help.
func (g *regression) fit(parts []part) {
	g.value = slices.Clone(g.prior)
	cost := g.cost(parts)
	next := make([]float64, len(g.value))
	for range fitIterations {
		step := g.step(parts)
		scale, improved := 1., false
		for range 8 {
			old := g.value
			for i := range next {
				next[i] = old[i] + scale*step[i]
			}
			g.value = next
			if c := g.cost(parts); c < cost {
				improved = cost-c > 1e-4*cost
				cost, next = c, old
				break
			}
			g.value = old
			scale /= 2
		}
		if !improved {
			return
		}
	}
}

// predict is the log that an observation should have, and the share of each part.
func (g *regression) predict(o *observation, parts []part, shares *[maxParts]float64) float64 {
	log := 0.
	var families [numFamilies]float64
	for l := range o.families {
		for j, u := range o.families[l] {
			if u >= 0 {
				families[j] += g.value[u]
			}
		}
		for j, u := range o.features[l] {
			if u >= 0 {
				log += g.value[u] * o.f[j]
			}
		}
	}
	sum := 0.
	for i := range parts {
		shares[i] = 0
		if o.parts[i] > 0 {
			shares[i] = o.parts[i] * math.Exp(g.value[o.base[i]]+families[parts[i].family])
			sum += shares[i]
		}
	}
	for i := range parts {
		shares[i] /= sum
	}
	return log + math.Log(sum)
}

// cost is minus twice the log of the posterior, but for a constant.
func (g *regression) cost(parts []part) float64 {
	var shares [maxParts]float64
	sum := 0.
	for i := range g.obs {
		o := &g.obs[i]
		d := o.log - g.predict(o, parts, &shares)
		sum += (noiseFreedom + 1) * math.Log1p(d*d/(noiseFreedom*g.noise))
	}
	for i, v := range g.value {
		d := v - g.prior[i]
		sum += d * d / g.variance[i]
	}
	return sum
}

// step solves the normal equations, weighted as the robust cost asks.
func (g *regression) step(parts []part) []float64 {
	n := len(g.value)
	a, b := newProfile(n), make([]float64, n)
	for i, v := range g.value {
		b[i] = (g.prior[i] - v) / g.variance[i]
	}
	var shares [maxParts]float64
	columns, values := make([]int, 0, 128), make([]float64, 0, 128)
	rowsOf := func(visit func(o *observation, columns []int, values []float64, residual float64)) {
		for i := range g.obs {
			o := &g.obs[i]
			residual := o.log - g.predict(o, parts, &shares)
			columns, values = columns[:0], values[:0]
			add := func(u int, v float64) {
				if u >= 0 && v != 0 {
					columns, values = append(columns, u), append(values, v)
				}
			}
			var families [numFamilies]float64
			for j := range parts {
				families[parts[j].family] += shares[j]
				add(o.base[j], shares[j])
			}
			for l := range o.families {
				for j, u := range o.families[l] {
					add(u, families[j])
				}
				for j, u := range o.features[l] {
					add(u, o.f[j])
				}
			}
			visit(o, columns, values, residual)
		}
	}
	rowsOf(func(_ *observation, columns []int, _ []float64, _ float64) { a.reserve(columns) })
	a.allocate()
	for i := range n {
		a.add(i, i, 1/g.variance[i])
	}
	rowsOf(func(_ *observation, columns []int, values []float64, residual float64) {
		weight := (noiseFreedom + 1) / (noiseFreedom*g.noise + residual*residual)
		for i, u := range columns {
			b[u] += weight * values[i] * residual
			for j, v := range columns {
				if v <= u {
					a.add(u, v, weight*values[i]*values[j])
				}
			}
		}
	})
	a.solve(b)
	return b
}
