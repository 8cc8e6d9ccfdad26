#!/usr/bin/env bash
if [[ $# -lt 2 || ! $2 =~ ^[1-9][0-9]*$ ]]; then
    echo 'usage: bash tools/dist_train.sh CONFIG GPUS [ARGS OF train.py]' >&2
    echo 'on each of several nodes: NNODES=N NODE_RANK=R MASTER_ADDR=HOST [PORT=P] bash ...' >&2
    exit 2
fi
tools=$(dirname "${BASH_SOURCE[0]}")
exec bash "$tools/torchrun.sh" "$2" "$tools/train.py" "$1" --launcher pytorch "${@:3}"
