"""Packaging. The OpenMMLab stack is an extra, so that installing mmlolvit changes no stack."""

import re
from pathlib import Path

from setuptools import find_packages, setup

ROOT = Path(__file__).parent


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
