"""Whether the data that a config names is there and is what it says, before anything is built."""

import json
import math
import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from mmengine.config import Config
from mmengine.dist import is_main_process
from mmengine.registry import DATASETS

from ..errors import UserError
from ..images import LIMIT, max_pixels

HOW_TO_GET = {
    'imagenet': 'ImageNet-1K, https://image-net.org: data/imagenet/{train,val}/<wnid>/*.JPEG',
    'coco': 'COCO 2017, https://cocodataset.org: data/coco/{annotations,train2017,val2017}',
    'bdd100k': 'BDD100K 10K images and masks, https://bdd-data.berkeley.edu: '
    'data/bdd100k/{images/10k,labels/sem_seg/masks}/{train,val}',
}
OUTLINE = 32  # pixels of a mask that take as much memory as one of an outline, of float64
# These read the whole data_root, or its split, where there is no data_prefix.
FOLDER_SETS = ('CustomDataset', 'ImageNet')
# What CocoDataset reads of each entry.
COCO_FIELDS = dict(
    images=('id', 'file_name', 'width', 'height'),
    annotations=('id', 'image_id', 'category_id', 'bbox', 'area'),
    categories=('id', 'name'),
)


def check_data(cfg: Config, *loaders: str) -> None:
    """Raise UserError unless the data of these dataloaders is there and fits the config.

    Every folder and annotation file has content; a file that CocoDataset reads is COCO, with the
    classes of the config in their order. So COCO's own 450 MB are parsed once more than training
    does: the seconds buy an answer before the model is built.
    """
    check_sources(cfg, *loaders)
    for key, dataset in find_datasets(dataset_nodes(cfg, loaders)):
        if path := find_coco(cfg, dataset):
            content = read_coco(path, dataset, reads_masks(cfg))
            classes = find_classes(cfg, dataset)
            names = [category['name'] for category in content['categories']]
            if wrong := compare_names(names, classes) or compare_evaluator(cfg, key, content):
                raise UserError(f'{key}: {path}: {wrong}')
            unused = ', '.join(name for name in names if name not in classes)
            if unused and is_main_process():
                print(f'warning: {key}: the config leaves out {unused} of {path}', file=sys.stderr)


def check_sources(cfg: Config, *loaders: str) -> None:
    """Raise UserError unless every folder and annotation file of these dataloaders has content.

    A list of images, one a line, names none outside of the data_root.
    """
    nodes = dataset_nodes(cfg, loaders)
    sources = [(k, path, kind) for k, d in find_datasets(nodes) for path, kind in find_sources(d)]
    for loader in loaders:
        evaluator = loader.replace('dataloader', 'evaluator')
        sources += [(evaluator, path, 'annotation file') for path, _ in find_truths(cfg, loader)]
    for key, path, kind in sources:
        if '://' not in path and (wrong := what_is_wrong(Path(path), kind)):
            hints = [hint for name, hint in HOW_TO_GET.items() if name in path.lower()]
            field = 'ann_file' if key.endswith('evaluator') else 'data_root'
            elsewhere = f'To read it elsewhere: --cfg-options {key}.{field}=...'
            raise UserError('\n'.join([f'{key}: {kind} {path} {wrong}', *hints, elsewhere]))
    for _, dataset in find_datasets(nodes):
        if path := find_list(dataset):
            with open(path, encoding='utf-8', errors='replace') as lines:
                if lines.read(1) == '\ufeff':
                    raise UserError(
                        f'{path} begins with a byte order mark, which would be read as part of its '
                        'first name; save it as UTF-8 without one'
                    )
                lines.seek(0)
                names = [line.strip() for line in lines if '..' in line or os.path.isabs(line)]
            require_inside(path, names, dataset)


def find_truths(cfg: Config, loader: str) -> list[tuple[str, bool]]:
    """The local annotation files that an evaluator reads, each with whether it judges masks."""
    metrics = cfg.get(loader.replace('dataloader', 'evaluator')) or []
    metrics = metrics if isinstance(metrics, list) else [metrics]
    truths = [(m.get('ann_file'), 'segm' in (m.get('metric') or ())) for m in metrics]
    return [(path, masks) for path, masks in truths if path and '://' not in path]


def dataset_nodes(cfg: Config, loaders: Sequence[str]) -> dict:
    """What `find_datasets` searches: the dataset config of each dataloader, by its key."""
    return {f'{loader}.dataset': (cfg.get(loader) or {}).get('dataset') for loader in loaders}


