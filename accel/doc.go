// Package accel answers what can be known about a deployment before it is bought: what an accelerator and its fabric can
// do, what a model weighs, whether the two fit together under an engine's memory rules, and how fast they would be.
//
// The types, from the metal up:
//
//   - An [Accelerator] is a board: its dense peak rates, memory, bandwidth and power, each a [Figure] with its source.
//   - A [System] is that board in a node and a fabric: how many a node, what the [ScaleUp] domain is (a switch, a mesh, a
//     torus, plain PCIe) and what the [ScaleOut] network carries.
//   - A [Catalogue] holds both by name. [Builtin] is ours; a JSON file of the same form adds yours. [Catalogue.FromLabels]
//     finds what a Kubernetes node has from its labels.
//   - A [Model] is read from a Hugging Face config.json by [ParseModel], or is one of those known by name: [LookupModel].
//   - [Parallelism] and [Precision] say how the model is cut and stored, [Deployment] puts all of it on a system under an
//     [Engine].
//   - [Deployment.Memory] says what each byte of a device is for, how much is left for the KV cache, and what does not
//     fit.
//   - A [Calibration] estimates times and throughput under a [Workload]. [Calibrated] is the one fitted to published
//     measurements; [Calibration.Calibrate] fits yours.
//
// An example:
//
//	model, err := accel.LookupModel("deepseek-ai/DeepSeek-R1")
//	system, err := accel.Builtin().System("h200-sxm")
//	m, err := accel.Deployment{Model: model, System: system, Parallelism: accel.Parallelism{TP: 8, EP: 8}}.Memory()
//	fmt.Println(m.Fits(4096), m.MaxTokens(4096))
//
// # Units and conventions
//
// Sizes are bytes, never "GB"; rates are per second; peaks are dense FLOP/s, a multiply-add counting as two. Bandwidth of a
// link or a fabric is one way, per accelerator. A figure that nobody has published is absent, not zero: methods that return
// one also return whether it is known. A [Model], a [Catalogue] and a [System] are not changed after they are made, and are
// safe for concurrent use.
//
// # Caveats
//
// Peaks are what vendors state, and chips do not reach them. Memory of activations and buffers is an estimate; the parts that
// dominate, weights and KV cache, are exact for the layouts described at each function. Prices change by the week and are not here.
package accel
