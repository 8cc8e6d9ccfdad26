"""What the tools must know of each task library. A new library is one more row of ``TASKS``."""

import base64
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.util import find_spec

import cv2
import numpy as np
from mmengine.config import Config
from mmengine.registry import VISUALIZERS

from .doctor import check_transformers, install, installed_distributions
from .drawing import draw_boxes, draw_class, draw_map, name_of


@dataclass(frozen=True)
class Task:
    """One task library.

    Attributes:
        scope: Its import name, and the ``default_scope`` of its configs.
        visualizer: Its visualizer, for configs that name none.
        draw: ``draw(visualizer, image, sample, score_thr)`` is a picture of a prediction, and like
            the image (H, W, 3) uint8 RGB.
        answer: A predicted sample as a dict, classes -> what `mmlolvit.load` answers.
        serialize: A predicted sample as a dict -> the fields that ``--out`` writes of it.
        metric: What its models are judged by, the more the better.
        starts_from_classifier: Whether its backbones are meant to be pretrained.
    """

    scope: str
    visualizer: str
    draw: Callable
    answer: Callable[[dict, Sequence[str]], dict]
    serialize: Callable[[dict], dict]
    metric: str
    starts_from_classifier: bool = True

    def missing(self) -> str | None:
        """What keeps it from working and the command that mends it; None where all is well."""
        if not find_spec(self.scope):
            command = install(self.scope, installed_distributions())
            return f'{self.scope} is not installed: {command}'
        dists = installed_distributions() if find_spec('transformers') else {}
        return next((f'{f.problem}: {f.remedy}' for f in check_transformers(dists)), None)

    def make_visualizer(self, cfg: Config, meta: dict):
        """The visualizer for `draw`, with the `meta` of a data set; it writes no files."""
        settings = dict(cfg.get('visualizer') or dict(type=self.visualizer), vis_backends=None)
        with VISUALIZERS.switch_scope_and_registry(self.scope) as registry:
            # Not by build(), which would give the one that a runner has.
            visualizer = registry.get(settings.pop('type'))(**settings)
        visualizer.dataset_meta = meta
        return visualizer


def plain(value):
    """``value`` for JSON: tensors as lists, floats to 6 decimals, NaN and infinity as None."""
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if hasattr(value, 'tolist'):
        return plain(value.tolist())
    if isinstance(value, float):
        return round(value, 6) if math.isfinite(value) else None
    return value


def serialize_class(sample: dict) -> dict:
    """`pred_label` and `gt_label` (lists where there are several); the best five as `top_*`."""
    fields = {key: sample[key] for key in ('pred_label', 'gt_label') if key in sample}
    fields = {key: v.item() if v.numel() == 1 else v for key, v in fields.items()}
    top = sample['pred_score'].topk(min(5, len(sample['pred_score'])))
    return dict(
        fields,
        pred_score=sample['pred_score'][fields['pred_label']],
        top_labels=top.indices,
        top_scores=top.values,
    )


def serialize_boxes(sample: dict) -> dict:
    """`boxes` (xyxy, px of the image), `labels`, `scores`, and `masks` (COCO RLE) if predicted."""
    found = sample['pred_instances']
    fields = dict(boxes=found['bboxes'], labels=found['labels'], scores=found['scores'])
    if 'masks' in found:
        from mmdet.structures.mask import encode_mask_results

        rles = encode_mask_results(found['masks'].cpu().numpy())
        fields['masks'] = [dict(rle, counts=rle['counts'].decode()) for rle in rles]
    return fields


def serialize_map(sample: dict) -> dict:
    """`map_png`: the class of each pixel as a one-channel 16-bit PNG in base64."""
    classes = sample['pred_sem_seg']['data'].squeeze(0).cpu().numpy().astype(np.uint16)
    return dict(map_png=base64.b64encode(cv2.imencode('.png', classes)[1]).decode())


def answer_class(sample: dict, classes: Sequence[str]) -> dict:
    scores = sample['pred_score'].cpu().numpy()
    label = int(scores.argmax())
    return dict(
        label=label, name=name_of(classes, label), score=float(scores[label]), scores=scores
    )


def answer_boxes(sample: dict, classes: Sequence[str]) -> dict:
    found = sample['pred_instances']
    order = found['scores'].argsort(descending=True)
    fields = dict(boxes='bboxes', scores='scores', labels='labels', masks='masks')
    answer = {k: found[v][order].cpu().numpy() for k, v in fields.items() if v in found}
    return dict(answer, names=[name_of(classes, label) for label in answer['labels'].tolist()])


def answer_map(sample: dict, classes: Sequence[str]) -> dict:
    return dict(map=sample['pred_sem_seg']['data'].squeeze(0).cpu().numpy())


TASKS = {
    task.scope: task
    for task in (
        Task(
            'mmpretrain',
            'UniversalVisualizer',
            draw_class,
            answer_class,
            serialize_class,
            'accuracy/top1',
            starts_from_classifier=False,
        ),
        Task(
            'mmdet',
            'DetLocalVisualizer',
            draw_boxes,
            answer_boxes,
            serialize_boxes,
            'coco/bbox_mAP',
        ),
        Task('mmseg', 'SegLocalVisualizer', draw_map, answer_map, serialize_map, 'mIoU'),
    )
}
