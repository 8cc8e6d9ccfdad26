"""Pictures of predictions, each (H, W, 3), uint8, RGB."""

from collections.abc import Sequence

import cv2
import matplotlib
import numpy as np

SIDE = 320  # px that the image in a picture has at least
BARS = 5  # classes
INK, PAPER, BAR, RIGHT = (30, 30, 30), (255, 255, 255), (70, 120, 190), (60, 150, 80)
LINE = 22  # px from one line of text to the next


def draw_class(visualizer, image: np.ndarray, sample, score_thr: float) -> np.ndarray:
    """The best classes as bars beside the image; where the truth is known, its bar is green."""
    classes = visualizer.dataset_meta.get('classes') or ()
    image = enlarge(image)
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
    sample = sample.clone()
    found = sample.pred_instances
    sample.pred_instances = found[found.scores.argsort()]
    known = len(sample.get('gt_instances', ())) > 0
    visualizer.add_datasample('', image, sample, draw_gt=known, pred_score_thr=score_thr)
    return visualizer.get_image()


def draw_map(visualizer, image: np.ndarray, sample, score_thr: float) -> np.ndarray:
    """The classes in colour over the image, named in a legend; a known truth on the left."""
    meta = visualizer.dataset_meta
    maps = [sample.pred_sem_seg.data]
    if 'gt_sem_seg' in sample:
        maps.insert(0, sample.gt_sem_seg.data)
    maps = [part.squeeze(0).cpu().numpy().astype(np.int64) for part in maps]
    number = max(len(meta.get('classes') or ()), maps[-1].max() + 1)
    palette = np.array(meta.get('palette') or distinct_colors(number), np.uint8)
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


def distinct_colors(number: int) -> list[list[int]]:
    """RGB of so many colours that are told apart."""
    if number <= 20:
        colors = matplotlib.colormaps['tab20'].colors[:number]
    else:
        colors = matplotlib.colormaps['hsv'](np.linspace(0, 1, number, endpoint=False))[:, :3]
    return (np.array(colors) * 255).round().astype(int).tolist()


def enlarge(image: np.ndarray) -> np.ndarray:
    """A small image by a whole factor, its pixels as squares."""
    factor = -(-SIDE // min(image.shape[:2]))
    return np.ascontiguousarray(image.repeat(factor, axis=0).repeat(factor, axis=1))


def write(picture: np.ndarray, text: str, place: tuple[int, int]) -> None:
    """Put text on a picture, its lower left at x, y."""
    cv2.putText(picture, text, place, cv2.FONT_HERSHEY_SIMPLEX, 0.5, INK, 1, cv2.LINE_AA)


def name_of(classes: Sequence[str], label: int) -> str:
    """The name of a class, or its number where it has none."""
    return str(classes[label]) if label < len(classes) else str(label)
