package accel

import "math"

// A time is a sum of parts, each a number of seconds that follows from shapes, peaks and bandwidths, times a factor that
// says how far reality stays behind. Factors are what calibration is about. Parts fall into families, whose factors engines,
// models and boards share, and add up to the terms of a Breakdown.
type part struct {
	name   string
	term   Term
	family family
	prior  float64 // factor before any measurement
}

type family uint8

const (
	familyMemory   family = iota // reading weights
	familyKV                     // attention
	familyCompute                // products and exchanges
	familyOverhead               // launches
	familyPrefill                // TPOT: others' prompts. TTFT: one's own
	numFamilies
)

var familyNames = [numFamilies]string{"memory", "kv", "compute", "overhead", "prefill"}

const maxParts = 20

// Parts of TPOT.
const (
	outWeights = iota
	outExperts
	outKV
	outScores
	outDense
	outRouted
	outReduce
	outReduceCalls
	outSpread
	outKernel
	outHops
	outLayers
	outStep
	outSequences
	outPrefillDense
	outPrefillRouted
	outPrefillScores
	outPrefillComm
	outPrefillLayers
	numOut
)

var outParts = [numOut]part{
	outWeights:       {"weights", ReadWeights, familyMemory, 1.2},
	outExperts:       {"experts", ReadExperts, familyMemory, 1.4},
	outKV:            {"kv", ReadKV, familyKV, 1.2},
	outScores:        {"scores", Scores, familyKV, 2},
	outDense:         {"dense", Products, familyCompute, 2},
	outRouted:        {"routed", Products, familyCompute, 2.5},
	outReduce:        {"reduce", AllReduces, familyCompute, 3},
	outReduceCalls:   {"reduce-calls", AllReduces, familyOverhead, 7},
	outSpread:        {"spread", ExpertExchange, familyCompute, 2},
	outKernel:        {"kernel", ExpertExchange, familyCompute, 1},
	outHops:          {"hops", StageHops, familyOverhead, 1.5},
	outLayers:        {"layers", Launch, familyOverhead, 40},
	outStep:          {"step", Launch, familyOverhead, .5},
	outSequences:     {"sequences", Launch, familyOverhead, 6},
	outPrefillDense:  {"prefill-dense", OtherPrefill, familyPrefill, 1.5},
	outPrefillRouted: {"prefill-routed", OtherPrefill, familyPrefill, 3},
	outPrefillScores: {"prefill-scores", OtherPrefill, familyPrefill, 3},
	outPrefillComm:   {"prefill-exchange", OtherPrefill, familyPrefill, 1.5},
	outPrefillLayers: {"prefill-layers", OtherPrefill, familyPrefill, 1},
}

// Parts of TTFT.
const (
	inWeights = iota
	inExperts
	inDense
	inRouted
	inScores
	inCached
	inReduce
	inKernel
	inHops
	inLayers
	inReduceCalls
	inRequest
	inTokens
	inStep
	inBurst
	inBusy
	inClump
	inSequences
	inRoom
	numIn
)

var inParts = [numIn]part{
	inWeights:     {"weights", ReadWeights, familyPrefill, 1.2},
	inExperts:     {"experts", ReadExperts, familyPrefill, 1.4},
	inDense:       {"dense", Products, familyPrefill, 1.5},
	inRouted:      {"routed", Products, familyPrefill, 3},
	inScores:      {"scores", Scores, familyPrefill, 3},
	inCached:      {"cached", ReadKV, familyPrefill, 1.2},
	inReduce:      {"reduce", AllReduces, familyPrefill, 1.5},
	inKernel:      {"kernel", ExpertExchange, familyPrefill, 1},
	inHops:        {"hops", StageHops, familyPrefill, 1.5},
	inLayers:      {"layers", Launch, familyPrefill, 40},
	inReduceCalls: {"reduce-calls", AllReduces, familyPrefill, 7},
	inRequest:     {"request", Launch, familyOverhead, 5},
	inTokens:      {"tokens", Launch, familyOverhead, 1},
	inStep:        {"step", StepWait, familyKV, 1},
	inBurst:       {"burst", OtherPrefill, familyCompute, .05},
	inBusy:        {"busy", OtherPrefill, familyCompute, .5},
	inClump:       {"clump", OtherPrefill, familyCompute, .05},
	inSequences:   {"sequences", Launch, familyOverhead, .1},
	inRoom:        {"room", RoomWait, familyMemory, .5},
}

// prompt is seconds of one prompt, by part.
type prompt struct {
	weights, experts, dense, routed, scores, cached, reduce, kernel, hops, layers, calls float64
}

