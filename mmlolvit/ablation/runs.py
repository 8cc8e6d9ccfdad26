"""Trains variants of a config with several seeds; goes on after a kill, and past a failed run."""

import json
import os
import signal
import subprocess
import sys
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
from tqdm import tqdm

from ..analysis.logs import read_run
from ..benchmark.report import write_whole
from ..engine.secrecy import hide_secrets, hide_urls
from ..errors import UserError
from ..zoo import find_config, load_config
from .variants import Variant

DONE = 'result.json'


@dataclass
class Run:
    """One training.

    Attributes:
        config: What is ablated, as it was named.
        variant: What is changed.
        seed: Of the training.
        folder: Its work dir, with `result.json` when it is done; its config lies above.
        metric: What the task is judged by.
        failed: Why it has no result, in words.
    """

    config: str
    variant: Variant
    seed: int
    folder: Path
    metric: str
    failed: str | None = None

    @property
    def file(self) -> Path:
        """The config that is trained."""
        return self.folder.parent / f'{self.variant.name}.py'

    @property
    def result(self) -> float | None:
        """What the last validation measured; None too where what is written is damaged."""
        try:
            return float(json.loads((self.folder / DONE).read_bytes())['value'])
        except (OSError, ValueError, KeyError, TypeError):
            return None


@contextmanager
def alone(folder: Path) -> Iterator[None]:
    """Hold a folder; raises UserError while another process does, that would train the same."""
    if os.name != 'posix':  # there, keep them apart yourself
        yield
        return
    import fcntl

    with open(folder / '.lock', 'w') as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise UserError(
                f'another ablation runs in {folder}: wait for it, or name another --work-dir'
            ) from error
        yield


def plan(
    configs: Sequence[str], variants: Sequence[Variant], seeds: Sequence[int], folder: Path
) -> list[Run]:
    """The runs, seed by seed, with their configs written; raises UserError where one is wrong."""
    bases = {config: find_config(config) for config in configs}
    stems = [Path(base).stem for base in bases.values()]
    if twice := {stem for stem in stems if stems.count(stem) > 1}:
        raise UserError(
            f'two configs are named {", ".join(sorted(twice))}, and their runs would share a '
            'folder: rename one, or ablate them one by one, each with a --work-dir'
        )
    runs = []
    for config, base in bases.items():
        for variant in variants:
            place = folder / Path(base).stem
            file = place / variant.name / f'{variant.name}.py'
            file.parent.mkdir(parents=True, exist_ok=True)
            write_whole(file, variant.config(base))
            cfg, task = load_config(str(file), {}, ('model', 'train_dataloader'))
            hide_secrets(cfg._cfg_dict)  # written, and no other config where they change
            require_same(file.with_name('whole.txt'), cfg.pretty_text)
            for seed in dict.fromkeys(seeds):
                runs.append(Run(config, variant, seed, file.parent / f'seed_{seed}', task.metric))
    return sorted(runs, key=lambda run: run.seed)


def require_same(file: Path, text: str) -> None:
    """Keep the whole config beside its runs; raises UserError where they were of another one."""
    if file.exists() and file.read_text() != text and any(file.parent.glob('seed_*')):
        raise UserError(
            f'the runs in {file.parent} are of another config: name another --work-dir, or remove '
            'them'
        )
    write_whole(file, text)


def train(runs: Sequence[Run], jobs: int) -> None:
    """Train what has no result yet, ``jobs`` at once, each with its own GPU or threads.

    SIGTERM and Ctrl-C end what is running, which saves where it is, and begin nothing new.
    """
    places = deque(range(jobs))
    waiting = [run for run in runs if run.result is None]
    running = set()
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    with tqdm(total=len(runs), initial=len(runs) - len(waiting), unit='run') as bar:

        def work(run: Run) -> None:
            place = places.popleft()
            try:
                run.failed = _train(run, place, jobs, running)
            finally:
                places.append(place)
            words = run.failed or f'{run.result:.4g}'
            bar.write(f'{run.config}, {run.variant.name}, seed {run.seed}: {words}')
            bar.update()

        with ThreadPoolExecutor(jobs) as pool:
            try:
                list(pool.map(work, waiting))
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)
                for process in list(running):
                    process.terminate()
                raise
            finally:
                signal.signal(signal.SIGTERM, before)


def _train(run: Run, place: int, jobs: int, running: set[subprocess.Popen]) -> str | None:
    """Train one run to its end; why it failed, or None."""
    command = [sys.executable, '-m', 'mmlolvit', 'train', str(run.file), '--resume']
    command += ['--work-dir', str(run.folder), '--cfg-options', f'randomness.seed={run.seed}']
    threads = max(1, (os.cpu_count() or 1) // jobs)
    env = dict(os.environ, OMP_NUM_THREADS=str(threads))
    if number := torch.cuda.device_count():
        visible = env.get('CUDA_VISIBLE_DEVICES') or ','.join(map(str, range(number)))
        env['CUDA_VISIBLE_DEVICES'] = visible.split(',')[place % number]
    run.folder.mkdir(parents=True, exist_ok=True)
    with open(run.folder / 'output.txt', 'w') as output:
        process = subprocess.Popen(command, env=env, stdout=output, stderr=output)
        running.add(process)
        code = process.wait()
        running.discard(process)
    said = hide_urls((run.folder / 'output.txt').read_text(errors='replace'))
    write_whole(run.folder / 'output.txt', said)
    if code:
        lines = [line for line in said.splitlines() if line]
        return f'failed with exit code {code}: {lines[-1] if lines else "it said nothing"}'
    try:
        found = read_run(str(run.folder), run.folder).metrics
    except UserError as error:
        return str(error)
    if run.metric not in found:
        return f'its validation measured no {run.metric}'
    step = max(found[run.metric])
    content = dict(metric=run.metric, value=found[run.metric][step], step=step)
    write_whole(run.folder / DONE, json.dumps(content) + '\n')
    return None
