"""What is exported of a model: from the image to the final answer, in one graph.

Letters: B images, N candidate boxes, K boxes of the answer. Each graph names its ``outputs``, puts
those of one image into its library's sample (``answer``) and tells how far two answers differ, 0 to
1 (``difference``).
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from mmengine.structures import InstanceData, PixelData
from torch import Tensor, nn
from torchvision.ops import box_iou, nms

from ..errors import UserError
from ..models.fwa import FastWindowAttention


class Classify(nn.Module):
    """(B, 3, H, W) -> scores (B, classes), which sum to 1."""

    outputs = ('scores',)
    unit = 'labels'

    def __init__(self, model: nn.Module):
        super().__init__()
        from mmpretrain.models.heads import ClsHead

        self.model = model
        predict = getattr(type(getattr(model, 'head', None)), '_get_predictions', None)
        if predict is not ClsHead._get_predictions:
            raise UserError('classification is exported with a head of one class per image')

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        return (self.model(image, mode='tensor').softmax(dim=1),)

    @staticmethod
    def answer(sample, scores: Tensor) -> None:
        sample.set_pred_score(scores).set_pred_label(scores.argmax(dim=0, keepdim=True))

    @staticmethod
    def difference(a: Sequence[Tensor], b: Sequence[Tensor]) -> float:
        """The largest between two scores."""
        return (a[0] - b[0]).abs().max().item()

    @staticmethod
    def changed(a: Sequence[Tensor], b: Sequence[Tensor]) -> tuple[int, int]:
        labels, others = (scores.argmax(dim=1) for (scores,) in (a, b))
        return (labels != others).sum().item(), len(labels)


class SegmentLogits(nn.Module):
    """(B, 3, H, W) -> logits (B, classes, H, W), at the size of the image."""

    outputs = ('logits',)
    unit = 'pixels'

    def __init__(self, model: nn.Module):
        super().__init__()
        self.model = model
        if model.test_cfg.get('mode', 'whole') != 'whole' or model.out_channels == 1:
            raise UserError(
                "segmentation is exported with test_cfg.mode='whole' and a channel per class"
            )

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        logits = self.model(image, mode='tensor')
        align = self.model.align_corners
        return (F.interpolate(logits, image.shape[2:], mode='bilinear', align_corners=align),)

    @staticmethod
    def answer(sample, logits: Tensor, align_corners: bool = False) -> None:
        padding = sample.get('img_padding_size', sample.get('padding_size', (0, 0, 0, 0)))
        left, right, top, bottom = padding
        height, width = logits.shape[1:]
        logits = logits[None, :, top : height - bottom, left : width - right]
        if logits.shape[2:] != sample.ori_shape[:2]:
            size = tuple(sample.ori_shape[:2])
            logits = F.interpolate(logits, size, mode='bilinear', align_corners=align_corners)
        sample.pred_sem_seg = PixelData(data=logits.argmax(dim=1))

    @staticmethod
    def changed(a: Sequence[Tensor], b: Sequence[Tensor]) -> tuple[int, int]:
        return Segment.changed(*([logits.argmax(dim=1)] for (logits,) in (a, b)))

    @classmethod
    def difference(cls, a: Sequence[Tensor], b: Sequence[Tensor]) -> float:
        """The share of pixels of another class."""
        return _share(*cls.changed(a, b))


class Segment(SegmentLogits):
    """(B, 3, H, W) -> map (B, H, W), the class of each pixel."""

    outputs = ('map',)

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        (logits,) = super().forward(image)
        return (logits.argmax(dim=1),)

    @staticmethod
    def answer(sample, classes: Tensor, align_corners: bool = False) -> None:
        scores = F.one_hot(classes).permute(2, 0, 1).float()
        SegmentLogits.answer(sample, scores, align_corners)

    @staticmethod
    def changed(a: Sequence[Tensor], b: Sequence[Tensor]) -> tuple[int, int]:
        pairs = list(zip(a[0], b[0], strict=True))
        return sum((i != j).sum().item() for i, j in pairs), sum(i.numel() for i, _ in pairs)


class Detect(nn.Module):
    """(B, 3, H, W) -> boxes (B, K, 4), scores (B, K) and labels (B, K), best first.

    Boxes are x1, y1, x2, y2 in pixels of the input. Where an image has fewer than K, the rest has
    label -1 and score 0. Decoding and suppression are those of mmdet's dense heads.
    """

    outputs = ('boxes', 'scores', 'labels')
    unit = 'boxes'

    def __init__(self, model: nn.Module):
        super().__init__()
        from mmdet.models.dense_heads import AnchorHead, FCOSHead
        from mmdet.models.dense_heads.base_dense_head import BaseDenseHead

        self.model = model
        head = getattr(model, 'bbox_head', None)
        steps = ('predict_by_feat', '_predict_by_feat_single', '_bbox_post_process')
        if not isinstance(head, AnchorHead | FCOSHead) or any(
            getattr(type(head), step) is not getattr(BaseDenseHead, step) for step in steps
        ):
            raise UserError(
                f'{type(model).__name__} is not exported: expected a detector of one stage with '
                'an anchor head or an FCOS head that predicts as RetinaNet, FCOS and SSD do'
            )
        cfg = head.test_cfg
        nms_cfg = dict(cfg.nms)
        plain = nms_cfg.pop('type', 'nms') == 'nms' and set(nms_cfg) == {'iou_threshold'}
        if not plain or cfg.max_per_img < 1:
            raise UserError(
                "detection is exported with test_cfg.nms=dict(type='nms', iou_threshold=...) and a "
                f'max_per_img of 1 or more, got {cfg}'
            )

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        head = self.model.bbox_head
        cfg = head.test_cfg
        levels = zip(*head(self.model.extract_feat(image)), strict=True)
        levels = [tuple(map(_positions_last, level)) for level in levels]
        priors = head.prior_generator.grid_priors(
            [scores.shape[1:3] for scores, *_ in levels], device=image.device
        )
        found = [
            self._candidates(prior, *level) for prior, level in zip(priors, levels, strict=True)
        ]
        boxes, scores, labels = (torch.cat(parts, dim=1) for parts in zip(*found, strict=True))
        height, width = image.shape[2:]
        limits = (width, height) * 2
        boxes = torch.stack([boxes[..., i].clamp(0, limits[i]) for i in range(4)], dim=-1)
        sides = boxes[..., 2:] - boxes[..., :2]
        scores = scores * (sides > cfg.get('min_bbox_size', -1)).all(dim=-1)
        # A place of its own for each class, where no other's boxes overlap.
        offset = labels * (boxes.amax(dim=(1, 2), keepdim=True)[..., 0] + 1)
        kept = torch.ops.mmlolvit.suppress(
            boxes + offset[..., None], scores, cfg.nms.iou_threshold, cfg.max_per_img
        )
        scores, best = (scores * kept).topk(torch.sym_min(cfg.max_per_img, scores.shape[1]), dim=1)
        boxes = boxes.gather(1, best[..., None].expand(-1, -1, 4))
        return boxes, scores, labels.gather(1, best).where(scores > 0, -1)

    def _candidates(
        self, priors: Tensor, cls_score: Tensor, bbox_pred: Tensor, centerness: Tensor | None = None
    ) -> tuple[Tensor, ...]:
        """Boxes (B, N, 4), scores (B, N) and labels (B, N) of a level.

        A score that is too low for a box is 0.
        """
        head, batch = self.model.bbox_head, cls_score.shape[0]
        cls_score = cls_score.reshape(batch, -1, head.cls_out_channels)
        if head.use_sigmoid_cls:
            scores = cls_score.sigmoid()
        else:
            scores = cls_score.softmax(-1)[..., :-1]
        classes = scores.shape[2]
        scores = scores.flatten(1)
        number, most = scores.shape[1], head.test_cfg.get('nms_pre', -1)
        number = torch.sym_min(most, number) if most > 0 else number
        scores, best = scores.topk(number, dim=1)
        scores = scores * (scores > head.test_cfg.get('score_thr', 0))
        place, labels = best // classes, best % classes
        deltas = bbox_pred.reshape(batch, -1, 4)
        deltas = deltas.gather(1, place[..., None].expand(-1, -1, 4))
        if centerness is not None:
            scores = scores * centerness.reshape(batch, -1).gather(1, place).sigmoid()
        boxes = head.bbox_coder.decode(priors[place.flatten()], deltas.flatten(0, 1))
        return boxes.reshape(batch, number, 4), scores, labels

    @staticmethod
    def answer(sample, boxes: Tensor, scores: Tensor, labels: Tensor) -> None:
        height, width = sample.img_shape[:2]
        boxes = boxes.minimum(boxes.new_tensor((width, height, width, height)))
        in_padding = (boxes[:, 2:] <= boxes[:, :2]).any(dim=1)
        found = (labels >= 0) & ~in_padding
        boxes = boxes / boxes.new_tensor(sample.scale_factor * 2)  # of width and height, twice
        sample.pred_instances = InstanceData(
            bboxes=boxes[found], scores=scores[found], labels=labels[found]
        )

    @classmethod
    def difference(cls, a: Sequence[Tensor], b: Sequence[Tensor]) -> float:
        """The share of boxes without one of the same class and score, at an IoU of 0.99 or more.

        Scores are the same up to 0.01; boxes of less than 0.05 do not count if there are others.
        """
        return _share(*cls.changed(a, b))

    @staticmethod
    def changed(a: Sequence[Tensor], b: Sequence[Tensor]) -> tuple[int, int]:
        """As `difference`, in boxes of both answers."""
        lone = total = 0
        best = [scores.max().item() for scores in a[1] if len(scores)]
        least = min(0.05, max(best, default=0) / 2)
        for one, other in ((a, b), (b, a)):
            for image in zip(*one, *other, strict=True):
                boxes, scores, labels, others, other_scores, other_labels = image
                same = box_iou(boxes, others) >= 0.99
                same &= labels[:, None] == other_labels
                same &= (scores[:, None] - other_scores).abs() <= 0.01
                counted = scores >= least
                lone += (counted & ~same.any(dim=1)).sum().item()
                total += counted.sum().item()
        return lone, total


def _share(part: int, whole: int) -> float:
    return part / max(whole, 1)


def _positions_last(x: Tensor) -> Tensor:
    return x.permute(0, 2, 3, 1)  # (B, C, H, W) -> (B, H, W, C)


@torch.library.custom_op('mmlolvit::suppress', mutates_args=())
def suppress(boxes: Tensor, scores: Tensor, iou_threshold: float, most: int) -> Tensor:
    """Which of the boxes (B, N, 4) survive non-maximum suppression, (B, N) bool.

    At most ``most`` an image, and none of score 0 or less.
    """
    kept = torch.zeros_like(scores, dtype=torch.bool)
    for i in range(len(boxes)):
        place = (scores[i] > 0).nonzero().squeeze(1)
        kept[i, place[nms(boxes[i, place], scores[i, place], iou_threshold)[:most]]] = True
    return kept


@suppress.register_fake
def _(boxes, scores, iou_threshold, most):
    return torch.empty_like(scores, dtype=torch.bool)


class Normalized(nn.Module):
    """A graph after the config's normalisation: takes images as read, BGR from 0 to 255."""

    def __init__(self, inner: nn.Module, preprocessor: nn.Module):
        super().__init__()
        self.inner, self.swap = inner, swaps_channels(preprocessor)
        for name, value in zip(('mean', 'std'), mean_and_std(preprocessor), strict=True):
            self.register_buffer(name, value.clone())

    @property
    def outputs(self) -> tuple[str, ...]:
        return self.inner.outputs

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        if self.swap:
            image = image.flip(1)
        return self.inner((image - self.mean) / self.std)


