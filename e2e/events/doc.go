// Package events holds the subscriber and the index against what engines really send: a publisher on libzmq, and vLLM on CPU with a
// small model and a LoRA adapter of random weights. With sha256_cbor, its published hashes and cached-token counts are predicted from
// the prompts alone; with its default hash, which cannot be computed elsewhere, kvcache.Index predicts the counts from the events.
// The first needs pyzmq and msgspec; the others a Python with vLLM, which e2e/engine/install.py installs, and are passed over without.
//
//	E2E_PYTHON=venv/bin/python E2E_VLLM_PYTHON=venv/bin/python go test -tags e2e -count=1 -v ./e2e/events
package events
