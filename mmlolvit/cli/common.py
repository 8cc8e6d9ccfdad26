"""What every command line shares: flags, loading a config, and telling mistakes from bugs."""

import argparse
import errno
import functools
import inspect
import os
import re
import signal
import sys
import tempfile
import threading
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import mmengine.registry
from mmengine.config import Config, DictAction
from mmengine.registry import Registry
from mmengine.runner import Runner
from torch import nn

from ..checkpoints import TRUST, checkpoints_as_data, trust_checkpoints
from ..errors import UserError, did_you_mean
from ..tasks import TASKS, Task
from ..zoo import load_config
from .data import explain_listing
from .distributed import join, wait_to_fail, wait_to_speak

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
REFUSED = (  # by the file system, for what a user named
    errno.EACCES, errno.EEXIST, errno.EISDIR, errno.ELOOP, errno.ENAMETOOLONG, errno.ENOTDIR,
    errno.EPERM, errno.EROFS,
)  # fmt: skip
PACKAGE = Path(__file__).parents[1]


class CfgOptions(DictAction):
    """MMEngine's ``key=value`` action, with argparse's way of refusing what it cannot read.

    A value that is no list keeps its spaces, as paths have them.
    """

    @staticmethod
    def _parse_iterable(value: str):
        if ',' in value or value.strip('\'"').startswith(('(', '[')):
            return DictAction._parse_iterable(value)
        return DictAction._parse_int_float_bool(value.strip('\'"'))

    def __call__(self, parser, namespace, values, option_string=None):
        try:
            super().__call__(parser, namespace, values, option_string)
        except (ValueError, AssertionError, RecursionError):
            parser.error(f'{option_string} expects KEY=VALUE ..., got: {" ".join(values)}')


class Parser(argparse.ArgumentParser):
    def error(self, message):
        wait_to_speak()
        super().error(message)


def make_parser(description: str) -> argparse.ArgumentParser:
    """A parser with the arguments of every tool that reads a config."""
    parser = Parser(description=description)
    parser.add_argument('config', help='config file, or the name of one of the package')
    parser.add_argument(
        '--cfg-options',
        nargs='+',
        action=CfgOptions,
        default={},
        metavar='KEY=VALUE',
        help='change settings of the config, as in train_cfg.max_epochs=10; other flags win',
    )
    return parser


class TrustCheckpoint(argparse.Action):
    """``--trust-checkpoint``: sets nothing but what reads checkpoints."""

    def __init__(self, option_strings, dest):
        text = 'run the code that a checkpoint holds: for those of people whom you trust'
        super().__init__(option_strings, argparse.SUPPRESS, nargs=0, help=text)

    def __call__(self, parser, namespace, values, option_string=None):
        trust_checkpoints()


def take_checkpoint(parser: argparse.ArgumentParser, text: str | None = 'file or URL') -> None:
    """Give a parser the argument of a checkpoint, unless ``text`` is None, and its flag."""
    if text:
        parser.add_argument('checkpoint', help=text)
    parser.add_argument(TRUST, action=TrustCheckpoint)


def read_size(parser: argparse.ArgumentParser, size: list[int]) -> tuple[int, int]:
    """Height and width from the value of ``--size``, a side or both."""
    if len(size) > 2 or min(size) < 1:
        parser.error(f'--size expects a side, or height and width, got {size}')
    return size[0], size[-1]


def require_at_least(
    parser: argparse.ArgumentParser, args: argparse.Namespace, **limits: int
) -> None:
    """End with a message where an argument, or one of a list, is less than its limit."""
    for name, limit in limits.items():
        value = getattr(args, name)
        if min(value if isinstance(value, list) else [value]) < limit:
            option = name.replace('_', '-')
            parser.error(f'--{option} expects at least {limit}, got {value}')


def make_run_parser(description: str) -> argparse.ArgumentParser:
    """As `make_parser`, with what training and testing share beyond it."""
    parser = make_parser(description)
    parser.add_argument('--work-dir', help='logs and checkpoints; default: work_dirs/CONFIG_NAME')
    parser.add_argument('--launcher', choices=['none', 'pytorch', 'slurm', 'mpi'], default='none')
    parser.add_argument('--local-rank', '--local_rank', type=int, default=0, help=argparse.SUPPRESS)
    return parser


