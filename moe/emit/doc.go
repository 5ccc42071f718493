// Package emit writes what a plan means to those who carry it out: the command lines of vLLM, SGLang and TensorRT-LLM, the
// files in which SGLang and TensorRT-LLM read where experts live, and the Kubernetes objects that start an instance on
// several nodes at once.
//
//	s := emit.Serving{Name: "r1", Image: "vllm/vllm-openai:v0.32.0", Plans: []plan.Plan{best}}
//	yaml, err := s.LeaderWorkerSets()
//
// [Command] is the command line of one node, for those who start engines on their own. A [Serving] is a deployment on
// Kubernetes, by one plan or by one for each role; its methods write LeaderWorkerSets, a DisaggregatedSet or a Grove
// PodCliqueSet, and Kueue's queues for them. [InitExpertLocation] and [LoadBalancer] write a [moe.Placement].
//
// # Guarantees
//
//   - Equal inputs give equal bytes. Strings are quoted wherever YAML or a shell could read something else in them; what
//     Kubernetes would refuse, such as a name with capitals, is refused here, all problems at once, each a [moe.FieldError].
//   - Objects are validated against the published schemas, and command lines by the engines' own parsers, in e2e/emit.
//
// # Caveats
//
// Flags are those of vLLM 0.32 and SGLang 0.5.23, and of TensorRT-LLM 1.2 as documented: its parser was not run. A command line says how a model is cut and how much
// runs at once, not how to parse its tool calls or where its weights are cached. An engine that takes the precision of its
// weights from the checkpoint needs a checkpoint of the plan's precision: only FP8 is asked for by a flag. vLLM reads no
// placement. TensorRT-LLM starts ranks of several nodes through MPI, for which there is no object here: such plans are refused.
package emit
