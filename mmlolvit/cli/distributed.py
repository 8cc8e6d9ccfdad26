"""Several processes: how they meet, which of them speaks, and what they must have in common."""

import os
import signal
import time
from unittest.mock import patch

import torch
from mmengine.config import Config
from mmengine.device import get_device
from mmengine.dist import broadcast, init_dist, is_distributed
from mmengine.hooks import Hook
from mmengine.utils.dl_utils import set_multi_processing
from torch.distributed import is_torchelastic_launched

from ..errors import UserError

# Where each launcher tells a process its number, its number on the machine, and how many there are.
VARIABLES = dict(
    pytorch=('RANK', 'LOCAL_RANK', 'WORLD_SIZE'),
    slurm=('SLURM_PROCID', 'SLURM_LOCALID', 'SLURM_NTASKS'),
    mpi=('OMPI_COMM_WORLD_RANK', 'OMPI_COMM_WORLD_LOCAL_RANK', 'OMPI_COMM_WORLD_SIZE'),
)
NEEDED = dict(VARIABLES, mpi=(*VARIABLES['mpi'], 'MASTER_ADDR'))
STARTED_BY = dict(
    pytorch='bash tools/dist_train.sh CONFIG GPUS, which calls torchrun',
    slurm='bash tools/slurm_train.sh PARTITION JOB_NAME CONFIG, which calls srun',
    mpi='mpirun, with MASTER_ADDR set to the first node',
)
GRACE = 5.0  # s in which a launcher ends the others, once one process has


def join(cfg: Config) -> None:
    """Meet the other processes of `cfg.launcher`; where there is no accelerator, over gloo.

    Raises UserError without the launcher, for several processes that were not told of each other,
    and for more processes than GPUs.
    """
    if cfg.launcher == 'none':
        processes = os.environ['WORLD_SIZE'] if is_torchelastic_launched() else '1'
        if processes != '1':
            raise UserError(
                f'torchrun started {processes} processes, and each would do all the work: '
                'add --launcher pytorch'
            )
        return
    if absent := [name for name in NEEDED[cfg.launcher] if name not in os.environ]:
        raise UserError(
            f'--launcher {cfg.launcher} expects to be started by {STARTED_BY[cfg.launcher]}; '
            f'not set: {", ".join(absent)}'
        )
    for name, own in zip(VARIABLES['pytorch'], VARIABLES[cfg.launcher], strict=True):
        os.environ[name] = os.environ[own]
    if is_distributed():
        return
    env_cfg = cfg.get('env_cfg') or {}
    set_multi_processing(**env_cfg.get('mp_cfg', {}), distributed=True)  # init_dist asks for it
    options = dict(env_cfg.get('dist_cfg') or {})
    if get_device() == 'cpu':
        with patch('torch.cuda.set_device'):  # which MMEngine calls in any case
            init_dist(cfg.launcher, **dict(options, backend='gloo'))
        return
    number, gpus = int(os.environ['LOCAL_RANK']), torch.cuda.device_count()
    if get_device() == 'cuda' and number >= gpus:
        raise UserError(
            f'expected one process for each GPU: this machine has {gpus}, and at least '
            f'{number + 1} were started'
        )
    init_dist(cfg.launcher, **options)


def leave() -> None:
    """Part from the other processes, once all is written."""
    if is_distributed():
        torch.distributed.destroy_process_group()


def wait_to_speak() -> None:
    """Return when it is for this process to report an error, at once in process 0.

    An error of all is reported by the first, and its launcher ends the others in the meantime. One
    that only others have is theirs to report, by the first on a machine before the rest.
    """
    ranks = [
        [int(os.environ[name]) for name in names[:2]]
        for names in VARIABLES.values()
        if all(name in os.environ for name in names)
    ]
    if not ranks:
        return
    # Ended by the launcher in the meantime it fails as the first did: srun ends with the highest
    # code of all, and SIGTERM's would say that a training was saved.
    before = signal.signal(signal.SIGTERM, lambda *_: os._exit(2))
    time.sleep(GRACE * max(sum(number > 0 for number in pair) for pair in ranks))
    signal.signal(signal.SIGTERM, before)


def wait_to_fail() -> None:
    """Let the launcher end this process, if it fails because another one did before."""
    if is_distributed():
        time.sleep(GRACE)


class OneModel(Hook):
    """Let every process validate process 0's BatchNorm statistics: those that are saved."""

    priority = 'LOWEST'  # when an EMA has taken the model's place

    def before_val_epoch(self, runner) -> None:
        for buffer in runner.model.buffers():
            broadcast(buffer)
