#!/bin/sh
# What needs no ring and does not take long, under Miri, which notices undefined behaviour and leaks. It
# comes with nightly toolchains, but not with all: where it is not to be had, this says so.
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

# Of the timeouts, those with few.
timeouts="a_clock_that_goes_back a_collected_timeout a_key_names a_past_deadline cancel_gives take_empties"

# To print the backtrace of a panic takes Miri ten seconds.
# shellcheck disable=SC2086
RUST_BACKTRACE=0 MIRIFLAGS=-Zmiri-disable-isolation CARGO_TARGET_DIR=target/miri \
    cargo +nightly miri test --locked --lib -- \
    buffer:: notices:: sleepers:: stream::queue token:: \
    callbacks:: clock:: events:: features:: periodic:: race:: task:: $timeouts
