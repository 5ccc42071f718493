# Shortcuts; .ci/run is what must pass.

.PHONY: test ci bench fuzz proof tokens chats validity

test:
	go test ./...

ci:
	.ci/run

# The benchmarks that docs/benchmarks.md quotes. Medians of BENCH_COUNT runs.
BENCH_COUNT ?= 6
bench:
	go test ./scheduling ./scheduling/replay ./scheduling/selectserver -run '^$$' -bench 'Pick|Explain|Shadow|Record|Run|Select' -benchmem -count $(BENCH_COUNT)
	go test ./scheduling/scorer ./scheduling/filter ./scheduling/prefix ./scheduling/flow -run '^$$' -bench . -benchmem -count $(BENCH_COUNT)
	go test ./gateway/... -run '^$$' -bench . -benchmem -count $(BENCH_COUNT)
	go test ./kvcache/... ./moe/... ./accel ./scheduling/enginemetrics ./scheduling/config ./internal/engine ./internal/sim ./internal/workload ./internal/stats ./examples/loadtest -run '^$$' -bench . -benchmem -count $(BENCH_COUNT)

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
	go test ./internal/sim -run TestMillion -million -timeout 60m -v
	go test ./internal/sim -run 'FairShares|BatchBeside|Goodput' -flowlab -timeout 60m -v
	go test ./internal/sim -run TestPredict -predictions -timeout 60m -v
	go test -count=1 ./kvcache/store/disk -run TestCrashes -crashes 20 -timeout 60m
	go test ./kvcache/store/memory -run '^$$' -bench Resident -resident 8589934592
	go test ./kvcache/store/disk -run '^$$' -bench Recovery -benchtime 3x -bytes 10737418240
	$(MAKE) tokens
	$(MAKE) chats
	$(MAKE) validity
	$(MAKE) fuzz
	$(MAKE) bench

# The tokenizer against the reference library, on all families: about ten minutes.
VENV ?= $(HOME)/.cache/inferloom/token-venv
tokens:
	test -x $(VENV)/bin/python || python3 -m venv $(VENV)
	$(VENV)/bin/pip install -q -r e2e/token/requirements.txt
	E2E_PYTHON=$(VENV)/bin/python go test -tags e2e -count=1 -timeout 40m -run TestReference ./kvcache/token
	d=$$(mktemp -d) && $(VENV)/bin/python e2e/token/real.py $$d 0.2 && \
	  TOKEN_DATA=$$d go test -tags e2e -count=1 -timeout 40m -run TestReference -v ./kvcache/token

# Chat templates against the reference renderer: real templates, CHATS conversations of each.
CHATS ?= 1500
chats:
	test -x $(VENV)/bin/python || python3 -m venv $(VENV)
	$(VENV)/bin/pip install -q -r e2e/token/requirements-chat.txt
	d=$$(mktemp -d) && mkdir $$d/cases && $(VENV)/bin/python e2e/token/templates.py $$d/templates && \
	  $(VENV)/bin/python e2e/token/chat.py $$d/cases $$d/templates $(CHATS) && \
	  CHAT_TEMPLATES=$$d/templates CHAT_CASES=$$d/cases go test -count=1 -timeout 30m -run TestReference -v ./kvcache/token/chat

# The simulated engine against vLLM on this machine's processor: 3 GB of packages, and a quarter of an hour.
VLLM ?= $(HOME)/.cache/inferloom/vllm-venv
validity:
	test -x $(VLLM)/bin/python || python3 -m venv $(VLLM)
	$(VLLM)/bin/python e2e/engine/install.py
	d=$$(mktemp -d) && $(VLLM)/bin/python e2e/token/real.py --models $$d && \
	  E2E_VLLM=$(VLLM)/bin/python RENDER_MODELS=$$d go test -tags e2e -count=1 -timeout 20m -v ./e2e/render
	E2E_VLLM_PYTHON=$(VLLM)/bin/python go test -tags e2e -count=1 -timeout 20m -run 'VLLM|Index' -v ./e2e/events
	E2E_PYTHON=$(VLLM)/bin/python go test -tags e2e -count=1 -timeout 40m -v ./e2e/engine
