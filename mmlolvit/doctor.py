"""``python -m mmlolvit.doctor``: what is installed, and what keeps training from working."""

import argparse
import contextlib
import importlib
import importlib.metadata
import io
import platform
import re
import sys
import warnings
from collections.abc import Mapping
from typing import NamedTuple

from mmlolvit import __version__, ops

# One import name, and the distributions that install it.
PROVIDERS = {
    'mmengine': {'maintained': ['onedl-mmengine'], 'upstream': ['mmengine', 'mmengine-lite']},
    'mmcv': {'maintained': ['onedl-mmcv'], 'upstream': ['mmcv', 'mmcv-lite', 'mmcv-full']},
    'mmpretrain': {'maintained': ['onedl-mmpretrain'], 'upstream': ['mmpretrain']},
    'mmdet': {'maintained': ['onedl-mmdetection'], 'upstream': ['mmdet']},
    'mmseg': {'maintained': ['onedl-mmsegmentation'], 'upstream': ['mmsegmentation']},
}
TASKS = {'mmpretrain': 'classification', 'mmdet': 'detection', 'mmseg': 'segmentation'}
REQUIRED = ('torch', 'torchvision', 'numpy', 'cv2', 'mmengine', 'mmcv')
OPTIONAL = ('sklearn', 'timm', 'onnx', 'onnxruntime')
# What torchvision raises beside a torch that it was not built for.
BUILD_ERROR = re.compile(r'operator torchvision::|undefined symbol|CUDA|libtorch|libc10|libcu')
INSTALL_STACK = 'pip install --no-deps -r requirements/openmmlab.txt'
# Where a module's distribution has another name.
DISTRIBUTIONS = {
    'cv2': 'opencv-python-headless',
    'mmcv': 'mmcv-lite',
    'mmseg': 'mmsegmentation',
    'PIL': 'pillow',
    'skimage': 'scikit-image',
    'sklearn': 'scikit-learn',
    'yaml': 'PyYAML',
}


class Part(NamedTuple):
    """One import: its version (None if it does not load) and, if it is broken, the error."""

    version: str | None = None
    error: str | None = None

    def __str__(self):
        return self.version or ('broken' if self.error else 'not installed')


class Finding(NamedTuple):
    """One thing that is wrong and the command that mends it; a fatal one stops all training."""

    problem: str
    remedy: str
    fatal: bool = True


def explain(part: Part) -> str:
    """Why a part is not there."""
    return f'cannot be imported ({part.error})' if part.error else 'is not installed'


def installed_distributions() -> dict[str, str]:
    """Normalised name -> version of every distribution that this Python sees."""
    return {
        re.sub(r'[-_.]+', '-', dist.metadata['Name']).lower(): dist.version
        for dist in importlib.metadata.distributions()
        if dist.metadata['Name']
    }


def probe(name: str) -> Part:
    """Import ``name`` for real, quietly; never raises."""
    # A task library's top level imports almost nothing: its datasets tell whether it works.
    target = f'{name}.datasets' if name in TASKS else name
    silence = io.StringIO()
    try:
        with (
            warnings.catch_warnings(),
            contextlib.redirect_stdout(silence),
            contextlib.redirect_stderr(silence),
        ):
            warnings.simplefilter('ignore')
            importlib.import_module(target)
    except Exception as error:  # whatever a broken package raises is what we report
        if isinstance(error, ModuleNotFoundError) and f'{name}.'.startswith(f'{error.name}.'):
            return Part()
        message = str(error).strip().splitlines() or ['']
        return Part(error=f'{type(error).__name__}: {message[0]}')
    return Part(version=getattr(sys.modules[name], '__version__', 'unknown'))


def find_stack(dists: Mapping[str, str]) -> str:
    """'maintained', 'upstream', 'mixed' or 'none', from the distributions' names."""
    stacks = {
        stack
        for providers in PROVIDERS.values()
        for stack, names in providers.items()
        if any(name in dists for name in names)
    }
    return stacks.pop() if len(stacks) == 1 else 'mixed' if stacks else 'none'


