"""Whether the data that a config names is there, asked before anything is built."""

import os
from collections.abc import Iterator
from pathlib import Path

from mmengine.config import Config

from ..errors import UserError

HOW_TO_GET = {
    'imagenet': 'ImageNet-1K, https://image-net.org: data/imagenet/{train,val}/<wnid>/*.JPEG',
    'coco': 'COCO 2017, https://cocodataset.org: data/coco/{annotations,train2017,val2017}',
    'bdd100k': 'BDD100K 10K images and masks, https://bdd-data.berkeley.edu: '
    'data/bdd100k/{images/10k,labels/sem_seg/masks}/{train,val}',
}
# These read the whole data_root, or its split, where there is no data_prefix.
FOLDER_SETS = ('CustomDataset', 'ImageNet')


def check_data(cfg: Config, *loaders: str) -> None:
    """Raise UserError unless every folder and annotation file of these dataloaders has content."""
    nodes = {f'{loader}.dataset': (cfg.get(loader) or {}).get('dataset') for loader in loaders}
    for key, dataset in find_datasets(nodes):
        for path, kind in find_sources(dataset):
            if '://' not in path and (wrong := what_is_wrong(Path(path), kind)):
                hints = [hint for name, hint in HOW_TO_GET.items() if name in path.lower()]
                elsewhere = f'To read it elsewhere: --cfg-options {key}.data_root=...'
                raise UserError('\n'.join([f'{key}: {kind} {path} {wrong}', *hints, elsewhere]))


def find_datasets(nodes: dict) -> Iterator[tuple[str, dict]]:
    """Dataset configs by their keys; those inside `dataset` or `datasets` for wrappers."""
    for key, node in nodes.items():
        if isinstance(node, list):
            yield from find_datasets({f'{key}.{i}': item for i, item in enumerate(node)})
        elif inner := {f'{key}.{k}': node[k] for k in ('dataset', 'datasets') if k in (node or {})}:
            yield from find_datasets(inner)
        elif node:
            yield key, node


def find_sources(dataset: dict) -> Iterator[tuple[str, str]]:
    """Paths that a dataset config reads, each with 'folder' or 'annotation file'."""
    root = dataset.get('data_root') or ''
    if dataset.get('ann_file'):
        yield os.path.join(root, dataset['ann_file']), 'annotation file'
    prefixes = dataset.get('data_prefix')
    if not prefixes and root and str(dataset.get('type')).split('.')[-1] in FOLDER_SETS:
        prefixes = dataset.get('split', '')
    if isinstance(prefixes, str):
        prefixes = dict(img_path=prefixes)
    for prefix in (prefixes or {}).values():
        if prefix is not None:
            yield os.path.join(root, prefix), 'folder'


def what_is_wrong(path: Path, kind: str) -> str | None:
    """What keeps a path from being read, in words, or None."""
    if not path.exists():
        return 'does not exist'
    if kind == 'folder':
        return None if any(files for _, _, files in os.walk(path)) else 'holds no files'
    return None if path.stat().st_size else 'is empty'
