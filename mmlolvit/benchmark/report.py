"""What every report of a measurement needs: where it was made, and files that appear whole."""

import datetime
import os
import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch

from ..errors import UserError

PACKAGES = ('mmlolvit', 'torch', 'timm', 'onnxruntime', 'openvino')


def cpu_name() -> str:
    """Model of the processor, as Linux names it, or what Python knows of it."""
    try:
        lines = Path('/proc/cpuinfo').read_text().splitlines()
    except OSError:
        lines = []
    names = [line.partition(':')[2].strip() for line in lines if line.startswith('model name')]
    return next(iter(names), '') or platform.processor() or platform.machine()


def environment(device: torch.device | str) -> dict:
    """Hardware and versions, as plain values for a JSON file; nothing in it names the machine.

    'gpu' is there on CUDA only, a package in 'versions' only where it is installed.
    """
    device = torch.device(device)
    found = dict(cpu=cpu_name(), cores=os.cpu_count(), threads=torch.get_num_threads())
    if device.type == 'cuda':
        found['gpu'] = torch.cuda.get_device_name(device)
    versions = {}
    for package in PACKAGES:
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            continue
    return dict(
        device=device.type,
        **found,
        os=platform.platform(),
        python=platform.python_version(),
        versions=versions,
        date=datetime.datetime.now(datetime.UTC).date().isoformat(),
    )


def describe(environment: dict) -> str:
    """One line of what :func:`environment` gives."""
    gpu = f'{environment["gpu"]}, ' if 'gpu' in environment else ''
    threads = environment['threads']
    packages = ', '.join(f'{name} {number}' for name, number in environment['versions'].items())
    return (
        f'{gpu}{environment["cpu"]}, {environment["cores"]} cores, '
        f'{threads} thread{"s" * (threads != 1)}; {environment["os"]}; '
        f'Python {environment["python"]}, {packages}; {environment["date"]}'
    )


def write_whole(path: str | os.PathLike, content: str | bytes) -> None:
    """Write a file that appears whole or not at all; raises UserError where it cannot."""
    part = Path(f'{os.fspath(path)}.part')
    try:
        try:
            part.write_bytes(content.encode() if isinstance(content, str) else content)
            os.replace(part, path)
        finally:
            part.unlink(missing_ok=True)
    except OSError as error:
        raise UserError(f'cannot write {path}: {error.strerror}; name another file') from error
