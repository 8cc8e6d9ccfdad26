"""Check the data that a config trains on: ``tools/check_dataset.py CONFIG``."""

import hashlib
import os
import sys
from collections.abc import Iterator
from contextlib import redirect_stdout
from pathlib import Path
from textwrap import indent

import cv2
import numpy as np
from mmengine.config import Config
from mmengine.registry import DATASETS, init_default_scope
from rich.console import Console
from rich.progress import track
from torch.utils.data import DataLoader, Dataset

from ..datasets import ensure_embedded
from ..zoo import load_config
from .common import exits, make_parser
from .data import (
    check_sources,
    compare_evaluator,
    compare_names,
    dataset_nodes,
    find_classes,
    find_coco,
    find_datasets,
    read_coco,
    reads_masks,
)
from .samples import BadSample, compare_heads, find_labels, find_sizes, guard

LOADERS = ('train_dataloader', 'val_dataloader', 'test_dataloader')
SHOWN = 3  # names that a finding lists


@exits
def main(argv: list[str] | None = None) -> int:
    args = make_parser('Check the data that a config trains on.').parse_args(argv)
    cfg, _ = load_config(args.config, args.cfg_options, ('model', 'train_dataloader'))
    ensure_embedded(cfg)
    check_sources(cfg, *LOADERS)
    init_default_scope(cfg.default_scope)
    errors, trained, labels = 0, {}, None
    for keys, node in find_parts(cfg):
        findings, training = Findings(), keys[0].startswith('train')
        counts = check_coco(cfg, keys, node, findings) if find_coco(cfg, node) else ''
        dataset = build_for_loading(node)
        labels = labels or find_labels(dataset)
        check_classes(cfg, dataset, labels, findings)
        if hasattr(dataset, 'folder_to_idx'):
            check_class_folders(dataset, training, findings)
        if cfg.default_scope == 'mmseg' and not dataset.ann_file:
            check_mask_folders(dataset, findings)
        if hasattr(dataset, 'get_data_info'):
            workers = cfg[keys[0].split('.')[0]].get('num_workers', 0)
            guard(dataset, cfg)
            check_samples(dataset, keys[0], workers, training, trained, findings)
        else:
            counts += ', drawn on demand'
        print(
            f'{", ".join(keys)}: {type(dataset).__name__}, {len(dataset)} samples, '
            f'{len(find_labels(dataset))} classes{counts}'
        )
        errors += findings.print()
    print(f'{errors or "no"} error{"s" * (errors != 1)}')
    return int(errors > 0)


class Findings:
    """What was found in one data set; of any number of names it keeps the first few.

    An error lets training or testing fail, or lose or mistake data without a word; a note does not.
    """

    def __init__(self):
        self.found = {}

    def error(self, title: str, name: str, mend: str = '') -> None:
        self.add('error', title, name, mend)

    def note(self, title: str, name: str, mend: str = '') -> None:
        self.add('note', title, name, mend)

    def add(self, level: str, title: str, name: str, mend: str) -> None:
        count, names, _ = self.found.get((level, title), (0, [], ''))
        self.found[level, title] = count + 1, [*names, name][:SHOWN], mend

    def print(self) -> int:
        """Print the findings, errors first; the number of errors, one per title."""
        for (level, title), (count, names, mend) in sorted(self.found.items()):
            more = [f'and {count - SHOWN} more'] if count > SHOWN else []
            print(f'  {level}: {title} ({count})')
            print(indent('\n'.join([*names, *more, *filter(None, [mend])]), ' ' * 4))
        return sum(level == 'error' for level, _ in self.found)


def find_parts(cfg: Config) -> list[tuple[list[str], dict]]:
    """The dataset configs, training first, each with the keys where the config has it.

    Those that differ in the pipeline alone come once, but for one that is also trained on.
    """
    parts = []
    for key, node in find_datasets(dataset_nodes(cfg, LOADERS)):
        source = dict(node, pipeline=None)
        for keys, other in parts:
            same_use = keys[0].startswith('train') == key.startswith('train')
            if same_use and source == dict(other, pipeline=None):
                keys.append(key)
                break
        else:
            parts.append(([key], node))
    return parts


def build_for_loading(node: dict):
    """The data set of a config with the steps of its pipeline that load, and no other."""
    steps = node.get('pipeline', ())
    steps = [step for step in steps if str(step['type']).split('.')[-1].startswith('Load')]
    with redirect_stdout(sys.stderr):  # pycocotools tells what it does
        dataset = DATASETS.build(dict(node, pipeline=steps))
        if hasattr(dataset, 'full_init'):
            dataset.full_init()
    return dataset


