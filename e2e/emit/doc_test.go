// Package emit_test validates what moe/emit writes against those who read it: Kubernetes objects against the schemas that
// LeaderWorkerSet, Kueue and Grove publish in their Go modules, with the code of the Kubernetes API server, rules in CEL
// included; command lines with the parsers of vLLM and SGLang. It is a module of its own so that none of that is a
// dependency of inferloom.
//
//	go -C e2e/emit test ./...
//
// EMIT_CRDS lists folders of further CRDs, of newer versions for example. EMIT_VLLM and EMIT_SGLANG are Python interpreters
// in whose environments those engines are installed, for CPUs suffices; where one is unset its test is passed over.
package emit_test