// prompt is the work of a prompt, either on a rank that has nothing else to do, or as a share of steps that are full of
// prompts.
func (p *Prepared) prompt(w Workload, full bool) prompt {
	tokens := float64(w.InputTokens - w.CachedTokens)
	cached := float64(w.CachedTokens)
	steps := tokens / p.chunk
	if !full {
		steps = math.Ceil(steps)
	}
	// All DP ranks are taken to have a prompt when experts work: they share them.
	group := tokens * p.dp
	touched := p.touched(group / steps)
	pr := prompt{
		weights: steps * p.readWeights,
		experts: steps * touched * p.readExperts,
		dense:   tokens*p.denseToken + p.headToken,
		routed:  group*p.routedToken + steps*touched*p.routedPad,
		reduce:  tokens * (p.reduceToken + p.spreadToken),
		kernel:  steps*p.kernelStep + tokens*p.kernelToken,
		hops:    steps*p.hops*1e-5 + tokens*p.hopToken,
		layers:  steps * p.layers * 1e-6,
		calls:   steps * (p.reduceCalls + p.spreadCalls) * 1e-6,
	}
	pr.calls += steps * p.reduceFar
	for i := range p.kinds {
		k := &p.kinds[i]
		seen := pairs(tokens, cached, k.limit)
		pr.scores += seen*k.scorePrefill + pairs(tokens, cached, 0)*k.index + tokens*k.state
		pr.cached += steps * (sees(cached, k.limit)*k.tokenRead + cached*k.indexRead)
	}
	return pr
}

// touched is the share of experts that some of n tokens goes to.
func (p *Prepared) touched(n float64) float64 {
	if p.expertLog == 0 {
		return 0
	}
	return -math.Expm1(n * p.expertLog)
}

func sees(tokens, limit float64) float64 {
	if limit > 0 {
		return min(tokens, limit)
	}
	return tokens
}

// decode fills in the parts of TPOT with running requests on each rank, in seconds.
func (p *Prepared) decode(x *[maxParts]float64, w Workload, running float64, pr *prompt) {
	// Stages of a pipeline work on a part of the requests each; a token passes through all of them.
	batch := max(running/p.pp, 1)
	tokens := batch * (1 + p.drafts)
	group := tokens * p.dp
	context := float64(w.InputTokens) + float64(w.OutputTokens)/2
	x[outWeights] = p.readWeights + p.drafts*p.readMTP
	touched := p.touched(group)
	x[outExperts] = touched * p.readExperts
	for i := range p.kinds {
		k := &p.kinds[i]
		seen := sees(context, k.limit)
		x[outKV] += batch * (seen*k.tokenRead + context*k.indexRead + k.stateRead)
		x[outScores] += tokens * (seen*k.score + context*k.index + k.state)
	}
	x[outDense] = tokens * (p.denseToken + p.headToken)
	x[outRouted] = group*p.routedToken + touched*p.routedPad
	x[outReduce] = tokens * p.reduceToken
	x[outReduceCalls] = (p.reduceCalls+p.spreadCalls)*1e-6 + p.reduceFar
	x[outSpread] = tokens * p.spreadToken
	x[outKernel] = p.kernelStep + tokens*p.kernelToken
	x[outHops] = p.hops*1e-5 + tokens*p.hopToken
	x[outLayers] = p.layers * 1e-6
	x[outStep] = 1e-3
	x[outSequences] = max(running, 1) * 1e-6
	for i := range outPrefillDense {
		x[i] /= p.accepted
	}
	if pr != nil {
		// Each running request has brought one prompt for its OutputTokens tokens.
		share := max(running, 1) / float64(w.OutputTokens)
		x[outPrefillDense] = share * pr.dense
		x[outPrefillRouted] = share * pr.routed
		x[outPrefillScores] = share * pr.scores
		x[outPrefillComm] = share * (pr.reduce + pr.kernel)
		x[outPrefillLayers] = share * pr.layers
	}
}

// first fills in the parts of TTFT. waiting is requests without room, for each that has some.
func (p *Prepared) first(x *[maxParts]float64, w Workload, running, waiting, tpot float64, pr *prompt) {
	x[inWeights], x[inExperts] = pr.weights, pr.experts
	x[inDense], x[inRouted], x[inScores], x[inCached] = pr.dense, pr.routed, pr.scores, pr.cached
	x[inReduce], x[inKernel], x[inHops] = pr.reduce, pr.kernel, pr.hops
	x[inLayers], x[inReduceCalls] = pr.layers, pr.calls
	x[inRequest] = 1e-3
	x[inTokens] = float64(w.InputTokens) * 1e-6
	x[inStep] = tpot
	work := 1.5*pr.dense + 2.5*pr.routed + 2*pr.scores + 1.5*pr.reduce + pr.kernel
	running = max(running, 1)
	busy := min(running*work/(float64(w.OutputTokens)*tpot), .9)
	x[inBurst] = (running - 1) * work
	x[inBusy] = busy / (1 - busy) * work
	x[inClump] = (math.Sqrt(running) - 1) * work
	x[inSequences] = (running - 1) * 1e-3
	x[inRoom] = waiting * float64(w.OutputTokens) * tpot
}

// Features, beside parts, that factors depend on.
const (
	featureOne    = iota
	featureLoad   // requests in flight of a DP rank
	featureInput  // tokens to prefill
	featureOutput // tokens of an answer
	numFeatures
)

var featureNames = [numFeatures]string{"one", "load", "input", "output"}

// features are centred and scaled logs, held within the range that measurements span.
func (p *Prepared) features(w Workload) (f [numFeatures]float64) {
	f[featureOne] = 1
	f[featureLoad] = math.Log(min(max(w.Concurrency/p.dp, 1), 2048)/24) / 1.5
	f[featureInput] = math.Log(min(max(float64(w.InputTokens-w.CachedTokens), 64), 65536)/2048) / 1.2
	f[featureOutput] = math.Log(min(max(float64(w.OutputTokens), 64), 16384)/1024) / 1.2
	return f
}
