#!/bin/bash
# Two workers on this machine, to try what happens on two. All arguments go to `keras-archs train`:
#     examples/local/two_processes.sh --recipe digits --run-dir runs/two
set -eu

hosts=localhost:12345,localhost:12346
# Two processes can't share the GPUs.
export CUDA_VISIBLE_DEVICES=-1

keras-archs train "$@" --hosts "$hosts" --task-index 1 &
worker=$!
# If the chief fails, its worker has nobody to wait for.
trap 'kill "$worker" 2> /dev/null || true' EXIT
keras-archs train "$@" --hosts "$hosts" --task-index 0
wait "$worker"
