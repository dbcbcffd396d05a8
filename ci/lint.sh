#!/bin/sh
# Format, lints and documentation, with warnings as errors.
set -eu
cd "$(dirname "$0")/.."

cargo fmt --check
cargo clippy --locked --all-targets -- --deny warnings
cargo clippy --locked --all-targets --all-features -- --deny warnings
RUSTDOCFLAGS="--deny warnings" cargo doc --locked --all-features --no-deps --document-private-items
