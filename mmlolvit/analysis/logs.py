"""What training runs logged: ``WORK_DIR/YYYYMMDD_HHMMSS/vis_data/scalars.json``, of any task."""

import json
import math
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from statistics import median

from mmengine.hooks import CheckpointHook

from ..errors import UserError

LOG = 'vis_data/scalars.json'
PLACE = ('epoch', 'iter', 'step')  # what tells where a record belongs
TIMES = ('time', 'data_time')
LAST = 2**53  # a step or an epoch beyond it is no count: a float cannot tell it from the next


@dataclass
class Run:
    """The curves of one run, over all the times that it was resumed.

    Attributes:
        name: To tell it from the others.
        training: Key -> its values by iteration, such as `loss`, and `time`, seconds an iteration.
        metrics: The same of what validation measured.
        per_epoch: Iterations in an epoch; None for a run that is not counted in epochs.
    """

    name: str
    training: dict[str, dict[int, float]]
    metrics: dict[str, dict[int, float]]
    per_epoch: int | None

    @property
    def last(self) -> int:
        """The last iteration that was logged."""
        return max(max(values) for values in (self.training | self.metrics).values())

    def find(self, key: str) -> dict[int, float]:
        """The values of a key by iteration; empty where the run has none."""
        return self.metrics.get(key) or self.training.get(key) or {}

    def best(self, key: str) -> int | None:
        """The iteration where a metric is best; None where the key is none, or never a number."""
        found = self.metrics.get(key, {})
        values = {step: value for step, value in found.items() if math.isfinite(value)}
        falls = any(word in key for word in CheckpointHook._default_less_keys)
        return (min if falls else max)(values, key=values.get, default=None)

    def place(self, step: int) -> str:
        """An iteration as the run counts."""
        if self.per_epoch:
            return f'epoch {round(step / self.per_epoch, 2):g}'
        return f'iteration {step}'


def read_runs(folders: list[str]) -> list[Run]:
    """The runs of work dirs, named after these, as shortly as tells them apart.

    Raises UserError for a folder without logs, and for logs that cannot be read.
    """
    paths = [Path(folder).resolve() for folder in dict.fromkeys(folders)]
    depth = 1
    while len({path.parts[-depth:] for path in paths}) < len(set(paths)):
        depth += 1
    names = {'/'.join(path.parts[-depth:]): path for path in paths}
    return [read_run(name, path) for name, path in names.items()]


def read_run(name: str, folder: Path) -> Run:
    """One run; where folders of a work dir log the same iterations, the later one counts."""
    files = sorted(folder.glob(f'*/{LOG}')) or sorted(folder.glob(LOG))
    pieces = [piece for piece in map(read_records, files) if piece]
    per_epoch = find_epoch(pieces)
    training, metrics, last = {}, {}, {}
    for piece in pieces:
        placed = list(place_records(piece, per_epoch, last))
        trained = [record for record in piece if 'iter' in record]
        last = trained[-1] if trained else last
        start = min(step for step, record in placed if not trained or 'iter' in record)
        for curves in (training, metrics):
            for key, values in curves.items():
                curves[key] = {step: value for step, value in values.items() if step < start}
        for step, record in placed:
            curves = training if 'iter' in record else metrics
            for key, value in record.items():
                known = key in PLACE or (curves is metrics and key in TIMES)
                if not known and isinstance(value, int | float):
                    curves.setdefault(key, {})[step] = float(value)
    if not any((*training.values(), *metrics.values())):
        wrong = 'holds no logs of a training run' if folder.exists() else 'does not exist'
        raise UserError(
            f'{folder} {wrong}: expected a work dir of tools/train.py, with '
            f'YYYYMMDD_HHMMSS/{LOG} that has at least one line with a loss or a metric'
        )
    return Run(name, *({k: v for k, v in c.items() if v} for c in (training, metrics)), per_epoch)


def read_records(path: Path) -> list[dict]:
    """The lines of a log; of a run that goes on, the last one may be half written."""
    lines = path.read_text(errors='replace').splitlines()
    records = []
    for number, line in enumerate(lines, 1):
        try:
            record = json.loads(line)
            require_counts(record)
        except (ValueError, KeyError, TypeError, OverflowError, RecursionError) as error:
            if number == len(lines):
                break
            raise UserError(
                f'{path}, line {number}: expected a JSON object with a step, as MMEngine logs it, '
                f'an epoch from 1 if it has one, and numbers that a float can be; got {line[:80]!r}'
            ) from error
        records.append(record)
    return records


def require_counts(record: dict) -> None:
    """Make the step of a record whole; raises as Python does where it is no record."""
    record['step'] = int(record['step'])
    epoch = record.get('epoch', 1)
    if not (isinstance(epoch, int) and 1 <= epoch <= LAST and 0 <= record['step'] <= LAST):
        raise ValueError
    ''.join(record).encode()  # keys are printed; JSON has some that cannot be
    for value in record.values():
        if isinstance(value, int):
            float(value)  # some are too large


def find_epoch(pieces: list[list[dict]]) -> int | None:
    """Iterations in an epoch: the distance between the first that two epochs logged."""
    distances, longest = [], None
    for piece in pieces:
        first = {}
        for record in piece:
            if 'epoch' in record:
                first.setdefault(record['epoch'], record['step'])
                longest = max(longest or 1, math.ceil(record['step'] / record['epoch']))
        distances += [(first[b] - first[a]) / (b - a) for a, b in pairwise(sorted(first))]
    return round(median(distances)) if distances else longest


def place_records(
    records: list[dict], per_epoch: int | None, last: dict
) -> Iterator[tuple[int, dict]]:
    """Each record with its iteration before it; ``last`` is what training logged before them.

    Validation logs the iteration or, by default even where nothing else counts them, epochs. One
    that was cut off is the first record after a resume.
    """
    following = next((record for record in records if 'iter' in record), last)
    step, epoch = last.get('step', 0), following.get('epoch', 0)
    resumed = True
    for record in records:
        if 'iter' in record:
            step, epoch, resumed = record['step'], record.get('epoch', 0), False
            yield step, record
        elif per_epoch and record['step'] <= max(epoch, 1):
            yield record['step'] * per_epoch, record
        elif resumed:
            yield record['step'] or step, record
        else:
            yield max(step, record['step']), record
