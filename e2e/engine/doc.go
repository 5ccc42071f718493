// Package engine records what vLLM does under load, on CPU with a small model of random weights, and compares the simulated
// engine with it; docs/validity.md has the results. It takes a quarter of an hour and downloads 3 GB, so it is not part of what
// runs on every change: internal/engine/testdata holds recordings that its tests replay each time.
//
//	python3 -m venv venv && venv/bin/python e2e/engine/install.py
//	E2E_PYTHON=$PWD/venv/bin/python go test -tags e2e -count=1 -timeout 40m -v ./e2e/engine
package engine