def find_datasets(nodes: dict) -> Iterator[tuple[str, dict]]:
    """Dataset configs by their keys; those inside `dataset` or `datasets` for wrappers."""
    for key, node in nodes.items():
        if isinstance(node, list):
            yield from find_datasets({f'{key}.{i}': item for i, item in enumerate(node)})
        elif inner := {f'{key}.{k}': node[k] for k in ('dataset', 'datasets') if k in (node or {})}:
            yield from find_datasets(inner)
        elif node:
            yield key, node


def first_dataset(cfg: Config, loader: str) -> dict:
    """The config of the data set of a dataloader, without wrappers; of several, the first."""
    return next(find_datasets(dataset_nodes(cfg, [loader])))[1]


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
        found = any(files for *_, files in os.walk(path, followlinks=True))
        return None if found else 'holds no files'
    return None if path.stat().st_size else 'is empty'


def find_coco(cfg: Config, dataset: dict) -> str | None:
    """The local annotation file of a dataset config that CocoDataset or its like reads, or None."""
    path = os.path.join(dataset.get('data_root') or '', dataset.get('ann_file') or '')
    if cfg.default_scope != 'mmdet' or not dataset.get('ann_file') or '://' in path:
        return None
    from mmdet.datasets import CocoDataset

    kind = find_type(cfg, dataset)
    alike = getattr(kind, 'parse_data_info', None) is CocoDataset.parse_data_info
    return path if alike else None


def find_list(dataset: dict) -> str | None:
    """The local file of a dataset config that lists images, one a line, or None."""
    path = os.path.join(dataset.get('data_root') or '', dataset.get('ann_file') or '')
    return path if path.endswith('.txt') and os.path.isfile(path) else None


def find_classes(cfg: Config, dataset: dict) -> Sequence[str]:
    """The classes of a dataset config: those of its metainfo, or else of its type."""
    return find_type(cfg, dataset)._load_metainfo(dataset.get('metainfo')).get('classes', ())


def find_type(cfg: Config, dataset: dict) -> type | None:
    kind = dataset.get('type')
    with DATASETS.switch_scope_and_registry(cfg.default_scope) as registry:
        return registry.get(kind) if isinstance(kind, str) else kind


def read_coco(path: str, dataset: dict, masks: bool = True) -> dict:
    """The content of a COCO file; only a dataset config in test_mode needs no annotations.

    Raises UserError for a file that is no JSON, or lacks what CocoDataset reads.
    """
    try:
        content = json.loads(Path(path).read_text('utf-8'))
    except ValueError as error:
        raise UserError(f'annotation file {path} is not JSON: {error}') from error
    except RecursionError as error:
        raise UserError(f'annotation file {path} is not COCO: it is nested too deep') from error
    if isinstance(content, dict) and dataset.get('test_mode'):
        content.setdefault('annotations', [])
    for key, fields in COCO_FIELDS.items():
        entries = content.get(key) if isinstance(content, dict) else None
        if not isinstance(entries, list):
            found = ', '.join(content) if isinstance(content, dict) else type(content).__name__
            raise UserError(
                f'annotation file {path} is not COCO: expected the lists '
                f'{", ".join(COCO_FIELDS)}; found: {found or "nothing"}'
            )
        for number, entry in enumerate(entries):
            found = entry.keys() if isinstance(entry, dict) else ()
            if absent := [field for field in fields if field not in found]:
                raise UserError(
                    f'annotation file {path} is not COCO: number {number} of its {key} '
                    f'lacks {", ".join(absent)}'
                )
            if wrong := what_is_unfit(entry, fields):
                raise UserError(
                    f'annotation file {path} is not COCO: number {number} of its {key}: {wrong}, '
                    f'got {str(entry)[:200]}'
                )
    require_inside(path, [image['file_name'] for image in content['images']], dataset)
    if masks:
        require_masks(path, content)
    return content


