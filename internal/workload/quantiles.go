package workload

// The conversation trace of Mooncake: 12,031 requests in 59 minutes. Ruoyu Qin et al., "Mooncake: Trading More Storage for
// Less Computation", FAST '25; the trace is published with it under Apache-2.0. The first two tables are its input and
// output lengths. The others are derived: a request is a later turn of another if it repeats blocks of the other's prompt
// beyond the one that all have in common.
var (
	inputTokens = distribution{
		{0, 891}, {0.1, 964}, {0.25, 2306}, {0.5, 6909}, {0.75, 15368}, {0.9, 27367}, {0.95, 39552}, {0.99, 85401}, {1, 126195},
	}
	outputTokens = distribution{
		{0, 1}, {0.1, 24}, {0.25, 156}, {0.5, 350}, {0.75, 472}, {0.9, 597}, {0.99, 1120}, {1, 2000},
	}
	// addedTokens is what a later turn adds to the prompt and the answer before it, where it repeats all of that prompt. Half
	// of them is a short question about what is there already.
	addedTokens = distribution{{0, 8}, {0.25, 9}, {0.5, 26}, {0.75, 356}, {0.9, 4203}, {0.99, 16705}, {1, 30000}}
	// turnSeconds is from one turn's arrival to the next one's.
	turnSeconds = distribution{{0, 10}, {0.1, 39}, {0.25, 66}, {0.5, 123}, {0.75, 267}, {0.9, 474}, {1, 1200}}
	// continues is the share of first, second ... turns that have another behind them; the last value holds for the rest.
	continues = []float64{0.31, 0.42, 0.51, 0.59, 0.59, 0.68, 0.72}
)

const (
	// mooncakeRate is the trace's requests a second.
	mooncakeRate = 12031.0 / 3537
	// turnsPerSession is the trace's requests over those that are no later turn.
	turnsPerSession = 12031.0 / 7373
	// sharedTokens is the block that every request of the trace begins with.
	sharedTokens = 512
	// systemTokens is a system prompt with it; the shortest request of the trace is a little longer than that.
	systemTokens = 768
)
