# One line for each thing that people do. README.md says what they need.
.PHONY: demo demos test hostile bench fuzz openbao lint target

EXAMPLE ?= repo-auditor

demo: build ## Run an example's story: make demo EXAMPLE=name
	scripts/story.sh $(EXAMPLE)

demos: build ## Run every story; four of them fetch packages from PyPI
	for story in examples/*/story.py; do scripts/story.sh "$$(basename "$$(dirname "$$story")")" || exit 1; done

test: target ## Run every test, and the stories that need nothing else
	cargo test --workspace --locked
	scripts/build.sh guests
	scripts/story.sh repo-auditor
	scripts/story.sh support-desk

hostile: target ## Attack everything that holds guests, and count what held
	scripts/hostile.sh

bench: target ## Print how we compare, and write target/bench.json; BENCH_SOAK_SECONDS=0 leaves ten minutes of load out
	scripts/bench.sh

openbao: ## Test credentials against a real OpenBao, which PyPI has
	scripts/openbao.sh

fuzz: ## Run each fuzz target for FUZZ_SECONDS, a minute if unset
	scripts/fuzz.sh

lint: target ## Formatting and lints
	cargo fmt --all --check
	cargo clippy --workspace --all-targets --locked -- -D warnings

.PHONY: build
build: target
	scripts/build.sh

target:
	scripts/guest-target.sh
