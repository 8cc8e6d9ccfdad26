#!/usr/bin/env bash
if [[ $# -lt 3 || ! ${GPUS:-8}${GPUS_PER_NODE:-8}${CPUS_PER_TASK:-5} =~ ^[1-9][0-9]*$ ]]; then
    echo 'usage: bash tools/slurm_train.sh PARTITION JOB_NAME CONFIG [ARGS OF train.py]' >&2
    echo 'before it: [GPUS=8] [GPUS_PER_NODE=8] [CPUS_PER_TASK=5] [SRUN_ARGS="..."]' >&2
    exit 2
fi
gpus=${GPUS:-8}
per_node=${GPUS_PER_NODE:-8}
((per_node = per_node < gpus ? per_node : gpus))
tools=$(dirname "${BASH_SOURCE[0]}")
read -ra srun_args <<<"${SRUN_ARGS:-}"
exec srun --partition="$1" --job-name="$2" \
    --ntasks="$gpus" --ntasks-per-node="$per_node" --gres="gpu:$per_node" \
    --cpus-per-task="${CPUS_PER_TASK:-5}" --kill-on-bad-exit=1 "${srun_args[@]}" \
    "${PYTHON:-python}" -u "$tools/train.py" "$3" --launcher slurm "${@:4}"
