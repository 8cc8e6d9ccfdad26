#!/usr/bin/env bash
# What dist_train.sh and dist_test.sh share: GPUS processes of a tool on this node.
# PORT is needed by several nodes only; on one, torchrun finds a free one for each run.
gpus=$1
shift
if [[ ${NNODES:-1} != 1 && (-z ${NODE_RANK:-} || -z ${MASTER_ADDR:-}) ]]; then
    echo "NNODES=$NNODES: set NODE_RANK, from 0 on, and MASTER_ADDR, the host of node 0" >&2
    exit 2
fi
if [[ ${NNODES:-1} == 1 && -z ${PORT:-} ]]; then
    meet=(--standalone --local-addr=127.0.0.1)
else
    meet=(
        --nnodes="${NNODES:-1}"
        --node-rank="${NODE_RANK:-0}"
        --master-addr="${MASTER_ADDR:-127.0.0.1}"
        --master-port="${PORT:-29500}"
    )
fi
export OMP_NUM_THREADS="${OMP_NUM_THREADS:-1}" MKL_NUM_THREADS="${MKL_NUM_THREADS:-1}"
exec "${PYTHON:-python}" -m mmlolvit.cli.launch "${meet[@]}" --nproc-per-node="$gpus" "$@"
