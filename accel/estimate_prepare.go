package accel

import (
	"fmt"
	"math"
)

// Prepared is a deployment with everything worked out that does not depend on a workload. It is not changed after it is
// made, and is safe for concurrent use.
type Prepared struct {
	tp, dp, pp, ep float64

	// Seconds on a rank at its peaks, all stages of a pipeline together.
	readWeights float64 // dense weights and head, once a step
	readMTP     float64 // layers that draft, once a drafted token
	readExperts float64 // all routed experts of a rank
	denseToken  float64 // products of a token of the rank, without head
	headToken   float64
	routedToken float64 // products with routed experts, for each token of all ranks that share them
	routedPad   float64 // products that fill up tiles, if every expert of the rank has tokens
	kinds       [MaxKinds]attentionCost

	expertLog    float64 // log of the chance that a token does not go to a given expert; 0 without experts
	layers       float64
	reduceToken  float64 // all-reduces
	reduceCalls  float64 // a step
	spreadToken  float64 // all-gather and reduce-scatter of experts, for each token of the rank
	spreadCalls  float64
	kernelToken  float64 // dispatch and combine by a kernel with measured latencies
	kernelStep   float64
	hopToken     float64 // between stages
	hops         float64
	reduceFar    float64 // seconds a step that all-reduces wait for the network beyond a domain
	overlap      bool
	chunk        float64 // tokens of a prefill step
	drafts       float64 // tokens drafted a step
	accepted     float64 // tokens a step yields
	fullSequence bool    // a request's room is taken when it starts

	memory Memory
	fabric float64 // bytes a second into a rank from another instance

	evidence   Evidence
	tpot, ttft resolved
}

// attentionCost is what one query of a kind of layer costs, over all layers of the kind.
type attentionCost struct {
	limit     float64 // tokens seen at most; 0 is all
	tokenRead float64 // seconds to read what is kept of a token
	indexRead float64 // seconds to read the index key of a token, of which all are seen
	stateRead float64 // seconds to read and write a state

	score, scorePrefill float64 // seconds a pair of query and key, when decoding and in prefill
	index               float64 // seconds an index pair
	state               float64 // seconds a token
}

// Prepare validates a deployment and works out what does not depend on a workload.
func (c *Calibration) Prepare(d Deployment) (*Prepared, error) {
	p := new(Prepared)
	if err := c.prepare(p, d); err != nil {
		return nil, err
	}
	return p, nil
}

func (c *Calibration) prepare(p *Prepared, d Deployment) error {
	memory, err := d.Memory() // which validates
	if err != nil {
		return err
	}
	if err := d.checkFigures(); err != nil {
		return err
	}
	if err := p.work(d, memory); err != nil {
		return err
	}
	keys := d.keys()
	c.resolve(p, &keys)
	return nil
}

// checkFigures says which figures of a system are missing without which there is no estimate.
func (d *Deployment) checkFigures() error {
	var bad problems
	known := func(field string, f Figure) {
		if !(f.Value > 0 && f.Value <= math.MaxFloat64) {
			bad.add("Deployment.System."+field, f.Value, "must be known for an estimate")
		}
	}
	known("Accelerator.Bandwidth", d.System.Accelerator.Bandwidth)
	if n := d.Parallelism.Ranks(); n > max(d.System.Accelerator.Devices, 1) {
		if d.System.domain() > 1 {
			known("ScaleUp.Bandwidth", d.System.ScaleUp.Bandwidth)
		}
		if n > d.System.domain()*max(d.System.Accelerator.Devices, 1) {
			known("ScaleOut.Bandwidth", d.System.ScaleOut.Bandwidth)
		}
	}
	return bad.err()
}

