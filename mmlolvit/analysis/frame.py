"""Where an image is in what a model gets of it."""

import math
from dataclasses import dataclass

import numpy as np

from ..errors import UserError

LEVELS = 2.0  # grey levels, of 255 along a side, that a pipeline's rounding may move a ramp by


@dataclass(frozen=True)
class Frame:
    """Along each axis, x and y: ``input = scale * image + shift`` in px, pixel i from i to i + 1.

    A flipped axis has a negative scale.
    """

    scale: tuple[float, float]
    shift: tuple[float, float]

    def to_image(self, axis: int, places: np.ndarray) -> np.ndarray:
        """Places along an axis (0: x, 1: y) of the input, in the image."""
        return (np.asarray(places) - self.shift[axis]) / self.scale[axis]


def find_stride(side: int, number: int) -> int:
    """Pixels from one to the next of ``number`` positions on a map of ``side`` px, a power of 2.

    The last position may reach beyond the last pixel.
    """
    return 2 ** math.ceil(math.log2(side / number))


def find_frame(predictor, height: int, width: int) -> Frame:
    """Where a predictor's test pipeline puts images of a size; measured on an image of ramps.

    So it knows what any library's transforms do, whatever they are called and write down: resize,
    crop, flip and pad. The data preprocessor pads at the right and below, which moves nothing.

    Raises:
        UserError: Where the pipeline does more to an image than that.
    """
    ramps = np.full((height, width, 3), 255, np.uint8)
    # Whole levels a pixel where there are enough of them, so that rounding moves nothing.
    steps = [255 // (n - 1) if 1 < n <= 256 else 255 / max(n - 1, 1) for n in (width, height)]
    ramps[..., 0] = (steps[0] * np.arange(width)).round()
    ramps[..., 1] = (steps[1] * np.arange(height)).round()[:, None]
    seen = predictor.read(ramps)['prepared']['inputs'].float().numpy()
    real = seen[-1] > 254  # not what was padded
    scales, shifts = [], []
    for axis, (size, step) in enumerate(zip((width, height), steps, strict=True)):
        last = ramps[-1, -1, axis]
        inside = real & (seen[axis] > 0) & (seen[axis] < last)  # resizing repeats the border
        places, levels = np.nonzero(inside)[1 - axis] + 0.5, seen[axis][inside]
        if len(np.unique(places)) < 2:  # too few pixels for a ramp
            columns = np.flatnonzero(real.any(axis))
            slope = size / max(len(columns), 1)
            start, rest = -slope * columns.min(initial=0), np.zeros(1)
        else:
            pixels = levels / step + 0.5
            slope, start = np.polyfit(places, pixels, 1)
            rest = (slope * places + start - pixels) * step
        if not real.any() or np.sqrt(np.mean(rest**2)) > LEVELS:
            raise UserError(
                'the test pipeline does more to an image than to resize, crop, flip and pad it, so '
                'that its pixels cannot be found again in what the model sees; leave out the rest '
                'of test_dataloader.dataset.pipeline'
            )
        scales.append(float(1 / slope))
        shifts.append(float(-start / slope))
    return Frame(tuple(scales), tuple(shifts))