def check_classes(cfg: Config, dataset, expected: tuple[str, ...], findings: Findings) -> None:
    """Compare the classes of a data set with the heads of the model and with ``expected``."""
    labels = find_labels(dataset)
    if wrong := compare_heads(cfg, dataset):
        findings.error('classes do not fit the model', wrong)
    for key, number in find_sizes(cfg.model, 'model'):
        if number > len(labels) > 0 and not wrong:
            findings.note('fewer classes than the model has', f'{key}={number}')
    if labels != expected:
        names = [', '.join(labels) for labels in (labels, expected)]
        findings.error(
            'classes are not those of the first data set', '{}\nfirst: {}'.format(*names)
        )


def check_coco(cfg: Config, keys: list[str], node: dict, findings: Findings) -> str:
    """Check the annotation file of a dataset config; what it has, in words.

    The errors are what CocoDataset leaves out, or calls by another name, without a word.
    """
    path, classes = find_coco(cfg, node), find_classes(cfg, node)
    content = read_coco(path, node, reads_masks(cfg))
    names = {category['id']: category['name'] for category in content['categories']}
    if wrong := compare_names([c['name'] for c in content['categories']], classes):
        findings.error('class names differ between file and config', wrong)
    for key in keys:
        if wrong := compare_evaluator(cfg, key, content):
            findings.error('an evaluator that cannot judge these images', wrong)
    images = {image['id']: image for image in content['images']}
    if repeated := len(content['images']) - len(images):
        findings.error(
            'image ids that occur twice', f'{repeated} in {path}', 'only the last is read'
        )
    with_mask = any(step.get('with_mask') for step in node.get('pipeline', ()))
    annotated = set()
    for box in content['annotations']:
        image = images.get(box['image_id'])
        if image is None:
            name = f'annotation {box["id"]}, image_id {box["image_id"]}'
            findings.error('annotations without an image', name, f'add the images to {path}')
            continue
        annotated.add(image['id'])
        where = f'annotation {box["id"]} of {image["file_name"]}'
        check_box(box, image, where, findings)
        if with_mask and not box.get('iscrowd') and not has_mask(box):
            findings.error('boxes without a mask', where, 'the model learns masks: draw one')
        if box['category_id'] not in names:
            name = f'{where}: category_id {box["category_id"]}'
            findings.error('class ids out of range', name, f'the categories have {sorted(names)}')
        elif names[box['category_id']] not in classes:
            name = f'{where}: {names[box["category_id"]]}'
            mend = 'learned as background; add the class to metainfo, or take the boxes out'
            findings.error('boxes of a class that the config leaves out', name, mend)

    filters = {} if node.get('test_mode') else node.get('filter_cfg') or {}
    for image in content['images']:
        if image['id'] not in annotated:
            mend = (
                'left out, by filter_cfg' if filters.get('filter_empty_gt') else 'background only'
            )
            findings.note('images without annotation', image['file_name'], mend)
        if min(image['width'], image['height']) < filters.get('min_size', 0):
            findings.note('images below min_size', image['file_name'], 'left out, by filter_cfg')
    named = {os.path.normpath(image['file_name']) for image in content['images']}
    folder = os.path.join(
        node.get('data_root') or '', (node.get('data_prefix') or {}).get('img', '')
    )
    for name in find_files(folder, findings):
        if name not in named and is_image(folder, name):
            findings.note('images that the annotation file does not name', name, 'left out')
    return f', {len(content["annotations"])} boxes on {len(images)} images in {path}'


def check_box(box: dict, image: dict, where: str, findings: Findings) -> None:
    """Compare a COCO box with its image, by the rules of CocoDataset.parse_data_info."""
    x, y, width, height = box['bbox']
    right, bottom = x + width, y + height
    name = f'{where}: {box["bbox"]} in an image {image["width"]} wide, {image["height"]} high'
    if box.get('ignore') or box.get('iscrowd'):
        findings.note('crowds and ignored boxes', where, 'not learned, as they ask')
    if width < 1 or height < 1 or box['area'] <= 0:
        mend = 'mmdet drops boxes under a pixel wide or high, or of area <= 0'
        findings.error('boxes of no area', f'{name}, area {box["area"]}', mend)
    elif x >= image['width'] or y >= image['height'] or min(right, bottom) <= 0:
        findings.error('boxes outside the image', name, 'mmdet drops them')
    elif min(x, y) < -1 or right > image['width'] + 1 or bottom > image['height'] + 1:
        findings.note('boxes across the edge of the image', name, 'cut at the edge')


