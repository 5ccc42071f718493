// Package events holds the subscriber against what engines really send: a publisher on libzmq, and vLLM on CPU with a small model of
// random weights, whose published hashes and cached-token counts are predicted from the prompts alone. The first needs
// pyzmq and msgspec; the second a Python with vLLM, which e2e/engine/install.py installs, and is passed over without.
//
//	E2E_PYTHON=venv/bin/python E2E_VLLM_PYTHON=venv/bin/python go test -tags e2e -count=1 -v ./e2e/events
package events
