"""Pictures of predictions, each (H, W, 3), uint8, RGB.

A sample without a prediction is drawn with its truth alone.
"""

import math
from collections.abc import Sequence

import cv2
import matplotlib
import numpy as np

SIDE = 320  # px that the image in a picture has at least, unless it is long and thin
BARS = 5  # classes
INK, PAPER, BAR, RIGHT = (30, 30, 30), (255, 255, 255), (70, 120, 190), (60, 150, 80)
LINE = 22  # px from one line of text to the next
LARGEST = 640  # px that an image on a sheet has at most
IGNORED = 255  # in a map: no class
GAP = 8  # px between the pictures of a sheet


def draw_class(visualizer, image: np.ndarray, sample, score_thr: float) -> np.ndarray:
    """The best classes as bars beside the image; where the truth is known, its bar is green."""
    classes = visualizer.dataset_meta.get('classes') or ()
    if 'pred_score' not in sample:
        image = enlarge(shrink(image)[0], LARGEST)
        strip = np.full((LINE + 8, image.shape[1], 3), PAPER, np.uint8)
        names = [name_of(classes, label) for label in sample.gt_label.tolist()]
        write(strip, ', '.join(names), (8, LINE))
        return np.concatenate((image, strip))
    image = enlarge(image)
    below = max(0, SIDE - image.shape[0])
    image = np.pad(image, ((0, below), (0, 0), (0, 0)), constant_values=PAPER[0])
    scores, labels = sample.pred_score.topk(min(BARS, len(sample.pred_score)))
    truth = set(sample.gt_label.tolist()) if 'gt_label' in sample else set()
    panel = np.full((image.shape[0], SIDE, 3), PAPER, np.uint8)
    step = image.shape[0] // BARS
    for i, (label, score) in enumerate(zip(labels.tolist(), scores.tolist(), strict=True)):
        top = i * step + step // 4
        color = RIGHT if label in truth else BAR
        end = (12 + round(score * (SIDE - 24)), top + step // 2)
        cv2.rectangle(panel, (12, top + LINE), end, color, cv2.FILLED)
        write(panel, f'{name_of(classes, label)}  {score:.1%}', (12, top + LINE - 6))
    return np.concatenate((image, panel), axis=1)


def draw_boxes(visualizer, image: np.ndarray, sample, score_thr: float) -> np.ndarray:
    """Boxes and masks of at least a score, the surest on top; the truth, where known, beside."""
    if 'pred_instances' not in sample:
        return draw_true_boxes(visualizer.dataset_meta, image, sample.gt_instances)
    sample = sample.clone()
    found = sample.pred_instances
    sample.pred_instances = found[found.scores.argsort()]
    known = len(sample.get('gt_instances', ())) > 0
    visualizer.add_datasample('', image, sample, draw_gt=known, pred_score_thr=score_thr)
    return visualizer.get_image()


def draw_true_boxes(meta: dict, image: np.ndarray, truth) -> np.ndarray:
    """Boxes, named, and masks as a training pipeline packs them."""
    from mmdet.structures.bbox import get_box_tensor

    classes, labels = meta.get('classes') or (), truth.labels.tolist()
    masks = truth.masks.to_ndarray() if 'masks' in truth else np.zeros((0, *image.shape[:2]))
    small, masks = shrink(image, masks > 0)
    picture = enlarge(small, LARGEST)
    factor = picture.shape[0] // small.shape[0]
    masks = masks.repeat(factor, axis=1).repeat(factor, axis=2)
    boxes = get_box_tensor(truth.bboxes).numpy() * (picture.shape[0] / image.shape[0])
    palette = find_palette(meta, max([len(classes), *(label + 1 for label in labels)]))
    for mask, label in zip(masks, labels, strict=False):
        picture[mask] = picture[mask] // 2 + palette[label] // 2
    boxes = boxes.round().astype(int).tolist()
    for (left, top, right, bottom), label in zip(boxes, labels, strict=True):
        cv2.rectangle(picture, (left, top), (right, bottom), palette[label].tolist(), 2)
    for (left, top, _, _), label in zip(boxes, labels, strict=True):  # above every line
        text = name_of(classes, label)
        (width, height), _ = cv2.getTextSize(text, cv2.FONT_HERSHEY_SIMPLEX, 0.5, 1)
        left, bottom = max(left, 0), max(top, height + 6)
        end = (left + width + 6, bottom - height - 6)
        cv2.rectangle(picture, (left, bottom), end, PAPER, cv2.FILLED)
        write(picture, text, (left + 3, bottom - 3))
    return picture


def draw_map(visualizer, image: np.ndarray, sample, score_thr: float) -> np.ndarray:
    """The classes in colour over the image, named in a legend; a known truth on the left."""
    meta = visualizer.dataset_meta
    maps = [sample.get(key).data for key in ('gt_sem_seg', 'pred_sem_seg') if key in sample]
    maps = [part.squeeze(0).cpu().numpy().astype(np.int64) for part in maps]
    if 'pred_sem_seg' not in sample:
        image, *maps = shrink(image, *maps)
    top = maps[-1].max(where=maps[-1] != IGNORED, initial=0)
    palette = find_palette(meta, max(len(meta.get('classes') or ()), top + 1))
    pictures = []
    for part in maps:
        known = part < len(palette)  # the rest is ignored
        colors = palette[np.where(known, part, 0)]
        mixed = (image // 2 + colors // 2).astype(np.uint8)
        pictures.append(enlarge(np.where(known[..., None], mixed, image)))
    present = np.unique(np.concatenate([part.ravel() for part in maps]))
    present = present[present < len(palette)]
    picture = np.concatenate(pictures, axis=1)
    columns = max(1, picture.shape[1] // 160)
    legend = np.full((-(-len(present) // columns) * LINE + 8, picture.shape[1], 3), PAPER, np.uint8)
    for i, label in enumerate(present.tolist()):
        x, y = i % columns * 160 + 8, i // columns * LINE + 8
        cv2.rectangle(legend, (x, y), (x + 14, y + 14), palette[label].tolist(), cv2.FILLED)
        write(legend, name_of(meta.get('classes') or (), label), (x + 20, y + 13))
    return np.concatenate((picture, legend))


def find_palette(meta: dict, number: int) -> np.ndarray:
    """RGB (classes, 3): those of the data set if it has one for each class, or so many others."""
    palette = meta.get('palette') or ()
    if not len(palette) or len(palette) != len(meta.get('classes') or palette):
        palette = distinct_colors(number)  # mmdet leaves COCO's to classes of other names
    return np.array(palette, np.uint8)


def distinct_colors(number: int) -> list[list[int]]:
    """RGB of so many colours that are told apart."""
    if number <= 20:
        colors = matplotlib.colormaps['tab20'].colors[:number]
    else:
        colors = matplotlib.colormaps['hsv'](np.linspace(0, 1, number, endpoint=False))[:, :3]
    return (np.array(colors) * 255).round().astype(int).tolist()


def enlarge(image: np.ndarray, longest: int = 4 * SIDE) -> np.ndarray:
    """A small image by a whole factor, its pixels as squares; no side longer than ``longest``."""
    factor = -(-SIDE // min(image.shape[:2]))
    factor = max(min(factor, longest // max(image.shape[:2])), 1)
    return np.ascontiguousarray(image.repeat(factor, axis=0).repeat(factor, axis=1))


def in_rgb(image: np.ndarray) -> np.ndarray:
    """BGR (H, W, 3), or grey (H, W) or (H, W, 1), as RGB."""
    image = np.atleast_3d(image)
    return np.broadcast_to(image, (*image.shape[:2], 3))[..., ::-1]


def shrink(image: np.ndarray, *maps: np.ndarray) -> list[np.ndarray]:
    """A large image, and maps (..., H, W) of it, by a whole factor to sides of `LARGEST` px."""
    factor = -(-max(image.shape[:2]) // LARGEST)
    if factor == 1:
        return [image, *maps]
    size = [-(-length // factor) for length in image.shape[1::-1]]
    small = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
    return [small, *(part[..., ::factor, ::factor] for part in maps)]


def make_sheet(pictures: Sequence[np.ndarray]) -> np.ndarray:
    """Pictures in rows and columns, as square as can be."""
    height, width = np.max([picture.shape[:2] for picture in pictures], axis=0) + GAP
    columns = math.ceil(math.sqrt(len(pictures) * height / width))
    rows = math.ceil(len(pictures) / columns)
    columns = math.ceil(len(pictures) / rows)
    sheet = np.full((rows * height + GAP, columns * width + GAP, 3), PAPER, np.uint8)
    for i, picture in enumerate(pictures):
        top, left = i // columns * height + GAP, i % columns * width + GAP
        sheet[top : top + picture.shape[0], left : left + picture.shape[1]] = picture
    return sheet


def write(picture: np.ndarray, text: str, place: tuple[int, int]) -> None:
    """Put text on a picture, its lower left at x, y."""
    cv2.putText(picture, text, place, cv2.FONT_HERSHEY_SIMPLEX, 0.5, INK, 1, cv2.LINE_AA)


def name_of(classes: Sequence[str], label: int) -> str:
    """The name of a class, or its number where it has none."""
    return str(classes[label]) if label < len(classes) else str(label)
