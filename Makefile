# Type `make help`.
#
# Everything is built below target/ (or $CARGO_TARGET_DIR) and build/ (or $DFGET_BUILD_DIR); nothing else of the
# machine changes, except that missing Debian packages are installed when root. Nothing needs root.

PROFILE ?= dev
export DFGET_BUILD_DIR ?= $(CURDIR)/build
CLIENTS := $(DFGET_BUILD_DIR)/clients

TARGET = $$(cargo metadata --no-deps --format-version 1 | sed -E 's/.*"target_directory":"([^"]*)".*/\1/')/$(PROFILE:dev=debug)

.DEFAULT_GOAL := help
.PHONY: help host host-test build clients h2spec demo demo-cluster bench test texts axe packages check-packages lint fmt-check clippy doc deny
# Packages are installed by one at a time.
.NOTPARALLEL:

help: ## Show this text
	@sed -nE 's/^([a-z-]+):.*## (.*)/  make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 20
	@echo
	@echo "Nothing here needs root. A test that only root can run says that it is left out; it runs in CI (.ci/run)."
	@echo "Debian packages that are missing are named, and installed when root."
	@echo "The first build takes two minutes on two cores; an optimized one (PROFILE=release) about five."

host:
	@tests/real-clients/host-packages build
	@command -v cargo >/dev/null || { echo "make: cargo is not there; install Rust as https://rustup.rs says" >&2; exit 1; }

host-test:
	@tests/real-clients/host-packages test

build: host ## Build the dfget binary
	@echo "make: building dfget, on two cores two minutes the first time"
	cargo build --locked --profile $(PROFILE) --bin dfget

clients: ## Put the real clients and registries into build/clients
	@tests/real-clients/setup $(CLIENTS)

axe:
	@tests/real-clients/axe $(DFGET_BUILD_DIR)/axe

h2spec:
	@tests/real-clients/h2spec $(DFGET_BUILD_DIR)/h2spec

demo: build clients ## Pull a real image through dfget, cold and warm
	@demo/run "$(TARGET)/dfget" $(CLIENTS)

demo-cluster: build clients ## Let eight nodes feed each other, with a live picture
	@demo/cluster "$(TARGET)/dfget" $(CLIENTS)

# Measured is what users build, unless PROFILE is given to make.
bench: PROFILE = release
bench: host clients ## Measure dfget beside nginx and others; bench/README.md has the variables
	@echo "make: building dfget and dfget-bench (PROFILE=$(PROFILE))"
	cargo build --locked --profile $(PROFILE) --bin dfget --bin dfget-bench
	cargo build --locked --profile $(PROFILE) --example loopback
	@bench/run "$(TARGET)" $(DFGET_BUILD_DIR)

test: host host-test clients h2spec axe ## Run all tests, those with real clients included
	cargo test --locked --workspace --no-fail-fast

texts: host ## Write anew what is generated: the configuration's page, and the snapshots of all that dfget prints
	DFGET_WRITE_DOCS=1 cargo test --locked --quiet -p dfget-config --lib -- reference
	DFGET_WRITE_DOCS=1 cargo test --locked --quiet -p dfget --bin dfget --test said -- snapshot
	@git status --short -- docs crates/dfget/tests/snapshots

packages: PROFILE = release
packages: host ## Build a .deb and a .rpm, of a static binary, into build/packages
	@tests/real-clients/host-packages packages
	@echo "make: building a static dfget (PROFILE=$(PROFILE))"
	PROFILE=$(PROFILE) packaging/build $(DFGET_BUILD_DIR)/packages

# Of the binary that the tests have, which is there already.
check-packages: build clients ## Check deploy/ and the packages: well made, installable, upgradable, under a real systemd
	@tests/real-clients/host-packages packages checks
	@packaging/check-deploy "$(TARGET)/dfget"
	@packaging/build $(DFGET_BUILD_DIR)/packages-checked "$(TARGET)/dfget" >/dev/null
	@packaging/test $(DFGET_BUILD_DIR)/packages-checked

lint: fmt-check clippy doc deny ## Check format, lints, documentation and dependencies

fmt-check:
	cargo fmt --all --check

clippy: host
	cargo clippy --locked --workspace --all-targets -- --deny warnings

doc: host
	RUSTDOCFLAGS="--deny warnings" cargo doc --locked --workspace --no-deps --document-private-items

# Crates of other systems are looked at too, so all are fetched. Advisories are left to those who have the network
# for them: cargo deny check advisories
deny:
	@if command -v cargo-deny >/dev/null; then \
	    cargo fetch --locked --quiet && cargo deny --offline check bans licenses sources; \
	else \
	    echo "make: licences and dependencies are not checked, for cargo-deny is not there; type: cargo install cargo-deny --locked"; \
	fi