def install(name: str, dists: Mapping[str, str]) -> str:
    """The command that installs the part ``name`` and leaves the stack that is there."""
    upstream = find_stack(dists) == 'upstream'
    if name.startswith('torch'):
        return f'pip install -r requirements/{"upstream-torch" if upstream else "torch"}.txt'
    if name not in (*REQUIRED, *TASKS):
        return f'pip install {DISTRIBUTIONS.get(name, name)}'
    if not upstream:
        return INSTALL_STACK
    pins = 'upstream-torch' if name == 'numpy' else 'upstream'
    return f'pip install --no-deps -c requirements/{pins}.txt {DISTRIBUTIONS.get(name, name)}'


def mend(name: str, part: Part, dists: Mapping[str, str]) -> str:
    """The command that mends a part which is missing, or lacks a module that it imports."""
    lacking = re.match(r"ModuleNotFoundError: No module named '(\w+)'", part.error or '')
    return install(lacking.group(1) if lacking else name, dists)


def check_stack(dists: Mapping[str, str]) -> list[Finding]:
    """Distributions that overwrite each other's files, or libraries of two stacks together."""
    findings = []
    for module, providers in PROVIDERS.items():
        found = [name for names in providers.values() for name in names if name in dists]
        if len(found) > 1:
            findings.append(
                Finding(
                    f'{" and ".join(found)} are installed over each other: both are {module}',
                    f'pip uninstall -y {" ".join(found)}, then install the one you want '
                    f'(maintained: {INSTALL_STACK})',
                )
            )
    if not findings and find_stack(dists) == 'mixed':
        upstream = [n for p in PROVIDERS.values() for n in p['upstream'] if n in dists]
        findings.append(
            Finding(
                f'{", ".join(upstream)} of the upstream stack beside the maintained one',
                f'pip uninstall -y {" ".join(upstream)} && {INSTALL_STACK}',
            )
        )
    return findings


def check_opencv(dists: Mapping[str, str]) -> list[Finding]:
    """Two OpenCV distributions write the same cv2 folder."""
    found = sorted(name for name in dists if re.fullmatch(r'opencv-(contrib-)?python.*', name))
    if len(found) < 2:
        return []
    return [
        Finding(
            f'{" and ".join(found)} are installed over each other: all are cv2',
            f'pip uninstall -y {" ".join(found)} && pip install opencv-python-headless',
            fatal=False,
        )
    ]


def check_age(dists: Mapping[str, str]) -> list[Finding]:
    """The upstream stack was released for numpy 1 and torch before 2.6."""
    if find_stack(dists) != 'upstream':
        return []
    limits = {
        'numpy': ((2,), 'expects numpy 1', "pip install 'numpy<2'"),
        'torch': (
            (2, 6),
            'cannot read its own checkpoints with torch 2.6 or newer',
            'pip install torch==2.4.1 torchvision==0.19.1',
        ),
    }
    return [
        Finding(f'{name} {dists[name]} beside the upstream stack, which {why}', remedy, fatal=False)
        for name, (limit, why, remedy) in limits.items()
        if tuple(map(int, re.findall(r'\d+', dists.get(name, ''))[: len(limit)])) >= limit
    ]


def check_transformers(dists: Mapping[str, str]) -> list[Finding]:
    """mmpretrain, which the other two import, imports what version 5 of transformers removed."""
    version = dists.get('transformers', '0')
    if int(version.partition('.')[0]) < 5:
        return []
    return [
        Finding(
            f'transformers {version} is installed, and mmpretrain needs one before 5, or none',
            "pip install 'transformers<5', or pip uninstall transformers",
        )
    ]


def check_torch(dists: Mapping[str, str], parts: Mapping[str, Part]) -> list[Finding]:
    """torch and torchvision must come from one build."""
    torch, torchvision = parts['torch'], parts['torchvision']
    builds = [(part.version or '').partition('+')[2] for part in (torch, torchvision)]
    if not BUILD_ERROR.search(torchvision.error or '') and (
        not all(builds) or builds[0] == builds[1]
    ):
        return []
    reason = f' ({torchvision.error})' if torchvision.error else ''
    return [
        Finding(
            f'torch {torch} and torchvision {torchvision} come from different builds{reason}',
            'install both by one command, from one source: '
            f'{install("torch", dists)} --force-reinstall',
        )
    ]


