# Shortcuts; .ci/run is what must pass.

.PHONY: test ci bench fuzz proof tokens

test:
	go test ./...

ci:
	.ci/run

# The benchmarks that docs/benchmarks.md quotes. Medians of BENCH_COUNT runs.
BENCH_COUNT ?= 6
bench:
	go test ./scheduling -run '^$$' -bench 'BenchmarkPick' -benchmem -count $(BENCH_COUNT)
	go test ./scheduling/prefix -run '^$$' -bench . -benchmem -count $(BENCH_COUNT)
	go test ./gateway/... -run '^$$' -bench . -benchmem -count $(BENCH_COUNT)
	go test ./kvcache/... ./moe ./internal/engine -run '^$$' -bench . -benchmem -count $(BENCH_COUNT)

# Each fuzz target for a while.
FUZZ_TIME ?= 30s
fuzz:
	@for pkg in $$(go list ./...); do \
	  for target in $$(go test -list '^Fuzz' $$pkg | grep '^Fuzz'); do \
	    go test -run '^$$' -fuzz "^$$target$$" -fuzztime $(FUZZ_TIME) $$pkg || exit 1; \
	  done; \
	done

# What takes too long for every change: property tests with many more cases, fuzzing, benchmarks.
proof:
	go test -count=1 $$(go list -f '{{.ImportPath}} {{.TestImports}} {{.XTestImports}}' ./... | grep pgregory.net/rapid | cut -d' ' -f1) -rapid.checks=5000
	$(MAKE) tokens
	$(MAKE) fuzz
	$(MAKE) bench

# The tokenizer against the reference library, on all families: about ten minutes.
VENV ?= $(HOME)/.cache/inferloom/token-venv
tokens:
	test -x $(VENV)/bin/python || python3 -m venv $(VENV)
	$(VENV)/bin/pip install -q -r e2e/token/requirements.txt
	E2E_PYTHON=$(VENV)/bin/python go test -tags e2e -count=1 -timeout 40m -run TestReference ./kvcache/token
