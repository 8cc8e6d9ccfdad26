#!/usr/bin/env bash
if [[ $# -lt 3 || ! $3 =~ ^[1-9][0-9]*$ ]]; then
    echo 'usage: bash tools/dist_test.sh CONFIG CKPT GPUS [ARGS OF test.py]' >&2
    echo 'on each of several nodes: NNODES=N NODE_RANK=R MASTER_ADDR=HOST [PORT=P] bash ...' >&2
    exit 2
fi
tools=$(dirname "${BASH_SOURCE[0]}")
exec bash "$tools/torchrun.sh" "$3" "$tools/test.py" "$1" "$2" --launcher pytorch "${@:4}"
