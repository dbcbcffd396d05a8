#!/bin/sh
# Format, lints and documentation, with warnings as errors.
set -eu
cd "$(dirname "$0")/.."

cargo fmt --check
cargo clippy --locked --all-targets -- --deny warnings
RUSTDOCFLAGS="--deny warnings" cargo doc --locked --no-deps --document-private-items