def what_is_unfit(entry: dict, fields: Sequence[str]) -> str | None:
    """What is expected of an entry and is not so, in words, or None.

    Ids can be looked up, sizes are numbers that are no more than an image has, a bbox is four,
    iscrowd, which training can do without, is no other than 0 or 1.
    """
    ids = [entry[name] for name in ('id', 'image_id', 'category_id') if name in fields]
    if not all(isinstance(value, int | str) for value in ids):
        return 'expected whole numbers or texts as ids'
    if not all(isinstance(entry[name], str) for name in ('file_name', 'name') if name in fields):
        return 'expected texts as file_name and name'
    sizes = [entry[name] for name in ('width', 'height', 'area') if name in fields]
    box = entry['bbox'] if 'bbox' in fields else [0] * 4
    numbers = sizes + box if isinstance(box, list) and len(box) == 4 else [None]
    if not all(isinstance(v, int | float) and abs(v) <= max_pixels() for v in numbers):
        return 'expected numbers in bbox=[x, y, width, height], width, height and area'
    if entry.get('iscrowd', 0) not in (0, 1):
        return 'expected 0 or 1 as iscrowd'
    if 'height' in fields and not 0 < entry['width'] * entry['height'] <= max_pixels():
        return f'expected 1 to {max_pixels()} pixels ({LIMIT} sets another limit)'
    return None


def require_inside(path: str, names: Sequence[str], dataset: dict) -> None:
    """Raise UserError where an annotation file names an image outside of the config's data_root."""
    prefixes = dataset.get('data_prefix') or ''
    if isinstance(prefixes, str):
        prefixes = dict(img=prefixes)
    used = {prefixes.get(key) or '' for key in ('img', 'img_path', 'seg_map_path')}
    for prefix in used - {''} or used:
        root = os.path.normpath(dataset.get('data_root') or prefix or '.')
        for name in names:
            full = os.path.join(dataset.get('data_root') or '', prefix, name)
            inside = os.path.relpath(os.path.normpath(full), root)
            if inside.split(os.sep)[0] == os.pardir:
                raise UserError(
                    f'annotation file {path} names an image outside of {root}: {name}; if all is '
                    'well, set data_root to a folder that holds all of them'
                )


def require_masks(path: str, content: dict) -> None:
    """Raise UserError for a mask that pycocotools cannot read, or not within bounds."""
    images = {image['id']: image for image in content['images']}
    for box in content['annotations']:
        mask, image = box.get('segmentation'), images.get(box['image_id'])
        if mask and (wrong := what_is_no_mask(mask, image)):
            raise UserError(f'annotation file {path}: the mask of annotation {box["id"]} {wrong}')


def what_is_no_mask(mask, image: dict | None) -> str | None:
    """What keeps a COCO segmentation from being a mask of its image, in words, or None."""
    if isinstance(mask, dict):
        size, counts = mask.get('size'), mask.get('counts')
        whole = isinstance(size, list) and len(size) == 2 and all(isinstance(n, int) for n in size)
        if image and not (whole and size == [image['height'], image['width']]):
            expected = f'[{image["height"]}, {image["width"]}], the height and width of its image'
            return f'is of size {str(size)[:50]}, expected {expected}'
        # An image that the file lacks is found elsewhere, and its masks are not read.
        if whole and not is_rle(counts, size[0] * size[1]):
            return (
                f'has counts that are no RLE of {size[0]} x {size[1]} pixels: expected a list of '
                f'whole numbers, or a compressed text, got {str(counts)[:50]}'
            )
        return None
    if not isinstance(mask, list) or not all(isinstance(part, list) for part in mask):
        return (
            'is neither a list of polygons [[x, y, x, y, ...], ...] nor an RLE of size and counts, '
            f'got {str(mask)[:50]}'
        )
    try:
        fits = sum(map(outline, mask)) * OUTLINE <= max_pixels()  # not so if it is no number
    except (TypeError, OverflowError):
        fits = False
    if not fits:
        return (
            'has an outline that is too long, or none; expected numbers, and at most '
            f'{max_pixels()} pixels ({LIMIT} sets another limit)'
        )
    return None


def is_rle(counts, pixels: int) -> bool:
    """Whether the counts of a COCO mask are runs of that many pixels in all.

    On others pycocotools may not end, or may read what is not its own. A text is decoded as its
    rleFrString does: 5 bits of a run per character, each run but the first three less that two
    before it.
    """
    if isinstance(counts, list):
        return all(isinstance(run, int) and run >= 0 for run in counts) and sum(counts) == pixels
    if not isinstance(counts, str):
        return False
    runs, run, shift = [], 0, 0
    for char in counts:
        bits = ord(char) - ord('0')
        if not 0 <= bits < 64 or shift > 60:
            return False
        run |= (bits & 31) << shift
        shift += 5
        if not bits & 32:  # the last of the run
            run -= (bits & 16) << (shift - 4)  # its sign
            runs.append(run + (runs[-2] if len(runs) > 2 else 0))
            run = shift = 0
            if not 0 <= runs[-1] <= pixels:
                return False
    return not shift and sum(runs) == pixels


