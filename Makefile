# One line for each thing that people do. README.md says what they need.
.PHONY: demo demos test bench lint target

EXAMPLE ?= repo-auditor

demo: build ## Run an example's story: make demo EXAMPLE=name
	scripts/story.sh $(EXAMPLE)

demos: build ## Run every story; two of them fetch packages from PyPI
	for story in examples/*/story.py; do scripts/story.sh "$$(basename "$$(dirname "$$story")")" || exit 1; done

test: target ## Run every test, and the default story
	cargo test --workspace --locked
	$(MAKE) --no-print-directory demo

bench: target ## Print how we compare, and write target/bench.json
	scripts/bench.sh

lint: target ## Formatting and lints
	cargo fmt --all --check
	cargo clippy --workspace --all-targets --locked -- -D warnings

.PHONY: build
build: target
	scripts/build.sh

target:
	scripts/guest-target.sh
