#!/bin/sh
# The tests, by the command that the README gives, and those of optional features.
set -eu
cd "$(dirname "$0")/.."

command=$(grep --max-count=1 '^cargo test' README.md)
echo "+ $command"
sh -c "$command"

# A whole gigabyte.
cargo test --locked --release --test stream_bulk

cargo test --locked --all-features --test stream_traits --test stream_regex
cargo test --locked --all-features --doc
