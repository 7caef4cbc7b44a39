# `make demo` and `make test` do everything on a machine with Rust, a C++ compiler and Python 3 with pip.

CARGO ?= cargo

.PHONY: demo demo-full test test-mpi test-browser bench lint docs setup setup-cuda help

help:            ## Show this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 16

demo: setup      ## The main job end to end on a data set that is drawn on the spot
	$(CARGO) run --release --bin xenc -- demo --out runs/demo --force

demo-full: setup ## All fifteen rows of ImageCoDe's table on such a data set
	$(CARGO) run --release --bin xenc -- demo --rows --out runs/demo-full --force

test: setup      ## Run all tests
	$(CARGO) test --workspace

test-mpi: setup  ## Two ranks on this machine equal one; checks for MPI first (docs/scale.md)
	@tools/setup/mpi.sh
	$(CARGO) test --workspace --features crossencoders/mpi --lib distributed
	$(CARGO) test --workspace --features xenc/mpi --test mpi

test-browser: setup  ## The explorer in a headless Chromium; installs that first (docs/seeing_a_run.md)
	@tools/setup/browser.sh
	$(CARGO) test --workspace --features xenc/browser --test browser

bench: setup     ## Measure the store against memcpy (benches/store.sh has the peers)
	$(CARGO) bench --package feature_store

lint: setup      ## Formatting, clippy, and that the store tools need no libtorch
	$(CARGO) fmt --all --check
	$(CARGO) clippy --workspace --all-targets -- -D warnings
	$(CARGO) clippy --package xenc --no-default-features --all-targets -- -D warnings

docs: setup      ## Build the documentation; warnings are errors
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --workspace --no-deps

setup:           ## Install libtorch and ONNX Runtime into the cache (nothing is downloaded twice)
	@tools/setup/runtime.sh

setup-cuda:      ## The same with what a GPU needs
	@tools/setup/runtime.sh cuda
