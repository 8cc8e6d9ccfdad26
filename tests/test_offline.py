"""Nothing of ours asks a network for anything, unless a URL is given."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow
ROOT = Path(__file__).parents[1]

# Python runs this at its start: whatever turns to a network is written down, and refused.
SITE = """
import os, socket

def refuse(name, real):
    def refused(*args, **kwargs):
        if getattr(args[0], 'family', None) == socket.AF_UNIX:  # between processes of one machine
            return real(*args, **kwargs)
        with open(os.environ['ASKED'], 'a') as file:
            file.write(f'{name} {args[-1] if name != "getaddrinfo" else args[0]}\\n')
        raise OSError(f'{name}: there is no network')
    return refused

socket.getaddrinfo = refuse('getaddrinfo', None)
for name in ('connect', 'connect_ex', 'sendto'):
    setattr(socket.socket, name, refuse(name, getattr(socket.socket, name)))
"""
NAME = 'lolvit_xx_digits'
FEW = ['train_cfg.max_epochs=1', 'train_dataloader.dataset.indices=64']
FEW += ['val_dataloader.dataset.indices=16', 'test_dataloader.dataset.indices=16']
WORKERS = ['train_dataloader.num_workers=2']
COMMANDS = [
    ['train', NAME, '--work-dir', 'w', '--tensorboard', '--cfg-options', *FEW, *WORKERS],
    ['test', NAME, 'w/epoch_1.pth', '--work-dir', 'w', '--out', 'o.json', '--cfg-options', *FEW],
    ['infer', NAME, 'w/epoch_1.pth', 'data/digits/val/3', '--write', 'jsonl'],
    ['get_flops', 'retinanet_lolvit_x_coco'],
    ['doctor'],
]


def test_no_command_turns_to_a_network(tmp_path):
    (tmp_path / 'sitecustomize.py').write_text(SITE)
    env = dict(os.environ, PYTHONPATH=f'{tmp_path}{os.pathsep}{ROOT}', OMP_NUM_THREADS='1')
    env['ASKED'] = str(tmp_path / 'asked.txt')
    for command in COMMANDS:
        done = subprocess.run(
            [sys.executable, '-m', 'mmlolvit', *command],
            cwd=tmp_path,
            env=env,
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr
    assert not (tmp_path / 'asked.txt').exists(), (tmp_path / 'asked.txt').read_text()
    assert json.loads((tmp_path / 'o.json').read_text())['predictions']
    probe = 'import socket; socket.create_connection(("127.0.0.1", 9))'
    assert subprocess.run([sys.executable, '-c', probe], env=env, capture_output=True).returncode
    assert (tmp_path / 'asked.txt').exists()  # the trap works
