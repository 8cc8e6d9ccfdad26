"""What predictions get right and wrong, by class and by image, as the task libraries measure it."""

import base64
import io
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from functools import partial

import cv2
import numpy as np
import torch
from mmengine.config import Config
from mmengine.logging import MMLogger
from mmengine.registry import METRICS
from mmengine.structures import InstanceData, PixelData

from ..cli.data import is_rle
from ..errors import UserError
from ..images import max_pixels

LARGEST = 2**31  # number that a prediction may have; areas are computed in float32
SCORE_THR, IOU_THR = 0.3, 0.5  # of the boxes that are counted, and of those that meet
GROUND = 'background'
PNG = b'\x89PNG\r\n\x1a\n'  # how each begins


class Results:
    """Predictions of `tools/test.py --out` beside the truth of a test set.

    Attributes:
        classes: Names, by label.
        totals: What the config's evaluator measures, by its names.
        columns: Of each class (K,): how often it is there, then what was measured.
        order: The column that says how well a class is predicted.
        matrix (L, L): How often a class (row) was predicted as another (column).
        labels: What rows and columns of the matrix are.
        scores (N,): How well each image is predicted, least where it fails worst.
    """

    fields = ()  # that each prediction has
    order = ''

    def __init__(self, cfg: Config, dataset, predictions: list[dict]):
        self.cfg, self.dataset, self.predictions = cfg, dataset, predictions
        self.classes = tuple(map(str, dataset.metainfo['classes']))
        self.labels = self.classes
        self.totals, self.columns = {}, {}
        self.measure()

    @staticmethod
    def what_is_unfit(image: dict) -> tuple[str, str] | None:
        """The field of a prediction that is damaged, and what is expected of it; None for none."""
        raise NotImplementedError

    def measure(self) -> None:
        """Set what the attributes say."""
        raise NotImplementedError

    def require_known(self, label: int) -> None:
        """Raise UserError for a prediction that is no class of the test set."""
        if (number := len(self.classes)) <= label:
            raise UserError(
                f'the model predicts class {label}, and the test set has classes 0 to {number - 1}:'
                f' set num_classes={number} in the head of the model'
            )

    def describe(self, index: int) -> str:
        """What is wrong with an image."""
        raise NotImplementedError

    def sample(self, index: int):
        """An image's prediction with its truth, as the task library has it."""
        raise NotImplementedError

    def build_metric(self, name: str, **options):
        """The metric of this type that the config's evaluator has; raises UserError."""
        metrics = self.cfg.test_evaluator
        for metric in metrics if isinstance(metrics, list) else [metrics]:
            if str(metric['type']).strip("'>").split('.')[-1] == name:
                with quiet():
                    built = METRICS.build(dict(metric, **options))
                built.dataset_meta = self.dataset.metainfo
                return built
        raise UserError(f'expected a test_evaluator of type {name}, got {metrics}')


