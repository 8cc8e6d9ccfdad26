"""The lock files are those of the pins: what `make setup` installs."""

import re
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[1] / 'requirements'
PINS = (
    'openmmlab',
    'common',
    'torch',
    'benchmark',
    'dev',
    'docs',
    'tensorboard',
    'visualize',
    'demo',
)
PIN = re.compile(r'^([\w.-]+)==(\S+?)(?=[;\s\\]|$)', re.MULTILINE)


def normal(name: str) -> str:
    return re.sub(r'[-_.]+', '-', name).lower()


def read_pins(name: str) -> dict[str, str]:
    found = PIN.findall((FOLDER / f'{name}.txt').read_text())
    return {normal(package): version for package, version in found}


@pytest.fixture(scope='module')
def locked():
    return read_pins('lock-openmmlab') | read_pins('lock')


@pytest.mark.parametrize('name', PINS)
def test_every_pin_is_locked_at_its_version(locked, name):
    pins = read_pins(name)
    assert pins
    assert {package: locked.get(package) for package in pins} == pins, 'run `make lock`'


@pytest.mark.parametrize('name', ['lock', 'lock-openmmlab'])
def test_every_locked_file_has_a_hash(name):
    entries = re.split(r'^(?=[\w])', (FOLDER / f'{name}.txt').read_text(), flags=re.MULTILINE)
    packages = [entry for entry in entries if PIN.match(entry)]
    assert packages
    assert all(re.search(r'--hash=sha256:[0-9a-f]{64}', entry) for entry in packages)


def test_every_locked_package_has_its_licence_listed(locked):
    table = (FOLDER.parent / 'docs/licences.md').read_text()
    listed = {normal(line.split('|')[1].strip()) for line in table.splitlines() if '|' in line}
    markers = (FOLDER / 'lock.txt').read_text()
    elsewhere = {normal(n) for n in re.findall(r'^([\w.-]+)==\S+ ;', markers, re.MULTILINE)}
    assert locked.keys() - listed - elsewhere == set(), 'run `make licences`'
