"""Packaging. The OpenMMLab stack is an extra, so that installing mmlolvit changes no stack."""

import re
from pathlib import Path

from setuptools import find_packages, setup
from setuptools.command.build_py import build_py

ROOT = Path(__file__).parent

# Python runs this line at its start. It lets every program of the environment build our modules
# under any library's scope: mmdet imports mmcv's operators before it asks MMEngine for ours. The
# finder stays and the package goes, so that a checkout in the current folder can still win.
AT_START = (
    "import sys, importlib.util as u; u.find_spec('mmlolvit') and "
    "(__import__('mmlolvit.ops'), [sys.modules.pop(m) for m in ('mmlolvit.ops', 'mmlolvit')])\n"
)


class BuildWithStart(build_py):
    """Puts ``mmlolvit.pth`` beside the package, in a wheel as in an editable install."""

    def run(self):
        super().run()
        command = 'install' if self.editable_mode else 'build'
        folder = Path(getattr(self.get_finalized_command(command), f'{command}_lib'))
        folder.mkdir(parents=True, exist_ok=True)
        (folder / 'mmlolvit.pth').write_text(AT_START, encoding='utf-8')


def version():
    """``__version__``, read without importing the package."""
    text = (ROOT / 'mmlolvit' / '__init__.py').read_text(encoding='utf-8')
    return re.search(r"^__version__ = '(.+)'$", text, re.MULTILINE).group(1)


def requirements(*names):
    """The pins of ``requirements/NAME.txt``."""
    text = '\n'.join(
        (ROOT / 'requirements' / f'{n}.txt').read_text(encoding='utf-8') for n in names
    )
    return [line for line in text.splitlines() if '==' in line]


setup(
    name='mmlolvit',
    version=version(),
    description='LOLViT: a lightweight vision backbone for the OpenMMLab libraries',
    long_description=(ROOT / 'README.md').read_text(encoding='utf-8'),
    long_description_content_type='text/markdown',
    license='Apache-2.0',
    author='The mmlolvit authors',
    packages=find_packages(include=['mmlolvit', 'mmlolvit.*']),
    package_data={'mmlolvit': ['.mim/*.yml', '.mim/**/*.py', '.mim/**/*.yml']},
    entry_points=dict(console_scripts=['mmlolvit = mmlolvit.cli.main:main']),
    cmdclass=dict(build_py=BuildWithStart),
    python_requires='>=3.11,<3.14',
    extras_require={
        # Without --no-deps pip brings the OpenCV distributions that the libraries ask for.
        'maintained': [
            pin
            for pin in requirements('torch', 'openmmlab', 'common')
            if not pin.startswith('opencv')
        ],
        'benchmark': requirements('benchmark'),
        'dev': requirements('dev'),
    },
)
