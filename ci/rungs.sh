#!/bin/sh
# The tests again as older kernels would run them: each rung of the ring's set-up, and each optional
# feature, turned off.
set -eu
cd "$(dirname "$0")/.."

for without in \
    defer_taskrun \
    defer_taskrun,coop_taskrun \
    no_sqarray \
    submit_all \
    cqe_skip \
    no_iowait,abs_timer,ring_fd,registered_files \
    multishot_accept \
    multishot_recv \
    buffer_ring \
    incremental \
    silent_send \
    multishot_accept,multishot_recv,buffer_ring \
    defer_taskrun,coop_taskrun,no_sqarray,submit_all,cqe_skip,no_iowait,abs_timer,ring_fd,multishot_accept,multishot_recv,buffer_ring,incremental,silent_send,registered_files
do
    echo "+ RINGLOOP_WITHOUT=$without"
    RINGLOOP_WITHOUT=$without cargo test --locked --quiet --lib --tests
done
