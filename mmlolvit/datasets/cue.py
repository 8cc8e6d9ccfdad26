"""The cue task: two digits and, far from both, a mark whose colour says which of the two to name.

Reading both digits without choosing gives about 55 %, so accuracy above that measures what
carries the mark to the digits. Our own test of global context; not from the paper.
"""

import cv2
import numpy as np
from mmengine.dataset import Compose, DefaultSampler
from torch.utils.data import Dataset

from ..registry import DATA_SAMPLERS, DATASETS
from .digits import CLASSES, SPLITS, load_split

# Image (H, W), side of a digit, top-left corners (x, y) of both digits, centre (x, y) of the mark:
# inclusive ranges in px. The largest digit and mark must stay inside.
FORMS = dict(
    near=dict(
        shape=(224, 224),
        side=(56, 64),
        corners=(((4, 16), (4, 16)), ((144, 156), (4, 16))),
        mark=((12, 211), (200, 211)),
    ),
    far=dict(
        shape=(64, 640),
        side=(48, 56),
        corners=(((0, 8), (0, 8)), ((64, 72), (0, 8))),
        mark=((600, 630), (9, 54)),
    ),
)
MARK_COLORS = ((32, 32, 216), (216, 48, 32))  # BGR: red names the first digit, blue the second


def draw_cue(form: str, split: str, seed: int, index: int) -> tuple[np.ndarray, int, dict]:
    """Draw one image of the cue task; a pure function of its arguments.

    Args:
        form: 'near' (224 x 224, digits in the two upper corners, mark at the lower edge) or 'far'
            (64 high, 640 wide, digits at the left end, mark at the right, over 450 px from both).
        split: which handwritten digits are drawn, 'train' or 'val'.
        seed, index: non-negative; each pair is one image.

    Returns:
        The image (H, W, 3) uint8 BGR, the label (0 to 9), and what was drawn: `digits` (first,
        second), `mark` (0 red, the first digit is the label; 1 blue, the second) and `centers`
        (3, 2), float x and y in px of the first digit, the second and the mark.
    """
    layout = FORMS[form]
    images, labels = load_split(split)
    rng = np.random.default_rng((seed, SPLITS.index(split), index))

    def between(bounds) -> int:
        return int(rng.integers(*bounds, endpoint=True))

    ground, contrast = between((16, 48)), rng.uniform(0.5, 0.75)
    canvas = np.full(layout['shape'], ground, np.uint8)
    picks = rng.integers(len(images), size=2)
    centers = []
    for pick, (xs, ys) in zip(picks, layout['corners'], strict=True):
        side, x, y = between(layout['side']), between(xs), between(ys)
        stroke = cv2.resize(images[pick], (side, side), interpolation=cv2.INTER_CUBIC) * contrast
        canvas[y : y + side, x : x + side] += stroke.astype(np.uint8)  # at most 48 + 191
        centers.append((x + side / 2, y + side / 2))

    image = cv2.cvtColor(canvas, cv2.COLOR_GRAY2BGR)
    mark = between((0, 1))
    xs, ys = layout['mark']
    center, radius = (between(xs), between(ys)), between((5, 7))
    cv2.circle(image, center, radius, MARK_COLORS[mark], cv2.FILLED)
    centers.append(center)
    image = cv2.add(image, rng.integers(24, size=image.shape, dtype=np.uint8))

    digits = tuple(int(label) for label in labels[picks])
    return image, digits[mark], dict(digits=digits, mark=mark, centers=np.array(centers, float))


@DATASETS.register_module()
class CueDataset(Dataset):
    """The cue task for mmpretrain: images drawn on demand by `draw_cue`, nothing on disk.

    Args:
        form: 'near' or 'far'.
        split: 'train' or 'val'; each draws its own handwritten digits only.
        length: images in an epoch; 1024 for 'train' and 1000 for 'val' by default. Training accepts
            any index from 0 up, so that `EpochSampler` can ask for fresh images each epoch.
        seed: of the images.
        pipeline: transforms after loading; they get `img`, `gt_label`, `img_shape`, `ori_shape` and
            `sample_idx`.

    Raises:
        ValueError: for another form or split.
    """

    METAINFO = dict(classes=CLASSES)

    def __init__(self, form, split='train', length=None, seed=0, pipeline=()):
        if form not in FORMS:
            raise ValueError(f'form must be one of {tuple(FORMS)}, got {form!r}')
        if split not in SPLITS:
            raise ValueError(f'split must be one of {SPLITS}, got {split!r}')
        self.form, self.split, self.seed = form, split, seed
        self.length = length or dict(train=1024, val=1000)[split]
        self.pipeline = Compose(pipeline)

    @property
    def metainfo(self) -> dict:
        return dict(self.METAINFO)

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int):
        if index < 0 or (self.split == 'val' and index >= self.length):
            raise IndexError(f'index {index} is out of range for {self.length} images')
        image, label, _ = draw_cue(self.form, self.split, self.seed, index)
        shape = image.shape[:2]
        return self.pipeline(
            dict(img=image, gt_label=label, img_shape=shape, ori_shape=shape, sample_idx=index)
        )

    def __iter__(self):
        return (self[index] for index in range(self.length))


@DATA_SAMPLERS.register_module()
class EpochSampler(DefaultSampler):
    """mmengine's DefaultSampler over indices that never repeat: epoch * len(dataset) + index.

    For datasets that draw an image from its index. It lives in the main process, so persistent
    workers get fresh images too, and a resumed run goes on with the images of its epoch.
    """

    def __iter__(self):
        start = self.epoch * len(self.dataset)
        return (start + index for index in super().__iter__())
