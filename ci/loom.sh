#!/bin/sh
# The wake protocol, through all interleavings of its threads.
set -eu
cd "$(dirname "$0")/.."

RUSTFLAGS="--cfg loom" CARGO_TARGET_DIR=target/loom cargo test --locked --release --lib model::