def check_required(dists: Mapping[str, str], parts: Mapping[str, Part]) -> list[Finding]:
    """Parts without which nothing trains."""
    findings = []
    for name in REQUIRED:
        part = parts[name]
        if part.version or (name == 'torchvision' and BUILD_ERROR.search(part.error or '')):
            continue
        remedy = mend(name, part, dists)
        if 'libGL' in (part.error or ''):
            remedy = 'pip uninstall -y opencv-python && pip install opencv-python-headless'
        findings.append(Finding(f'{name} {explain(part)}', remedy))
    return findings


def check_tasks(dists: Mapping[str, str], parts: Mapping[str, Part]) -> list[Finding]:
    """A missing task library stops its own task; with none of them, nothing trains."""
    missing = [name for name in TASKS if not parts[name].version]
    findings = []
    for name in missing:
        findings.append(
            Finding(
                f'{name} {explain(parts[name])}: no {TASKS[name]}',
                mend(name, parts[name], dists),
                fatal=len(missing) == len(TASKS),
            )
        )
    return findings


def check_embedded(parts: Mapping[str, Part]) -> list[Finding]:
    """The embedded data sets are made of scikit-learn's digits."""
    part = parts['sklearn']
    if part.version:
        return []
    problem = f'scikit-learn {explain(part)}: no embedded data sets'
    return [Finding(problem, install('sklearn', {}), fatal=False)]


def check_ops(dists: Mapping[str, str], parts: Mapping[str, Part]) -> list[Finding]:
    """mmcv's compiled operators may be absent, but not broken."""
    error = parts['mmcv._ext'].error
    if not error:
        return []
    return [
        Finding(
            f"mmcv's compiled operators do not load ({error}): built for another torch",
            f'pip uninstall -y onedl-mmcv mmcv && {install("mmcv", dists)} --no-cache-dir',
        )
    ]


def diagnose(dists: Mapping[str, str], parts: Mapping[str, Part]) -> list[Finding]:
    """Every finding, those that stop training first."""
    basis = [*check_torch(dists, parts), *check_required(dists, parts)]
    # On a broken basis nothing loads: the rest would repeat the same error.
    rest = [] if basis else [*check_ops(dists, parts), *check_tasks(dists, parts)]
    findings = [*check_stack(dists), *check_transformers(dists), *basis, *rest]
    findings += [*check_opencv(dists), *check_age(dists), *check_embedded(parts)]
    return sorted(findings, key=lambda finding: not finding.fatal)


def describe_gpu(part: Part) -> str:
    """The GPUs that torch, probed as ``part``, sees."""
    if not part.version:
        return 'unknown without torch'
    import torch

    if not torch.cuda.is_available():
        return 'none (training runs on the CPU)'
    return ', '.join(torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count()))


def describe_ops(part: Part, supplied: bool) -> str:
    """Where mmcv's operators come from."""
    if not part.version:
        return str(part)
    return 'not compiled: mmlolvit supplies those of its configs' if supplied else 'compiled'


def main(argv=None) -> int:
    """Print the report; 0, or 1 where training cannot work."""
    argparse.ArgumentParser(prog='python -m mmlolvit.doctor', description=__doc__).parse_args(argv)
    dists = installed_distributions()
    parts = {name: probe(name) for name in (*REQUIRED, 'mmcv._ext', *TASKS, *OPTIONAL)}
    rows = {
        'mmlolvit': __version__,
        'python': f'{platform.python_version()} ({platform.system()} {platform.machine()})',
        **{name: parts[name] for name in (*REQUIRED, *TASKS, *OPTIONAL)},
        'mmcv ops': describe_ops(parts['mmcv._ext'], ops.supplied()),
        'stack': find_stack(dists),
        'GPU': describe_gpu(parts['torch']),
    }
    for name, value in rows.items():
        print(f'{name:<12} {value}')

    findings = diagnose(dists, parts)
    for finding in findings:
        print(f'\n{"error" if finding.fatal else "warning"}: {finding.problem}')
        print(f'  mend it: {finding.remedy}')
    if any(finding.fatal for finding in findings):
        print('\nTraining cannot work here.')
        return 1
    ready = [task for name, task in TASKS.items() if parts[name].version]
    print(f'\nReady for {", ".join(ready)}.')
    return 0


if __name__ == '__main__':
    sys.exit(main())