def exits(main: Callable) -> Callable[..., int]:
    """Decorate a ``main`` to return its exit code, 0 for None; bugs still end in a traceback.

    Where nobody reads the output to its end, as ``head`` does not, that is the one of SIGPIPE.
    """

    @functools.wraps(main)
    def wrapper(argv: list[str] | None = None) -> int:
        try:
            with checkpoints_as_data():
                code = main(argv) or 0
                if sys.stdout:  # none where it was closed
                    sys.stdout.flush()
                return code
        except KeyboardInterrupt:
            return 130
        except Exception as error:
            if isinstance(error, BrokenPipeError) and _nobody_reads():
                # What waits to be written would raise again when the interpreter ends.
                os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
                return 141
            with _no_more_deaths():
                message = explain(error)
                if message is not None:
                    _forget(error)
            if message is None:
                wait_to_fail()
                raise
            wait_to_speak()
            print(f'error: {message}', file=sys.stderr)
            return 2

    return wrapper


@contextmanager
def _no_more_deaths() -> Iterator[None]:
    """Where processes of a data loader die one after the other, PyTorch raises at each of them."""
    if threading.current_thread() is not threading.main_thread() or os.name != 'posix':
        yield
        return
    before = signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    try:
        yield
    finally:
        signal.signal(signal.SIGCHLD, before)


def _forget(error: BaseException | None) -> None:
    """Let go of what the frames of an error hold, as processes that load data, which then end."""
    while error:
        traceback.clear_frames(error.__traceback__)
        error = error.__cause__ or error.__context__


def _nobody_reads() -> bool:
    """Whether stdout is a pipe that is closed at its other end."""
    try:
        print(flush=True)
    except BrokenPipeError:
        return True
    return False


def explain(error: Exception) -> str | None:
    """What the user can mend, or None for a bug.

    Besides a UserError, that is a full disk, a file that is named and that the file system refuses,
    text that cannot be written, what a library's data set stumbles over when it lists its samples,
    a ValueError that mmlolvit raises on arguments or input it refuses, a ValueError or assertion of
    a type that the config has built, a KeyError for a type that no registry knows, and a TypeError
    for an argument that a type does not take.
    """
    text = str(error.args[0]) if error.args else ''
    if isinstance(error, UserError):
        # From a worker of a data loader it comes as the text of its traceback.
        return re.split(r'^mmlolvit[\w.]+: ', text, flags=re.MULTILINE)[-1].strip()
    if isinstance(error, OSError) and error.errno in FULL:
        return (
            f'{error.filename or "a file"} cannot be written: {error.strerror}; what was saved '
            'before is as it was. Make room, and go on; a training with --resume'
        )
    for frame, _ in traceback.walk_tb(error.__traceback__):
        owner = frame.f_locals.get('self')
        if frame.f_code.co_name == 'full_init' and type(owner).__module__.split('.')[0] in TASKS:
            return explain_listing(owner, error)
    if isinstance(error, OSError) and error.errno in REFUSED and isinstance(error.filename, str):
        # Of the two files of a renaming, the second is the one that stands in the way.
        path = error.filename2 or error.filename
        return f'{path} cannot be read or written: {error.strerror}; name another one'
    if isinstance(error, UnicodeEncodeError):
        part = error.object[max(0, error.start - 40) : error.end + 40]
        return (
            f'{part!a} cannot be written as {error.encoding}: {error.reason}; '
            'give files other names, or set PYTHONUTF8=1'
        )
    if isinstance(error, ValueError):
        last = traceback.extract_tb(error.__traceback__)[-1]
        refused = Path(last.filename).is_relative_to(PACKAGE) and last.line.startswith('raise ')
        return text if refused else explain_refusal(error)
    if isinstance(error, AssertionError):
        return explain_refusal(error)
    if isinstance(error, TypeError):
        return explain_call(error)
    if isinstance(error, RuntimeError) and text.startswith('DataLoader '):
        return explain_loader(text)
    if isinstance(error, RuntimeError):
        return explain_fit(error)
    if isinstance(error, ConnectionError | EOFError):  # one that died while it handed a batch over
        places = {frame.f_code.co_name for frame, _ in traceback.walk_tb(error.__traceback__)}
        died = f'a process that loads data has died ({error})'
        return explain_loader(died) if '_try_get_data' in places else None
    if not isinstance(error, KeyError):
        return None
    if match := re.match(r'(\S+) is not in the (?:\S+::)?(.+?) registry', text):
        return explain_type(*match.groups())
    *_, (frame, _) = traceback.walk_tb(error.__traceback__)
    if text.startswith('Cannot find ') and 'layer_type' in frame.f_locals:
        return explain_type(frame.f_locals['layer_type'], 'model')  # mmcv's text lacks the name
    return None


def explain_loader(text: str) -> str:
    """Message for a process that loads data and ended, or has nothing for too long."""
    if 'timed out' in text:
        return (
            f'{text}: a batch took longer than that to load. Does the disk or network that the data'
            ' is on still answer? More time: --cfg-options train_dataloader.timeout=SECONDS. What '
            'was saved is as it was: --resume'
        )
    return (
        f'{text.splitlines()[0]}. Often memory ran out: try fewer --cfg-options '
        'train_dataloader.num_workers, or smaller batches. What was saved is as it was: --resume'
    )


