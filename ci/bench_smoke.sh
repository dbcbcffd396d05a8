#!/bin/sh
# The benches still run. Their figures are for quiet machines, and are not looked at here.
set -eu
cd "$(dirname "$0")/.."

cargo bench --locked --bench accept_storm -- --quick
cargo bench --locked --bench timers -- --quick
cargo bench --locked --bench tasks -- --quick
