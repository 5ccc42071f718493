// Package render asks vLLM itself, started as its render server, which needs no accelerator, for the ids of prompts, and
// compares what the module's client and its own tokenizer make of them. Its test needs a Python with vLLM, which E2E_VLLM
// names, and is built with the tag e2e.
package render