def explain_refusal(error: ValueError | AssertionError) -> str | None:
    """Message for a setting that a type of the config refuses as it is built, or None for a bug."""
    frames = [frame for frame, _ in traceback.walk_tb(error.__traceback__)]
    kinds = [
        frame.f_locals['obj_cls'].__name__
        for frame in frames
        if frame.f_code.co_name == 'build_from_cfg' and 'obj_cls' in frame.f_locals
    ]
    if frames[-1].f_code is Runner.__init__.__code__:
        kinds.append('Runner')
    if not (kinds and str(error)):
        return None
    last = traceback.extract_tb(error.__traceback__)[-1]
    return f'the config: {kinds[-1]} refuses it: {error} ({last.filename}, line {last.lineno})'


def explain_fit(error: RuntimeError) -> str | None:
    """Message for a layer that is given other channels than the config says, or None for a bug."""
    frames = [frame for frame, _ in traceback.walk_tb(error.__traceback__)]
    owners = [frame.f_locals.get('self') for frame in frames]
    modules = [owner for owner in owners if isinstance(owner, nn.Module)]
    if not (modules and re.search(r'shapes cannot be multiplied|to have \d+ channels', str(error))):
        return None
    names = {module: name for name, module in modules[0].named_modules(prefix='model')}
    part = names.get(modules[-1], type(modules[-1]).__name__)
    return (
        f'the config: {part} is not made for what it is given: {error}; see the channels of that '
        'part, and of the one before'
    )


def explain_call(error: TypeError) -> str | None:
    """Message for what the config gives to a type that does not take it, or None for a bug."""
    *_, (frame, _) = traceback.walk_tb(error.__traceback__)
    names = frame.f_locals
    if frame.f_code.co_name == 'build_dataloader' and names.get('collate_fn', 0) is None:
        return explain_type(names['collate_fn_type'], 'function')
    refused = r'__init__\(\) (got an unexpected keyword argument (.+)|missing .+)'
    wrong = re.search(refused, str(error))
    if frame.f_code.co_name != 'build_from_cfg' or not wrong:
        return None
    kind, name = names['obj_cls'], wrong.group(2) or ''
    known = {key.lower(): key for key in inspect.signature(kind).parameters}
    return f'the config: {kind.__name__} {wrong.group(1)}' + did_you_mean(name.strip("'"), known)


def explain_type(name: str, kind: str) -> str:
    """Message for a type ``name`` that is not in the registries called ``kind``."""
    scope, _, bare = name.rpartition('.')
    if scope in TASKS and (missing := TASKS[scope].missing()):
        return f'type {name!r}: {missing}'
    known = {}
    for root in vars(mmengine.registry).values():
        if not isinstance(root, Registry):
            continue
        children = root.children.values()
        if kind in {root.name, *(child.name for child in children)}:
            known |= {key.lower(): key for key in root.module_dict}
            for child in children:
                known |= {key.lower(): f'{child.scope}.{key}' for key in child.module_dict}
    return f'the config names an unknown {kind} type {name!r}' + did_you_mean(bare, known)


def load_run(args: argparse.Namespace, needed: Sequence[str]) -> tuple[Config, Task]:
    """As `load_config`, with the flags of `make_run_parser`; they win over ``--cfg-options``.

    From here on the processes of a launcher know each other. Raises UserError, also for a
    ``work_dir`` where nothing can be written.
    """
    cfg, task = load_config(args.config, args.cfg_options, needed)
    for loader in ('train_dataloader', 'val_dataloader', 'test_dataloader'):
        if cfg.get(loader) and not cfg[loader].get('num_workers'):
            cfg[loader].persistent_workers = False  # torch refuses to keep workers that are not
    os.environ.setdefault('LOCAL_RANK', str(args.local_rank))
    cfg.launcher = args.launcher
    join(cfg)
    cfg.work_dir = args.work_dir or cfg.get('work_dir') or f'work_dirs/{Path(args.config).stem}'
    check_writable(cfg.work_dir)
    return cfg, task


def check_writable(folder: str | os.PathLike) -> None:
    """Create a folder and try to write there; raises UserError."""
    try:
        Path(folder).mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=folder).close()
    except OSError as error:
        raise UserError(
            f'cannot write to the folder {folder}: {error.strerror}; name another one'
        ) from error


def check_file(path: str | os.PathLike) -> None:
    """As `check_writable`, for the folder of a file; raises UserError where it is one itself."""
    if os.path.isdir(path):
        raise UserError(f'{path} is a folder, expected the name of a file')
    check_writable(Path(path).parent)
