# make help lists the targets. Every target sets up what it needs by itself; see scripts/setup.

BIN := .venv/bin
PYTEST_OPTIONS ?=

.DEFAULT_GOAL := help
.PHONY: help rescue test test-quick test-slow test-qemu lint bench clean

help:  ## show this list
	@sed -n 's/^\([a-z-]*\):.*##  */\1\t/p' $(MAKEFILE_LIST) | expand -t 14

rescue: build/rescue.iso  ## build build/rescue.iso for this machine, boot it in QEMU, report
	@$(BIN)/mindi boot $< --check --logs build/boot
	@$(BIN)/mindi inspect $< >build/rescue.txt
	@sed '/^$$/q' build/rescue.txt

.PHONY: build/rescue.iso
build/rescue.iso:
	@scripts/setup build boot
	@mkdir -p build
	@$(BIN)/mindi build --output iso -o $@

test: test-quick test-slow test-qemu  ## run all tests

test-quick:  ## run the tests that need no QEMU, linters among them, in under a minute
	@scripts/setup build boot test
	@$(BIN)/pytest tests -n 2 -m "not slow" $(PYTEST_OPTIONS)

test-slow:  ## run the tests that need no QEMU, but time: sets of every codec, interrupted runs, fuzzing
	@scripts/setup build boot test
	@$(BIN)/pytest tests -n 2 -m slow $(PYTEST_OPTIONS)

test-qemu:  ## run the tests that boot images in QEMU
	@scripts/setup build boot test
	@$(BIN)/pytest qemu_tests $(PYTEST_OPTIONS)

lint:  ## check style and types
	@scripts/setup build boot test
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@shellcheck scripts/setup .ci/run

bench:  ## measure ours against its peers, print a table, write build/bench.json
	@scripts/setup build bench
	@$(BIN)/python -m bench --json build/bench.json

clean:  ## remove what was built; the cache folder and .venv stay
	@rm -rf build .mypy_cache .pytest_cache .ruff_cache .hypothesis
	@find . -path ./.venv -prune -o -name __pycache__ -print -exec rm -rf {} + >/dev/null