def outline(polygon: list[float]) -> float:
    """At least how many pixels the outline of a polygon [x, y, x, y, ...] has, if that is many."""
    rough = (max(polygon) - min(polygon)) * len(polygon) if polygon else 0
    if rough * OUTLINE <= max_pixels():
        return 0.0 if math.isfinite(sum(polygon)) else math.nan
    points = np.asarray(polygon[: len(polygon) // 2 * 2], float).reshape(-1, 2)
    return float(np.abs(np.diff(points, axis=0, append=points[:1])).sum())


def compare_names(names: Sequence[str], classes: Sequence[str]) -> str | None:
    """Why the category names of a COCO file, in its order, do not fit the classes; None if they do.

    mmdet numbers the categories that are among the classes in the file's order: with one missing or
    another order, a class would go by the name of another. Categories that are no class are fine.
    """
    if isinstance(classes, str):
        return f'classes are the text {classes!r}, expected a tuple: classes=({classes!r},)'
    if [name for name in names if name in classes] == list(classes):
        return None
    missing = [name for name in classes if name not in names]
    added = [name for name in names if name not in classes]
    return (
        'its categories are not the classes that the config expects, in their order: '
        f'missing {", ".join(missing[:5]) or "none"}, added {", ".join(added[:5]) or "none"}\n'
        f'  file: {tuple(names)}\n'
        f'  config: {tuple(classes)}\n'
        'Set metainfo=dict(classes=(...)) in every data set to what the file has, '
        f'and num_classes={len(names)} in the heads of the model.'
    )


def compare_evaluator(cfg: Config, key: str, content: dict) -> str | None:
    """Why the evaluator of the dataset ``key`` cannot judge a COCO file; None where it can."""
    loader = key.split('.')[0]
    for path, masks in find_truths(cfg, loader):
        evaluator = loader.replace('dataloader', 'evaluator')
        truth = read_coco(path, dict(test_mode=True), masks)
        if any('iscrowd' not in box for box in truth['annotations']):
            return (
                f'{evaluator} reads {path}, and pycocotools needs iscrowd in each of its '
                'annotations; set it to 0, or to 1 for a crowd'
            )
        ids = [box['id'] for box in truth['annotations']]
        if wrong := [n for n in ids if not isinstance(n, int) or not n]:
            return (
                f'{evaluator} reads {path}, and pycocotools takes an annotation of id {wrong[0]!r} '
                'for none; number them from 1'
            )
        classes = find_classes(cfg, first_dataset(cfg, loader))
        used = {c['id'] for c in truth['categories'] if not classes or c['name'] in classes}
        boxes = [box for box in truth['annotations'] if masks and box['category_id'] in used]
        if unlike := [box['id'] for box in boxes if not has_outline(box)]:
            return (
                f'{evaluator} reads {path}, and judges masks: expected polygons of at least 3 '
                f'points, or an RLE, as segmentation of its annotation {unlike[0]}'
            )
        known = {image['id'] for image in truth['images']}
        if missing := {image['id'] for image in content['images']} - known:
            return (
                f'{evaluator} reads {path}, which lacks {len(missing)} of its images; '
                f'set ann_file in {evaluator}, too'
            )
    return None


def reads_masks(cfg: Config) -> bool:
    """Whether a pipeline of a config loads masks, or an evaluator judges them."""
    text = str(cfg._cfg_dict)
    return "'with_mask': True" in text or "'segm'" in text


def has_outline(box: dict) -> bool:
    """Whether pycocotools makes a mask of a COCO box: it looks at the first polygon alone."""
    mask = box.get('segmentation') or [()]
    return isinstance(mask, dict) or len(mask[0]) > 4


def explain_listing(dataset, error: Exception) -> str:
    """Why a data set could not list its samples, for the exception that its full_init raised."""
    folders = [prefix for prefix in dataset.data_prefix.values() if prefix]
    source = dataset.ann_file or ', '.join(folders)
    if not dataset.data_list and isinstance(error, ValueError) and 'concatenate' in str(error):
        suffix = getattr(dataset, 'img_suffix', '')
        return f'{type(dataset).__name__} finds no sample{suffix and f" *{suffix}"} in {source}'
    return (
        f'{type(dataset).__name__} cannot list the samples of {source}: '
        f'{type(error).__name__}: {error}'
    )
