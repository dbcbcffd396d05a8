#!/bin/sh
# The wake protocol, buffers given back by other threads, and what becomes of tasks that are woken
# while their loop closes, through the interleavings of their threads.
set -eu
cd "$(dirname "$0")/.."

RUSTFLAGS="--cfg ringloop_loom" CARGO_TARGET_DIR=target/loom cargo test --locked --release --lib model::