def has_mask(box: dict) -> bool:
    """Whether mmdet's LoadAnnotations gets a mask from the segmentation of a COCO box."""
    mask = box.get('segmentation') or ()
    fits = (len(polygon) >= 6 and len(polygon) % 2 == 0 for polygon in mask)
    return isinstance(mask, dict) or any(fits)


def check_class_folders(dataset, training: bool, findings: Findings) -> None:
    """Look for images that a data set of class folders does not read, and for empty folders."""
    filled = set()
    for name in find_files(dataset.img_prefix, findings):
        folder, *inner = Path(name).parts
        if inner and dataset.is_valid_file(name):
            filled.add(folder)
        elif is_image(dataset.img_prefix, name):
            mend = f'expected CLASS/NAME with an extension of {sorted(dataset.extensions)}'
            findings.error('images that are not read', os.path.join(dataset.img_prefix, name), mend)
    for folder in sorted(dataset.folder_to_idx.keys() - filled):
        level = 'error' if training else 'note'
        findings.add(level, 'class folders without an image', folder, 'the class has no sample')


def check_mask_folders(dataset, findings: Findings) -> None:
    """Look for images that a mmseg data set of folders does not read, and masks of no image."""
    images, masks = (dataset.data_prefix.get(key) or '' for key in ('img_path', 'seg_map_path'))
    suffix = dataset.seg_map_suffix
    for name in find_files(images, findings):
        is_mask = images == masks and name.endswith(suffix)
        if not (name.endswith(dataset.img_suffix) or is_mask) and is_image(images, name):
            mend = f'expected names that end in {dataset.img_suffix}: set img_suffix, or convert'
            findings.error('images that are not read', os.path.join(images, name), mend)
    for name in find_files(masks, findings) if masks else ():
        image = os.path.join(images, name.removesuffix(suffix) + dataset.img_suffix)
        if name.endswith(suffix) and not os.path.exists(image):
            findings.error('masks without an image', os.path.join(masks, name), f'no {image}')


def find_files(folder: str, findings: Findings) -> Iterator[str]:
    """Paths of the files under a folder, relative to it; what else is there is an error.

    OpenCV would wait for a pipe, and the data sets leave out a link to nothing.
    """
    for parent, _, names in os.walk(folder, followlinks=True):
        for path in (os.path.join(parent, name) for name in names):
            if os.path.isfile(path):
                yield os.path.relpath(path, folder)
            else:
                mend = 'a pipe, a device or a link to nothing is not read: take it away'
                findings.error('neither files nor folders', path, mend)


def is_image(folder: str, name: str) -> bool:
    return cv2.haveImageReader(os.path.join(folder, name))


class Samples(Dataset):
    """Per sample of a guarded data set: path, digest of its pixels, and what is wrong with it."""

    def __init__(self, dataset):
        self.dataset = dataset

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> tuple[str, bytes | None, BadSample | None]:
        info = self.dataset.get_data_info(index)
        path = info.get('img_path', f'image {index}')  # some data sets are one file
        stated = info.get('height'), info.get('width')
        try:
            data = self.dataset.pipeline(info)
        except BadSample as error:
            return path, None, error
        if data is None:
            return path, None, BadSample('image cannot be read', path, 'ignore_empty leaves it out')
        shape, wrong = data.get('ori_shape', data['img'].shape[:2]), None
        digest = hashlib.blake2b(repr(shape).encode(), digest_size=16)
        digest.update(np.ascontiguousarray(data['img']))
        if None not in stated and stated != shape:
            wrong = BadSample(
                'image of another size than the annotation file says',
                '{} is {} x {}, not {} x {} high and wide'.format(path, *shape, *stated),
                'correct the file, and look whether its boxes fit the image',
            )
        return path, digest.digest(), wrong


def check_samples(dataset, key: str, workers: int, training: bool, trained: dict, findings) -> None:
    """Load every sample as training does.

    Of training samples, ``trained`` gets the path by the digest of the pixels; of others, findings
    get those that are among them.
    """
    loader = DataLoader(Samples(dataset), batch_size=None, num_workers=workers, collate_fn=keep)
    samples = iter(loader)  # forks its workers, before the progress bar starts a thread
    for path, digest, wrong in track(samples, key, len(dataset), console=Console(stderr=True)):
        if wrong:
            findings.error(wrong.fault, wrong.where, wrong.mend)
        if digest and training:
            trained[digest] = path
        elif digest in trained:
            mend = 'a score on what was trained on says little: take them out of one of the sets'
            findings.note('images that are trained on too', f'{path} = {trained[digest]}', mend)


def keep(sample):
    """A DataLoader's collate_fn that changes nothing."""
    return sample
