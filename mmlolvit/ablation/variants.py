"""What an ablation changes: the files of configs/ablation, each on any config.

A file's first line, a comment, says what it changes; up to the first underscore its name is that of
its suite.
"""

import ast
from pathlib import Path
from typing import NamedTuple

from ..errors import UserError
from ..zoo import CONFIGS

FOLDER = CONFIGS / 'ablation'
ALL = 'all'


class Variant(NamedTuple):
    """One change. The base changes nothing and has no file."""

    name: str
    words: str
    file: Path | None = None

    def config(self, base: str) -> str:
        """The text of a config that changes this in the config at the path ``base``."""
        lines = [f'_base_ = {str(Path(base).resolve())!r}']
        if self.file:
            body = ast.parse(self.file.read_text()).body
            body = [part for part in body if ast.unparse(part.targets[0]) != '_base_']
            lines += map(ast.unparse, body)
        return f'# {self.words}\n' + '\n\n'.join(lines) + '\n'


BASE = Variant('base', 'As it is.')


def suites() -> list[str]:
    """Names of the suites, and 'all'."""
    return [*dict.fromkeys(file.stem.split('_')[0] for file in _files()), ALL]


def find_variants(names: list[str]) -> list[Variant]:
    """The base and the variants of some suites, in the order of their names."""
    if unknown := set(names) - set(suites()):
        raise UserError(
            f'no suite {", ".join(sorted(unknown))}, expected some of {", ".join(suites())}'
        )
    found = [BASE]
    for file in _files():
        if ALL in names or file.stem.split('_')[0] in names:
            words = file.read_text().partition('\n')[0].removeprefix('# ')
            found.append(Variant(file.stem, words, file))
    return found


def _files() -> list[Path]:
    return sorted(FOLDER.glob('*.py'))
