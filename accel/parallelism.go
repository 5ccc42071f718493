package accel

// Parallelism is how one instance of a model is cut over ranks, a rank being one device. A field that is 0 is 1, except that
// EP and MoETP of a mixture of experts follow from each other: TP x DP = EP x MoETP, and with neither set experts are cut
// as TP says (MoETP = TP x DP, EP = 1).
type Parallelism struct {
	TP int // attention and dense layers are cut in TP parts
	DP int // attention is replicated DP times, each with its own requests
	PP int // layers are cut in PP stages
	EP int // experts are spread over EP groups of ranks
	// MoETP is in how many parts each expert is cut.
	MoETP int
	// Redundant experts in each layer, in addition to the model's own, over all ranks.
	Redundant int
}

// Ranks is the devices of an instance: TP x DP x PP.
func (p Parallelism) Ranks() int { return max(p.TP, 1) * max(p.DP, 1) * max(p.PP, 1) }
