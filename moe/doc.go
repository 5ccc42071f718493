// Package moe decides where the experts of a mixture-of-experts model live: how many replicas each expert has, which GPU
// holds them, how its tokens are split over them, and how a plan changes when traffic, or the cluster, does.
//
// The types are few. [Loads] says how many tokens each expert of each layer gets; a [Tracker] measures it. A [Cluster] has
// GPUs on nodes, with expert slots on each. A [Placement] says which expert each slot holds. Three planners fill one:
//
//   - [EPLB] is the published expert-parallel load balancer, bit for bit, in its hierarchical and its global mode. It is
//     here for compatibility and as a yardstick.
//   - [Placer] chooses replica counts and GPUs jointly and balances better. It keeps replicas of an expert on different
//     GPUs, keeps groups of experts on nodes ([GroupRule]), and covers the loss of a GPU or a node ([Survive]) when asked.
//   - [Rebalancer] starts from a placement that is in use and improves it within a budget of copies, in an order in which
//     every expert stays alive. It also repairs a placement after GPUs are lost, and follows GPUs that come and go.
//
// A [Splitter] divides each expert's tokens over its replicas so that GPU loads are as equal as the placement allows.
//
//	var placer moe.Placer
//	var placement moe.Placement
//	report, err := placer.Plan(&placement, loads, moe.Cluster{Nodes: 4, GPUs: 32, SlotsPerGPU: 9})
//	fmt.Println(placement.Row(0), report.Balance)
//
// # Guarantees
//
//   - Plans are deterministic: equal inputs give equal plans, on every machine with the same floating-point arithmetic.
//   - Placer and Rebalancer never put two replicas of an expert on one GPU. In layers of more than 128 slots, and where
//     FillSlots asks for it, Placer leaves a slot empty only if every expert is on its GPU or may not go there.
//   - Planners own scratch memory and a Placement is filled in place: a re-plan of the same shape allocates nothing.
//   - Bad input is refused with all its problems at once, each a [FieldError]. What a legal plan cannot meet, such as cover
//     without enough slots, is listed in its [Report] and the rest is planned as well as possible.
//   - Balance is mean load over greatest load of a layer's GPUs: 1 is perfect. Report.Bound is proven: no placement under
//     the same rules, split evenly, has a better one.
//
// # Caveats
//
// In a cramped cluster, with nearly as many slots a GPU as experts, EPLB can come out ahead of Placer by two replicas on one
// GPU, an uneven split; a Splitter does that better. Where nearly every expert is alone and GPUs have few slots, as with 288
// slots on 72 GPUs, balance after a shift of traffic costs copies in proportion to the GPUs that it overloads: a tenth of the
// slots then brings 93 to 96 % of what a new plan by Placer does, the most if tokens are split exactly.
//
// Engines split an expert's tokens evenly over its replicas unless told otherwise, so planners assume that. Loads are one
// number an expert: which GPU tokens come from, and which experts are chosen together, is not considered. Placer searches;
// it does not prove optimality where it stops below the bound. An expert whose load is absent is planned as an average one.
// Planners are not safe for concurrent use; give each goroutine its own. Weights are moved by engines, not by this package.
package moe