class ClassResults(Results):
    """Classification: precision, recall and F1 in percent."""

    fields = ('pred_label', 'gt_label', 'top_labels', 'top_scores')
    order = 'F1'

    @staticmethod
    def what_is_unfit(image):
        for key in ('pred_label', 'gt_label'):
            if not are_labels([image[key]]):
                return key, 'one label, a whole number from 0'
        labels = image['top_labels']
        if not (are_labels(labels) and labels):
            return 'top_labels', 'labels, whole numbers from 0'
        if not are_numbers(image['top_scores'], len(labels)):
            return 'top_scores', f'{len(labels)} numbers, as many as top_labels'
        return None

    def measure(self):
        from sklearn.metrics import (
            accuracy_score,
            confusion_matrix,
            precision_recall_fscore_support,
        )

        truth, found = ([image[key] for image in self.predictions] for key in self.fields[1::-1])
        self.require_known(max(found))
        self.require_known(max(label for i in self.predictions for label in i['top_labels']))
        known = range(len(self.classes))
        if max(truth) not in known:
            raise UserError(
                f'the predictions have a gt_label {max(truth)}, and the test set has classes 0 to '
                f'{known[-1]}; they are of other data'
            )
        self.totals['accuracy/top1'] = 100 * accuracy_score(truth, found)
        among = [image['gt_label'] in image['top_labels'] for image in self.predictions]
        if len(known) > 5:
            self.totals['accuracy/top5'] = 100 * float(np.mean(among))
        *shares, count = precision_recall_fscore_support(
            truth, found, labels=known, zero_division=0
        )
        precision, recall, f1 = (100 * share for share in shares)
        self.columns = dict(images=count, precision=precision, recall=recall, F1=f1)
        self.matrix = confusion_matrix(truth, found, labels=known)
        self.scores = np.array([self.margin(image) for image in self.predictions])

    @staticmethod
    def margin(image: dict) -> float:
        """The score of the truth less the best of the others; below 0 where they win."""
        scores = dict(zip(image['top_labels'], image['top_scores'], strict=True))
        return scores.pop(image['gt_label'], 0) - max(scores.values(), default=0)

    def describe(self, index):
        image = self.predictions[index]
        truth, found = (self.classes[image[key]] for key in ('gt_label', 'pred_label'))
        if truth == found:
            return f'{truth}, ahead by {self.scores[index]:.1%}'
        return f'{found} for {truth}, {image["top_scores"][0]:.1%} sure'

    def sample(self, index):
        from mmpretrain.structures import DataSample

        image = self.predictions[index]
        scores = torch.zeros(len(self.classes))
        scores[image['top_labels']] = torch.tensor(image['top_scores'], dtype=torch.float32)
        sample = DataSample().set_gt_label(image['gt_label']).set_pred_label(image['pred_label'])
        return sample.set_pred_score(scores)


