# `make test` needs nothing but Rust: it installs what else is missing.

.PHONY: test soak upgrade bench check doc packages openapi schemathesis

# Most wait more than they compute, so three lines of them run beside each other. In the first what computes (unit tests, models,
# whatever is in no other line), then what makes load and bounds what it takes.
FAULTS := faults harness operators
CLUSTERS := scheduler sessions
PAGES := console deploy
STORES := stores database_store files
TOGETHER := admin cli cluster doctor settings traces
ALL := $(basename $(notdir $(wildcard */tests/*.rs))) $(notdir $(patsubst %/main.rs,%,$(wildcard */tests/*/main.rs)))
REST := $(filter-out $(FAULTS) $(CLUSTERS) $(PAGES) $(STORES) $(TOGETHER), $(ALL))

# Where there is a file system in memory with 8 GiB left, the servers of the tests live there: to make and to remove the
# thousand files of a PostgreSQL takes a disk longer than all else that a test does.
MEMORY := $(shell test "$$(df --output=avail /dev/shm 2>/dev/null | tail -1)" -gt 8388608 2>/dev/null && echo /dev/shm)
test bench: export TMPDIR := $(or $(MEMORY),$(TMPDIR),/tmp)

test: packages
	cargo build --workspace --bins
	cargo test --workspace --no-run
	.ci/lines.sh 0 $(REST) lib bins , 2 $(FAULTS) / 2 $(CLUSTERS) , 2 $(PAGES) / 2 $(STORES) , 3 $(TOGETHER)
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