def mean_and_std(preprocessor: nn.Module) -> tuple[Tensor, Tensor]:
    """What a data preprocessor normalises by, each (C, 1, 1); 0 and 1 where it does not."""
    mean = getattr(preprocessor, 'mean', torch.zeros(1, 1, 1))
    return mean, getattr(preprocessor, 'std', torch.ones(1, 1, 1))


def swaps_channels(preprocessor: nn.Module) -> bool:
    """Whether a data preprocessor turns BGR into RGB."""
    # Of mmpretrain's; of MMEngine's, which mmdet's is; of mmseg's before 1.3.
    names = ('to_rgb', '_channel_conversion', 'channel_conversion')
    return any(getattr(preprocessor, name, False) for name in names)


def free_sizes(model: nn.Module) -> None:
    """Let the graph compute what Python would fix for one size of the image, so that any is right.

    These are FWA's windows and the sizes that mmseg's Upsample makes of its scale.
    """
    for module in model.modules():
        if isinstance(module, FastWindowAttention):
            if module.window != 'adaptive':
                raise UserError(
                    f"a dynamic size needs FWA's adaptive windows, got {module.window!r}"
                )
            module.aggregate = _Windows(module.aggregation)
        for name, child in module.named_children():
            if type(child).__name__ == 'Upsample' and getattr(child, 'scale_factor', None):
                upsample = nn.Upsample(None, child.scale_factor, child.mode, child.align_corners)
                setattr(module, name, upsample)


