"""Make a checkpoint small and safe to share: ``tools/publish_model.py CKPT OUT.pth``."""

import argparse
import hashlib
import io
import os
from pathlib import Path

import torch

from ..checkpoints import read_checkpoint
from ..engine.secrecy import hide_secrets
from ..errors import UserError
from ..tasks import plain
from .common import check_writable, exits, take_checkpoint


@exits
def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description='Write the weights of a checkpoint, those of the EMA where the run had one, '
        'with its classes; no optimizer, no config, and no pickled objects.'
    )
    take_checkpoint(parser)
    parser.add_argument('out', metavar='OUT.pth', help='the hash of the content joins the name')
    parser.add_argument(
        '--backbone-only', action='store_true', help='leave out neck and heads; for pretraining'
    )
    args = parser.parse_args(argv)
    if Path(args.out).suffix != '.pth':
        parser.error(f'expected a name that ends in .pth, got {args.out}')
    check_writable(Path(args.out).parent)
    content = publish(read_checkpoint(args.checkpoint), args.backbone_only)
    file = write_hashed(content, Path(args.out))
    print(f'{file}: {len(content["state_dict"])} tensors, {file.stat().st_size / 1e6:.1f} MB')


def publish(checkpoint: dict, backbone_only: bool = False) -> dict:
    """What others need of a checkpoint: `state_dict`, and `meta` in plain types, without secrets.

    MMEngine keeps the weights of an exponential moving average, where there is one, in
    `state_dict`. Names stay as they are, `backbone.` in front of the backbone's. Raises UserError
    where `backbone_only` finds none.
    """
    weights = {
        name: tensor.detach().cpu().clone()  # whole storages would be written of views
        for name, tensor in checkpoint['state_dict'].items()
        if name.startswith('backbone.') or not backbone_only
    }
    if not weights:
        raise UserError('--backbone-only: no tensor of the checkpoint is named backbone.*')
    meta = plain(checkpoint.get('meta') or {})
    for text in ('cfg', 'config'):  # programs, with secrets where another tool trained
        meta.pop(text, None)
    return dict(meta=hide_secrets(meta), state_dict=weights)


def write_hashed(content: dict, path: Path) -> Path:
    """Save as NAME-HASH.pth, whole or not at all; equal contents get equal names.

    HASH is the first 8 hexadecimal digits of the file's SHA-256, as torch.hub checks it.
    """
    buffer = io.BytesIO()
    torch.save(content, buffer)
    digest = hashlib.sha256(buffer.getvalue()).hexdigest()[:8]
    file = path.with_stem(f'{path.stem}-{digest}')
    part = file.with_suffix('.part')
    part.write_bytes(buffer.getvalue())
    os.replace(part, file)
    return file
