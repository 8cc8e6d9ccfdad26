"""What is needed to repeat a training, written beside its logs: `run.json`."""

import datetime
import hashlib
import json
import pickle
import shlex
import subprocess
import sys
from pathlib import Path

from mmengine.dist import master_only
from mmengine.hooks import Hook

from ..benchmark.report import environment
from ..doctor import installed_distributions
from .saving import write_safely
from .secrecy import hide_argument, hide_urls

FILE = 'run.json'


class RecordRun(Hook):
    """Writes the command, versions, git's state, the seed, and a fingerprint of the data.

    The whole config lies beside it, as MMEngine writes it. Values of arguments and settings whose
    name says that they are secret are left out, and nothing of the environment's variables is
    written.
    """

    def __init__(self, argv: list[str] | None):
        self.argv = sys.argv[1:] if argv is None else argv

    @master_only
    def before_train(self, runner) -> None:
        loops = dict(training=runner.train_loop, validation=runner.val_loop)
        content = dict(
            command=shlex.join(['mmlolvit', 'train', *map(hide_argument, self.argv)]),
            started=datetime.datetime.now(datetime.UTC).isoformat(timespec='seconds'),
            seed=runner.seed,
            processes=runner.world_size,
            resumed_from=hide_urls(str(runner._load_from)) if runner._resume else None,
            git=git_state(),
            data={
                use: fingerprint(loop.dataloader.dataset)
                for use, loop in loops.items()
                if loop is not None
            },
            environment=environment(next(runner.model.parameters()).device),
            packages=dict(sorted(installed_distributions().items())),
        )
        text = json.dumps(content, indent=1) + '\n'
        write_safely(Path(runner.log_dir) / FILE, text.encode())


def git_state() -> dict | None:
    """Commit of the folder's repository, and the files that differ from it; None without git."""
    found = {}
    for key, command in (('commit', 'rev-parse HEAD'), ('changed', 'status --porcelain')):
        try:
            done = subprocess.run(
                ['git', *command.split()], capture_output=True, text=True, timeout=10
            )
        except (OSError, subprocess.TimeoutExpired):
            return None
        if done.returncode:
            return None
        found[key] = done.stdout.strip()
    return dict(found, changed=found['changed'].splitlines())


def fingerprint(dataset) -> dict:
    """Number of samples, and a digest of their paths and annotations where these are listed.

    The images themselves are not read. A wrapper's is that of what it wraps.
    """
    found = dict(type=type(dataset).__name__, samples=len(dataset))
    inner = getattr(dataset, 'datasets', None) or filter(None, [getattr(dataset, 'dataset', None)])
    if parts := [fingerprint(part) for part in inner]:
        return dict(found, parts=parts)
    listed = getattr(dataset, 'data_bytes', None)
    if listed is None or not len(listed):
        listed = pickle.dumps(getattr(dataset, 'data_list', None) or None)
    return dict(found, blake2b=hashlib.blake2b(bytes(listed), digest_size=16).hexdigest())
