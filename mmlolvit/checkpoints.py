"""Reading checkpoints, with what a user must know when one cannot be used."""

import codecs
import os
import re
import sys
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from hashlib import sha256
from numbers import Integral
from pathlib import Path
from pickle import UnpicklingError
from urllib.parse import urlsplit

import numpy as np
import torch
from mmengine.logging import HistoryBuffer
from mmengine.optim import OneCycleParamScheduler
from mmengine.runner import CheckpointLoader
from mmengine.runner.checkpoint import load_from_http

from .errors import UserError

UNSAFE = re.compile(r'GLOBAL ([\w.]+)')
TRUST = '--trust-checkpoint'
FORCE = 'TORCH_FORCE_WEIGHTS_ONLY_LOAD'
HUB = ('log_scalars', 'runtime_info', 'resumed_keys')
trusted = False  # whether to run what is pickled in a checkpoint: trust_checkpoints


def _method(owner: type, name: str):
    """In place of getattr, by which a log or a schedule names one of its own methods."""
    if owner not in (HistoryBuffer, OneCycleParamScheduler) or name.startswith('__'):
        raise UnpicklingError(f'Unsupported global: GLOBAL builtins.getattr of {name}')
    return getattr(owner, name)


_method.__module__, _method.__name__, _method.__qualname__ = 'builtins', 'getattr', 'getattr'
ARRAYS = np._core.multiarray if np.__version__ >= '2' else np.core.multiarray
# What the training state of MMEngine has beside tensors and plain values; none of it runs code.
SAFE = [
    _method,
    codecs.encode,  # of bytes; PyTorch from 2.5 on has it already
    HistoryBuffer,
    OneCycleParamScheduler,
    np.ndarray,
    np.dtype,
    ARRAYS._reconstruct,
    ARRAYS.scalar,
    *(type(np.dtype(name)) for name in ('float32', 'float64', 'int64', 'uint32')),
]


def trust_checkpoints() -> None:
    """From here on, run the code that checkpoints hold, to the end of `checkpoints_as_data`."""
    global trusted
    trusted = True
    os.environ.pop(FORCE, None)
    print(
        f'warning: {TRUST}: checkpoints may run any code, with your rights, as they are read',
        file=sys.stderr,
    )


@contextmanager
def checkpoints_as_data() -> Iterator[None]:
    """Let all of this process, the libraries too, read checkpoints as data.

    MMEngine would read what PyTorch refuses a second time, and run it.
    """
    global trusted
    before = trusted, os.environ.get(FORCE)
    trusted, os.environ[FORCE] = False, '1'
    try:
        yield
    finally:
        trusted = before[0]
        os.environ.pop(FORCE, None)
        if before[1] is not None:
            os.environ[FORCE] = before[1]


@CheckpointLoader.register_scheme(prefixes=('http://', 'https://'), force=True)
def load_from_url(filename: str, map_location=None, **options) -> dict:
    """MMEngine's, which takes files of one name for one, and reads what arrived damaged.

    Names that end in the hash of their file, as published ones do, stay in PyTorch's own cache.
    """
    name, folder = Path(urlsplit(filename).path).name, Path(torch.hub.get_dir(), 'checkpoints')
    if not re.search(r'-[0-9a-f]{8,}\.\w+$', name):
        folder /= sha256(filename.encode()).hexdigest()[:16]
    checkpoint = load_from_http(filename, map_location, model_dir=str(folder), **options)
    if zipfile.is_zipfile(folder / name) and not is_intact(folder / name):
        raise UserError(f'{filename} arrived damaged, as {folder / name}; remove that, try again')
    return checkpoint


