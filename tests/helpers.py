"""What several files of tests share."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import torch


def exit_code(main: Callable, argv: list[str]) -> int:
    """What a tool ends with, also where argparse ends it."""
    try:
        return main(argv)
    except SystemExit as error:
        return error.code


@contextmanager
def threads(number: int) -> Iterator[None]:
    """PyTorch on so many threads, and on as many as before in the end."""
    before = torch.get_num_threads()
    torch.set_num_threads(number)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextmanager
def inside(folder: Path) -> Iterator[Path]:
    """Work in a folder, for the fixtures of a whole file."""
    before = Path.cwd()
    os.chdir(folder)
    try:
        yield folder
    finally:
        os.chdir(before)
