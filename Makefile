# `make test` needs nothing but Rust: it installs what else is missing.

.PHONY: test bench check doc packages

test: packages
	cargo build --workspace --bins
	cargo test --workspace

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