// work fills in all but the calibration.
func (p *Prepared) work(d Deployment, memory Memory) error {
	d = d.Default()
	d.System = d.System.PerDevice()
	m, par, prec := d.Model, d.Parallelism, d.Precision
	board := d.System.Accelerator
	rate := func(field string, t DType) (float64, error) {
		_, flops, ok := board.Rate(t)
		if !ok {
			return 0, &FieldError{Field: field, Value: t, Want: fmt.Sprintf("has no rate on %s", board.Name)}
		}
		return flops, nil
	}
	weightRate, err := rate("Precision.Weights", prec.Weights)
	if err != nil {
		return err
	}
	attentionRate, err := rate("Precision.Attention", prec.Attention)
	if err != nil {
		return err
	}
	expertRate, err := rate("Precision.Experts", prec.Experts)
	if err != nil {
		return err
	}
	mathRate, err := rate("BF16", BF16)
	if err != nil {
		return err
	}

	p.tp, p.dp, p.pp, p.ep = float64(par.TP), float64(par.DP), float64(par.PP), float64(par.EP)
	p.layers = float64(m.Layers())
	bandwidth := board.Bandwidth.Value
	headParams := float64(m.Vocab) / p.tp * float64(m.Hidden)
	p.readWeights = headParams * prec.Embed.Bytes()
	p.headToken = 2 * headParams / mathRate
	var routedLayers float64
	for i, count := range m.Count(0, m.Layers()) {
		if count == 0 {
			continue
		}
		n, k := float64(count), &m.Kinds[i]
		attention := n * float64(k.Attention.Params(m.Hidden, par.TP))
		dense := n * float64(k.FFN.DenseParams(m.Hidden, par.TP))
		router := n * float64(k.FFN.RouterParams(m.Hidden))
		p.readWeights += attention*prec.Attention.Bytes() + dense*prec.Weights.Bytes() + 2*router
		p.denseToken += 2*attention/attentionRate + 2*dense/weightRate + 2*router/mathRate
		if f := &k.FFN; f.Experts > 0 {
			routedLayers += n
			held := float64(ceilDiv(int64(f.Experts+par.Redundant), int64(par.EP)))
			cut := float64(f.ExpertParams(m.Hidden)) / float64(par.MoETP)
			p.readExperts += n * held * cut * prec.Experts.Bytes()
			p.routedToken += n * 2 * float64(f.TopK) * cut / p.ep / expertRate / d.ExpertBalance
			p.routedPad += n * held * expertTile / 2 * 2 * cut / expertRate
			p.expertLog = math.Log1p(-min(float64(f.TopK)/float64(f.Experts), 1-1e-9))
		}
		p.kinds[i] = k.Attention.cost(n, par.TP, prec.KV, mathRate, bandwidth)
	}
	p.readWeights /= bandwidth
	p.readExperts /= bandwidth

	p.drafts, p.accepted = float64(d.MTPDepth), 1
	if d.MTPDepth > 0 {
		mtp := m.StageWeights(par, prec, par.PP-1, true).MTP
		p.readMTP = (float64(mtp)/float64(m.MTPLayers) + headParams*prec.Embed.Bytes()) / bandwidth
		chain := 1.
		for range d.MTPDepth {
			chain *= d.MTPAcceptance
			p.accepted += chain
		}
	}
	if err := p.communicate(d, par, routedLayers); err != nil {
		return err
	}
	p.overlap = d.TwoBatchOverlap
	p.chunk = float64(d.MaxBatchedTokens)
	p.memory, p.fullSequence = memory, d.Engine == TensorRTLLM
	return nil
}

// expertTile is rows of a tile of grouped products: those of an expert are filled up to whole tiles, half a tile on average.
const expertTile = 64

// cost is what queries of n layers cost on a rank.
func (a *Attention) cost(n float64, tp int, kv DType, rate, bandwidth float64) attentionCost {
	t := float64(tp)
	c := attentionCost{limit: a.limit(), stateRead: 2 * n * a.stateBytes(tp) / bandwidth}
	if a.Kind == Linear {
		c.state = n * a.ScoreFLOPs(0, true) / t / rate
		return c
	}
	perToken := a.tokenBytes(tp, kv)
	if a.IndexHeads > 0 {
		keys := *a
		keys.IndexHeads = 0
		only := keys.tokenBytes(tp, kv)
		c.indexRead = n * (perToken - only) / bandwidth
		perToken = only
		c.index = n * 2 * float64(a.IndexHeads) * float64(a.IndexDim) / rate
	}
	c.tokenRead = n * perToken / bandwidth
	c.score = n * a.pairFLOPs(true) / t / rate
	c.scorePrefill = n * a.pairFLOPs(false) / t / rate
	return c
}

// capacity is how many requests of a workload a rank runs at a time.
func (p *Prepared) capacity(w Workload) float64 {
	tokens := w.InputTokens + w.OutputTokens/2
	if p.fullSequence {
		tokens = w.InputTokens + w.OutputTokens
	}
	return min(float64(p.memory.KVBudget)/max(p.memory.Sequence.Bytes(tokens), 1), float64(p.memory.Sequences))
}

// fits is why not even one request of a workload runs, or nil.
func (p *Prepared) fits(w Workload) error {
	if p.capacity(w) >= 1 {
		return nil
	}
	return p.memory.Fits(w.InputTokens + w.OutputTokens)
}