def read_checkpoint(path: str) -> dict:
    """Load a checkpoint, a file or URL, to the CPU, with its tensors under 'state_dict'.

    A checkpoint is data: one that would run code is refused, unless `trust_checkpoints` was called.
    Raises UserError when it is that, missing, truncated or no checkpoint.
    """
    local = '://' not in path
    if local and not Path(path).is_file():
        folder = Path(path) if Path(path).is_dir() else Path(path).parent
        others = sorted(file.name for file in folder.glob('*.pth'))
        found = f'; in {folder} there are {", ".join(others)}' if others else ''
        wrong = 'is a folder, expected a file' if Path(path).is_dir() else 'does not exist'
        raise UserError(f'checkpoint {path} {wrong}{found}')
    if local and not os.access(path, os.R_OK):
        raise UserError(f'checkpoint {path} may not be read: it needs the right to')
    damaged = UserError(f'{path} is cut short, damaged or no checkpoint; copy or train it again')
    archive = not local or zipfile.is_zipfile(path)  # or pickled, as PyTorch did before 1.6
    if local and archive and not is_intact(path):
        raise damaged
    torch.serialization.add_safe_globals(SAFE)  # each time: MMEngine's loads take some away again
    try:
        if local:
            checkpoint = torch.load(path, map_location='cpu', weights_only=not trusted)
        else:
            with nullcontext() if trusted else checkpoints_as_data():
                checkpoint = CheckpointLoader.load_checkpoint(path, map_location='cpu', logger=None)
    except UserError:
        raise
    except Exception as error:  # what is pickled can fail in any way
        if not trusted and (found := UNSAFE.search(str(error))):
            raise UserError(
                f'{path} would run code as it is read: it names {found[1]}, and a '
                'checkpoint has tensors, plain values and logs of MMEngine. Ask for the weights '
                f'alone (tools/publish_model.py); if you trust who made it with your files: {TRUST}'
            ) from error
        if not archive:
            raise damaged from error
        raise UserError(f'checkpoint {path} cannot be read: {error}') from error
    if isinstance(checkpoint, dict):
        checkpoint = checkpoint if 'state_dict' in checkpoint else dict(state_dict=checkpoint)
        weights = checkpoint['state_dict']
        if isinstance(weights, dict) and any(map(torch.is_tensor, weights.values())):
            check_meta(path, checkpoint.get('meta') or {})
            return checkpoint
    raise UserError(f'{path} is not a checkpoint: expected a state_dict of tensors in it')


def check_meta(path: str, meta) -> None:
    """Raise UserError where what a checkpoint says of itself is not as MMEngine writes it."""
    classes = data_meta(meta).get('classes') or () if isinstance(meta, dict) else None
    if not (isinstance(classes, list | tuple) and all(isinstance(c, str | int) for c in classes)):
        raise UserError(
            f'{path} is not a checkpoint of MMEngine: expected meta as a dict, and the classes in '
            'its dataset_meta as names, where there are any'
        )


def data_meta(meta: dict) -> dict:
    """What a checkpoint's `meta` says of one data set; nothing where it was trained on unlike ones.

    Those have a list there.
    """
    data = meta.get('dataset_meta')
    return data if isinstance(data, dict) else {}


def is_intact(path: str) -> bool:
    """Whether the checksums of a zip archive, as PyTorch's checkpoints are, are right."""
    try:
        with zipfile.ZipFile(path) as archive:
            return archive.testzip() is None  # torch.load does not compare checksums
    except Exception:  # of an archive that is damaged, of any kind
        return False


def read_training_state(path: str) -> dict:
    """As `read_checkpoint`, for one that training can go on from."""
    checkpoint = read_checkpoint(path)
    if absent := {'meta', 'message_hub', 'optimizer'} - set(checkpoint):
        raise UserError(
            f'{path} has weights but no {", ".join(sorted(absent))} to resume from; '
            'start from its weights with --cfg-options load_from=...'
        )
    meta, hub = checkpoint['meta'], checkpoint['message_hub']
    counts = {key: meta.get(key) for key in ('epoch', 'iter')}
    counts |= {key: meta.get(key) or 0 for key in ('seed', 'batches', 'batch_size')}
    wrong = [
        f'meta.{key}={value!r}, expected a whole number'
        for key, value in counts.items()
        if not (isinstance(value, Integral) and 0 <= value < 2**32)
    ]
    if not (isinstance(hub, dict) and all(isinstance(hub.get(key), dict) for key in HUB)):
        wrong.append(f'message_hub, expected a dict with {", ".join(HUB)}')
    if not isinstance(checkpoint['optimizer'], dict):
        wrong.append('optimizer, expected a dict')
    if wrong:
        raise UserError(f'{path} cannot be resumed from: {"; ".join(wrong)}')
    return checkpoint


