#!/bin/sh
# What hands out memory and needs no ring, under Miri, which notices undefined behaviour. It comes with
# nightly toolchains, but not with all: where it is not to be had, this says so.
set -eu
cd "$(dirname "$0")/.."

has_miri() {
    cargo +nightly miri --version > /dev/null 2>&1
}

if ! has_miri; then
    rustup component add --toolchain nightly miri rust-src > /dev/null 2>&1 || true
fi
if ! has_miri; then
    echo "there is no nightly toolchain with Miri: its part of the tests is not run"
    exit 0
fi

MIRIFLAGS=-Zmiri-disable-isolation CARGO_TARGET_DIR=target/miri \
    cargo +nightly miri test --locked --lib -- buffer:: notices:: sleepers:: stream::queue
