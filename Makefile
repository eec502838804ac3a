# `make test` needs nothing but Rust: it installs what else is missing.

.PHONY: test soak bench check doc packages

test: packages
	cargo build --workspace --bins
	cargo test --workspace

# The same faults as in `make test`, as often as it takes to believe it: about two hours.
soak: packages
	cargo build --workspace --bins
	UNDERSTUDY_SOAK=1 cargo test -p understudy-tests --test scheduler -- --test-threads 1
	UNDERSTUDY_SOAK=1 cargo test -p understudy-scheduler

bench:
	cargo build --release --workspace --bins
	cargo run --release -p understudy-tests --bin bench

check:
	cargo fmt --all --check
	cargo clippy --workspace --all-targets -- -D warnings

doc:
	cargo doc --no-deps --workspace --document-private-items

packages:
	.ci/packages.sh