def newest_intact(work_dir: str) -> str | None:
    """Path of the checkpoint saved last in a work dir; broken ones are named and passed over.

    Where there is none, that which MMEngine's `last_checkpoint` names. The last is so by what is
    written in it, for a copied file has the time of its copy. Raises UserError where there are some
    and all are passed over: a training that starts again would overwrite them.
    """
    found = [
        file
        for file in Path(work_dir).glob('*.pth')
        if re.match(r'(epoch|iter)_\d+$|interrupted$', file.stem) and file.is_file()
    ]
    pointer = Path(work_dir, 'last_checkpoint')
    if not found and pointer.is_file():  # of another name, or elsewhere
        found = [Path(pointer.read_text(errors='replace').strip())]
    for file in sorted(found, key=_saved_at, reverse=True):
        try:
            read_training_state(str(file))
        except UserError as error:
            print(f'warning: passed over: {error}', file=sys.stderr)
        else:
            return str(file)
    if any(file.exists() for file in found):
        raise UserError(
            f'none of the checkpoints in {work_dir} can be gone on from, for the reasons above; '
            'mend or move them, start anew in another --work-dir, or from the weights of one by '
            '--cfg-options load_from=...'
        )
    return None


def _saved_at(path: Path) -> tuple[str, int, int]:
    """When a checkpoint was saved, without reading its tensors; a broken one counts as the last."""
    changed = path.stat().st_mtime_ns if path.exists() else 0
    torch.serialization.add_safe_globals(SAFE)
    try:
        meta = torch.load(path, map_location='cpu', weights_only=True, mmap=True)['meta']
        return str(meta['time']), int(meta['iter']), changed
    except Exception:  # of what is broken, of any kind
        return '~', 0, changed


def require_equal(
    model: torch.nn.Module | dict,
    weights: dict,
    path: str,
    shown: int | None = 5,
    mend: str = 'Use the config that it was trained with.',
) -> None:
    """Raise UserError unless the state_dict ``weights``, read from ``path``, is the model's.

    The model may stand for itself, be wrapped (distributed, test-time augmentation), or be a
    state_dict. The message lists the tensors that differ, the first `shown` of them or all.
    """
    while hasattr(model, 'module'):
        model = model.module
    expected = model if isinstance(model, dict) else model.state_dict()
    wrong = [
        f'{name} is {found}, expected {tuple(tensor.shape)}'
        for name, tensor in expected.items()
        if name in weights and (found := describe(weights[name])) != describe(tensor)
    ]
    wrong += [f'{name} is missing' for name in expected if name not in weights]
    wrong += [f'{name} is not expected' for name in weights if name not in expected]
    if wrong:
        lines = '\n  '.join(wrong[:shown] + ['...'] * (len(wrong) > len(wrong[:shown])))
        raise UserError(
            f'checkpoint {path} is of another architecture than the config: '
            f'{len(wrong)} tensors differ\n  {lines}\n{mend}'
        )
    spoiled = [n for n, t in weights.items() if t.is_floating_point() and t.isnan().any()]
    if spoiled:
        raise UserError(
            f'checkpoint {path} has NaN in {len(spoiled)} tensors, as in {spoiled[0]}: what was '
            'trained from there on is lost; take an earlier one'
        )


def describe(value) -> str:
    """The shape of a tensor, or what it is that no layer can take."""
    if not torch.is_tensor(value):
        return type(value).__name__
    kinds = dict(sparse=value.layout != torch.strided, quantized=value.is_quantized)
    kinds |= dict(complex=value.is_complex(), empty=value.is_meta)
    return ' '.join([kind for kind, true in kinds.items() if true] + [str(tuple(value.shape))])
