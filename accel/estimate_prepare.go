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

	kv        KV
	kvBytes   float64 // room for the cache on a rank
	sequences float64 // a rank runs at most
	fabric    float64 // bytes a second into a rank from another instance

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
	if err := d.check(); err != nil {
		return err
	}
	if err := p.work(d); err != nil {
		return err
	}
	c.resolve(p, d)
	return nil
}

// check says what of a deployment no estimate can be made of.
func (d *Deployment) check() error {
	if d.Model == nil {
		return &FieldError{Field: "Deployment.Model", Value: nil, Want: "must be set"}
	}
	if err := d.Parallelism.Validate(d.Model); err != nil {
		return err
	}
	var bad problems
	known := func(field string, f Figure) {
		if !(f.Value > 0 && f.Value <= math.MaxFloat64) {
			bad.add(field, f.Value, "must be known: there is no estimate without it")
		}
	}
	known("Deployment.System.Accelerator.Memory", d.System.Accelerator.Memory)
	known("Deployment.System.Accelerator.Bandwidth", d.System.Accelerator.Bandwidth)
	p := d.Parallelism
	within := func(field string, v, low, high float64, want string) {
		if !(v >= low && v <= high) {
			bad.add(field, v, want)
		}
	}
	domain := max(d.System.ScaleUp.Domain, 1)
	if p.Ranks() > 1 {
		known("Deployment.System.ScaleUp.Bandwidth", d.System.ScaleUp.Bandwidth)
	}
	if p.Ranks() > domain {
		known("Deployment.System.ScaleOut.Bandwidth", d.System.ScaleOut.Bandwidth)
	}
	within("Deployment.MemoryFraction", d.MemoryFraction, 0, 1, "must be from 0 to 1")
	within("Deployment.MaxBatchedTokens", float64(d.MaxBatchedTokens), 0, maxTokens, "must not be negative")
	within("Deployment.MaxSequences", float64(d.MaxSequences), 0, maxTokens, "must not be negative")
	within("Deployment.MTPDepth", float64(d.MTPDepth), 0, 64, "must be from 0 to 64")
	within("Deployment.MTPAcceptance", d.MTPAcceptance, 0, 1, "must be from 0 to 1")
	within("Deployment.ExpertBalance", d.ExpertBalance, 0, 1, "must be from 0 to 1")
	if d.MTPDepth > 0 && d.Model.MTPLayers == 0 {
		bad.add("Deployment.MTPDepth", d.MTPDepth, "must be 0: the model has no layers for multi-token prediction")
	}
	if d.Engine > TensorRTLLM {
		bad.add("Deployment.Engine", uint8(d.Engine), "is unknown")
	}
	if d.AllToAll > NVLinkAllToAll {
		bad.add("Deployment.AllToAll", uint8(d.AllToAll), "is unknown")
	}
	return bad.err()
}

// work fills in all but the calibration.
func (p *Prepared) work(d Deployment) error {
	d.System = d.System.PerDevice()
	m, par, prec := d.Model, d.Parallelism.fill(d.Model), d.Model.Resolve(d.Precision)
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
	balance := d.ExpertBalance
	if balance == 0 {
		balance = 1
	}
	headParams := float64(m.Vocab) / p.tp * float64(m.Hidden)
	p.readWeights = headParams * prec.Embed.Bytes()
	p.headToken = 2 * headParams / mathRate
	var routedLayers float64
	for i, count := range m.Count(0, m.Layers()) {
		if count == 0 {
			continue
		}
		n, k := float64(count), m.Kinds[i]
		attention := n * float64(k.Attention.Params(m.Hidden, par.TP))
		dense := n * float64(k.FFN.DenseParams(m.Hidden, par.TP))
		router := n * float64(k.FFN.RouterParams(m.Hidden))
		p.readWeights += attention*prec.Attention.Bytes() + dense*prec.Weights.Bytes() + 2*router
		p.denseToken += 2*attention/attentionRate + 2*dense/weightRate + 2*router/mathRate
		if f := k.FFN; f.Experts > 0 {
			routedLayers += n
			held := float64(ceilDiv(int64(f.Experts+par.Redundant), int64(par.EP)))
			cut := float64(f.ExpertParams(m.Hidden)) / float64(par.MoETP)
			p.readExperts += n * held * cut * prec.Experts.Bytes()
			p.routedToken += n * 2 * float64(f.TopK) * cut / p.ep / expertRate / balance
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
	if p.chunk == 0 {
		p.chunk = 8192
	}
	p.room(d, par, prec)
	return nil
}

// cost is what queries of n layers cost on a rank.
func (a Attention) cost(n float64, tp int, kv DType, rate, bandwidth float64) attentionCost {
	t := float64(tp)
	c := attentionCost{limit: a.limit(), stateRead: 2 * n * a.stateBytes(tp) / bandwidth}
	if a.Kind == Linear {
		c.state = n * a.ScoreFLOPs(0, true) / t / rate
		return c
	}
	perToken := a.tokenBytes(tp, kv)
	if a.IndexHeads > 0 {
		keys := a
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

// room works out how much the KV cache holds.
func (p *Prepared) room(d Deployment, par Parallelism, prec Precision) {
	least := math.Inf(1)
	for s := range par.PP {
		kv := d.Model.StageKV(par, prec.KV, s)
		free := d.kvBytes(par, prec, s)
		if perToken := kv.Bytes(4096); free/max(perToken, 1) < least {
			least, p.kv, p.kvBytes = free/max(perToken, 1), kv, free
		}
	}
	p.sequences = float64(d.MaxSequences)
	if p.sequences == 0 {
		p.sequences = 256
	}
	p.fullSequence = d.Engine == TensorRTLLM
}

// frameworkBytes is what drivers, graphs and activations take beside weights and cache.
const frameworkBytes = 4 << 30

func (d *Deployment) kvBytes(par Parallelism, prec Precision, stage int) float64 {
	total := d.System.Accelerator.Memory.Value
	weights := float64(d.Model.StageWeights(par, prec, stage, d.MTPDepth > 0).Total())
	fraction := d.MemoryFraction
	if fraction == 0 {
		fraction = [...]float64{VLLM: .92, SGLang: .88, TensorRTLLM: .9}[d.Engine]
	}
	if d.Engine == TensorRTLLM {
		return max((total-weights-frameworkBytes)*fraction, 0)
	}
	return max(total*fraction-weights-frameworkBytes, 0)
}

// capacity is how many requests of a workload a rank runs at a time.
func (p *Prepared) capacity(w Workload) float64 {
	tokens := w.InputTokens + w.OutputTokens/2
	if p.fullSequence {
		tokens = w.InputTokens + w.OutputTokens
	}
	return min(p.kvBytes/max(p.kv.Bytes(tokens), 1), p.sequences)
}
