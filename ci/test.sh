#!/bin/sh
# The tests, by the command that the README gives.
set -eu
cd "$(dirname "$0")/.."

command=$(grep --max-count=1 '^cargo test' README.md)
echo "+ $command"
sh -c "$command"
