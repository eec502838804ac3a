# `make test` needs nothing but Rust: it installs what else is missing.

SHELL := bash
.SHELLFLAGS := -o pipefail -c

.PHONY: test soak upgrade bench check doc packages openapi schemathesis

# Most wait more than they compute, so that two lines of them run beside each other: what computes (unit tests, models) and then
# what makes load and bounds what it takes (FAULTS), beside clusters that only wait (CLUSTERS, TOGETHER) and those that look at
# pages (PAGES).
TOGETHER := admin cli cluster doctor settings traces
PAGES := console deploy
CLUSTERS := scheduler sessions
FAULTS := faults harness operators
ALL := $(basename $(notdir $(wildcard */tests/*.rs))) $(notdir $(patsubst %/main.rs,%,$(wildcard */tests/*/main.rs)))
SERVERS := $(filter-out $(TOGETHER) $(PAGES) $(CLUSTERS) $(FAULTS), $(ALL))

# One that fails keeps none of the others from being seen.
tests = cargo test --workspace --no-fail-fast $(1:%=--test %)

# Where there is a file system in memory with 8 GiB left, the servers of the tests live there: to make and to remove the
# thousand files of a PostgreSQL takes a disk longer than all else that a test does.
MEMORY := $(shell test "$$(df --output=avail /dev/shm 2>/dev/null | tail -1)" -gt 8388608 2>/dev/null && echo /dev/shm)
test bench: export TMPDIR := $(or $(MEMORY),$(TMPDIR),/tmp)

test: packages
	cargo build --workspace --bins
	cargo test --workspace --no-run
	@( RUST_TEST_THREADS=2 $(call tests,$(CLUSTERS)); first=$$?; RUST_TEST_THREADS=3 $(call tests,$(TOGETHER)); second=$$?; \
	RUST_TEST_THREADS=2 $(call tests,$(PAGES)) && [ $$first$$second = 00 ] ) >target/beside.log 2>&1 & beside=$$!; \
	( $(call tests,$(SERVERS)) --lib --bins; first=$$?; $(call tests,$(FAULTS)) && [ $$first = 0 ] ) 2>&1 | tee target/first.log; \
	status=$$?; wait $$beside || status=1; cat target/beside.log; \
	[ $$status = 0 ] || grep -hE -A4 "^thread '.*' .*panicked at" target/first.log target/beside.log || true; exit $$status
	cargo test --workspace --doc

# The same faults as in `make test`, as often as it takes to believe it, and at the size that was asked for: some hours.
soak: packages
	cargo build --workspace --bins
	UNDERSTUDY_SOAK=1 cargo test -p understudy-tests --test scheduler -- --test-threads 1
	UNDERSTUDY_SOAK=1 cargo test -p understudy-scheduler
	UNDERSTUDY_SOAK=1 cargo test -p understudy-tests --test sessions -- --test-threads 1 d4_ s7_a_thousand_ s7_lists_
	UNDERSTUDY_SOAK=1 cargo test -p understudy-tests --test files -- --test-threads 1 --nocapture
	UNDERSTUDY_SOAK=1 cargo test -p understudy-tests --test faults -- --test-threads 1 o2_ redis_killed_ redis_paused_
	UNDERSTUDY_SOAK=1 cargo test --release -p understudy-tests --test faults -- --test-threads 1 c1_

# A rolling restart under load from an older version into this one: `make upgrade OLDER=v0.1.0`, a tag or commit of this repository.
upgrade: packages
	.ci/older.sh $(OLDER)
	cargo build --workspace --bins
	UNDERSTUDY_TESTS_OLDER=$(CURDIR)/target/older/fixture cargo test --workspace --test operators -- h9_behind_haproxy_too

# With very many sessions at one node: `make bench BENCH_SESSIONS=1000000`: some 6 GB of memory, by docs/performance.md.
bench:
	cargo build --release --workspace --bins
	cargo run --release -p understudy-tests --bin bench -- $(if $(BENCH_SESSIONS),--sessions $(BENCH_SESSIONS))
	.ci/bentocache.sh

check:
	cargo fmt --all --check
	cargo clippy --workspace --all-targets -- -D warnings

doc:
	cargo doc --no-deps --workspace --document-private-items

packages:
	.ci/packages.sh

# The description of the admin API, after a change that is meant.
openapi:
	UNDERSTUDY_TESTS_BLESS=1 cargo test --workspace --test admin openapi

# Asks a node whatever the description of its admin API allows; needs Python and PyPI.
schemathesis:
	.ci/schemathesis.sh
