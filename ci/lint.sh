#!/bin/sh
# Format, lints and documentation, with warnings as errors.
set -eu
cd "$(dirname "$0")/.."

cargo fmt --check
cargo clippy --locked --all-targets -- --deny warnings
cargo clippy --locked --all-targets --all-features -- --deny warnings
RUSTFLAGS="--cfg ringloop_loom" CARGO_TARGET_DIR=target/loom \
    cargo clippy --locked --lib --tests -- --deny warnings
RUSTDOCFLAGS="--deny warnings" cargo doc --locked --all-features --no-deps --document-private-items

# A package of its own.
cd benches/peers
cargo fmt --check
CARGO_TARGET_DIR=target cargo clippy --locked --all-features -- --deny warnings
