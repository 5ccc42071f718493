// Package plan searches for ways to deploy a model on a number of accelerators: how to cut it (tensor, data, pipeline and expert
// parallelism, experts cut or redundant), which kernels carry tokens to experts, how many requests to run at once, how many
// instances to start, and which rank goes on which accelerator.
//
//	result, err := plan.Search(calibration, plan.Problem{
//		Model: model, System: system, Accelerators: 32,
//		Input: 1000, Output: 1000, TTFT: 2 * time.Second, TPOT: 50 * time.Millisecond,
//	})
//	best := result.Plans[0]
//
// A [Problem] says what is wanted. A [Result] has the best [Plan] of each cut, the Pareto front of all plans, and for
// everything that was refused a [Refusal]: how many cuts, why, and which came nearest. A Plan has one instance's
// [accel.Deployment] and [Layout], its memory, the figures that the [Estimator] expects of it with their ranges, and what keeps
// it from more.
//
// # Rules
//
// A cut is legal if the model divides, its weights and one request fit the memory, the engine has it, and so does the fabric:
//
//   - Ranks that cut a matrix (TP, and experts cut by MoETP) stay in one scale-up domain, on aligned accelerators.
//   - Experts spread within a PCIe host, within a multi-node NVLink domain, and anywhere over a network between nodes.
//   - DeepEP's kernels need every NIC to reach every other: not a rail-only network. They are for NVIDIA's accelerators, or AMD's
//     by way of MoRI, at most 8 experts a token, hidden sizes that they are built for, and whole experts. The low-latency
//     ones carry at most 256 tokens a rank and step, so that they are for decode, and the others for prefill.
//   - The NVLink kernels need a Blackwell GPU and a group inside one NVLink domain.
//   - On a torus an instance is a box, and each group a set of whole axes of it.
//
// # Guarantees
//
// Search finds the same best plan and the same front as trying everything would, provided that the Estimator does not say
// that more load makes an instance more than twice as fast; tests compare both on clusters of up to 64 accelerators. Equal problems give equal
// results. Where nothing meets the targets, the nearest legal plan is returned and says what it does not meet.
//
// # Caveats
//
// Plans are as good as the Estimator: its ranges are part of each plan. Data-parallel copies of a dense model are
// instances of their own. Batches are searched on a grid. Prefill and decode instances are planned one role at a time: an instance
// for prefill takes one prompt at a time on each data-parallel rank, which understates large steps of short prompts, and one
// for decode never waits for prefill.
package plan
