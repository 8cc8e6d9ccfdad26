"""The configs that come with the package, and configs of users that inherit them by package path.

``_base_ = 'mmlolvit::cls/lolvit_x_digits.py'`` works in any folder, where this was imported: by
the tools, and by ``mmlolvit.load``.
"""

import traceback
from collections.abc import Sequence
from pathlib import Path
from unittest.mock import patch

import yaml
from mmengine.config import Config
from mmengine.config.utils import MODULE2PACKAGE

from .errors import UserError, did_you_mean
from .tasks import TASKS, Task

CONFIGS = Path(__file__).parent / '.mim' / 'configs'  # where OpenMMLab's tools look too
SCOPE = 'mmlolvit'

MODULE2PACKAGE[SCOPE] = SCOPE  # whose configs MMEngine finds by package path


class _YamlData(yaml.SafeLoader):
    """YAML without code, which MMEngine's loader runs, and with tuples, which its dumps have."""


_YamlData.add_constructor(
    'tag:yaml.org,2002:python/tuple',
    lambda loader, node: tuple(loader.construct_sequence(node, deep=True)),
)


def list_models() -> list[str]:
    """Names of the configs that come with the package, for the tools and `mmlolvit.load`."""
    return sorted(_shipped())


def find_config(name: str) -> str:
    """The path of a config, given that, or its name.

    Raises UserError where neither exists, with the nearest names.
    """
    if Path(name).is_file():
        return name
    shipped = _shipped()
    if name in shipped:
        return str(shipped[name])
    known = {path.stem: str(path) for path in Path('configs').glob('[!_]*/*.py')}
    known |= {stem: stem for stem in shipped if stem not in known}
    wrong = 'is a folder, expected a file or a name' if Path(name).is_dir() else 'does not exist'
    raise UserError(f'config {name} {wrong}{did_you_mean(Path(name).stem, known)}')


def read_config(name: str) -> Config:
    """The config of a path or a name.

    One in Python is run; JSON and YAML are read as data. Raises UserError where there is none, and
    where it does not parse.
    """
    path = find_config(name)
    try:
        with patch('mmengine.fileio.handlers.yaml_handler.Loader', _YamlData):
            cfg = Config.fromfile(path)
    except SyntaxError as error:
        frames = [frame.f_locals for frame, _ in traceback.walk_tb(error.__traceback__)]
        files = [path] + [str(names['filename']) for names in frames if 'filename' in names]
        file = [file for file in files if Path(file).is_file()][-1]  # path or one of its bases
        where = f'{file}, line {error.lineno}: ' if error.lineno else ''
        raise UserError(f'the config has a syntax error: {where}{error.msg}') from error
    except Exception as error:  # a config is Python: it can fail in any way
        raise UserError(f'config {path} cannot be read: {type(error).__name__}: {error}') from error
    _unscope(cfg._cfg_dict)
    return cfg


def load_config(name: str, options: dict, needed: Sequence[str]) -> tuple[Config, Task]:
    """The config of a path or a name with ``options`` set, by dotted keys, and its task.

    Raises:
        UserError: As `read_config`; options that do not fit it, a field of ``needed`` that it
            lacks, a task library that is not installed.
    """
    cfg = read_config(name)
    try:
        cfg.merge_from_dict(options)
    except (KeyError, TypeError) as error:
        raise UserError(f'--cfg-options do not fit {name}: {error.args[0]}') from error

    if absent := [field for field in needed if cfg.get(field) is None]:
        raise UserError(f'config {name} lacks {", ".join(absent)}; is it a part under _base_?')
    task = TASKS.get(cfg.get('default_scope'))
    if task is None:
        raise UserError(
            f'config {name}: default_scope must be one of {", ".join(TASKS)}, '
            f'got {cfg.get("default_scope")!r}'
        )
    if missing := task.missing():
        raise UserError(f'config {name}: {missing}')
    return cfg, task


def _shipped() -> dict[str, Path]:
    return {path.stem: path for path in CONFIGS.glob('[!_]*/*.py')}


def _unscope(node) -> None:
    """Take out what MMEngine writes into the parts that a config reads of a base in a package.

    It would look for the types of the task libraries among ours.
    """
    if isinstance(node, dict):
        if node.get('_scope_') == SCOPE:
            del node['_scope_']
        node = node.values()
    if not isinstance(node, str | bytes) and hasattr(node, '__iter__'):
        for part in node:
            _unscope(part)