class _Windows:
    """`FastWindowAttention.aggregate` of adaptive windows in tensor operations alone."""

    def __init__(self, aggregation: str):
        self.aggregation = aggregation

    def __call__(self, x: Tensor) -> tuple[Tensor, Tensor]:
        (rows, real_rows), (columns, real_columns) = map(_adaptive_windows, x.shape[2:])
        area = (real_rows.sum(1)[:, None] * real_columns.sum(1)).flatten()
        area = area.to(x.dtype) / (x.shape[2] * x.shape[3])
        x = x[:, :, rows]  # (B, C, Mh, side, W)
        if self.aggregation == 'max':
            return x.amax(3)[..., columns].amax(4), area
        x = (x * real_rows[..., None]).sum(3)[..., columns]  # (B, C, Mh, Mw, side)
        x = (x * real_columns).sum(4)
        return x / (real_rows.sum(1)[:, None] * real_columns.sum(1)), area


def _adaptive_windows(n: int) -> tuple[Tensor, Tensor]:
    """Positions (M, side) of each window along n pixels, the last one repeated, and which count."""
    side = torch.scalar_tensor(n, dtype=torch.float64).sqrt().ceil().long()
    number, side = ((n + side - 1) // side).item(), side.item()
    torch._check(side >= 1)
    torch._check(number >= 1)
    place = torch.arange(number)[:, None] * side + torch.arange(side)
    return place.clamp(max=n - 1), place < n


GRAPHS = dict(mmpretrain=Classify, mmdet=Detect, mmseg=Segment)