class BoxResults(Results):
    """Detection: COCO's AP, and precision and recall of boxes at one score and IoU.

    Of the boxes with a score over 0.3, the surest first, each meets a box of the truth that none
    has met before, at an IoU of 0.5 or more; one of its own class if there is one. Ours: COCO
    matches class by class, and so never sees one class as another.
    """

    fields = ('boxes', 'labels', 'scores')
    order = 'bbox AP'

    @staticmethod
    def what_is_unfit(image):
        boxes, labels, masks = image['boxes'], image['labels'], image.get('masks')
        if not isinstance(boxes, list) or not all(map(is_box, boxes)):
            return 'boxes', '[[left, top, right, bottom], ...] in numbers, right not left of left'
        number = len(boxes)
        if not are_labels(labels) or len(labels) != number:
            return 'labels', f'{number} whole numbers from 0, as many as boxes'
        if not are_numbers(image['scores'], number):
            return 'scores', f'{number} numbers, as many as boxes'
        whole = isinstance(masks, list) and len(masks) == number and all(map(is_mask, masks))
        if 'masks' in image and not whole:
            return 'masks', (
                f'{number}, as many as boxes, each dict(size=[height, width], counts=COCO RLE), '
                f'with runs that fill the size, of at most {max_pixels()} pixels'
            )
        return None

    def measure(self):
        for i, image in enumerate(self.predictions):
            self.require_known(max(image['labels'], default=0))
            info = self.dataset.get_data_info(i)
            size = [info['height'], info['width']]
            if other := [mask['size'] for mask in image.get('masks', ()) if mask['size'] != size]:
                raise UserError(
                    f'{image["image"]}: predicted masks are {other[0]}, the image is {size}; the '
                    'predictions are of other data'
                )
        self.truths = [self.read_truth(i) for i in range(len(self.predictions))]
        known = [labels[~ignored] for _, labels, ignored in self.truths]
        self.columns['boxes'] = np.bincount(np.concatenate(known), minlength=len(self.classes))
        metric = self.build_metric('CocoMetric')
        for kind in metric.metrics:
            if kind in ('bbox', 'segm'):
                self.evaluate(kind)
        if self.order not in self.columns:
            self.order = next((key for key in self.columns if key.endswith(' AP')), 'recall')
        ground = len(self.classes)
        self.labels = (*self.classes, GROUND)
        self.matrix = np.zeros((ground + 1, ground + 1), int)
        self.pairs = [
            match(*self.sure(image), *truth, ground)
            for image, truth in zip(self.predictions, self.truths, strict=True)
        ]
        for pairs in self.pairs:
            np.add.at(self.matrix, tuple(pairs.T), 1)
        right = self.matrix.diagonal()[:ground]
        for axis, name in enumerate(('precision', 'recall')):
            total = self.matrix.sum(axis)[:ground]
            self.columns[name] = np.divide(
                right, total, out=np.full(ground, np.nan), where=total > 0
            )
        self.scores = np.array([self.f1(pairs) for pairs in self.pairs])

    def evaluate(self, kind: str) -> None:
        """Totals and the AP of each class, of boxes or masks."""
        metric = self.build_metric('CocoMetric', metric=kind, classwise=True)
        for i, image in enumerate(self.predictions):
            found = dict(
                bboxes=torch.tensor(image['boxes']).reshape(-1, 4),
                scores=torch.tensor(image['scores']),
                labels=torch.tensor(image['labels'], dtype=torch.long),
            )
            if kind == 'segm':
                if 'masks' not in image:
                    raise UserError(
                        f'{image["image"]} has no masks, and the test_evaluator measures segm: '
                        'give the config that tools/test.py had, or set test_evaluator.metric=bbox'
                    )
                found['masks'] = [dict(mask) for mask in image['masks']]
            info = self.dataset.get_data_info(i)
            truth = dict(
                img_id=info['img_id'],
                ori_shape=(info['height'], info['width']),
                instances=info['instances'],
            )
            metric.process({}, [dict(truth, pred_instances=found)])
        with quiet():
            measured = metric.evaluate(len(self.predictions))
        end = '_precision'
        aps = {key: measured.pop(key) for key in list(measured) if key.endswith(end)}
        aps = {key.partition('/')[2].removesuffix(end): value for key, value in aps.items()}
        self.totals |= measured
        self.columns[f'{kind} AP'] = np.array([aps.get(name, np.nan) for name in self.classes])

    def read_truth(self, index: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Boxes (M, 4), labels (M,), and whether each is a crowd (M,)."""
        instances = self.dataset.get_data_info(index)['instances']
        return (
            np.array([box['bbox'] for box in instances], float).reshape(-1, 4),
            np.array([box['bbox_label'] for box in instances], int),
            np.array([box.get('ignore_flag', 0) for box in instances], bool),
        )

    @staticmethod
    def sure(image: dict) -> tuple[np.ndarray, np.ndarray]:
        """Boxes (K, 4) and labels (K,) that are counted, the surest first."""
        scores = np.array(image['scores'])
        order = np.argsort(-scores, kind='stable')
        order = order[scores[order] > SCORE_THR]
        return np.array(image['boxes']).reshape(-1, 4)[order], np.array(image['labels'], int)[order]

    def f1(self, pairs: np.ndarray) -> float:
        """F1 of an image; where nothing is right, the further below 0 the more is wrong."""
        right = (pairs[:, 0] == pairs[:, 1]).sum()
        if right or not len(pairs):
            return 2 * right / (pairs != len(self.classes)).sum() if right else 1.0
        return -float(len(pairs))

    def describe(self, index):
        truth, found = self.pairs[index].T
        ground = len(self.classes)
        missed, added = (found == ground).sum(), (truth == ground).sum()
        confused = (truth != found).sum() - missed - added
        parts = {'missed': missed, 'of another class': confused, 'too many': added}
        wrong = ', '.join(f'{number} {name}' for name, number in parts.items() if number)
        return f'{wrong or "nothing wrong"}; {(truth != ground).sum()} boxes'

    def sample(self, index):
        from mmdet.datasets.transforms import LoadAnnotations
        from mmdet.structures import DetDataSample
        from pycocotools import mask

        image = self.predictions[index]
        found = InstanceData(
            bboxes=torch.tensor(image['boxes']).reshape(-1, 4),
            labels=torch.tensor(image['labels'], dtype=torch.long),
            scores=torch.tensor(image['scores']),
        )
        boxes, labels, ignored = self.truths[index]
        truth = InstanceData(bboxes=torch.tensor(boxes), labels=torch.tensor(labels))
        if 'masks' in image:
            if image['masks']:
                maps = np.stack([mask.decode(part) for part in image['masks']])
                found.masks = torch.from_numpy(maps).bool()
            info = self.dataset.get_data_info(index)
            info['ori_shape'] = info['height'], info['width']
            if all('mask' in box for box in info['instances']):
                masks = LoadAnnotations(with_bbox=True, with_mask=True)(info)['gt_masks']
                truth.masks = torch.from_numpy(masks.to_ndarray()).bool()
        return DetDataSample(pred_instances=found, gt_instances=truth[torch.tensor(~ignored)])


class MapResults(Results):
    """Segmentation: IoU and accuracy of each class in percent, as mmseg has them."""

    fields = ('map_png',)
    order = 'IoU'

    @staticmethod
    def what_is_unfit(image):
        return None if isinstance(image['map_png'], str) else ('map_png', 'a PNG in base64')

    def measure(self):
        metric = self.build_metric('IoUMetric')
        self.ignored = metric.ignore_index
        number = len(self.classes)
        self.matrix = np.zeros((number, number), np.int64)
        for i in range(len(self.predictions)):
            truth, found = self.read(i)
            self.matrix += self.count(truth, found)
            maps = dict(gt_sem_seg=truth, pred_sem_seg=found)
            metric.process({}, [{k: dict(data=torch.from_numpy(v)) for k, v in maps.items()}])
        areas = [torch.stack(part) for part in zip(*metric.results, strict=True)]
        measured = metric.total_area_to_metrics(*(part.sum(0) for part in areas), metric.metrics)
        intersect, union, _, true = (part.numpy() for part in areas)
        with quiet():
            self.totals = metric.evaluate(len(self.predictions))
        self.columns = {'% of pixels': 100 * self.matrix.sum(1) / max(self.matrix.sum(), 1)}
        self.columns |= {k: 100 * v for k, v in measured.items() if k != 'aAcc'}
        if 'IoU' not in measured:
            self.order = next(key for key in measured if key != 'aAcc')
        there = true > 0
        shares = np.divide(intersect, union, out=np.zeros_like(union), where=there)
        self.scores = np.where(
            there.any(1), 100 * shares.sum(1) / np.maximum(there.sum(1), 1), np.inf
        )

    def read(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        """The class of each pixel (H, W): truth and prediction."""
        image = self.predictions[index]
        found = decode_png(image['map_png'])
        if found is None:
            raise UserError(
                f'{image["image"]}: expected a whole PNG in base64 as map_png, of at most '
                f'{max_pixels()} pixels, got {image["map_png"][:40]!r}; write the predictions '
                'again with tools/test.py --out'
            )
        truth = self.dataset[index].get('gt_seg_map')
        if truth is None:
            raise UserError('expected a step LoadAnnotations in the test pipeline, got none')
        if truth.shape != found.shape:
            raise UserError(
                f'{image["image"]}: predicted {found.shape}, '
                f'its mask is {truth.shape}; the predictions are of other data'
            )
        return truth.astype(np.int64), found.astype(np.int64)

    def count(self, truth: np.ndarray, found: np.ndarray) -> np.ndarray:
        """How many pixels of a class (row) were predicted as another (column)."""
        number = len(self.classes)
        known = truth != self.ignored
        self.require_known(found[known].max(initial=0))
        pairs = truth[known] * number + found[known]
        return np.bincount(pairs, minlength=number**2).reshape(number, number)

    def describe(self, index):
        matrix = self.count(*self.read(index))
        number = max(matrix.sum(), 1)
        np.fill_diagonal(matrix, 0)
        truth, found = np.unravel_index(matrix.argmax(), matrix.shape)
        text = f'IoU {self.scores[index]:.1f} %'
        if not matrix.any():
            return text
        return (
            f'{text}; {self.classes[found]} for {self.classes[truth]} on '
            f'{matrix.max() / number:.1%} of the pixels'
        )

    def sample(self, index):
        from mmseg.structures import SegDataSample

        truth, found = (PixelData(data=torch.from_numpy(part[None])) for part in self.read(index))
        return SegDataSample(gt_sem_seg=truth, pred_sem_seg=found)


@contextmanager
def quiet() -> Iterator[None]:
    """Keep what the metrics print of their own away; the reports have it."""
    logger = MMLogger.get_current_instance()
    level = logger.level
    logger.setLevel('ERROR')
    try:
        with redirect_stdout(io.StringIO()):
            yield
    finally:
        logger.setLevel(level)


def are_numbers(values, length: int) -> bool:
    """Whether this is a list of so many finite numbers."""
    return (
        isinstance(values, list)
        and len(values) == length
        and all(type(v) in (int, float) and abs(v) <= LARGEST for v in values)
    )


def are_labels(values) -> bool:
    """Whether this is a list of whole numbers from 0."""
    return isinstance(values, list) and all(
        type(value) is int and 0 <= value <= LARGEST for value in values
    )


def is_box(box) -> bool:
    return are_numbers(box, 4) and box[0] <= box[2] and box[1] <= box[3]


def is_mask(mask) -> bool:
    """Whether this is a compressed mask of COCO, as whole as its size says."""
    size, counts = (mask.get('size'), mask.get('counts')) if isinstance(mask, dict) else (0, 0)
    if not (are_labels(size) and len(size) == 2 and isinstance(counts, str)):
        return False
    pixels = size[0] * size[1]
    return 0 < pixels <= max_pixels() and is_rle(counts, pixels)


def decode_png(text: str) -> np.ndarray | None:
    """The pixels of a PNG in base64; None where it is none, or damaged."""
    try:
        content = base64.b64decode(text, validate=True)
        if content.startswith(PNG):
            return cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_UNCHANGED)
    except (ValueError, cv2.error):
        pass
    return None


RESULTS = dict(mmpretrain=ClassResults, mmdet=BoxResults, mmseg=MapResults)


def match(boxes, labels, true_boxes, true_labels, ignored, ground: int) -> np.ndarray:
    """Which class of the truth was found as which (P, 2), ``ground`` where there is none.

    Boxes (K, 4) and (M, 4), the surest first; what meets a crowd of the truth is left out.
    """
    from mmdet.evaluation.functional import bbox_overlaps

    overlaps = partial(bbox_overlaps, boxes.astype(np.float32))
    ious = overlaps(true_boxes.astype(np.float32))
    inside = overlaps(true_boxes[ignored].astype(np.float32), mode='iof')
    free = ~ignored
    pairs = []
    for i, label in enumerate(labels):
        near = np.flatnonzero(free & (ious[i] >= IOU_THR))
        if len(near):
            best = max(near, key=lambda j: (true_labels[j] == label, ious[i, j]))
            free[best] = False
            pairs.append((true_labels[best], label))
        elif not (inside[i] >= IOU_THR).any():
            pairs.append((ground, label))
    pairs += [(label, ground) for label in true_labels[free]]
    return np.array(pairs, int).reshape(-1, 2)
